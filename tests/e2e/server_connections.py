# SPDX-License-Identifier: Apache-2.0
"""server_connections.py - keep-alive, pipelining, slow and absent clients, load; run by run.py."""
import contextlib
import json
import random
import signal
import socket
import struct
import time

from server_support import (SLOW, Server, encode, long_body, request, run_threads, shared, starter,
                            until)

GOOD = {"query": "deux mots", "texts": ["mots", "deux"], "raw_scores": True}


def test_keep_alive():
    with shared().connect() as c:
        first = c.ask("POST", "/rerank", GOOD).body
        for i in range(300):
            assert c.ask("POST", "/rerank", GOOD).body == first, i
            if i % 10 == 0:
                assert c.ask("GET", "/health").status == 200


def test_http_1_0():
    with shared().connect() as c:
        body = encode(GOOD)
        c.socket.sendall(b"POST /rerank HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert c.receive().status == 200 and c.file.read() == b""


def test_pipelining():
    expected = shared().post(GOOD).body
    with shared().connect() as c:
        data = b""
        for i in range(60):
            if i % 4 == 1:
                data += request("GET", "/live", headers=[("X-Request-Id", "p%d" % i)])
            elif i % 4 == 2:
                data += request("POST", "/rerank", b"{", [("X-Request-Id", "p%d" % i)])
            else:
                data += request("POST", "/rerank", GOOD, [("X-Request-Id", "p%d" % i)])
        c.socket.sendall(data)
        for i in range(60):
            a = c.receive()
            assert a.headers["x-request-id"] == "p%d" % i, (i, a)
            assert a.status == (400 if i % 4 == 2 else 200), (i, a)
            assert i % 4 in (1, 2) or a.body == expected, (i, a)


def test_chunked_body():
    expected, body = shared().post(GOOD).body, encode(GOOD)
    with shared().connect() as c:
        for size in (1, 7, 1000):
            c.socket.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for i in range(0, len(body), size):
                piece = body[i:i + size]
                c.socket.sendall(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece))
            c.socket.sendall(b"0\r\nTrailer: x\r\n\r\n")
            assert c.receive().body == expected, size


def test_byte_by_byte():
    expected, data = shared().post(GOOD).body, request("POST", "/rerank", GOOD)
    with shared().connect() as c:
        c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            c.socket.sendall(data[i:i + 1])
        assert c.receive().body == expected
    for cut in range(1, len(data), 7):  # two pieces, cut at many places
        with shared().connect() as c:
            c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            c.socket.sendall(data[:cut])
            c.socket.sendall(data[cut:])
            assert c.receive().body == expected, cut


def test_continue():
    body = encode(GOOD)
    with shared().connect() as c:
        c.socket.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
                         b"Expect: 100-continue\r\n\r\n" % len(body))
        assert c.file.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert c.file.readline() == b"\r\n"
        c.socket.sendall(body)
        assert c.receive().status == 200


def test_slow_body_is_cut_off():
    with Server("--idle-timeout", "1") as s:
        with s.connect() as c:
            c.socket.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            answer = c.receive()  # none, or 408
            assert answer is None or answer.status == 408, answer
        with s.connect() as c:
            c.socket.sendall(b"POST /rer")
            assert c.receive() is None
        assert s.post(GOOD).status == 200


def test_client_leaves_while_sending():
    before = shared().metrics()["rerank_requests_in_flight"]
    data = request("POST", "/rerank", GOOD)
    for cut in range(1, len(data), 5):
        with shared().connect() as c:
            c.socket.sendall(data[:cut])
    assert shared().post(GOOD).status == 200
    until(lambda: shared().metrics()["rerank_requests_in_flight"] == before, "no request in flight")


def test_client_leaves_while_waiting():
    with Server(*SLOW, model_folder=starter()) as s:
        for how in ("close", "reset"):
            cancelled = s.metrics()['rerank_requests_cancelled_total{stage="waiting"}']
            connections = [s.connect() for _ in range(6)]
            for c in connections:
                c.send("POST", "/rerank", long_body(60))
            until(lambda: s.metrics()["rerank_requests_in_flight"] == 6, "six requests in flight")
            for c in connections:
                if how == "reset":
                    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                c.close()
            until(lambda: s.metrics()["rerank_requests_in_flight"] == 0, "nobody waiting")
            now = s.metrics()['rerank_requests_cancelled_total{stage="waiting"}']
            assert now >= cancelled + 5, (how, cancelled, now)  # one may have been done in time
        assert s.post(GOOD).status == 200


def test_half_close():
    with shared().connect() as c:  # after the answer nothing is lost
        assert c.ask("POST", "/rerank", GOOD).status == 200
        c.socket.shutdown(socket.SHUT_WR)
        assert c.file.read() == b""
    with Server(*SLOW, "--half-close", model_folder=starter()) as s, s.connect() as c:
        c.send("POST", "/rerank", long_body(4))
        c.socket.shutdown(socket.SHUT_WR)
        assert c.receive().status == 200


