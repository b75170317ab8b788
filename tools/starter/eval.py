#!/usr/bin/env python3
"""Evaluate an exported starter model on packages it has never seen.

    python3 tools/starter/eval.py --model models/starter

Protocol.  Test packages are those of 10 % of the source packages, kept out of
the vocabulary, the embeddings and the training.  A query is the short
description of a package in the query language, as it stands.  The documents
are the long descriptions (at most 400 characters) of the test packages that
have one in the document language.  Candidates: BM25's best 20 documents; if
the query's own document is not among them it takes the last place; documents
of the same source package other than the right one are removed first, since
they often say the same.  For the cross-language sets BM25 finds candidates
with the short description in the document's language (so that they are hard),
while the BM25 row ranks them with the real query.  Candidates are shuffled;
ties count against the ranking.
"""
import argparse
import json
import math
import multiprocessing
import os
import sys

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import XLMRobertaForSequenceClassification

import corpus
from encoder import Encoder
from lists import SETS, candidate_lists, metrics, quotes_host
from smoke import SMOKE

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = ["", " ", "🙂 ok 👍🏽", "naïve café — œuvre n° 5, 10 €", "Œ œ ﬁ ﬂ ½ ™ ②", "日本語のテキスト",
         "http://example.org/a?b=c&d=%20", "x", "Ça alors !\nDeux lignes\tet une tabulation."]


