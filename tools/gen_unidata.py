#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/tok/unidata.c: the character properties that the reference tokenizers see.

The reference library is built from several Unicode versions at once (its crates are of different
ages), so its answers are taken from itself: every code point is put to its normalizers and
pre-tokenizers.  Grapheme classes come from the tables of its segmentation library.

    pip install tokenizers==0.22.2
    python3 gen_unidata.py --segmentation unicode-segmentation-1.12.0/src/tables.rs --out ../src/tok/unidata.c
"""
import argparse
import re

from tokenizers import Regex, normalizers as N, pre_tokenizers as P

CPS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
FLAGS = ["PUNCT", "NUMERIC", "OTHER", "MN", "COMB", "WORD", "NORM", "INCB_EXTEND", "INCB_LINKER", "SHADOW"]
CLASSES = ["Any", "CR", "LF", "Control", "Extend", "ZWJ", "Regional_Indicator", "Prepend", "SpacingMark",
           "L", "V", "T", "LV", "LVT", "Extended_Pictographic", "InCB_Consonant"]
# General categories as the regex library of the reference knows them, with one character of three
# and one of four UTF-8 bytes that every PCRE2 since 10.40 puts into the same category.
REPS = {
    "Lu": (0x1E00, 0x10400), "Ll": (0x1E01, 0x10428), "Lm": (0x3005, 0x16B40), "Lo": (0x4E00, 0x10000),
    "Mn": (0x20D0, 0x1D167), "Mc": (0x0903, 0x11000), "Nd": (0x0966, 0x11066), "Nl": (0x3007, 0x10140),
    "No": (0x2460, 0x10107), "Pd": (0x2010, 0x10EAD), "Po": (0x2016, 0x10100), "Sc": (0x20A0, 0x1E2FF),
    "Sm": (0x2200, 0x1D6C1), "So": (0x2600, 0x10190), "Sk": (0x309B, 0x1F3FB), "Cf": (0x200B, 0x110BD),
}


def alone(pretok, before="a", after="b"):
    """code points that the pre-tokenizer does not leave inside one word"""
    return {c for c in CPS if len(pretok.pre_tokenize_str(before + chr(c) + after)) != 1}


def removed(norm):
    return {c for c in CPS if norm.normalize_str("a" + chr(c) + "b") == "ab"}


def segmentation(path):
    text = open(path, encoding="utf-8").read()
    rng = r"\('\\u\{([0-9a-f]+)\}',\s*'\\u\{([0-9a-f]+)\}'"
    table = text[text.index("grapheme_cat_table"):text.index("pub mod word")]
    classes = {}
    for lo, hi, name in re.findall(rng + r",\s*GC_(\w+)\)", table):
        for c in range(int(lo, 16), int(hi, 16) + 1):
            classes[c] = CLASSES.index(name)
    ext = text[text.index("InCB_Extend_table"):text.index("pub fn InCB_Extend")]
    extend = {c for lo, hi in re.findall(rng, ext) for c in range(int(lo, 16), int(hi, 16) + 1)}
    link = text[text.index("fn is_incb_linker"):]
    link = {int(x, 16) for x in re.findall(r"\\u\{([0-9A-Fa-f]+)\}", link[:link.index("}\n}") if "}\n}" in link[:400] else 400])}
    return classes, extend, link


def norm_active():
    """code points that the reference decomposes or reorders; all others are inert to it"""
    nfd, nfkd = N.NFD(), N.NFKD()
    out = set()
    for c in CPS:
        s = chr(c)
        if nfkd.normalize_str(s) != s or nfd.normalize_str(s) != s:
            out.add(c)
        elif nfd.normalize_str("a" + s + "\u0334") != "a" + s + "\u0334":
            out.add(c)
        elif nfd.normalize_str("a\u0301" + s) != "a\u0301" + s:
            out.add(c)
    return out


def shadow():
    """where PCRE2 of Unicode 14 and the reference's regex library disagree: code point -> category"""
    import unicodedata
    assert unicodedata.unidata_version == "14.0.0", "run with Python 3.11: its tables are those of PCRE2 10.40"
    out, seen = {}, {}
    for cat in REPS:
        pt = P.Split(Regex(r"\p{%s}" % cat), "isolated")
        for c in CPS:
            if c >= 0x80 and len(pt.pre_tokenize_str("\x01" + chr(c) + "\x01")) != 1:
                seen[c] = cat
    for c in CPS:
        if c >= 0x80 and seen.get(c) and unicodedata.category(chr(c)) != seen[c]:
            out[c] = seen[c]
    out[0x180E] = "Cf"  # white space to PCRE2, not to the reference
    return out


