"""What training needs besides the text: near entries, stem weights, token arrays."""
import json
import os
import zlib
from collections import Counter

import numpy as np
import scipy.sparse as sp

import manual
from words import BM25, LIMIT, WORD, stem


def neighbours(entries, work, lang, k, pools):
    """For each entry with text in the language the k entries of other source packages whose long
    descriptions BM25 finds with its short one, best first: [entries, k], -1 in other rows.

    The same search as the evaluation's, so that training sees the candidates it will be asked to
    put in order.  A package's are packages, a section's sections, and all are of the same one of
    `pools` random parts: with 10, as many texts as the evaluation searches; with fewer the
    candidates are nearer.
    """
    cache = os.path.join(work, "near-%s-%d.npy" % (lang, pools))
    if os.path.exists(cache):
        return np.load(cache)
    parts = {}
    for i, e in enumerate(entries):
        if lang in e.text:
            parts.setdefault((manual.is_section(e), zlib.crc32(e.name.encode()) % pools), []).append(i)
    out = np.full((len(entries), k), -1, np.int32)
    for rows in parts.values():
        bm25 = BM25([entries[i].text[lang][1][:LIMIT] for i in rows])
        shorts = [entries[i].text[lang][0] for i in rows]
        for at, (i, (ids, _)) in enumerate(zip(rows, bm25.top(shorts, 2 * k))):
            # Packages of one source describe the same thing: never a negative.
            keep = [rows[j] for j in ids if entries[rows[j]].source != entries[i].source][:k]
            out[i] = np.resize(keep or [rows[(at + 1) % len(rows)]], k)
    np.save(cache, out)
    return out


def stem_idf(entries):
    """{stem: idf} over all languages"""
    df, n = Counter(), 0
    for e in entries:
        for short, long in e.text.values():
            df.update({stem(w) for w in WORD.findall(short + " " + long[:600])})
            n += 1
    return {s: float(np.log(1 + n / c)) for s, c in df.items() if s}


def stem_sets(entries, lang, number):
    """entry x stem 0/1 matrix of one language"""
    rows, cols = [], []
    for i, e in enumerate(entries):
        text = " ".join(e.text[lang])[:700]
        found = {number[s] for s in map(stem, WORD.findall(text)) if s in number}
        rows += [i] * len(found)
        cols += sorted(found)
    return sp.csr_matrix((np.ones(len(rows), np.float32), (rows, cols)),
                         shape=(len(entries), len(number)))


def dictionary(entries, idf, least=0.2):
    """{foreign stem: English stem}, by the Dice coefficient over descriptions and their
    translations; crude, but good enough to tell a probe which words correspond."""
    stems = list(idf)
    number = {s: i for i, s in enumerate(stems)}
    out = {}
    for lang in ("es", "pt", "de", "it", "fr"):  # the last one wins
        both = [e for e in entries if lang in e.text]
        a, b = stem_sets(both, lang, number), stem_sets(both, "en", number)
        na, nb = (np.asarray(m.sum(0)).ravel() for m in (a, b))
        seen = np.flatnonzero(na >= 3)
        for start in range(0, len(seen), 2000):
            rows = seen[start:start + 2000]
            joint = (a.T.tocsr()[rows] @ b).tocsr()
            for k, row in enumerate(rows):
                at = slice(joint.indptr[k], joint.indptr[k + 1])
                ids, n = joint.indices[at], joint.data[at]
                dice = 2 * n / (na[row] + nb[ids])
                # A word that is as common in English text is the same word there.
                if len(ids) and dice.max() >= least and nb[row] < 0.5 * na[row]:
                    out[stems[row]] = stems[ids[dice.argmax()]]
    return out


def cached(path, make):
    """The JSON value of the file, made first where there is none."""
    if not os.path.exists(path):
        with open(path, "w", encoding="utf-8") as f:
            json.dump(make(), f, ensure_ascii=False)
    with open(path, encoding="utf-8") as f:
        return json.load(f)


