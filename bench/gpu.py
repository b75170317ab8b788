#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gpu.py - an XLM-R-large shaped reranker on a GPU: this plugin at several precisions, and the same
layers in PyTorch with scaled_dot_product_attention when it can be imported, in one run.

    bench/gpu.py build/bench/bench_encoder [--backend cuda] [--layers 24] [--reps 30] [--shapes ...]
                 [--ways eager,graph] [--layouts padded] [--seconds N]
                 [DTYPE...]                               called by "make bench-gpu"
    bench/gpu.py --self-test                              the PyTorch layers agree, on the CPU

Random weights, the same shapes: it measures speed, not ranking.  PyTorch runs in f16 and, where the
card has it, bf16: padded with a mask and unpadded (packed tokens, nested attention), each eager,
compiled, and recorded as a CUDA graph; compiling takes minutes.  After --seconds the tables are printed
with what there is.  Times are milliseconds, best of --reps; memory is what each
reserves, weights and the largest batch; the last table is the part of the peak that matrix products
reach in the same precision, measured here with torch.matmul.  Precisions that the card does not have
are left out, with its reason.
"""
import argparse
import random
import re
import signal
import subprocess
import sys
import time

REPS, LAYERS, BACKEND = 30, 24, "cuda"
WIDTH, HEADS, BETWEEN, WORDS = 1024, 16, 4096, 5000
BATCH_TOKENS = 16384
SHAPES = [(c, n) for c in (1, 20, 50, 200) for n in (64, 128, 256, 512)]
RAGGED = [max(8, min(512, int(random.Random(7 + i).lognormvariate(4.852 - 0.08, 0.4))))
          for i in range(20)]  # mean 128, sigma 0.4


LAYOUTS = ["padded", "unpadded"]
WAYS = ["eager", "compiled", "graph", "compiled graph"]
ASKED = []  # instead of SHAPES: "20x128", "64+31+200", "ragged"


class TimeIsUp(BaseException):
    pass


def lists():
    """{name: [batches of lengths]}: what does not fit into a batch is cut, as the engine does."""
    out = {}
    for shape in ASKED or [f"{count}x{length}" for count, length in SHAPES] + ["ragged"]:
        count, _, length = shape.partition("x")
        if not length:
            out[shape] = [RAGGED if shape == "ragged" else list(map(int, shape.split("+")))]
            continue
        count, length = int(count), int(length)
        at_once = BATCH_TOKENS // length
        out[shape] = [[length] * min(at_once, count - i) for i in range(0, count, at_once)]
    return out


def flop(lengths):
    """The last layer is for the first token only, but for keys and values."""
    tokens, pairs = sum(lengths), len(lengths)
    attention = sum(4 * WIDTH * n * n for n in lengths)
    whole = 2 * tokens * (4 * WIDTH * WIDTH + 2 * WIDTH * BETWEEN) + attention
    last = 4 * tokens * WIDTH * WIDTH + 2 * pairs * (2 * WIDTH * WIDTH + 2 * WIDTH * BETWEEN)
    return (LAYERS - 1) * whole + last


# ---- this plugin --------------------------------------------------------------------------------


def ours(bench, dtype, memory, seconds):
    """{list: ms}; what the device holds goes into memory."""
    shapes = list(dict.fromkeys("+".join(map(str, b)) if len(set(b)) > 1 else f"{len(b)}x{b[0]}"
                                for batches in lists().values() for b in batches))
    try:
        out = subprocess.run([bench, "--backend", BACKEND, "--dtype", dtype, "--reps", str(REPS),
                              "--layers", str(LAYERS), "--shape", ",".join(shapes)],
                             capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        print(f"{dtype}: stopped after {seconds:.0f} seconds")
        return {}
    if out.returncode:
        print(f"{dtype}: {out.stderr.strip() or out.stdout.strip()}")
        return {}
    print(out.stdout.strip().splitlines()[1])
    found = re.search(r"weights (\d+) MB, workspace (\d+) MB", out.stdout)
    memory[f"rerankd {dtype}"] = tuple(map(int, found.groups()))
    found = re.findall(r"^(\S+) +\d+ tokens +best +([\d.]+) ms", out.stdout, re.M)
    best = dict(zip(shapes, (float(ms) for _, ms in found)))
    return {name: sum(best["+".join(map(str, b)) if len(set(b)) > 1 else f"{len(b)}x{b[0]}"]
                      for b in batches) for name, batches in lists().items()}


# ---- PyTorch ------------------------------------------------------------------------------------


def make_model(torch, layers=LAYERS, width=WIDTH, heads=HEADS, between=BETWEEN):
    nn, sdpa = torch.nn, torch.nn.functional.scaled_dot_product_attention

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, between), nn.Linear(between, width)
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

        def forward(self, x, attend):
            x = self.norm1(x + self.out(attend(self.qkv(x))))
            return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.word, self.layers = nn.Embedding(WORDS, width), nn.ModuleList(
                Layer() for _ in range(layers))
            self.head, self.logit = nn.Linear(width, width), nn.Linear(width, 1)

        def score(self, first):
            return self.logit(torch.tanh(self.head(first)))

        def forward(self, ids, mask):  # [pairs, longest]; mask: True where a token is, or None
            x = self.word(ids)
            keys = None if mask is None else mask[:, None, None, :]

            def attend(qkv):
                b, n, _ = qkv.shape
                q, k, v = qkv.view(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
                return sdpa(q, k, v, attn_mask=keys).transpose(1, 2).reshape(b, n, width)
            for layer in self.layers:
                x = layer(x, attend)
            return self.score(x[:, 0])

        def packed(self, ids, offsets, one_by_one=False):  # [tokens]; [pairs + 1]
            nested = torch.nested.nested_tensor_from_jagged
            x = self.word(ids)

            def attend(qkv):
                parts = [part.reshape(-1, heads, width // heads) for part in qkv.split(width, -1)]
                if one_by_one:  # what the nested form must mean, where it has no CPU kernel
                    return torch.cat([
                        sdpa(*(p[a:b].transpose(0, 1)[None] for p in parts))[0].transpose(0, 1)
                        for a, b in zip(offsets[:-1], offsets[1:])]).reshape(-1, width)
                q, k, v = (nested(part, offsets).transpose(1, 2) for part in parts)
                return sdpa(q, k, v).transpose(1, 2).values().reshape(-1, width)
            for layer in self.layers:
                x = layer(x, attend)
            return self.score(x[offsets[:-1]])

    return Encoder().eval()


def inputs(torch, lengths, device):
    longest = max(lengths)
    ids = torch.zeros(len(lengths), longest, dtype=torch.long, device=device)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for i, n in enumerate(lengths):
        ids[i, :n] = torch.arange(n) * 7 % WORDS
        mask[i, :n] = True
    offsets = torch.tensor([0] + lengths, device=device).cumsum(0)
    full = all(n == longest for n in lengths)
    return (ids, None if full else mask), (ids[mask], offsets)


def record(torch, f, arguments):
    """f as a CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            f(*arguments)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        f(*arguments)
    return graph.replay


