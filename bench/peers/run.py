#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py - rerankd beside other CPU engines: same random weights, same cores, turn by turn.

    make bench-peers                                    everything, full size; hours on two cores
    make bench-peers PEERS="--layers 4"                 four layers, scaled to 24 in the table
    make bench-peers PEERS="--seconds 1500"             begins no row after 25 minutes; goes on next time
    bench/peers/run.py --rows 1 --engines torch-f32     one row more, then the table

A row is one engine at one shape.  rerankd and the engine, each in a process of its own, score in
turns; what is reported is the median over the turns of the ratio of two neighbouring calls, so that
a change of the machine's speed hits both.  Peers get token ids, rerankd gets texts and tokenizes them.
Peers pad a list to its longest pair; llama.cpp does not, and its first call of a shape looks for its
fastest form.  int8 of rerankd is compared with every engine, bf16 with bf16, f32 with f32, and both with
f16.  An engine whose package is missing is left out.

Rows are kept in DIR/results.jsonl and not measured again: --again forgets those that are asked for.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import shapes  # noqa: E402

ENGINES = ["openvino-int8-static", "openvino-int8-static-bf16", "openvino-int8-dynamic",
           "openvino-f32", "openvino-bf16", "onnxruntime-int8", "onnxruntime-f32", "torch-bf16",
           "torch-f32", "llamacpp-q8_0", "llamacpp-f16", "llamacpp-bf16", "llamacpp-f32"]
PACKAGES = {"openvino": "openvino", "onnxruntime": "onnxruntime", "torch": "torch",
            "llamacpp": "llama_cpp"}
SHAPES = ["1x128", "20x64", "20x128", "20x512", "ragged"]
FULL_LAYERS = 24
SETTLE = 0.3  # seconds: thread pools that spin after a call have stopped


class Child:
    """A process that answers each line of its input with one line."""

    def __init__(self, command, cpus, log):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus))

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise RuntimeError("ended with status %s" % self.process.wait())
        return text.strip()

    def ask(self, text):
        time.sleep(SETTLE)
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.line()

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Ours(Child):
    def __init__(self, args, dtype, cpus, log):
        super().__init__([args.rerankd, "bench", "--device", "cpu", "--model", args.model,
                          "--dtype", dtype, "--threads", str(args.threads), "--shapes", "-",
                          "--format", "jsonl", "--config", "none"], cpus, log)
        self.version = "rerankd"

    def time(self, shape):
        row = json.loads(self.ask(shape))
        wanted = sum(shapes.lengths(shape))
        if row["tokens"] != wanted:
            raise RuntimeError("%s: rerankd has %d tokens, the peer %d"
                               % (shape, row["tokens"], wanted))
        return row["median_ms"]


class Peer(Child):
    def __init__(self, args, name, cpus, log):
        super().__init__([args.python, os.path.join(HERE, "engine.py"), name, args.model,
                          str(args.threads)], cpus, log)
        self.version = self.line()

    def time(self, shape):
        return float(self.ask(shape))


def ours_beside(engine):
    """int8 beside every engine, and the precision that the engine computes in, or those nearest to it."""
    if "int8" in engine:
        return ["int8"]
    return ["int8"] + [d for d in ("bf16", "f32") if engine.endswith(("-" + d, "-f16"))]


def measure(args, engine, shape, cpus, log):
    dtypes = ours_beside(engine)
    sides, times = {}, {}
    try:
        for dtype in dtypes:
            sides[dtype] = Ours(args, dtype, cpus, log)
        sides["peer"] = Peer(args, engine, cpus, log)
        for turn in range(args.turns + 1):  # the first one warms up
            for name, side in sides.items():
                ms = side.time(shape)
                if turn:
                    times.setdefault(name, []).append(ms)
        version = sides["peer"].version
    finally:
        for side in sides.values():
            side.close()
    row = {"engine": engine, "shape": shape, "version": version, "layers": args.layers,
           "threads": args.threads, "turns": args.turns, "commit": commit(),
           "peer_ms": statistics.median(times["peer"])}
    for dtype in dtypes:
        row[dtype + "_ms"] = statistics.median(times[dtype])
        row[dtype + "_ratio"] = statistics.median(
            theirs / ours for theirs, ours in zip(times["peer"], times[dtype]))
    return row


def commit():
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return git.stdout.strip() or "unknown"


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return "unknown processor"


def without_package(args, rows):
    """Engines of the rows whose package the interpreter has not got; says which."""
    asked = "import sys, importlib.util as u; print(*[p for p in sys.argv[1:] if not u.find_spec(p)])"
    found = subprocess.run([args.python, "-c", asked, *sorted(set(PACKAGES.values()))], check=True,
                           stdout=subprocess.PIPE, text=True).stdout.split()
    missing = {e for e, _ in rows if PACKAGES[e.split("-")[0]] in found}
    for engine in sorted(missing):
        print("%s: left out, %s has no package %s"
              % (engine, args.python, PACKAGES[engine.split("-")[0]]), file=sys.stderr)
    return missing


