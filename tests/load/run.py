#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py - the cases of the reliability battery that need a running server.

    tests/load/run.py [NAME...]    all cases of the schedule, or those whose names contain a NAME
    tests/load/run.py --list

Environment: RERANKD, the program (build/rerankd); SCHEDULE, which to run: P (every change, default),
N (also nightly), W (also weekly); RESULTS, where the outcome is written (build/load.json).  Prints a
line per case and, last, "N passed, N failed, N skipped"; exit status 1 if any failed.
"""
import json
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import battery  # noqa: E402
import cases_cache  # noqa: E402,F401
import cases_device  # noqa: E402,F401
import cases_fault  # noqa: E402,F401
import cases_http  # noqa: E402,F401
import cases_life  # noqa: E402,F401
import cases_load  # noqa: E402,F401
import cases_prometheus  # noqa: E402,F401
import cases_proxy  # noqa: E402,F401
from registry import CASES  # noqa: E402
from server import RERANKD, ROOT, Skip  # noqa: E402

RESULTS = os.environ.get("RESULTS", os.path.join(ROOT, "build", "load.json"))


def run_one(case):
    """ok, FAIL or skip; and why, or a note with figures."""
    try:
        return "ok", case.function() or ""
    except Skip as e:
        return "skip", str(e)
    except Exception:  # an assertion, a time-out, a broken pipe: all are failures
        return "FAIL", traceback.format_exc()


def selected(names):
    schedules = "PNW"[:"PNW".index(os.environ.get("SCHEDULE", "P")) + 1]
    for c in sorted(CASES, key=lambda c: (c.number, c.name)):
        if any(n in c.name for n in names) if names else c.schedule in schedules:
            yield c


def remember(results):
    """Keeps the outcomes of cases that did not run this time."""
    old = {}
    if os.path.exists(RESULTS):
        with open(RESULTS, encoding="utf-8") as f:
            old = json.load(f)
    known = {c.name for c in CASES}
    old = {name: r for name, r in old.items() if name in known}
    old.update(results)
    os.makedirs(os.path.dirname(RESULTS), exist_ok=True)
    with open(RESULTS, "w", encoding="utf-8") as f:
        json.dump(old, f, indent=1, sort_keys=True)
        f.write("\n")


def main():
    names = sys.argv[1:]
    if names == ["--list"]:
        for c in selected([]):
            print("R%d%s %s: %s; passes: %s" % (c.number, c.schedule, c.name,
                                                battery.TITLES[c.number], c.passes))
        return 0
    if not os.path.exists(RERANKD):
        sys.exit("%s is not built" % RERANKD)
    results = {}
    for c in selected(names):
        started = time.monotonic()
        word, note = run_one(c)
        seconds = time.monotonic() - started
        results[c.name] = {"result": word, "seconds": round(seconds, 1), "schedule": c.schedule,
                           "passes": c.passes, "note": "" if word == "FAIL" else note}
        print("%-5s %s %s (%.1f s)%s%s" % (word, battery.group_of(c.number), c.name, seconds,
                                           ": " if note and word != "FAIL" else "\n" if note else "",
                                           note), flush=True)
    remember(results)
    words = [r["result"] for r in results.values()]
    print("%d passed, %d failed, %d skipped" % (words.count("ok"), words.count("FAIL"),
                                                words.count("skip")))
    return 1 if "FAIL" in words else 0


if __name__ == "__main__":
    sys.exit(main())
