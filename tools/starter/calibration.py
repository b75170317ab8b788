#!/usr/bin/env python3
"""Writes models/starter/calibration.jsonl, the texts that "rerankd quantize" looks at by default.

    python3 tools/starter/calibration.py --out models/starter/calibration.jsonl

Lists of 20 candidates as in eval.py, 10 for each pair of languages, but of the development packages:
neither the training nor the held-out lists share a source package with them.
"""
import argparse
import json

import corpus
from lists import SETS, candidate_lists, quotes_host

PER_SET = 10
LIMIT = 240  # characters of a document


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", default="models/starter/calibration.jsonl")
    ap.add_argument("--work", default="starter-work")
    a = ap.parse_args()
    entries = [e for e in corpus.load_entries(a.work) if corpus.split_of(e.source) == "dev"]
    sets = [[r for r in candidate_lists(entries, *s, 4 * PER_SET, 5) if not quotes_host(r)][:PER_SET]
            for s in SETS]
    with open(a.out, "w", encoding="utf-8") as f:
        for rows in zip(*sets):  # languages take turns: any first part of the file has all
            for row in rows:
                f.write(json.dumps(dict(query=row["query"],
                                        documents=[d[:LIMIT] for d in row["documents"]]),
                                   ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
