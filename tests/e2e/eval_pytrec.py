#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""eval_pytrec.py - "rerankd eval" beside pytrec_eval, the Python form of trec_eval.

    tests/e2e/eval_pytrec.py           compares on made-up runs; exit status 77: PyPI out of reach
    tests/e2e/eval_pytrec.py --write   writes tests/golden/eval, which cli_eval.py reads

By hand (make test-eval): installs pytrec_eval-terrier into build/venv-eval.
"""
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import venv_support
from cli_support import RERANKD, ROOT

GOLDEN = os.path.join(ROOT, "tests", "golden", "eval")
TOLERANCE = 1e-9


def made_up(seed):
    """Graded and negative labels, ties, documents nobody judged, queries of one file only."""
    rng = random.Random(seed)
    qrels, run = {}, {}
    for q in range(40):
        qid = "q%d" % rng.randrange(10 ** 6)
        docs = ["d%d" % i for i in rng.sample(range(1000), 60)]
        if rng.random() < 0.95:
            qrels[qid] = {d: rng.choice([-1, 0, 0, 0, 0, 1, 1, 2, 3])
                          for d in rng.sample(docs, rng.randrange(1, 40))}
            if rng.random() < 0.1:
                qrels[qid] = {d: 0 for d in qrels[qid]}
        if rng.random() < 0.95:
            run[qid] = {d: rng.choice([round(rng.gauss(0, 3), 1), rng.gauss(0, 3)])
                        for d in rng.sample(docs, rng.randrange(1, 60))}
    return qrels, run


def write(folder, qrels, run):
    with open(os.path.join(folder, "qrels.txt"), "w", encoding="utf-8") as f:
        for q, labels in qrels.items():
            f.writelines("%s 0 %s %d\n" % (q, d, x) for d, x in labels.items())
    with open(os.path.join(folder, "run.txt"), "w", encoding="utf-8") as f:
        for q, scores in run.items():
            f.writelines("%s Q0 %s %d %r made\n" % (q, d, i, s)
                         for i, (d, s) in enumerate(scores.items()))


def first(scores, k):
    """trec_eval has no MRR with a cut-off: its order, cut."""
    best = sorted(scores, key=lambda d: d, reverse=True)
    return {d: scores[d] for d in sorted(best, key=lambda d: -f32(scores[d]))[:k]}


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def expected(qrels, run, k):
    import pytrec_eval
    names = {"ndcg_cut.%d" % k, "recall.%d" % k, "map"}
    all_of = pytrec_eval.RelevanceEvaluator(qrels, names).evaluate(run)
    cut = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(
        {q: first(s, k) for q, s in run.items()})
    return {q: {"ndcg": m["ndcg_cut_%d" % k], "mrr": cut[q]["recip_rank"],
                "recall": m["recall_%d" % k], "map": m["map"]} for q, m in all_of.items()}


def ours(folder, k):
    p = subprocess.run([RERANKD, "eval", "--no-rerank", "--json", "--per-query", "--k", str(k),
                        "--run", os.path.join(folder, "run.txt"), "--qrels",
                        os.path.join(folder, "qrels.txt")], stdout=subprocess.PIPE, check=True)
    return json.loads(p.stdout)


def compare(got, want):
    """got: our JSON; want: measures by query."""
    per_query = {q["id"]: q["systems"][0] for q in got["per_query"]}
    assert set(per_query) == set(want), set(per_query) ^ set(want)
    for q, measures in want.items():
        for name, value in measures.items():
            assert abs(per_query[q][name] - value) <= TOLERANCE, (q, name, per_query[q], measures)
    for name in ("ndcg", "mrr", "recall", "map"):
        mean = sum(m[name] for m in want.values()) / len(want)
        assert abs(got["systems"][0][name] - mean) <= TOLERANCE, (name, got["systems"], mean)


def main():
    venv_support.install("pytrec_eval", "pytrec_eval-terrier")
    if "--write" in sys.argv:
        qrels, run = made_up(0)
        write(GOLDEN, qrels, run)
        with open(os.path.join(GOLDEN, "expected.json"), "w", encoding="utf-8") as f:
            json.dump({str(k): expected(qrels, run, k) for k in (1, 5, 10)}, f, indent=0)
            f.write("\n")
        return
    for seed in range(20):
        qrels, run = made_up(seed)
        with tempfile.TemporaryDirectory() as folder:
            write(folder, qrels, run)
            for k in (1, 3, 10, 100):
                compare(ours(folder, k), expected(qrels, run, k))
    print("20 passed, 0 failed")


if __name__ == "__main__":
    main()
