#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coverage.py - sums what gcov says of src/ after a run of tests: "make coverage" calls it.

    tools/coverage.py BUILD_FOLDER FLOOR

Prints lines and branches per folder of src/, and all; exit status 1 when fewer than FLOOR percent of the
lines were reached.
"""
import collections
import gzip
import json
import os
import subprocess
import sys
import tempfile


def notes(folder):
    for path, _, files in os.walk(os.path.join(folder, "obj", "src")):
        yield from (os.path.join(path, f) for f in files if f.endswith(".gcno"))


def gcov(note):
    """(line, reached) and (branch, taken) counts of each source file that the object was made of."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["gcov", "--json-format", "--branch-probabilities", os.path.abspath(note)],
                       cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        for name in os.listdir(folder):
            with gzip.open(os.path.join(folder, name)) as f:
                yield from json.load(f)["files"]


def main():
    folder, floor = sys.argv[1], float(sys.argv[2])
    sums = collections.defaultdict(lambda: [0, 0, 0, 0])
    for note in notes(folder):
        for file in gcov(note):
            if not file["file"].startswith("src/") or not file["file"].endswith(".c"):
                continue
            branches = [b for x in file["lines"] for b in x["branches"]]
            counts = (len(file["lines"]), sum(x["count"] > 0 for x in file["lines"]), len(branches),
                      sum(b["count"] > 0 for b in branches))
            for key in (os.path.dirname(file["file"]), "all"):
                sums[key] = [a + b for a, b in zip(sums[key], counts)]
    assert sums["all"][0], "no figures: were the tests run?"
    for key in sorted(sums, key=lambda k: (k == "all", k)):
        lines, reached, branches, taken = sums[key]
        print("%-14s lines %5.1f %% of %5d, branches %5.1f %% of %5d" % (
            key, 100 * reached / max(lines, 1), lines, 100 * taken / max(branches, 1), branches))
    share = 100 * sums["all"][1] / sums["all"][0]
    if share < floor:
        sys.exit("%.1f %% of the lines were reached, at least %g %% are wanted" % (share, floor))


if __name__ == "__main__":
    main()
