#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cpu_route.py - what the guide's three ways to stay on a processor gain: int8, fewer candidates, a
cache.  docs/CPU.md has its figures.

    make bench-cpu-route        about a minute and a half; leave the machine idle meanwhile

int8 and the number of candidates: LAYERS layers of XLM-R-large with random weights (24 are
bge-reranker-v2-m3), in turns, best of each.  The cache: a server with the starter model over HTTP, 20
candidates of unequal length.
"""
import http.client
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, sys.argv[1] if len(sys.argv) > 1 else "build")
LAYERS, TURNS = 2, 5


def layers_ms(shape, dtype):
    """Best of a few runs."""
    out = subprocess.run([os.path.join(OUT, "bench", "bench_encoder"), "--layers", str(LAYERS), "--shape",
                          shape, "--dtype", dtype, "--threads", str(os.cpu_count()), "--reps", "3"],
                         check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(re.search(r"best\s+([\d.]+) ms", out).group(1))


def compute():
    best = {}
    for _ in range(TURNS):
        for case in (("20x128", "f32"), ("20x128", "int8"), ("10x128", "f32"), ("10x128", "int8")):
            best[case] = min(best.get(case, 1e9), layers_ms(*case))
    whole = best["20x128", "f32"]
    print("%d of 24 layers of XLM-R-large, 128 tokens a pair, %d threads, best of %d:" %
          (LAYERS, os.cpu_count(), TURNS))
    for (shape, dtype), ms in best.items():
        print("  %-7s %-5s %8.1f ms   %4.0f %% less time, %.2f times as fast" %
              (shape, dtype, ms, 100 * (1 - ms / whole), whole / ms))


class Server:
    """rerankd with the starter model on a free port."""

    def __enter__(self):
        self.process = subprocess.Popen(
            [os.path.join(OUT, "rerankd"), "serve", "--model", os.path.join(ROOT, "models", "starter"),
             "--port", "0", "--drain-delay", "0"], stderr=subprocess.PIPE, text=True,
            env=dict(os.environ, RERANKD_CONFIG="none"))
        for line in self.process.stderr:
            found = re.search(r"ready after .*:(\d+)", line)
            if found:
                self.connection = http.client.HTTPConnection("127.0.0.1", int(found.group(1)))
                return self
        sys.exit("rerankd did not start")

    def __exit__(self, *_):
        self.connection.close()
        self.process.terminate()
        self.process.wait()

    def ms(self, body):
        begin = time.perf_counter()
        self.connection.request("POST", "/rerank", body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        return 1e3 * (time.perf_counter() - begin)


def body_of(number):
    rng = random.Random(number)
    words = "serveur paquet installer noyau disque image texte réseau son jeu outil bibliothèque".split()
    return json.dumps({"query": "question %d" % number, "documents": [
        {"content": " ".join(rng.choices(words, k=rng.randint(10, 80)))} for _ in range(20)],
        "top_k": 5}).encode()


def cache():
    """Every fourth question is one of those asked before."""
    with Server() as server:
        for i in range(40):
            server.ms(body_of(i))
        new, again = [], []
        for i in range(160):
            (new if i % 4 else again).append(server.ms(body_of(100 + i if i % 4 else i // 4)))
    print("cache, starter model over HTTP, 20 candidates:")
    print("  a new question %.2f ms, one asked before %.2f ms (medians)" %
          (statistics.median(new), statistics.median(again)))
    mean = statistics.fmean(new + again)
    print("  a quarter asked before: %.2f ms on average, %.0f %% less than %.2f" %
          (mean, 100 * (1 - mean / statistics.fmean(new)), statistics.fmean(new)))


if __name__ == "__main__":
    compute()
    cache()
