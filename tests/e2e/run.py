#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py - all black-box tests: rerankd as a program and as a server.

    tests/e2e/run.py [NAME...]     all tests, or those whose names contain a NAME

Environment: RERANKD, the program (build/rerankd); ATTEMPTS, how often a test is tried before it has
failed (1), for machines that stop for seconds at times: what failed first is printed all the same.
Prints a line per test and, last, "N passed, N failed, N skipped"; exit status 1 if any failed.
"""
import os
import sys
import time
import traceback

import cli_bench
import cli_doctor
import cli_eval
import cli_formats
import cli_healthcheck
import cli_mcp
import cli_mistakes
import cli_pull
import cli_quantize
import cli_score
import cli_shadow
import server_bad_input
import server_clients
import server_connections
import server_devices
import server_dialects
import server_extras
import server_framing
import server_gate
import server_life
import server_models
import server_ops
import server_slow
import server_support
import test_cli
from cli_support import RERANKD, Skip

MODULES = [("cli", m) for m in (test_cli, cli_score, cli_healthcheck, cli_doctor, cli_mcp,
                              cli_bench, cli_eval, cli_formats, cli_pull, cli_quantize, cli_mistakes,
                              cli_shadow)] + [
    ("serve", m) for m in (
        server_dialects, server_clients, server_extras, server_bad_input, server_framing,
        server_connections, server_slow, server_gate, server_life, server_models,
        server_devices, server_ops)]


def run_one(function):
    """A word for the outcome, and why."""
    try:
        function()
        return "ok", ""
    except Skip as e:
        return "skip", ": SKIP %s" % e
    except Exception:  # an assertion, a time-out, a broken pipe: all are failures
        return "FAIL", "\n" + traceback.format_exc()


def main():
    names = sys.argv[1:]
    attempts = int(os.environ.get("ATTEMPTS", "1"))
    counts = {"ok": 0, "FAIL": 0, "skip": 0}
    if not os.path.exists(RERANKD):
        sys.exit("%s is not built" % RERANKD)
    tests = [("%s %s" % (kind, n[5:]), f) for kind, m in MODULES for n, f in vars(m).items()
             if n.startswith("test_") and callable(f)]
    tests.append(("serve stops in the end", server_support.stop_shared))
    for name, function in tests:
        if names and not any(n in name for n in names) and function != server_support.stop_shared:
            continue
        started = time.monotonic()
        word, why = run_one(function)
        for attempt in range(2, attempts + 1):
            if word != "FAIL":
                break
            print("again %s: attempt %d%s" % (name, attempt, why), flush=True)
            word, why = run_one(function)
        counts[word] += 1
        print("%-5s %s (%.1f s)%s" % (word, name, time.monotonic() - started, why), flush=True)
    print("%d passed, %d failed, %d skipped" % (counts["ok"], counts["FAIL"], counts["skip"]))
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