def prepare(args, engines):
    """Writes and converts the model; what is there is kept."""
    if not os.path.exists(os.path.join(args.model, "model.safetensors")):
        subprocess.run([args.python, os.path.join(HERE, "net.py"), args.model, "--layers",
                        str(args.layers)], check=True)
    kinds = [k for k in ("openvino", "onnx") if any(e.startswith(k) for e in engines)]
    if kinds:
        subprocess.run([args.python, os.path.join(HERE, "convert.py"), args.model] + kinds,
                       check=True)
    for dtype in [e.split("-")[1] for e in engines if e.startswith("llamacpp")]:
        path = os.path.join(args.model, dtype + ".gguf")
        if not os.path.exists(path):
            subprocess.run([args.rerankd, "convert", "--model", args.model, "--to", path, "--to-dtype",
                            dtype, "--config", "none"], check=True)


def load(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def table(rows, args):
    """Milliseconds at full depth (scaled when there are fewer layers) and ratios, as Markdown."""
    scale = FULL_LAYERS / args.layers
    note = "" if scale == 1 else ", %d layers, times x %g" % (args.layers, scale)
    print("\n%s, %d threads%s; median of %d turns; ratio: their time / ours\n"
          % (processor(), args.threads, note, args.turns))
    print("| engine | shape | their ms | our int8 ms | ratio | our bf16 ms | ratio | our f32 ms | ratio "
          "| commit |")
    print("|" + " --- |" * 10)
    for r in rows:
        cells = ["%s (%s)" % (r["engine"], r["version"]), r["shape"], "%.0f" % (r["peer_ms"] * scale)]
        for dtype in ("int8", "bf16", "f32"):
            known = dtype + "_ms" in r
            cells.append("%.0f" % (r[dtype + "_ms"] * scale) if known else "")
            cells.append("%.2f" % r[dtype + "_ratio"] if known else "")
        print("| " + " | ".join(cells + [r["commit"]]) + " |")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", default=os.path.join(ROOT, "build", "peers"))
    parser.add_argument("--rerankd", default=os.path.join(ROOT, "build", "rerankd"))
    parser.add_argument("--python", default=sys.executable, help="has the peers' packages")
    parser.add_argument("--layers", type=int, default=FULL_LAYERS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--rows", type=int, default=0, help="measure so many at most; 0: all")
    parser.add_argument("--seconds", type=float, default=0, help="begin no row after so long")
    parser.add_argument("--table", action="store_true", help="measure nothing, print what is there")
    parser.add_argument("--again", action="store_true", help="measure what is there once more")
    args = parser.parse_args()
    args.engines, args.shapes = args.engines.split(","), args.shapes.split(",")
    args.model = os.path.join(args.dir, "layers%d" % args.layers)
    return args


def main():
    args = arguments()
    os.makedirs(args.dir, exist_ok=True)
    path = os.path.join(args.dir, "results.jsonl")
    wanted = [(e, s) for e in args.engines for s in args.shapes]

    def ours(r):
        return (r["layers"], r["threads"]) == (args.layers, args.threads)

    rows = load(path)
    if args.again:
        rows = [r for r in rows if not (ours(r) and (r["engine"], r["shape"]) in wanted)]
    done = {(r["engine"], r["shape"]) for r in rows if ours(r)}
    missing = [w for w in wanted if w not in done]
    if args.table:
        missing = []
    if missing:
        absent = without_package(args, missing)
        missing = [w for w in missing if w[0] not in absent]
    if args.rows:
        missing = missing[:args.rows]
    if missing:
        prepare(args, sorted({e for e, _ in missing}))
    start, failed = time.time(), 0
    cpus = sorted(os.sched_getaffinity(0))[:args.threads]
    for engine, shape in missing:
        if args.seconds and time.time() - start > args.seconds:
            break
        print("%s %s ..." % (engine, shape), file=sys.stderr)
        with open(os.path.join(args.dir, engine + ".log"), "a", encoding="utf-8") as log:
            try:
                rows.append(measure(args, engine, shape, cpus, log))
            except (RuntimeError, OSError) as e:  # the others go on
                print("%s: %s; see %s" % (engine, e, log.name), file=sys.stderr)
                failed += 1
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.writelines(json.dumps(r) + "\n" for r in rows)
        os.replace(path + ".new", path)
    order = {w: i for i, w in enumerate(wanted)}
    table(sorted((r for r in rows if ours(r) and (r["engine"], r["shape"]) in order),
                 key=lambda r: order[r["engine"], r["shape"]]), args)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