def best_of(torch, f):
    best = float("inf")
    for _ in range(REPS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        f()
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return best * 1e3


def torch_rows(torch, dtype, name, rows, memory):
    """rows gets {row: {list: ms}}, memory the weights, and the most that was held beside them."""
    with torch.device("cuda"):
        model = make_model(torch, layers=LAYERS).to(dtype)
    torch.cuda.empty_cache()
    weights = torch.cuda.memory_allocated()
    for layout in LAYOUTS:
        forward = model.forward if layout == "padded" else model.packed
        for way in WAYS:
            f = torch.compile(forward, dynamic=False) if "compiled" in way else forward
            row = f"PyTorch {name}, {layout}, {way}"
            times = rows.setdefault(row, {})
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            for shape, batches in lists().items():
                try:
                    total = 0
                    for lengths in batches:
                        padded, packed = inputs(torch, lengths, "cuda")
                        arguments = padded if layout == "padded" else packed
                        f(*arguments)  # compiles
                        run = (record(torch, f, arguments) if "graph" in way
                               else lambda f=f, a=arguments: f(*a))
                        total += best_of(torch, run)
                    times[shape] = total
                except Exception as e:  # a peer that cannot do it leaves a hole in the table
                    print(f"{row}, {shape}: {(str(e) or repr(e)).splitlines()[0]}")
            memory[row] = (weights // 10**6, (torch.cuda.max_memory_reserved() - weights) // 10**6)


def peaks(torch, out):
    """out gets {dtype: operations a second} that a large square product reaches."""
    n = 8192

    def measure(name, make):
        try:
            f = make()
            f()
            out[name] = 2 * n ** 3 / best_of(torch, f) * 1e3
        except Exception as e:
            print(f"peak of {name}: {str(e).splitlines()[0]}")

    def plain(dtype):
        a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))
        return lambda: a @ b.T

    def int8():
        a, b = (torch.randint(-99, 99, (n, n), device="cuda", dtype=torch.int8) for _ in range(2))
        return lambda: torch._int_mm(a, b.T)

    def fp8():
        a, b = (torch.randn(n, n, device="cuda").to(torch.float8_e4m3fn) for _ in range(2))
        one = torch.ones((), device="cuda")
        return lambda: torch._scaled_mm(a, b.T, one, one, out_dtype=torch.bfloat16)
    measure("f32", lambda: plain(torch.float32))
    measure("f16", lambda: plain(torch.float16))
    measure("bf16", lambda: plain(torch.bfloat16))
    measure("int8", int8)
    measure("fp8", fp8)