class Scorer:
    def __init__(self, path):
        torch.set_num_threads(1)
        self.model = XLMRobertaForSequenceClassification.from_pretrained(
            path, dtype=torch.float32, attn_implementation="eager").eval()
        self.net = Encoder(self.model)
        self.tok = Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
        self.tok.no_padding()

    def one(self, query, doc, max_length=512):
        """logit of one pair by transformers, nothing padded"""
        self.tok.enable_truncation(max_length=max_length, strategy="longest_first")
        ids = torch.tensor([self.tok.encode(query, doc).ids])
        with torch.no_grad():
            return self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, 0].item()

    def many(self, pairs, block=40, max_length=512):
        """logits of many pairs, padded in blocks of similar length"""
        self.tok.enable_truncation(max_length=max_length, strategy="longest_first")
        ids = [e.ids for e in self.tok.encode_batch(pairs)]
        order = np.argsort([len(i) for i in ids], kind="stable")
        out = np.zeros(len(ids), np.float32)
        with torch.no_grad():
            for start in range(0, len(order), block):
                rows = order[start:start + block]
                width = max(len(ids[r]) for r in rows)
                x = torch.tensor([ids[r] + [1] * (width - len(ids[r])) for r in rows])
                out[rows] = self.net.score(x, (x != 1).long()).numpy()
        # encoder.py is this recipe's own code: it has to meet transformers.
        for r in order[:: max(1, len(order) // 3)]:
            assert abs(out[r] - self.one(*pairs[r], max_length)) < 1e-4
        return out


scorer_of_process = {}


def score_lists(job):
    """[scores] of lists, in one of several processes"""
    path, lists = job
    if not lists:
        return []
    if path not in scorer_of_process:
        scorer_of_process[path] = Scorer(path)
    z = scorer_of_process[path].many([(r["query"], doc) for r in lists for doc in r["documents"]])
    ends = np.cumsum([0] + [len(r["documents"]) for r in lists])
    return [z[a:b] for a, b in zip(ends, ends[1:])]


def smoke(scorer):
    good = 0
    for query, docs in SMOKE:
        z = [scorer.one(query, d) for d in docs]
        good += z[0] == max(z)
        print("%-4s %-42s %s" % ("ok" if z[0] == max(z) else "MISS", query,
                                 " ".join("%.3f" % (1 / (1 + math.exp(-x))) for x in z)))
    print("smoke: %d of %d right" % (good, len(SMOKE)), flush=True)
    return good


def write_lists(path, lists):
    with open(path, "w", encoding="utf-8") as f:
        for row in lists:
            keep = {k: row[k] for k in ("id", "lang", "query", "documents", "positive")}
            f.write(json.dumps(keep, ensure_ascii=False) + "\n")


def write_heldout(path, sets, count=280, limit=1_900_000):
    """The first lists of every set that quote no web address"""
    per = count // len(sets)
    write_lists(path, [row for lists in sets.values()
                       for row in [r for r in lists if not quotes_host(r)][:per]])
    size = os.path.getsize(path)
    print("heldout.jsonl: %d bytes" % size)
    assert size <= limit, "shorten the documents"


def write_reference(path, scorer, sets):
    """Requests with logits, each pair alone in float32, for other implementations to meet."""
    rows = [(q, d) for q, d in SMOKE[:6] + SMOKE[-2:]]
    for lists in sets.values():
        for r in [r for r in lists if not quotes_host(r)][30:31]:
            rows.append((r["query"], [d[:300] for d in r["documents"][:6]]))
    long = " ".join(d for r in sets[("fr", "fr")][40:43] for d in r["documents"][:4])
    rows += [("délai de rétractation", TEXTS), ("🙂", ["🙂", "sourire", ""]), ("", ["", "un document"]),
             ("bibliothèque de calcul", [long[:5000], "bibliothèque"]), (long[:2600], ["court", long[2600:5000]])]
    bad = 0
    from transformers import PreTrainedTokenizerFast
    fast = PreTrainedTokenizerFast(tokenizer_file=os.path.join(os.path.dirname(path), "tokenizer.json"))
    with open(path, "w", encoding="utf-8") as f:
        for query, docs in rows:
            z = [scorer.one(query, d) for d in docs]
            scorer.tok.enable_truncation(max_length=512, strategy="longest_first")
            for d in docs:
                ids = fast([[query, d]], truncation="longest_first", max_length=512)["input_ids"][0]
                bad += ids != scorer.tok.encode(query, d).ids
            f.write(json.dumps(dict(
                query=query, documents=docs, max_length=512, logits=[round(x, 6) for x in z],
                scores=[round(1 / (1 + math.exp(-x)), 7) for x in z]), ensure_ascii=False) + "\n")
    print("reference.jsonl: %d requests, %d bytes; PreTrainedTokenizerFast differs on %d pairs"
          % (len(rows), os.path.getsize(path), bad))
    assert os.path.getsize(path) <= 60_000 and not bad


def table(sets, scores):
    """A row per set; the error is that of the difference, whose lists are the same for both"""
    print("| set | queries | BM25 has it | BM25 MRR@10 | starter | BM25 nDCG@10 | starter "
          "| difference |")
    print("|---|---|---|---|---|---|---|---|")
    for key, lists in sets.items():
        lists, mine = lists[:len(scores[key])], scores[key]
        theirs = [r["bm25"] for r in lists]
        found = 100 * sum(r["in_top20"] for r in lists) / len(lists)
        b, m = metrics(lists, theirs), metrics(lists, mine)
        each = [metrics([r], [z])[1] - metrics([r], [y])[1] for r, z, y in zip(lists, mine, theirs)]
        print("| %s → %s | %d | %.0f %% | %.3f | %.3f | %.3f | %.3f | %+.3f ± %.3f |" % (
            *key, len(lists), found, b[0], m[0], b[1], m[1], m[1] - b[1],
            np.std(each) / math.sqrt(len(each))))
    sys.stdout.flush()


def run(work, model, limit=300, write=True, chunk=50, workers=2, part="test", copy=None):
    entries = [e for e in corpus.load_entries(work) if corpus.split_of(e.source) == part]
    sets = {s: candidate_lists(entries, *s, limit, 3) for s in SETS}
    if copy:
        write_lists(copy, [row for lists in sets.values() for row in lists])
    if write:
        write_heldout(os.path.join(HERE, "heldout.jsonl"), sets)
        write_reference(os.path.join(model, "reference.jsonl"), Scorer(model), sets)
    smoke(Scorer(model))
    scores = {s: [] for s in SETS}
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        # A share of every set at a time: a run that is stopped early has told something.
        for start in range(0, limit, chunk):
            jobs = [(model, lists[start:start + chunk]) for lists in sets.values()]
            for key, z in zip(sets, pool.imap(score_lists, jobs)):
                scores[key] += z
            print("first %d of each set:" % (start + chunk))
            table(sets, scores)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--model", default="models/starter")
    ap.add_argument("--work", default="starter-work")
    ap.add_argument("--limit", type=int, default=300, help="queries per set")
    ap.add_argument("--part", choices=("test", "dev"), default="test",
                    help="dev: the development packages, to choose by; writes no files")
    ap.add_argument("--lists", metavar="FILE", help="write all lists there, for rerankd verify")
    ap.add_argument("--dry", action="store_true", help="write no files")
    a = ap.parse_args()
    run(a.work, a.model, a.limit, not a.dry and a.part == "test", part=a.part, copy=a.lists)


if __name__ == "__main__":
    main()
