#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gpu.py - an XLM-R-large shaped reranker on a GPU: this plugin at several precisions, and the same
layers in PyTorch with scaled_dot_product_attention when it can be imported.

    bench/gpu.py build/bench/bench_encoder [DTYPE...]     called by "make bench-gpu"

Random weights, the same shapes: it measures speed, not ranking.  PyTorch gets padded batches, which is
what its usual users have; shapes of equal lengths have no padding at all.
"""
import re
import subprocess
import sys
import time

SHAPES = ("1x128", "20x64", "20x128", "20x512", "ragged")
REPS = 30


def ours(bench, dtype):
    out = subprocess.run([bench, "--backend", "cuda", "--dtype", dtype, "--reps", str(REPS)],
                         capture_output=True, text=True, check=False)
    if out.returncode:
        print(f"{dtype}: {out.stderr.strip() or out.stdout.strip()}")
        return {}
    print(out.stdout.strip().splitlines()[1])
    return {m.group(1): float(m.group(2))
            for m in re.finditer(r"^(\S+) +\d+ tokens +best +([\d.]+) ms", out.stdout, re.M)}


def torch_encoder(torch, dtype):
    layer = torch.nn.TransformerEncoderLayer(1024, 16, 4096, activation="gelu", batch_first=True)
    stack = torch.nn.TransformerEncoder(layer, 24, enable_nested_tensor=False)
    return stack.to("cuda", dtype).eval()


def torch_times(torch, dtype):
    model, times = torch_encoder(torch, dtype), {}
    with torch.inference_mode():
        for shape in SHAPES:
            if "x" not in shape:
                continue
            count, length = map(int, shape.split("x"))
            x = torch.randn(count, length, 1024, device="cuda", dtype=dtype)
            best = float("inf")
            for _ in range(REPS):
                torch.cuda.synchronize()
                begin = time.perf_counter()
                model(x)
                torch.cuda.synchronize()
                best = min(best, time.perf_counter() - begin)
            times[shape] = best * 1e3
    return times


def main():
    bench, dtypes = sys.argv[1], sys.argv[2:] or ["f16"]
    rows = {f"rerankd {d}": ours(bench, d) for d in dtypes}
    try:
        import torch
    except ImportError:
        print("PyTorch cannot be imported: no comparison")
    else:
        if torch.cuda.is_available():
            rows["PyTorch f16"] = torch_times(torch, torch.float16)
    print("\nbest of", REPS, "in ms\n")
    print("| | " + " | ".join(SHAPES) + " |")
    print("| --- " * (len(SHAPES) + 1) + "|")
    for name, times in rows.items():
        cells = (f"{times[s]:.2f}" if s in times else "-" for s in SHAPES)
        print(f"| {name} | " + " | ".join(cells) + " |")
    return 0 if any(rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
