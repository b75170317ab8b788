#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py - /ui and /ui/status in a headless Chromium, as people use them, against a running server.

    tests/ui/run.py [NAME...]      cases whose names contain one of these words
    --shots FOLDER                 takes the screenshots of docs/images instead

Prints a line per case and, last, "N passed, N failed, N skipped"; exit status 77 when Chromium or its
driver is not installed (tools/deps.sh ui).  Environment: RERANKD, the program (build/rerankd).
"""
import argparse
import contextlib
import os
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))

from cli_support import Skip  # noqa: E402
from server_support import starter  # noqa: E402

import browser  # noqa: E402
import cases_access  # noqa: E402
import cases_playground  # noqa: E402
import cases_status  # noqa: E402
import shots  # noqa: E402


def run(cases):
    counts = {"ok": 0, "FAIL": 0, "skip": 0}
    for case in cases:
        started, word, why = time.monotonic(), "ok", ""
        try:
            case()
        except Skip as skip:
            word, why = "skip", str(skip)
        except Exception:  # whatever it was, the others still run
            word, why = "FAIL", traceback.format_exc()
        counts[word] += 1
        print("%-4s %s (%.1f s) %s" % (word, case.__name__, time.monotonic() - started, why), flush=True)
    print("%(ok)d passed, %(FAIL)d failed, %(skip)d skipped" % counts)
    return 1 if counts["FAIL"] else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--shots", metavar="FOLDER")
    options = parser.parse_args()
    if None in browser.programs():
        print("SKIP: chromium and chromedriver are not both installed (tools/deps.sh ui)")
        return 77
    with contextlib.suppress(Skip):
        starter()
        if options.shots:
            return shots.take(options.shots)
        return run([f for module in (cases_playground, cases_access, cases_status)
                    for name, f in vars(module).items() if name.startswith("test_")
                    and (not options.names or any(n in name for n in options.names))])
    print("SKIP: the starter model is not there")
    return 77


if __name__ == "__main__":
    sys.exit(main())
