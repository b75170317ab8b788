#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""overload.py - what is left of the work when ten times as much is offered as can be done.

    python3 bench/overload.py [--rerankd build/rerankd] [--seconds 10] [--factor 10]

The device is null with a time per token, so that its capacity is known and the processor is free.
First as many clients as it takes to keep it busy, then requests at a fixed rate, each sent at its
time whether the ones before were answered or not.  Prints the requests answered per second and their
share of what the busy device did; latencies of what was accepted, against the time in which a full
queue is worked off; and of what was refused.
"""
import argparse
import asyncio
import json
import re
import subprocess
import time

DOCUMENTS, CHARS = 20, 500  # a byte is a token of the null device, and a pair has 512 at most
TOKENS = DOCUMENTS * 512
ESTIMATE = DOCUMENTS * (CHARS // 3 + 8 // 3 + 8)  # what the queue is charged for one request
NUMBER = "00000000"  # replaced: equal pairs under way at once would be computed once


def start(args):
    device = "null:base_us=0,per_token_ns=%d" % args.per_token_ns
    server = subprocess.Popen(
        [args.rerankd, "serve", "--config", "none", "--device", device, "--cache-size", "0",
         "--host", "127.0.0.1", "--port", "0", "--drain-delay", "0",
         "--queue-tokens", str(args.queue_tokens)], stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        found = re.search(r"ready .*:(\d+)", line)
        if found:
            return server, int(found.group(1))
    raise SystemExit("rerankd did not start")


def make_request():
    body = json.dumps({"query": NUMBER, "documents": [
        ("%d " % i).ljust(CHARS, "x") for i in range(DOCUMENTS)], "return_documents": False})
    return ("POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" %
            (len(body), body)).encode()


class Client:
    """Connections that are kept; each carries one request at a time."""

    def __init__(self, port):
        self.port, self.free, self.request, self.sent = port, [], make_request(), 0
        self.done = []  # (status, seconds)

    async def ask(self):
        begin = time.perf_counter()
        reader, writer = (self.free.pop() if self.free else
                          await asyncio.open_connection("127.0.0.1", self.port))
        self.sent += 1
        writer.write(self.request.replace(NUMBER.encode(), b"%08d" % self.sent))
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head).group(1)))
        self.done.append((int(head[9:12]), time.perf_counter() - begin))
        self.free.append((reader, writer))

    async def closed(self, clients, seconds):
        end = time.perf_counter() + seconds

        async def loop():
            while time.perf_counter() < end:
                await self.ask()
        await asyncio.gather(*[loop() for _ in range(clients)])

    async def open(self, rate, seconds):
        begin, tasks = time.perf_counter(), []
        for i in range(int(rate * seconds)):
            await asyncio.sleep(max(0, begin + i / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(self.ask()))
        await asyncio.gather(*tasks)


def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1e3 if values else 0


def run(args, port, how):
    client = Client(port)
    begin = time.perf_counter()
    asyncio.run(how(client))
    took = time.perf_counter() - begin
    good = [s for status, s in client.done if status == 200]
    refused = [s for status, s in client.done if status == 429]
    if len(good) + len(refused) != len(client.done):
        raise SystemExit("found other answers than 200 and 429")
    return len(good) / took, good, refused


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rerankd", default="build/rerankd")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--factor", type=float, default=10)
    parser.add_argument("--per-token-ns", type=int, default=1000)
    parser.add_argument("--queue-tokens", type=int, default=262144)
    args = parser.parse_args()
    server, port = start(args)
    try:
        places = args.queue_tokens // ESTIMATE
        peak, _, _ = run(args, port, lambda c: c.closed(max(2, places // 2), args.seconds / 2))
        ideal = 1e9 / (TOKENS * args.per_token_ns)
        print("peak %.1f requests/s (the device alone: %.1f)" % (peak, ideal))
        rate = args.factor * peak
        done, good, refused = run(args, port, lambda c: c.open(rate, args.seconds))
        print("offered %.0f/s: done %.1f/s, %.1f %% of the peak; accepted p50 %.0f p99 %.0f ms (a full "
              "queue takes %.0f); %d refused, p50 %.2f p99 %.2f ms" % (
                  rate, done, 100 * done / peak, quantile(good, 0.5), quantile(good, 0.99),
                  places / peak * 1e3,
                  len(refused), quantile(refused, 0.5), quantile(refused, 0.99)))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