class Coder:
    """Text -> token ids and, per token, the number of the stem of its word (0: none)."""

    def __init__(self, tokenizer, idf, translation=()):
        self.tok, self.known = tokenizer, {}
        self.number = {s: i + 1 for i, s in enumerate(idf)}
        self.weight = [0.0] + list(idf.values())
        # English counterpart of each stem, itself where none is known.
        self.english = np.arange(len(self.number) + 1)
        for word, other in dict(translation).items():
            self.english[self.number[word]] = self.number[other]

    def stem_number(self, word):
        s = stem(word)
        if not s:
            return 0
        if s not in self.number:  # invented or rare word
            self.number[s] = len(self.number) + 1
            self.weight.append(11.0)
        return self.number[s]

    def to_english(self, stems):
        return np.where(stems < len(self.english),
                        self.english[np.minimum(stems, len(self.english) - 1)], stems)

    def remember(self, texts):
        """Keeps the ids of the texts, which will be asked for again and again"""
        texts = list(set(texts))
        for t, c in zip(texts, self.tok.encode_batch(texts, add_special_tokens=False)):
            self.known[t] = np.array(c.ids, np.uint16)

    def ids(self, texts):
        new = [t for t in texts if t not in self.known]
        coded = iter(self.tok.encode_batch(new, add_special_tokens=False))
        return [self.known[t] if t in self.known else np.array(next(coded).ids) for t in texts]

    def encode(self, texts, stems=True):
        """[(ids, stem numbers)]; all numbers 0 where stems are not wanted"""
        if not stems:
            return [(i.astype(np.int64), np.zeros(len(i), np.int64)) for i in self.ids(texts)]
        coded = self.tok.encode_batch(texts, add_special_tokens=False)
        out = []
        for text, enc in zip(texts, coded):
            spans = [(m.start(), self.stem_number(m.group())) for m in WORD.finditer(text)]
            starts = np.array([s for s, _ in spans] or [0])
            numbers = np.array([n for _, n in spans] or [0])
            at = np.array([b - 1 for _, b in enc.offsets], np.int64)
            word = np.searchsorted(starts, at, side="right") - 1
            found = np.where(word >= 0, numbers[np.maximum(word, 0)], 0) if len(at) else at
            out.append((np.array(enc.ids, np.int64), found))
        return out


def join_pair(query, doc, max_tokens):
    """ids, stems and segment of <s> query </s></s> document </s>, cut to max_tokens"""
    (q, qs), (d, ds) = query, doc
    q, qs = q[:max_tokens // 2], qs[:max_tokens // 2]
    room = max_tokens - len(q) - 4
    d, ds = d[:room], ds[:room]
    ids = np.concatenate([[0], q, [2, 2], d, [2]])
    stems = np.concatenate([[0], qs, [0, 0], ds, [0]])
    segment = np.zeros(len(ids), np.int64)
    segment[len(q) + 2:] = 1
    return ids, stems, segment


def collate(pairs, weights):
    """Padded arrays: ids, mask, segment and, unless weights is None, token targets (1 matched,
    0 not, -1 no target) and per pair the idf-weighted share of query stems found in the document."""
    width = max(len(p[0]) for p in pairs)
    ids = np.ones((len(pairs), width), np.int64)
    segment = -np.ones((len(pairs), width), np.int64)
    match = -np.ones((len(pairs), width), np.int64)
    cover = np.zeros(len(pairs), np.float32)
    for row, (i, stems, seg) in enumerate(pairs):
        n = len(i)
        ids[row, :n], segment[row, :n] = i, seg
        if weights is None:
            continue
        in_query, in_doc = set(stems[seg == 0]) - {0}, set(stems[seg == 1]) - {0}
        both = in_query & in_doc
        match[row, :n] = np.where(stems > 0, np.isin(stems, list(both)), -1)
        total = sum(weights[s] for s in in_query)
        cover[row] = sum(weights[s] for s in both) / total if total else 0.0
    return ids, (ids != 1).astype(np.int64), segment, match, cover