def test_sent_and_ended_at_once():
    """The end comes with the last bytes: closed after the answer, not after the idle time."""
    head = b"GET /live HTTP/1.1\r\nHost: x\r\n"
    body = b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
    with Server(*SLOW, "--header-timeout=60", "--idle-timeout=60") as s:
        whole = head + b"\r\n"
        for sent, answers in ((whole, 1), (whole * 3, 3), (head, 0), (body, 0)):
            s.process.send_signal(signal.SIGSTOP)  # so that it learns of both in one event
            with s.connect() as c:
                c.socket.sendall(sent)
                c.socket.shutdown(socket.SHUT_WR)
                s.process.send_signal(signal.SIGCONT)
                began = time.monotonic()
                reply = c.file.read()
                assert time.monotonic() - began < 20, sent
                assert reply.count(b"HTTP/1.1 200 ") == answers, reply


def test_reader_that_never_reads():
    """Its reply stays in our buffers; the others are served."""
    body = {"query": "q", "texts": ["x" * 20000] * 100, "return_text": True}
    with shared().connect() as c:
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(3):
            c.send("POST", "/rerank", body)
        for _ in range(20):
            assert shared().post(GOOD).status == 200


def test_idle_connections():
    connections = [shared().connect() for _ in range(500)]
    try:
        assert shared().post(GOOD).status == 200
        assert shared().metrics()["rerank_http_connections"] >= 500
        assert connections[0].ask("POST", "/rerank", GOOD).status == 200
        assert connections[-1].ask("POST", "/rerank", GOOD).status == 200
    finally:
        for c in connections:
            c.close()


def test_mixed_load_gives_the_same_numbers():
    """Whatever else is computed beside it, a pair has one score, to the last digit."""
    rng = random.Random(7)
    words = "le la un une chat chien maison ville pain eau capitale France Paris très grand".split()
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 120))) for _ in range(40)]
    alone = {}
    for t in texts:
        alone[t] = shared().post({"query": "chat", "texts": [t], "raw_scores": True}).json()[0]["score"]

    def work(i):
        mine = random.Random(i)
        with shared().connect() as c:
            for k in range(20):
                some = mine.sample(texts, mine.randint(1, 30))
                if k % 2:
                    a = c.ask("POST", "/rerank", {"query": "chat", "texts": some, "raw_scores": True})
                    got = {x["index"]: x["score"] for x in a.json()}
                else:
                    a = c.ask("POST", "/v1/rerank", {"query": "chat", "documents": some,
                                                     "raw_scores": True, "return_documents": False})
                    got = {x["index"]: x["relevance_score"] for x in a.json()["results"]}
                assert got == {j: alone[t] for j, t in enumerate(some)}, (i, k, a)

    run_threads(8, work)


def test_overload():
    with Server(*SLOW, "--queue-tokens", "12000", model_folder=starter()) as s:
        answers = []

        def work(_):
            with s.connect() as c:
                body = long_body(8)
                answers.append(c.ask("POST", "/v1/rerank", {"query": body["query"],
                                                            "documents": body["texts"]}))

        run_threads(24, work)
        statuses = {a.status for a in answers}
        assert 200 in statuses and 429 in statuses and statuses <= {200, 429}, statuses
        for a in answers:
            if a.status == 429:
                assert 1 <= int(a.headers["retry-after"]) <= 60, a
                assert a.json()["error_type"] == "Overloaded", a
        assert s.post(GOOD).status == 200
        refusals = s.metrics()['rerank_requests_rejected_total{reason="queue_full"}']
        assert refusals == sum(a.status == 429 for a in answers)


def test_deadline():
    with Server(*SLOW, "--request-timeout", "0.3", model_folder=starter()) as s:
        a = s.post(long_body(200))
        assert a.status == 504 and a.json()["error"], a
        # The answer came before the batch was over, and what comes now has to wait for that.
        end = time.monotonic() + 20
        while s.post(GOOD).status != 200:
            assert time.monotonic() < end


def test_metrics_add_up():
    with Server() as s:
        sent = {200: 7, 400: 2, 422: 3, 404: 4}
        for status, n in sent.items():
            for _ in range(n):
                a = {200: lambda: s.post(GOOD), 400: lambda: s.post(b"{"),
                     422: lambda: s.post({}), 404: lambda: s.post({}, "/none")}[status]()
                assert a.status == status
        m = s.metrics()
        for status in (200, 400, 422):
            assert m['rerank_http_requests_total{handler="rerank",status="%d"}' % status] == \
                sent[status], m
        assert m['rerank_http_requests_total{handler="none",status="404"}'] == 4
        assert m['rerank_requests_total{dialect="tei"}'] == 7
        assert m['rerank_request_duration_seconds_count{status="ok"}'] == 7
        assert m['rerank_request_duration_seconds_count{status="error"}'] == 5
        assert m['rerank_requests_rejected_total{reason="invalid"}'] == 5
        assert m["rerank_request_documents_count"] == 7 and m["rerank_request_documents_sum"] == 14
        assert m["rerank_requests_in_flight"] == 0 and m["rerank_ready"] == 1
        assert m["process_resident_memory_bytes"] > 1e6 and m["process_open_fds"] > 5
        text = s.ask("GET", "/metrics").body
        names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(names) == len(set(names)) and len(names) > 30, names
        many = len(s.metrics())
        for i in range(300):
            with contextlib.suppress(json.JSONDecodeError):
                s.ask("GET", "/random/%d" % i, headers=[("User-Agent", "u%d" % i)])
        assert len(s.metrics()) <= many + 3  # labels come from closed sets
