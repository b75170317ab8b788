# SPDX-License-Identifier: Apache-2.0
"""cases_http.py - groups C, N and O as far as tests/e2e does not have them."""
import itertools
import json
import random
import re
import time

from chaos import reset
from ledger import Corpus, Ledger, closed_loop, run_threads
from registry import case
from server import Rerankd, server_support, starter, until


@case("P", "5,000 requests on one connection: no growth, every answer right")
def r31_one_connection():
    with Rerankd() as s:
        ledger = s.watch(Ledger(Corpus(s, queries=1, texts=8)))
        closed_loop(s.port, ledger, clients=1, requests=5000, most=4)


@case("P", "400 slow clients send headers byte by byte: others are served all the time")
def r36_slow_headers():
    with Rerankd("--idle-timeout", "4") as s:
        corpus = Corpus(s, queries=1, texts=8)
        slow = [s.connect() for _ in range(400)]
        ledger = s.watch(Ledger(corpus))
        for byte in b"POST /re":
            for c in slow:
                c.socket.sendall(bytes([byte]))
            closed_loop(s.port, ledger, clients=2, requests=10)
        start = time.monotonic()
        for c in slow:  # and then nothing
            c.socket.settimeout(30)
            c.file.read()
            c.close()
        assert time.monotonic() - start < 20
        assert ledger.latency(0.99) < 2, ledger.latency(0.99)


@case("P", "RST in headers, body, queue, computation, reply: no leak, the next request is right")
def r40_reset_at_each_phase():
    with Rerankd("--threads", "1", "--queue-tokens", "4M", model_folder=starter()) as s:
        for phase in range(60):
            data = server_support.request("POST", "/rerank", server_support.long_body(20))
            body_at = data.index(b"\r\n\r\n") + 4
            c = s.connect()
            where = phase % 5
            c.socket.sendall(data[:(20, body_at + 50, len(data), len(data), len(data))[where]])
            if where == 3:
                until(lambda: s.metrics()["rerank_requests_in_flight"] > 0, "a request")
            if where == 4:
                c.socket.settimeout(60)
                c.socket.recv(10)  # the reply has begun
            reset(c)
        until(lambda: s.metrics()["rerank_requests_in_flight"] == 0, "nobody in flight")


@case("P", "exposition accepted by promtool; the number of series does not follow what clients send")
def r101_series():
    with Rerankd() as s:
        s.post({"query": "q", "texts": ["a"]})
        s.ask("GET", "/nowhere")

        def series():
            text = s.ask("GET", "/metrics").body
            return len([x for x in text.splitlines() if not x.startswith("#")])

        before = series()

        def visit(i):
            rng = random.Random(i)
            with s.connect() as c:
                for _ in range(250):
                    word = "%x" % rng.getrandbits(60)
                    c.ask("GET", "/" + word, headers=[("User-Agent", word),
                                                      ("X-Request-Id", word)])

        run_threads(8, visit)
        assert series() == before, (before, series())


@case("P", "5 million brackets: 400 at once")
def r109_depth_bomb():
    with Rerankd() as s:
        for text in (b"[" * 5000000, b'{"a":' * 1000000, b'{"query":' + b"[" * 100 + b"]" * 100 + b"}"):
            start = time.monotonic()
            answer = s.post(text)
            assert answer.status == 400, answer.status
            assert time.monotonic() - start < 2


@case("P", "finite, shortest digits, order by index, ties by index, whatever the locale")
def r119_numbers():
    with Rerankd(env=dict(server_support.environment(), LC_ALL="de_DE.UTF-8", LANG="de_DE.UTF-8")) \
            as s:
        texts = ["un texte %d" % (i % 7) for i in range(40)]
        answer = s.post({"query": "q", "texts": texts, "raw_scores": True})
        rows = json.loads(answer.body)
        for number in re.findall(r'"score":([^,}\]]+)', answer.body):
            assert repr(float(number)) == repr(float(repr(float(number)))) and "," not in number
            assert len(number) <= len(repr(float(number))) + 2, number
        keys = [(-x["score"], x["index"]) for x in rows]
        assert keys == sorted(keys), rows


@case("P", "all orders of 6 documents, top 1 to 8: the same score for each document")
def r120_permutations():
    with Rerankd() as s:
        texts = ["eau", "pain et eau", "une maison", "the capital", "", "très grand chat"]
        alone = {t: s.post({"query": "chat", "texts": [t], "raw_scores": True}).json()[0]["score"]
                 for t in texts}
        with s.connect() as c:
            for k, order in enumerate(itertools.permutations(texts)):
                top = 1 + k % 8
                answer = c.ask("POST", "/v1/rerank", {
                    "query": "chat", "documents": list(order), "top_n": top, "raw_scores": True,
                    "return_documents": False})
                rows = answer.json()["results"]
                assert len(rows) == min(top, 6), answer
                for x in rows:
                    assert x["relevance_score"] == alone[order[x["index"]]], (order, rows)