def ranges(mapping):
    out = []
    for c in sorted(mapping):
        if out and out[-1][1] + 1 == c and out[-1][2] == mapping[c]:
            out[-1][1] = c
        else:
            out.append([c, c, mapping[c]])
    return out


def lower_ranges():
    """[first, last, stride, delta]: c -> c + delta; the one character that becomes two is in code"""
    n = N.Lowercase()
    out = []
    for c in CPS:
        s = n.normalize_str(chr(c))
        if s == chr(c) or len(s) != 1:
            assert len(s) == 1 or c == 0x130
            continue
        d = ord(s) - c
        r = out[-1] if out else None
        if r and r[3] == d and (c - r[1] == r[2] or (r[0] == r[1] and c - r[1] <= 2)):
            r[2] = c - r[1]
            r[1] = c
        else:
            out.append([c, c, 1, d])
    return out


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--segmentation", required=True)
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    classes, extend, link = segmentation(a.segmentation)
    sets = {
        "PUNCT": alone(P.Punctuation()),
        "NUMERIC": alone(P.Digits(individual_digits=True)),
        "OTHER": removed(N.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)),
        "MN": removed(N.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)),
        "COMB": removed(N.StripAccents()),
        "WORD": {c for c in CPS if len(P.Whitespace().pre_tokenize_str("a" + chr(c) + "b")) == 1},
        "NORM": norm_active(),
        "INCB_EXTEND": extend, "INCB_LINKER": link,
    }
    sh = shadow()
    sets["SHADOW"] = set(sh)
    value = [0] * 0x110000
    for c, k in classes.items():
        value[c] = k
    for i, f in enumerate(FLAGS):
        for c in sets[f]:
            value[c] |= 16 << i
    for c in range(0x20):
        value[c] = value[c] & ~15 | 3
    value[13] = value[13] & ~15 | 1
    value[10] = value[10] & ~15 | 2
    page, pages, index = 64, {}, []
    for p in range(0, 0x110000, page):
        index.append(pages.setdefault(tuple(value[p:p + page]), len(pages)))
    distinct = sorted(set(value))
    assert len(distinct) < 256 and len(pages) < 65536

    def rows(nums, fmt="%d", per=0):
        line, out = "   ", []
        for x in nums:
            s = " " + fmt % x + ","
            if len(line) + len(s) > 100:
                out.append(line)
                line = "   "
            line += s
        return "\n".join(out + [line])

    with open(a.out, "w", encoding="ascii") as f:
        w = f.write
        w("/* SPDX-License-Identifier: Apache-2.0 */\n"
          "/* unidata.c - character properties as the reference tokenizers see them (see unidata.h).\n"
          " * Layer: tok (L1).  Threads: any, constant.  Made by tools/gen_unidata.py; do not edit. */\n"
          "#include \"tok/unidata.h\"\n\n/* clang-format off */\n")
        w("const uint16_t rr_uni_values[%d] = {\n%s\n};\n\n" % (len(distinct), rows(distinct, "0x%x")))
        last = max(i for i, x in enumerate(index) if x != index[-1]) + 1
        w("const uint16_t rr_uni_index[0x110000 / 64] = { /* by code point / 64 */\n%s\n};\n\n" % rows(index))
        w("const uint8_t rr_uni_pages[%d][64] = { /* into rr_uni_values */\n" % len(pages))
        for p in pages:
            w("    {\n%s\n    },\n" % rows([distinct.index(v) for v in p]).replace("    ", "      ", 1))
        w("};\n\n")
        low = lower_ranges()
        w("const struct rr_uni_lower rr_uni_lower[] = { /* sorted */\n")
        for r in low:
            w("    { 0x%x, 0x%x, %d, %d },\n" % tuple(r))
        w("};\nconst unsigned rr_uni_lower_n = %d;\n\n" % len(low))
        sr = ranges(sh)
        w("const struct rr_uni_shadow rr_uni_shadow[] = { /* sorted */\n")
        for lo, hi, cat in sr:
            w("    { 0x%x, 0x%x, 0x%x }, /* %s */\n" % (lo, hi, REPS[cat][lo >= 0x10000], cat))
        w("};\nconst unsigned rr_uni_shadow_n = %d;\n" % len(sr))
    print("values", len(distinct), "pages", len(pages), "lower", len(low), "shadow", len(sr), "last", last,
          {f: len(s) for f, s in sets.items()}, "classes", len(classes))


if __name__ == "__main__":
    main()
