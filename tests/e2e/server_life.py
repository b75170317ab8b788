# SPDX-License-Identifier: Apache-2.0
"""server_life.py - start, readiness, signals, drain, exit codes, log; run by run.py."""
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from cli_support import RERANKD, ROOT, environment, folder, model, write
from server_support import QUERY, SLOW, TEXTS, Server, long_body, starter, until

GOOD = {"query": "q", "texts": ["a", "b"]}


def fails(*words, env=None):
    p = subprocess.run([RERANKD, "serve", "--port", "0", *words], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env or environment(),
                       cwd=ROOT, timeout=60)
    lines = p.stderr.decode().splitlines()
    errors = [x for x in lines if " info " not in x and " warning " not in x]
    assert len(errors) == 1, lines
    return p.returncode, errors[0]


def test_start_lines():
    with Server() as s:
        s.log("ready after")
        text = "\n".join(s.lines)
        for part in ("listening on http://0.0.0.0:%d" % s.port, "tiny-xlmr", "instruction set",
                     "compute threads", "memory plan: weights", "http://localhost:%d" % s.port):
            assert part in text, (part, text)


def test_the_example_works():
    with Server(model_folder=starter()) as s:
        line = s.log("^curl ")
        assert sum("curl" in x for x in s.lines) == 1, s.lines
        body = re.search(r"-d '(.*)'$", line).group(1)
        assert "/rerank " in line and ":%d/" % s.port in line, line
        reply = s.post(body.encode()).json()
        assert reply["count"] == 2 and "Paris" in reply["documents"][0]["content"], reply
        p = subprocess.run(["sh", "-c", "command -v curl >/dev/null || exit 77; " + line],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert p.returncode == 77 or json.loads(p.stdout)["count"] == 2, p
    with Server("--api-key", "canari-k1", "--dialect", "tei", model_folder=starter()) as s:
        line = s.log("^curl ")  # as the page's snippets, it takes the key from the environment
        p = subprocess.run(["sh", "-c", "command -v curl >/dev/null || exit 77; " + line],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                           env=dict(os.environ, RERANKD_API_KEY="canari-k1"))
        assert p.returncode == 77 or json.loads(p.stdout).get("count") == 2, (line, p)
        assert "canari" not in line, line


def test_request_lines():
    documents = [{"content": t} for t in TEXTS]
    with Server("--lang", "fr") as s:
        s.post({"query": QUERY, "documents": documents, "top_k": 2},
               headers=[("X-Request-Id", "un")])
        line = s.log("id un")
        assert re.search(r"reranking de 4 candidats -> 2 résultats en [\d.]+ ms \(\d+ jetons, "
                         r"ragfab, id un\)", line), line
        assert s.log("prêt après")
    with Server("--lang", "en") as s:
        s.post({"query": QUERY, "documents": documents}, headers=[("X-Request-Id", "one")])
        assert re.search(r"reranking 4 candidates -> 4 results in [\d.]+ ms", s.log("id one"))
        s.post({"query": "", "texts": ["a"]}, headers=[("X-Request-Id", "two")])
        assert "400" in s.log("id two")


def test_json_log():
    with Server("--log-format", "json") as s:
        s.post(GOOD, headers=[("X-Request-Id", "j1")])
        s.post({"query": "", "texts": ["a"]}, headers=[("X-Request-Id", "j2")])
        first, second = json.loads(s.log('"j1"')), json.loads(s.log('"j2"'))
        assert first["status"] == 200 and first["documents"] == 2 and first["tokens"] > 4, first
        assert first["dialect"] == "tei" and first["ms"] > 0 and first["level"] == "info", first
        assert second["status"] == 400, second
        for line in s.lines:
            assert {"time", "level", "message"} <= set(json.loads(line)), line


def test_addresses():
    with Server("--host", "127.0.0.1") as s:
        assert s.post(GOOD).status == 200
    if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6") and \
            open("/proc/net/if_inet6").read():
        with Server("--host", "::") as s:
            assert s.post(GOOD).status == 200  # an IPv4 client
            with socket.create_connection(("::1", s.port), timeout=20) as c:
                c.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
                assert c.recv(100).startswith(b"HTTP/1.1 200")


def test_port_in_use():
    with Server() as s:
        p = subprocess.run([RERANKD, "serve", "--model", model(), "--port", str(s.port)],
                           stderr=subprocess.PIPE, env=environment(), timeout=60)
        lines = p.stderr.decode().splitlines()
        assert p.returncode == 69 and len(lines) == 1, (p.returncode, lines)
        assert str(s.port) in lines[0] and "in use" in lines[0], lines
        assert s.post(GOOD).status == 200


def test_bad_start():
    code, line = fails("--model", "/no/such/folder")
    assert code == 66 and "/no/such/folder" in line, (code, line)
    with folder() as d:
        write(os.path.join(d, "config.json"), "{}")
        code, line = fails("--model", d)
        assert code in (66, 78) and d in line, (code, line)
    code, line = fails("--model", model(), "--host", "300.1.1.1")
    assert code == 69 and "300.1.1.1" in line, (code, line)
    code, line = fails("--model", model(), "--host", "192.0.2.1")
    assert code == 69 and "192.0.2.1" in line, (code, line)
    code, line = fails("--model", model(), "--dialect", "esperanto")
    assert code in (64, 78) and "esperanto" in line, (code, line)


def test_environment():
    env = environment(RERANKER_MODEL=model(), RERANKD_MAX_DOCUMENTS="3")
    p = subprocess.Popen([RERANKD, "serve", "--port", "0"], stderr=subprocess.PIPE, env=env, cwd=ROOT)
    line = p.stderr.readline().decode()
    port = int(re.search(r":(\d+)$", line.strip()).group(1))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as c:
        c.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"alive" in c.recv(1000)
    p.send_signal(signal.SIGTERM)
    p.stderr.read()
    assert p.wait(60) == 0


def test_stop_when_idle():
    for how in (signal.SIGTERM, signal.SIGINT):
        with Server() as s:
            idle = s.connect()
            assert idle.ask("GET", "/live").status == 200
            assert s.stop(how) == 0, s.lines
            assert idle.receive() is None


def test_stop_while_loading():
    s = Server(ready=False)
    assert s.stop() == 0, s.lines


def test_drain_under_load():
    """Every request that was sent is answered, the last one of each client with the end of the
    line: 200 if it was accepted before the signal, else 503."""
    with Server(model_folder=starter()) as s:
        ledger = []
        started = threading.Barrier(13, timeout=60)

        def client(i):
            with s.connect() as c:
                for k in range(10000):
                    a = c.ask("POST", "/rerank", {"query": "q", "texts": [TEXTS[i % 4] * 5] * 10})
                    ledger.append(a.status if a else None)
                    if k == 0:
                        started.wait()
                    if a is None or a.headers.get("connection", "").lower() == "close":
                        return
                    assert a.status == 200, a

        threads = [threading.Thread(target=client, args=(i,)) for i in range(12)]
        for t in threads:
            t.start()
        started.wait()  # each has had an answer and goes on
        assert s.stop() == 0, s.lines
        for t in threads:
            t.join()
        assert None not in ledger and set(ledger) <= {200, 503}, (len(ledger), set(ledger))
        assert ledger.count(503) <= 12, ledger.count(503)


def test_drain_waits_for_bodies():
    """Who was sending when the signal came is answered, not cut off; who stops sending holds up
    nothing for longer than the drain's time."""
    head = b"POST /rerank HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
    with Server() as s, s.connect() as c:
        body = b'{"query": "q", "texts": ["a"]}'
        c.socket.sendall(head + b"%d\r\n\r\n" % len(body))
        assert c.file.readline() == b"HTTP/1.1 100 Continue\r\n" and c.file.readline() == b"\r\n"
        s.process.send_signal(signal.SIGTERM)
        s.log("signal TERM: finishing")
        time.sleep(0.5)  # twice the time for connections that nothing is done on
        with s.connect() as late:  # who begins to send now is not waited for
            late.socket.sendall(head + b"30\r\n\r\n{")
            assert late.file.readline() == b"HTTP/1.1 100 Continue\r\n"
            c.socket.sendall(body)
            a = c.receive()
            assert a.status == 503 and a.headers["connection"] == "close", a
            assert a.headers["retry-after"], a
            started = time.monotonic()
            assert s.wait() == 0 and time.monotonic() - started < 3, s.lines
    with Server("--drain-timeout", "0.5", "--min-rate", "0") as s, s.connect() as c:
        c.socket.sendall(head + b"30\r\n\r\n{")
        assert c.file.readline() == b"HTTP/1.1 100 Continue\r\n"
        started = time.monotonic()
        assert s.stop() == 0 and time.monotonic() - started < 10, s.lines


def test_drain_finishes_what_was_accepted():
    with Server(*SLOW, model_folder=starter()) as s:
        waiting = [s.connect() for _ in range(4)]
        for c in waiting:
            c.send("POST", "/rerank", long_body(4))
        until(lambda: s.metrics()["rerank_queue_requests"] == 4, "four requests with the engine")
        s.process.send_signal(signal.SIGTERM)
        s.log("signal TERM")
        a = s.ask("GET", "/health")  # still answers, and says what it is doing
        assert a.status == 503 and a.json()["status"] == "draining", a
        a = s.post(GOOD)
        assert a.status == 503 and a.headers["connection"].lower() == "close", a
        assert int(a.headers["retry-after"]) >= 1, a
        for c in waiting:
            assert c.receive().status == 200
        assert s.wait() == 0


def test_drain_timeout():
    with Server(*SLOW, "--drain-timeout", "0.1", model_folder=starter()) as s:
        waiting = [s.connect() for _ in range(8)]
        for c in waiting:
            c.send("POST", "/rerank", long_body(30))
        until(lambda: s.metrics()["rerank_queue_requests"] == 8, "eight requests with the engine")
        assert s.stop() == 0, s.lines
        statuses = [c.receive().status for c in waiting]
        assert 503 in statuses and set(statuses) <= {200, 503}, statuses
        assert any("drain timeout" in x for x in s.lines), s.lines


def test_second_signal():
    with Server(*SLOW, model_folder=starter()) as s:
        with s.connect() as c:
            c.send("POST", "/rerank", long_body(400))
            until(lambda: s.metrics()["rerank_queue_requests"] == 1, "a request with the engine")
            s.process.send_signal(signal.SIGTERM)
            s.log("signal TERM")
            assert s.stop() == 0, s.lines
            assert c.receive().status == 503  # cancelled, but answered
