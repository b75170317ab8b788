#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""fastapi_server.py - the usual way to serve a cross-encoder, FastAPI around sentence-transformers,
beside rerankd: same model, same lists, same load.

    pip install torch sentence-transformers fastapi uvicorn
    python3 bench/fastapi_server.py --rounds 3      # starts both, loads them in turns
    python3 bench/fastapi_server.py --serve 8010    # only the FastAPI server

The lists are those of --data as they are, of unequal lengths.  CLIENTS send one after the other and
wait for the answer: lists per second, p50 and p99 of each server, and the ratios of a round.  Then
both get the same lists at the same moments, as from many people who know nothing of each other, so
many a second as are --load of what FastAPI has done.  rerankd runs without its cache; both have the
same number of threads.
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time


def serve(args):
    import torch
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from sentence_transformers import CrossEncoder

    class Document(BaseModel):
        chunk_id: str
        document_id: str
        document_title: str
        document_source: str
        chunk_index: int
        content: str
        similarity: float

    class Request(BaseModel):
        query: str
        documents: list[Document]
        top_k: int | None = 5

    torch.set_num_threads(args.threads)
    model = CrossEncoder(args.model, max_length=512, device="cpu",
                         model_kwargs={"dtype": torch.float32})
    app = FastAPI()

    @app.get("/health")
    async def health():
        return {"status": "healthy", "model": args.model}

    @app.post("/rerank")
    async def rerank(request: Request):
        begin = time.time()
        scores = model.predict([(request.query, d.content) for d in request.documents])
        order = sorted(range(len(scores)), key=lambda i: -scores[i])[:request.top_k]
        return {"documents": [request.documents[i] for i in order], "count": len(order),
                "model": args.model, "processing_time": time.time() - begin}

    uvicorn.run(app, host="127.0.0.1", port=args.serve, log_level="warning")


def bodies(args):
    out = []
    with open(args.data, encoding="utf-8") as lines:
        for line in lines:
            data = json.loads(line)
            documents = [{"chunk_id": str(i), "document_id": "d", "document_title": "t",
                          "document_source": "s", "chunk_index": i, "similarity": 0.5,
                          "content": d if isinstance(d, str) else d["text"]}
                         for i, d in enumerate(data["documents"])]
            out.append(json.dumps({"query": data["query"], "documents": documents,
                                   "top_k": 5}).encode())
            if len(out) == args.lists:
                break
    return out


def ask(connection, body, begin):
    """Milliseconds since begin."""
    connection.request("POST", "/rerank", body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    if reply.status != 200 or json.loads(reply.read())["count"] != 5:
        raise SystemExit("port %d: found status %d" % (connection.port, reply.status))
    return (time.perf_counter() - begin) * 1e3


def load(args, port, lists):
    """(lists per second, sorted latencies in ms)"""
    def client(share):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        return [ask(connection, body, time.perf_counter()) for body in share]

    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(args.clients) as pool:
        shares = [lists[i::args.clients] for i in range(args.clients)]
        taken = sorted(t for part in pool.map(client, shares) for t in part)
    return len(lists) / (time.perf_counter() - begin), taken


def arrivals(port, lists, rate, seed):
    """Latencies in ms of so many lists a second, at random moments that the seed decides."""
    moments, at = random.Random(seed), time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(256) as pool:
        waiting = []
        for body in lists:
            at += moments.expovariate(rate)
            time.sleep(max(0, at - time.perf_counter()))
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
            waiting.append(pool.submit(ask, connection, body, at))
        return [w.result() for w in waiting]


def p99(taken):
    return sorted(taken)[min(len(taken) - 1, len(taken) * 99 // 100)]


def wait_for(port):
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit("no server at port %d" % port)


def start_rerankd(args):
    server = subprocess.Popen(
        [args.rerankd, "serve", "--config", "none", "--model", args.model, "--host", "127.0.0.1",
         "--port", "0", "--cache-size", "0", "--drain-delay", "0", "--threads", str(args.threads),
         "--dtype", args.dtype],
        stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        found = re.search(r"ready .*:(\d+)", line)
        if found:
            return server, int(found.group(1))
    raise SystemExit("rerankd did not start")


def compare(args):
    lists, ratios, tails, rates = bodies(args), [], [], []
    ours, port = start_rerankd(args)
    theirs = subprocess.Popen([sys.executable, __file__, "--serve", str(args.port), "--model",
                               args.model, "--threads", str(args.threads)])
    try:
        wait_for(args.port)
        for name, at in (("rerankd", port), ("FastAPI", args.port)):
            load(args, at, lists[:args.clients])  # the first ones are slow
        for _ in range(args.rounds):
            row = {}
            for name, at in (("rerankd", port), ("FastAPI", args.port)):
                rate, taken = load(args, at, lists)
                row[name] = rate, p99(taken)
                print("%s  %.1f lists/s  p50 %.0f ms  p99 %.0f ms" % (
                    name, rate, statistics.median(taken), p99(taken)), flush=True)
            ratios.append(row["rerankd"][0] / row["FastAPI"][0])
            tails.append(row["FastAPI"][1] / row["rerankd"][1])
            rates.append(row["FastAPI"][0])
        print("throughput ratio %.1f, p99 ratio %.1f (medians of %d rounds)" % (
            statistics.median(ratios), statistics.median(tails), args.rounds))
        rate, taken = args.load * statistics.median(rates), {"rerankd": [], "FastAPI": []}
        for seed in range(args.rounds):
            for name, at in (("rerankd", port), ("FastAPI", args.port)):
                taken[name] += arrivals(at, 3 * lists, rate, seed)
        for name, t in taken.items():
            print("%s  at %.1f lists/s  p50 %.0f ms  p99 %.0f ms" % (
                name, rate, statistics.median(t), p99(t)))
        print("p99 ratio %.1f of %d lists each" % (
            p99(taken["FastAPI"]) / p99(taken["rerankd"]), len(taken["rerankd"])))
    finally:
        for server in (ours, theirs):
            server.terminate()
            server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", type=int, metavar="PORT", help="only serve with FastAPI")
    parser.add_argument("--port", type=int, default=8010, help="for the FastAPI server")
    parser.add_argument("--rerankd", default="build/rerankd")
    parser.add_argument("--model", default="models/starter")
    parser.add_argument("--data", default="tools/starter/heldout.jsonl")
    parser.add_argument("--dtype", default="f32", help="of rerankd; FastAPI computes in f32")
    parser.add_argument("--lists", type=int, default=40)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", type=float, default=0.8, metavar="SHARE")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    (serve if args.serve else compare)(args)


if __name__ == "__main__":
    main()
