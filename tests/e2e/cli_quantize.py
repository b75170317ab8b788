# SPDX-License-Identifier: Apache-2.0
"""cli_quantize.py - rerankd quantize from outside: what the gate chooses and says."""
import json
import os
import random
import shutil
import struct

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
            assert 1 <= report["estimated_time"] < report["estimated_time_bf16"], report
            with open(os.path.join(out, "quantize.json"), encoding="utf-8") as f:
                chosen = [(layer["dtype"], layer.get("input_bits", 8)) for layer in json.load(f)["layers"]]
            assert chosen.count(("int8", 8)) == report["int8_layers"], (chosen, report)
            assert chosen.count(("int8", 16)) == report["input16_layers"], (chosen, report)
            _, tensors, _ = read_safetensors(os.path.join(out, "model.safetensors"))
            assert any(name.endswith("_input_bits") for name in tensors) == (report["input16_layers"] > 0)
            return report

        whole = quantize(0)
        assert whole["int8_layers"] == whole["layers"] and whole["int8_share"] == 1, whole
        assert whole["estimated_time"] == 1 and promised(whole) < 0.97, whole
        part = quantize(promised(whole) + 0.3 * (1 - promised(whole)))
        assert part["int8_share"] < 1 and part["estimated_time"] > 1, part
        assert part["top5_expected"] > whole["top5_expected"], (part, whole)


def read_safetensors(path):
    with open(path, "rb") as f:
        length = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(length))
        return header.pop("__metadata__", {}), header, f.read()


def set_input_bits(path, bits, chosen=lambda name: True):
    """Adds NAME_input_bits to the chosen weights in int8."""
    metadata, tensors, data = read_safetensors(path)
    data += b"\0" * (-len(data) % 4)
    for name in [n for n, t in tensors.items() if t["dtype"] == "I8" and chosen(n)]:
        tensors[name + "_input_bits"] = {"dtype": "F32", "shape": [1],
                                         "data_offsets": [len(data), len(data) + 4]}
        data += struct.pack("<f", bits)
    header = json.dumps({"__metadata__": metadata, **tensors}).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + data)


def test_quantize_input_bits():
    """NAME_input_bits 16: scores as of the same weights in f32.  What is no such number is refused."""
    with folder() as d:
        data, plain = lists(os.path.join(d, "lists"), 8, 8), os.path.join(d, "8")
        r = run("quantize", model(), plain, "--calibration", "none")
        assert r.code == 0, r

        def verify(bits, **chosen):
            path = os.path.join(d, "%g-%d" % (bits, len(os.listdir(d))))
            shutil.copytree(plain, path)
            set_input_bits(os.path.join(path, "model.safetensors"), bits, **chosen)
            return run("verify", path, "--data", data, "--json")

        off = [json.loads(verify(bits).out)["mean_logit_difference"] for bits in (8, 16)]
        assert 0 < off[1] < off[0] / 10, off
        r = verify(12)
        assert r.code and "_input_bits is 12, expected 8 or 16" in r.err, r
        r = verify(16, chosen=lambda name: name.endswith("query.weight"))
        assert r.code and "take inputs of different precisions" in r.err, r


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
