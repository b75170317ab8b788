#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gen_reliability.py - writes docs/RELIABILITY.md: the battery's cases, where each is tested, and what
the last "make test-load" said.

    tools/gen_reliability.py [build/load.json] > docs/RELIABILITY.md
"""
import json
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "load"))
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

HEAD = """# Reliability

Made by `tools/gen_reliability.py` from `tests/load/battery.py` and the outcome of `make test-load`; do
not edit.

A battery of 134 cases, collected from what went wrong in production with servers of this kind. A case
is tested where it is cheapest: in a unit test, a black-box test of `make test` (e2e), by a fuzzer, by a
check of the build, or against a running server under load or faults (`make test-load`, which checks
eight invariants after each case: `tests/load/server.py`). "partly" and "missing" say what is not tested
and why.

Schedules of load cases: P every change, N nightly, W weekly (`make test-load SCHEDULE=N`).
"""


def check_places():
    """Every test that the table names must exist."""
    sources = ""
    for folder, _, files in os.walk(os.path.join(ROOT, "tests")):
        sources += "".join(open(os.path.join(folder, f), encoding="utf-8").read() + "\n" + f + "\n"
                           for f in files if f.endswith((".c", ".py", ".h"))
                           and f not in ("battery.py",))
    for number, places in battery.WHERE.items():
        for kind, text in places:
            if kind in ("missing", "check"):
                continue
            for name in re.findall(r"\b(?:test|fuzz|server)_\w+", text):
                if name not in sources:
                    sys.exit("R%d names %s, which is not in tests/" % (number, name))


def escape(text):
    return text.replace("|", "\\|")


def load_places(number, results):
    for c in sorted(CASES, key=lambda c: c.name):
        if c.number != number:
            continue
        r = results.get(c.name)
        word = {"ok": "passed", "FAIL": "**failed**", "skip": "skipped", None: "not run yet"}[
            r and r["result"]]
        note = ": %s" % r["note"] if r and r["note"] else ""
        yield "load %s `%s` (%s): %s%s" % (c.schedule, c.name, c.passes, word, note)


def row(number, results):
    load = list(load_places(number, results))
    other = ["%s: %s" % x if x[0] != "missing" or not load else "" for x in battery.WHERE[number]]
    return "| R%02d | %s | %s |" % (number, escape(battery.TITLES[number]),
                                   escape("; ".join([x for x in load + other if x])))


def state(number, results):
    """tested: somewhere, and each load case of every change has passed."""
    kinds = {k for k, _ in battery.WHERE[number]}
    load = [c for c in CASES if c.number == number]
    if any(results.get(c.name, {}).get("result") != "ok" for c in load if c.schedule == "P"):
        return "partly"
    if load:
        return "tested"
    return "missing" if kinds == {"missing"} else "partly" if "partly" in kinds else "tested"


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "load.json")
    results = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            results = json.load(f)
    check_places()
    assert sorted(battery.TITLES) == list(range(1, 135))
    states = [state(n, results) for n in battery.TITLES]
    lines = [HEAD, "%d cases tested, %d partly, %d missing.\n" % tuple(
        states.count(x) for x in ("tested", "partly", "missing"))]
    for group, (first, last, title) in battery.GROUPS.items():
        lines += ["## %s. %s\n" % (group, title), "| # | Case | Where, and the last result |",
                  "|---|---|---|"]
        for number in range(first, last + 1):
            if not load_or_other(number):
                sys.exit("R%d is tested nowhere and does not say why" % number)
            lines.append(row(number, results))
        lines.append("")
    sys.stdout.write("\n".join(lines))


def load_or_other(number):
    return battery.WHERE[number] or any(c.number == number for c in CASES)


if __name__ == "__main__":
    main()
