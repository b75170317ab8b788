#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare.py - rerankd over HTTP beside sentence-transformers' CrossEncoder, same model, same lists.

    pip install sentence-transformers
    python3 bench/compare.py [--model DIR] [--data tools/starter/heldout.jsonl] [--lists 40]

The two take turns, list by list, so that a change of the machine's speed hits both.  The cache of
rerankd is off.  Prints milliseconds per list (median, 95th percentile), the median of the ratios
and the largest difference of a score.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import time
import urllib.request


def start_server(args, dtype):
    env = dict(os.environ, RERANKD_PORT="0")
    server = subprocess.Popen(
        [args.rerankd, "serve", "--model", args.model, "--host", "127.0.0.1", "--cache-size", "0",
         "--dtype", dtype, "--threads", str(args.threads)],
        stderr=subprocess.PIPE, text=True, env=env)
    for line in server.stderr:
        found = re.search(r"ready .*:(\d+)", line)
        if found:
            return server, "http://127.0.0.1:%s/rerank" % found.group(1)
    raise SystemExit("rerankd did not start")


def ask(url, query, documents):
    body = json.dumps({"query": query, "texts": documents}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=600) as reply:
        scores = json.load(reply)
    return {item["index"]: item["score"] for item in scores}


def timed(function):
    start = time.perf_counter()
    result = function()
    return (time.perf_counter() - start) * 1e3, result


def p95(values):
    return sorted(values)[(len(values) * 95 + 99) // 100 - 1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rerankd", default="build/rerankd")
    parser.add_argument("--model", default="models/starter")
    parser.add_argument("--data", default="tools/starter/heldout.jsonl")
    parser.add_argument("--lists", type=int, default=40)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dtypes", default="f32,bf16,int8")
    args = parser.parse_args()

    import torch
    from sentence_transformers import CrossEncoder
    torch.set_num_threads(args.threads)
    peer = CrossEncoder(args.model, max_length=512, device="cpu",
                        model_kwargs={"torch_dtype": torch.float32})
    with open(args.data, encoding="utf-8") as lines:
        lists = [json.loads(line) for line in lines][:args.lists]
    for dtype in args.dtypes.split(","):
        server, url = start_server(args, dtype)
        ours, theirs, ratios, worst = [], [], [], 0.0
        for i, item in enumerate([lists[0]] + lists):
            query, documents = item["query"], item["documents"]
            a, scores = timed(lambda: ask(url, query, documents))
            b, reference = timed(lambda: peer.predict([(query, d) for d in documents]))
            if i == 0:
                continue  # warms both up
            ours.append(a)
            theirs.append(b)
            ratios.append(b / a)
            worst = max(worst, max(abs(scores[k] - float(s)) for k, s in enumerate(reference)))
        server.terminate()
        server.wait()
        print("%-5s rerankd %.1f ms (p95 %.1f), sentence-transformers f32 %.1f ms (p95 %.1f), "
              "ratio %.2f, largest score difference %.2g"
              % (dtype, statistics.median(ours), p95(ours), statistics.median(theirs), p95(theirs),
                 statistics.median(ratios), worst), flush=True)


if __name__ == "__main__":
    main()
