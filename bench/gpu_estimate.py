#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gpu_estimate.py - what the kernels of plugins/cuda should take on a T4, on paper.

    bench/gpu_estimate.py [COUNTxLENGTH ...]

Counts what each kernel of a layer asks of a multiprocessor: clocks of its tensor cores, clocks of its
shared memory, bytes of device memory.  The slowest of them is the least time of that kernel.  Two
columns: at the boost clock with every unit busy all the time, which no kernel reaches; and at the
rate that NVIDIA's own TensorRT sustains on this card (published, BERT-large, 16 x 128: 57.7 ms in
f16 and 30.1 in int8, that is 21.9 and 41.9 T operations a second: the card is limited to 70 W).
An estimate: nothing here was measured on a GPU.
"""
import sys

HIDDEN, BETWEEN, LAYERS, HEADS = 1024, 4096, 24, 16
SMS, BOOST_GHZ, SHARED_BYTES_CLOCK, DEVICE_GBS = 40, 1.59, 64, 250  # of 320 GB/s, what is reached
MACS_CLOCK = {"f16": 512, "int8": 1024}       # of a multiprocessor
SUSTAINED = {"f16": 21.9e12, "int8": 41.9e12}  # TensorRT's operations a second
TILE, WARP_M, WARP_N, STEP = 128, 64, 32, 64  # gemm.cu: block, warp, bytes of k a step


def gemm(m, n, k, dtype, out_bytes, residual=False):
    """(tensor clocks, shared-memory clocks, device bytes, operations) of one LINEAR."""
    size = 2 if dtype == "f16" else 1
    blocks = -(-m // TILE) * -(-n // TILE)
    waves = -(-blocks // SMS)  # of one block a multiprocessor: two share it, and its units
    steps = -(-k * size // STEP)
    tensor = TILE * TILE * STEP // size / MACS_CLOCK[dtype]
    warps = TILE * TILE // (WARP_M * WARP_N)
    read = warps * (WARP_M + WARP_N) * STEP
    written = 2 * TILE * STEP
    shared = (read + written) / SHARED_BYTES_CLOCK
    device = m * k * size + n * k * size + m * n * out_bytes + (m * n * 4 if residual else 0)
    return waves * steps * tensor, waves * steps * shared, device, 2 * m * n * k


def attention(tokens, length):
    """f16 in both precisions."""
    tiles = -(-length // 64)
    macs = 2 * tokens // length * HEADS * (tiles * 64) ** 2 * (HIDDEN // HEADS)
    blocks = tokens // length * tiles * HEADS
    read = blocks * tiles * 4 * 2 * 64 * (HIDDEN // HEADS) * 2  # keys and values, by each warp
    return (macs / MACS_CLOCK["f16"] / SMS, read / SHARED_BYTES_CLOCK / SMS,
            tokens * HIDDEN * 2 * 4, 2 * macs)


def rows(tokens, read, written):
    """One pass over rows: device memory is all."""
    return 0, 0, tokens * (read + written), 0


def layer(tokens, length, dtype):
    q = dtype == "int8"
    one = 1 if q else 2
    kernels = [
        ("QKV", gemm(tokens, 3 * HIDDEN, HIDDEN, dtype, 2)),
        ("attention", attention(tokens, length)),
        ("O + residual", gemm(tokens, HIDDEN, HIDDEN, dtype, 4, True)),
        ("norm", rows(tokens, HIDDEN * 4, HIDDEN * (4 + one))),
        ("FFN1 + GELU", gemm(tokens, BETWEEN, HIDDEN, dtype, 2)),
        ("FFN2 + residual", gemm(tokens, HIDDEN, BETWEEN, dtype, 4, True)),
        ("norm", rows(tokens, HIDDEN * 4, HIDDEN * (4 + one))),
    ]
    if q:  # what no norm quantizes as it goes; the second reading is in cache
        kernels.insert(2, ("quantize", rows(tokens, HIDDEN * 2, HIDDEN)))
        kernels.insert(6, ("quantize", rows(tokens, BETWEEN * 2, BETWEEN)))
    return kernels


def milliseconds(kernel, dtype):
    """(at boost, as sustained)"""
    tensor, shared, device, operations = kernel
    clocks = max(tensor, shared) / (BOOST_GHZ * 1e6)
    memory = device / (DEVICE_GBS * 1e6)
    return max(clocks, memory), max(operations / SUSTAINED[dtype] * 1e3, memory)


def main():
    shapes = sys.argv[1:] or ["20x128", "50x128"]
    print("| T4, estimate | least, boost clock | at TensorRT's sustained rate |\n| --- | --- | --- |")
    for shape in shapes:
        count, length = map(int, shape.split("x"))
        for dtype in ("int8", "f16"):
            parts = [(name, milliseconds(k, "f16" if name == "attention" else dtype))
                     for name, k in layer(count * length, length, dtype)]
            least, likely = (sum(p[1][i] for p in parts) * (LAYERS - 10 / 12) for i in (0, 1))
            print(f"| {shape}, {dtype} | {least:.0f} ms | {likely:.0f} ms |")
    print("\nParts of 20x128, one layer, in ms at the sustained rate:\n")
    for dtype in ("int8", "f16"):
        print(f"{dtype}: " + ", ".join(
            f"{name} {milliseconds(k, 'f16' if name == 'attention' else dtype)[1]:.2f}"
            for name, k in layer(2560, 128, dtype)))
    t, s, _, _ = gemm(2560, 4096, 1024, "int8", 2)
    print(f"\nClocks of FFN1 in int8: tensor cores {t:.0f}, shared memory {s:.0f}")


if __name__ == "__main__":
    main()