def self_test():
    import torch
    torch.manual_seed(1)
    model = make_model(torch, layers=2, width=64, heads=4, between=96)
    lengths = [5, 1, 17, 9]
    with torch.inference_mode():
        padded, packed = inputs(torch, lengths, "cpu")
        a, b = model(*padded), model.packed(*packed, one_by_one=True)
        for i, n in enumerate(lengths):  # alone, nothing is padded and nothing masked
            alone = model(padded[0][i:i + 1, :n], None)
            assert torch.allclose(alone, a[i:i + 1], atol=1e-5), (i, alone, a[i])
    assert torch.allclose(a, b, atol=1e-5), (a, b)
    assert flop([128] * 20) / 1e12 < 1.58 < flop([128] * 20) / 1e12 * 1.06
    assert sum(len(b) for b in lists()["50x512"]) == 50 and len(lists()["50x512"]) == 2
    print("2 passed, 0 failed")


def table(title, names, rows, cell):
    print(f"\n{title}\n\n| | " + " | ".join(names) + " |\n" + "| --- " * (len(names) + 1) + "|")
    for row, times in rows.items():
        print(f"| {row} | " + " | ".join(cell(row, n, times[n]) if n in times else "-"
                                         for n in names) + " |")


def time_is_up(_signal, _frame):
    raise TimeIsUp


def compare(rows, memory, peak):
    import torch
    if not torch.cuda.is_available():
        return
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
    with torch.inference_mode():
        peaks(torch, peak)
        torch_rows(torch, torch.float16, "f16", rows, memory)
        if torch.cuda.get_device_capability() >= (8, 0):
            torch_rows(torch, torch.bfloat16, "bf16", rows, memory)


def main():
    global REPS, LAYERS, BACKEND
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("--backend", default=BACKEND)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--reps", type=int, default=REPS)
    parser.add_argument("--shapes", default="")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    parser.add_argument("--seconds", type=float, default=86400)
    parser.add_argument("dtypes", nargs="*", default=["f16"])
    args = parser.parse_intermixed_args()
    REPS, LAYERS, BACKEND = args.reps, args.layers, args.backend
    ASKED.extend(filter(None, args.shapes.split(",")))
    LAYOUTS[:], WAYS[:] = args.layouts.split(","), args.ways.split(",")
    end = time.monotonic() + args.seconds
    memory, peak = {}, {}
    mine = {f"rerankd {d}": ours(args.bench, d, memory, max(1, end - time.monotonic()))
            for d in args.dtypes}
    rows = dict(mine)
    signal.signal(signal.SIGALRM, time_is_up)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, end - time.monotonic()))
    try:
        compare(rows, memory, peak)
    except ImportError:
        print("PyTorch cannot be imported: no comparison, no peak")
    except TimeIsUp:
        print(f"stopped after {args.seconds:.0f} seconds: what was not measured is missing")
    signal.setitimer(signal.ITIMER_REAL, 0)
    names, work = list(lists()), {n: sum(map(flop, b)) for n, b in lists().items()}
    table(f"Milliseconds, best of {REPS}", names, rows, lambda _, n, ms: f"{ms:.2f}")
    table("MB on the device: weights, and beside them", ["weights", "beside"],
          {row: dict(zip(("weights", "beside"), parts)) for row, parts in memory.items()},
          lambda _, __, mb: str(mb))
    peers = {n: min((t[n] for r, t in rows.items() if r not in mine and n in t), default=None)
             for n in names}
    if any(peers.values()):
        table("Of PyTorch's best", names, mine,
              lambda _, n, ms: f"{ms / peers[n]:.2f}" if peers[n] else "-")
    if peak:
        table("Of the measured peak", names,
              {r: t for r, t in mine.items() if r.split()[1] in peak},
              lambda r, n, ms: f"{work[n] / ms * 1e3 / peak[r.split()[1]]:.0%}")
    return 0 if any(mine.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
