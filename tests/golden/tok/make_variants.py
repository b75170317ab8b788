#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes variants.jsonl: many small changes of the golden tokenizer.json files, and what the
reference library makes of a few texts under each.

    pip install tokenizers==0.22.2
    python3 make_variants.py

One line per variant: {"name", "base": folder, "set": top-level keys to replace, "model": keys of the
model to replace, "added": entries to append to added_tokens, "file": a whole tokenizer.json instead of
base} and "cases": {"text", "ids" (with special tokens), "offsets" (bytes, flat, without special
tokens, absent where the reference has none that mean anything), "decoded" (special tokens left out)}.
"""
import copy
import json
import os
import random

from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDERS = {n: os.path.join(HERE, "..", "models", n)
           for n in ("tiny-xlmr", "tiny-bert", "tiny-roberta", "tiny-modernbert-cls", "tiny-qwen3")}
BASE = {n: json.load(open(os.path.join(p, "tokenizer.json"), encoding="utf-8")) for n, p in FOLDERS.items()}
TEXTS = [
    "Le délai est de 14 jours.", "  deux  espaces,\tune tab\n", "Straße É ÀÉÎ ﬁ ＡＢ １２", "e\u0301a\u0323\u0308 \u0301x",
    "한국어 \u1100\u1161\u11a8 か\u3099", "中文字 123,456", "👩\u200d👧 🇫🇷 ©\u0301", "don't WE'LL 'S x_y", "a\u0000b\ufffd\u0085c\u200bd",
    "▁lead ▁▁x", "foo bar NEW new tail  <X> end", "!?... ---",
]
SPECIAL_TEXT = {"tiny-xlmr": " a <mask> b</s>", "tiny-bert": "[CLS] x[MASK] [SEP]", "tiny-roberta": "x  <mask> y<s>",
                "tiny-modernbert-cls": "a  [MASK][SEP]", "tiny-qwen3": "<|im_start|>a <think>\n"}
PRECOMPILED = BASE["tiny-xlmr"]["normalizer"]
GPT4 = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def meta(**kw):
    return dict(dict(type="Metaspace", replacement="▁", prepend_scheme="always", split=True), **kw)


def byte_level(**kw):
    return dict(dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True), **kw)


def pre(*steps):
    return dict(type="Sequence", pretokenizers=list(steps))


def norm(*steps):
    return dict(type="Sequence", normalizers=list(steps))


def variants():
    spaces = dict(type="WhitespaceSplit")
    for scheme in ("always", "first", "never"):
        for split in (True, False):
            yield "metaspace-%s-%s" % (scheme, split), "tiny-xlmr", dict(pre_tokenizer=meta(prepend_scheme=scheme, split=split))
        yield "spaces-metaspace-" + scheme, "tiny-xlmr", dict(pre_tokenizer=pre(spaces, meta(prepend_scheme=scheme)))
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            for p in (dict(Regex=r"\s+"), dict(String=" "), dict(Regex=r"\p{L}+|\p{N}{1,3}"), dict(Regex="x*")):
                yield ("split-%s-%s-%s" % (behavior, invert, "".join(p.values())), "tiny-bert",
                       dict(pre_tokenizer=dict(type="Split", pattern=p, behavior=behavior, invert=invert)))
        yield "punctuation-" + behavior, "tiny-bert", dict(pre_tokenizer=pre(dict(type="Whitespace"), dict(type="Punctuation", behavior=behavior)))
    for prefix in (False, True):
        for regex in (False, True):
            yield "bytes-%s-%s" % (prefix, regex), "tiny-roberta", dict(pre_tokenizer=byte_level(add_prefix_space=prefix, use_regex=regex))
            yield ("digits-bytes-%s-%s" % (prefix, regex), "tiny-modernbert-cls",
                   dict(pre_tokenizer=pre(dict(type="Digits", individual_digits=prefix), byte_level(use_regex=regex))))
    yield "gpt4-pattern", "tiny-qwen3", dict(pre_tokenizer=pre(
        dict(type="Split", pattern=dict(Regex=GPT4), behavior="Isolated", invert=False), byte_level(use_regex=False)))
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"):
        yield "normalizer-" + form, "tiny-bert", dict(normalizer=dict(type=form))
        yield "precompiled-" + form, "tiny-xlmr", dict(normalizer=norm(PRECOMPILED, dict(type=form)))
    yield "normalizer-ByteLevel", "tiny-modernbert-cls", dict(normalizer=norm(dict(type="NFC"), dict(type="ByteLevel")), pre_tokenizer=spaces)
    for left in (True, False):
        for right in (True, False):
            yield "strip-%s-%s" % (left, right), "tiny-xlmr", dict(pre_tokenizer=meta(), normalizer=norm(
                dict(type="Strip", strip_left=left, strip_right=right), PRECOMPILED, dict(type="Replace", pattern=dict(Regex=" {2,}"), content="▁")))
            for accents in (True, False, None):
                yield "bert-%s-%s-%s" % (left, right, accents), "tiny-bert", dict(normalizer=dict(
                    type="BertNormalizer", clean_text=right, handle_chinese_chars=left, strip_accents=accents, lowercase=right))
    yield "prepend", "tiny-xlmr", dict(pre_tokenizer=None, normalizer=norm(
        dict(type="Prepend", prepend="▁"), dict(type="Replace", pattern=dict(String=" "), content="▁")))
    yield "replace-nothing", "tiny-xlmr", dict(normalizer=norm(dict(type="Replace", pattern=dict(Regex=r"[^a-z ]"), content=""), PRECOMPILED))
    yield "post-bert", "tiny-bert", dict(post_processor=dict(type="BertProcessing", sep=["[SEP]", 3], cls=["[CLS]", 2]))
    yield "post-none", "tiny-bert", dict(post_processor=None)
    yield "post-sequence", "tiny-roberta", dict(post_processor=dict(type="Sequence", processors=[
        byte_level(add_prefix_space=True), BASE["tiny-modernbert-cls"]["post_processor"]]))
    yield "post-no-trim", "tiny-roberta", dict(post_processor=dict(type="RobertaProcessing", sep=["</s>", 2], cls=["<s>", 0], trim_offsets=False, add_prefix_space=True))
    yield "bytes-twice", "tiny-bert", dict(pre_tokenizer=pre(byte_level(), byte_level(use_regex=False), dict(type="Whitespace")))
    yield "decoder-none", "tiny-bert", dict(decoder=None)
    yield "decoder-clean", "tiny-bert", dict(decoder=dict(type="WordPiece", prefix="##", cleanup=False))


def added(r):
    for k in range(8):
        base = r.choice(["tiny-xlmr", "tiny-bert", "tiny-roberta"])
        next_id = len(BASE[base]["model"]["vocab"]) + (0 if base == "tiny-bert" else 0)
        known = {a["content"] for a in BASE[base]["added_tokens"]}
        out = []
        for c in ["NEW", "new", "Straße", "foo bar", "é", "<X>", "<X> e", "ab", "tail ", "...", "▁lead"]:
            if r.random() < 0.6 and c not in known:
                out.append(dict(id=next_id, content=c, single_word=r.random() < 0.3, lstrip=r.random() < 0.3,
                                rstrip=r.random() < 0.3, normalized=r.random() < 0.6, special=r.random() < 0.3))
                next_id += 1
        yield "added-%d" % k, base, out
    # White space that one token takes is no other token's, and what is left of that one is none.
    strip = dict(single_word=False, lstrip=False, rstrip=True, normalized=False, special=False)
    space = dict(strip, lstrip=True, rstrip=False)
    yield "added-spaces", "tiny-bert", [dict(strip, content=c, id=len(BASE["tiny-bert"]["model"]["vocab"]) + i) for i, c in enumerate(("deux", "jours"))] + [
        dict(space, content="  ", id=len(BASE["tiny-bert"]["model"]["vocab"]) + 2)]


def small_bpe(r, prefix, suffix, fuse, fallback, unk, strings):
    vocab = {"<unk>": 0}

    def add(piece):
        vocab.setdefault(piece, len(vocab))
        return piece
    for c in "abdeijlostuxyLWEé中. ":
        for piece in (c, (prefix or "") + c, c + (suffix or ""), (prefix or "") + c + (suffix or "")):
            add(piece)
    if fallback:
        for b in range(256):
            add("<0x%02X>" % b)
    pool = [p for p in vocab if not p.startswith("<") and " " not in p]
    merges = []
    for _ in range(300):
        a, b = r.choice(pool), r.choice(pool)
        if (suffix and a.endswith(suffix)) or (prefix and not b.startswith(prefix)) or [a, b] in merges:
            continue
        pool.append(add(a + b[len(prefix or ""):]))
        merges.append([a, b])
    if strings:
        merges = ["#version: 0.2"] + [" ".join(m) for m in merges]
    return dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None,
                pre_tokenizer=dict(type="WhitespaceSplit"), post_processor=None,
                decoder=dict(type="BPEDecoder", suffix=suffix) if suffix else None,
                model=dict(type="BPE", dropout=None, unk_token="<unk>" if unk else None, continuing_subword_prefix=prefix,
                           end_of_word_suffix=suffix, fuse_unk=fuse, byte_fallback=fallback, ignore_merges=False, vocab=vocab, merges=merges))


def small_unigram(r, fallback):
    vocab = [["<unk>", 0.0], ["▁", -2.0], ["e\u0301", -7.25]]
    for c in "abdeijlnorstuxyLé中.,!":
        vocab += [[c, -r.random() * 10], ["▁" + c, -r.random() * 12]]
    for _ in range(120):
        p = "".join(r.choice("abdeijlnorstuxyé.") for _ in range(r.randint(2, 4)))
        if p not in [v[0] for v in vocab]:
            vocab.append([p, -r.random() * 14])
    vocab.append(["▁jours", -1.2345678901234567890123])
    if fallback:
        vocab += [["<0x%02X>" % b, -30.5] for b in range(256)]
    return dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None, pre_tokenizer=meta(), post_processor=None,
                decoder=dict(type="Sequence", decoders=[dict(type="Replace", pattern=dict(String="▁"), content=" "), dict(type="ByteFallback"),
                                                        dict(type="Fuse"), dict(type="Strip", content=" ", start=1, stop=0)]),
                model=dict(type="Unigram", unk_id=0, vocab=vocab, byte_fallback=fallback))


def cases(spec, texts, offsets=True):
    tok = Tokenizer.from_str(json.dumps(spec))
    tok.no_truncation()
    tok.no_padding()
    out = []
    for t in texts:
        full, bare = tok.encode(t), tok.encode(t, add_special_tokens=False)
        at = [0]
        for c in t:
            at.append(at[-1] + len(c.encode()))
        case = dict(text=t, ids=full.ids, decoded=tok.decode(full.ids))
        if offsets and all(b < len(at) for _, b in bare.offsets):
            case["offsets"] = [at[x] for o in bare.offsets for x in o]
        out.append(case)
    return out


def main():
    r = random.Random(3)
    rows = []
    for name, base, top in variants():
        spec = dict(copy.deepcopy(BASE[base]), **top)
        rows.append(dict(name=name, base=base, set=top, cases=cases(spec, TEXTS + [SPECIAL_TEXT[base]])))
    for name, base, extra in added(r):
        spec = copy.deepcopy(BASE[base])
        spec["added_tokens"] += extra
        # Where an added token's white space lies is told by the reference in other units than trimmed.
        rows.append(dict(name=name, base=base, added=extra, cases=cases(spec, TEXTS + [SPECIAL_TEXT[base]], base != "tiny-roberta")))
    for name, base, model in (("ignore-merges", "tiny-roberta", dict(ignore_merges=True)), ("long-words", "tiny-bert", dict(max_input_chars_per_word=4))):
        spec = copy.deepcopy(BASE[base])
        spec["model"].update(model)
        rows.append(dict(name=name, base=base, model=model, cases=cases(spec, TEXTS)))
    for i, (prefix, suffix, fuse, fallback, unk, strings) in enumerate([
            (None, "</w>", False, False, True, True), ("##", None, True, False, True, False), (None, None, False, True, True, False),
            ("##", "</w>", True, False, True, False), (None, None, True, False, False, True)]):
        spec = small_bpe(r, prefix, suffix, fuse, fallback, unk, strings)
        rows.append(dict(name="bpe-%d" % i, file=spec, cases=cases(spec, TEXTS)))
    for fallback in (False, True):
        spec = small_unigram(r, fallback)
        rows.append(dict(name="unigram-%s" % fallback, file=spec, cases=cases(spec, TEXTS)))
    with open(os.path.join(HERE, "variants.jsonl"), "w", encoding="utf-8") as f:
        for row in rows:
            if row.get("set", {}).get("normalizer") is not None:  # the character map is that of the base
                text = json.dumps(row, ensure_ascii=False).replace(PRECOMPILED["precompiled_charsmap"], "$CHARSMAP")
                f.write(text + "\n")
            else:
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(len(rows), "variants", sum(len(x["cases"]) for x in rows), "cases")


if __name__ == "__main__":
    main()
