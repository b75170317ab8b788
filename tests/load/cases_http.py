# SPDX-License-Identifier: Apache-2.0
"""cases_http.py - groups C, N and O as far as tests/e2e does not have them."""
import itertools
import json
import random
import re
import shutil
import statistics
import subprocess
import time

from chaos import reset
from ledger import Corpus, Ledger, closed_loop, run_threads
from registry import case
from server import RERANKD, SANITIZED, Rerankd, Skip, server_support, starter, until


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


def slowhttptest(s, mode, *words):
    """Runs it for 12 s beside other requests, whose ledger is returned, with what it printed."""
    if not shutil.which("slowhttptest"):
        raise Skip("slowhttptest is not installed")
    corpus = Corpus(s, queries=1, texts=8)
    ledger = s.watch(Ledger(corpus))
    p = subprocess.Popen(["slowhttptest", mode, "-r", "400", "-l", "12", "-i", "3", "-p", "3", *words],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        closed_loop(s.port, ledger, clients=2, seconds=12)
        return ledger, p.communicate(timeout=60)[0].decode(errors="replace")
    finally:
        p.kill()
        p.wait()


@case("P", "slowhttptest, 2,000 connections with slow heads: closed at --header-timeout, the service available, "
      "others served (99 % within 2 s)")
def r36_slowhttptest():
    with Rerankd("--header-timeout", "3") as s:
        ledger, text = slowhttptest(s, "-H", "-c", "2000", "-u", "http://127.0.0.1:%d/live" % s.port)
        assert not re.search(r"service available:\S*\s+\S*NO", text), text[-600:]
        assert ledger.latency(0.99) < 2, ledger.latency(0.99)
        ended = s.metrics()['rerank_http_connections_ended_total{reason="slow_header"}']
        assert ended > 500, ended
        return "%d closed, %d others served" % (ended, len(ledger.entries))


@case("P", "slowhttptest with slow bodies and with slow readers, 500 connections each: the service available, "
      "others served (99 % within 2 s)")
def r37_slowhttptest():
    with Rerankd("--write-timeout", "2") as s:
        for words in (["-B", "-c", "500", "-s", "100000", "-t", "POST", "-u",
                       "http://127.0.0.1:%d/rerank" % s.port],
                      ["-X", "-c", "500", "-u", "http://127.0.0.1:%d/openapi.json" % s.port]):
            ledger, text = slowhttptest(s, *words)
            assert not re.search(r"service available:\S*\s+\S*NO", text), text[-600:]
            assert ledger.latency(0.99) < 2, ledger.latency(0.99)


@case("P", "/tokenize of 128 KiB to 512 KiB of each family of texts: processor time at twice the length below "
      "3 times, best of 3")
def r118_linear_time():
    families = ["a", "-", " ", "_", "\U0001f468\u200d\U0001f469", "e\u0301", "\u4e2d", "7", "QUJD", "\n",
                "mot ", "</s>"]
    worst = 0
    with Rerankd("--max-document-bytes", "2M") as s:
        s.memory_budget = 256 << 20  # replies of 30 MB
        def cost(text):
            before = s.metrics()["process_cpu_seconds_total"]
            a = s.ask("POST", "/tokenize", {"inputs": text})
            assert a.status == 200, a.status
            return s.metrics()["process_cpu_seconds_total"] - before

        for unit in families:
            text = unit * ((128 << 10) // len(unit.encode()))
            one, four = (min(cost(text * k) for _ in range(3)) for k in (1, 4))
            worst = max(worst, (four - 0.01) / max(one, 1e-4) / 4)
            assert four < 9 * one + 0.02, (unit, one, four)
    return "4 times the length costs at most %.1f times 4" % worst


@case("P", "6,000 wrong keys, alternately wrong in the first and in the last character: the mean times do not "
      "differ (Welch's t below 4.5)")
def r122_key_timing():
    key = "k" * 48
    times = ([], [])
    with Rerankd("--api-key", key, "--open-routes", "/live,/ready,/metrics,/rerank,/info",
                 probe=False, ends=False) as s:
        wrong = ("x" + key[1:], key[:-1] + "x")
        rng = random.Random(122)
        with s.connect() as c:
            for _ in range(6000):
                which = rng.randrange(2)
                start = time.perf_counter()
                a = c.ask("GET", "/v1/models", headers=[("Authorization", "Bearer " + wrong[which])])
                times[which].append(time.perf_counter() - start)
                assert a.status == 401, a
    # The slowest tenth is the machine's.
    a, b = (sorted(x)[:len(x) * 9 // 10] for x in times)
    t = (statistics.mean(a) - statistics.mean(b)) / (
        statistics.variance(a) / len(a) + statistics.variance(b) / len(b)) ** 0.5
    assert abs(t) < 4.5, t
    return "t = %.2f" % t


@case("P", "the program is position independent, fully RELRO, without executable stack, with stack canaries "
      "and checked string functions")
def r128_hardened():
    if not shutil.which("readelf"):
        raise Skip("readelf is not installed")
    def readelf(*words):
        return subprocess.run(["readelf", "-W", *words, RERANKD], capture_output=True, text=True,
                              check=True).stdout
    assert "DYN" in readelf("-h"), "not position independent"
    program = readelf("-l")
    assert "GNU_RELRO" in program, program
    assert re.search(r"GNU_STACK.* RW ", program), program
    assert re.search(r"BIND_NOW|NOW", readelf("-d")), "not bound at start"
    symbols = readelf("--dyn-syms")
    assert "__stack_chk_fail" in symbols, "no canaries"
    assert SANITIZED or re.search(r"__\w+_chk\b", symbols), "no checked functions"
