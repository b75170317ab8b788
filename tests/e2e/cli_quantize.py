# SPDX-License-Identifier: Apache-2.0
"""cli_quantize.py - rerankd quantize from outside: what the gate chooses and says."""
import json
import os
import random

from cli_support import folder, model, one_line, run, write

WORDS = "ant bee cat dog eel fox gnu hen ibis jay kite lark mole newt owl pig".split()


def lists(path, n, documents):
    r = random.Random(1)

    def text():
        return " ".join(r.choices(WORDS, k=r.randint(2, 9)))

    write(path, "".join(json.dumps({"query": text(), "documents": [text() for _ in range(documents)]})
                        + "\n" for _ in range(n)))
    return path


def test_quantize_gate():
    """As many layers in int8 as the share that is asked for allows: less asked for, more of them."""
    with folder() as d:
        data = lists(os.path.join(d, "lists"), 16, 10)

        # Where bf16 has instructions of its own, layers that are kept beside int8 do without them:
        # they are more exact then, and take twice as long.
        isa = json.loads(run("doctor", "--port", "0", "--model", model(), "--json").out)["machine"]["isa"]
        most = 2 if isa in ("amx", "avx512bf16") else 1

        def promised(report):
            return report["top5_expected"] - report["top5_expected_error"]

        def quantize(share):
            out = os.path.join(d, "%.4f" % share)
            r = run("quantize", model(), out, "--calibration", data, "--gate", "auto",
                    "--gate-top5", str(share), "--gate-tau", "-1", "--json")
            assert r.code == 0, r
            report = json.loads(r.out)
            assert report["gate_met"] and promised(report) >= share, report
            assert report["lists"] == 8 and report["top5_expected_lists"] == 16, report
            assert 0 < report["int8_layers"] <= report["layers"], report
            assert 1 <= report["estimated_time"] < most * report["estimated_time_bf16"], report
            with open(os.path.join(out, "quantize.json"), encoding="utf-8") as f:
                chosen = [layer["dtype"] for layer in json.load(f)["layers"]]
            assert chosen.count("int8") == report["int8_layers"], (chosen, report)
            return report

        whole = quantize(0)
        assert whole["int8_layers"] == whole["layers"] and whole["int8_share"] == 1, whole
        assert whole["estimated_time"] == 1 and promised(whole) < 0.97, whole
        part = quantize(promised(whole) + 0.3 * (1 - promised(whole)))
        assert part["int8_share"] < 1 and part["estimated_time"] > 1, part
        assert part["top5_expected"] > whole["top5_expected"], (part, whole)


def test_quantize_says():
    with folder() as d:
        data, out = lists(os.path.join(d, "lists"), 16, 10), os.path.join(d, "out")
        words = ["quantize", model(), out, "--calibration", data]
        r = run(*words, "--gate-top5", "1")
        assert r.code == 0, r
        for text in (", 9 of 9 layers, 100 % of", "changed in ", "expected of other lists like these",
                     "a standard error, from the scores of 8 lists", "more: --gate auto",
                     "100 % of the lists and tau 0.985 are not met: "):
            assert text in r.out, (text, r)
        few = lists(os.path.join(d, "few"), 4, 6)
        r = run("quantize", model(), os.path.join(d, "unchecked"), "--calibration", few)
        assert r.code == 0 and "\nnot checked: of 4 lists none is kept back" in r.out, r
        short = lists(os.path.join(d, "short"), 16, 5)
        r = run("quantize", model(), os.path.join(d, "five"), "--calibration", short)
        assert r.code == 0 and "prove nothing" in r.out and "best equal" not in r.out, r
        r = run("quantize", model(), os.path.join(d, "easy"), "--calibration", data, "--gate", "auto",
                "--gate-top5", "0", "--gate-tau", "-1")
        assert r.code == 0 and "0 % of the lists and tau -1 are met\n" in r.out and "more: " not in r.out, r


def test_quantize_refuses():
    """No folder without a layer in int8, and no promise that lists cannot support."""
    with folder() as d:
        data, out = lists(os.path.join(d, "lists"), 8, 8), os.path.join(d, "out")
        short, bad = lists(os.path.join(d, "short"), 8, 5), write(os.path.join(d, "bad"), "{")
        for more, code, message in (
                (["--calibration", data, "--gate-top5", "1"], 78, "not met with any layer in int8"),
                (["--calibration", short], 64, "needs lists of more than five documents"),
                (["--calibration", "none"], 64, "needs lists of more than five documents"),
                (["--calibration", bad], 65, "bad: line 1: "),
                (["--calibration", data, "--check", bad], 65, "bad: line 1: "),
                (["--calibration", data, "--dtype", "bf16"], 64, "it needs --dtype int8"),
                (["--calibration", data, "--gate-top5", "2"], 64, "--gate-top5: found \"2\""),
                (["--calibration", data, "--gate-tau", "x"], 64, "--gate-tau: found \"x\"")):
            r = run("quantize", model(), out, "--gate", "auto", *more)
            assert r.code == code and message in r.err.splitlines()[-1], (more, r)
            assert not os.path.exists(out) and r.out == "", (more, r)
            assert code == 78 or one_line(r.err), r
            assert code != 78 or "Take dtype bf16" in r.err and "exact_top_k" in r.err, r
