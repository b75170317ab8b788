#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""full_size.py - a model of full size (tools/make_full.py) on a GPU, in every precision that it has,
beside f32 on the CPU: what small models do not reach, tiles of large batches through 24 layers.

    tests/cuda/full_size.py RERANKD [--device cuda] [--layers 24] [--hidden 1024] [DTYPE...]

The model is made once, in build/full-size-*.  With --device cpu it shows that the allowed differences
suit this model where no GPU is.
"""
import argparse
import json
import os
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tools"))
import make_full  # noqa: E402

ALLOWED = {"f32": 2e-3, "f16": 0.03, "bf16": 0.15, "int8": 0.4, "fp8": 0.9}  # of logits, -3 to 3
QUERY = "installer un serveur web"
WORDS = ("Apache est un serveur libre", "GIMP retouche des photos", "nginx", "un chat dort au soleil",
         "le vent se lève", "une page sur les serveurs et leurs fichiers de configuration")
DOCUMENTS = [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(1 + i * i % 13)) for i in range(12)]


def logits(program, model, device, dtype):
    """None: the device has no such precision."""
    r = subprocess.run([program, "score", "--model", model, "--device", device, "--no-fallback",
                        "--dtype", dtype, "--cache-dir", "none", "--query", QUERY, "--format", "lines",
                        "-"], input="\n".join(DOCUMENTS) + "\n", capture_output=True, text=True,
                       check=False)
    if r.returncode and ("needs compute capability" in r.stderr or "does not compute in" in r.stderr):
        print(f"SKIP: {r.stderr.strip()}")
        return None
    if r.returncode:
        sys.exit(f"{device}, {dtype}: {r.stderr.strip()}")
    rows = sorted(map(json.loads, r.stdout.splitlines()), key=lambda row: row["index"])
    return [row["logit"] for row in rows]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("dtypes", nargs="*", default=list(ALLOWED))
    args = parser.parse_intermixed_args()
    model = os.path.join(ROOT, "build", f"full-size-{args.layers}-{args.hidden}")
    if not os.path.exists(os.path.join(model, "config.json")):
        make_full.make(model, args.layers, args.hidden)
    expected = logits(args.program, model, "cpu", "f32")
    assert max(expected) - min(expected) > 0.3, f"the documents look alike: {expected}"
    passed = failed = skipped = 0
    for dtype in args.dtypes or ALLOWED:
        got = logits(args.program, model, args.device, dtype)
        if got is None:
            skipped += 1
            continue
        worst = max(abs(a - b) for a, b in zip(got, expected))
        good = len(got) == len(expected) and worst <= ALLOWED[dtype]
        print(f"{args.layers} layers, {dtype}: logits differ by {worst:.2e}, allowed "
              f"{ALLOWED[dtype]:.0e}{'' if good else ': FAILED'}")
        passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
