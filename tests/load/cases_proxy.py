# SPDX-License-Identifier: Apache-2.0
"""cases_proxy.py - behind HAProxy: R70 of group H, R129 to R131 of group Q, and R14, the same bytes read by
others."""
import contextlib
import http.server
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from ledger import BROKEN, OK, REFUSED, Corpus, Ledger, closed_loop, open_loop
from registry import case
from server import Connection, Rerankd, Skip, free_port, server_support, until

GOOD = {"query": "q", "texts": ["a", "b"], "raw_scores": True}
CONFIG = """
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout queue 5s
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response response-timeout 503
frontend front
    bind 127.0.0.1:%d
    default_backend servers
    option http-buffer-request
backend servers
    balance %s
    option httpchk GET /ready
    default-server inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
%s
"""


class HAProxy:
    """HAProxy before servers on these ports; backup: those that serve when no other one does."""

    def __init__(self, ports, backup=(), balance="roundrobin", extra=""):
        if not shutil.which("haproxy"):
            raise Skip("haproxy is not installed")
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="rr_haproxy.")
        lines = ["    server s%d 127.0.0.1:%d check%s" % (
            i, p, " backup" if p in backup else "") for i, p in enumerate(ports)]
        self.path = os.path.join(self.folder, "haproxy.cfg")
        with open(self.path, "w", encoding="utf-8") as f:
            f.write("global\n    tune.bufsize 1048576\n" + CONFIG % (
                self.port, balance, "\n".join([extra, *lines])))
        self.process = subprocess.Popen(["haproxy", "-f", self.path], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.answers, "haproxy")

    def answers(self):
        assert self.process.poll() is None, "haproxy ended"
        try:
            with Connection(self.port) as c:
                return c.ask("GET", "/live").status == 200
        except (OSError, AttributeError):
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


def in_background(function, *args, **more):
    thread = threading.Thread(target=function, args=args, kwargs=more)
    thread.start()
    return thread


@case("P", "three servers behind HAProxy, each stopped with SIGTERM and started again under load: no "
      "answer but 200, all right")
def r70_rolling_restart():
    ports = [free_port() for _ in range(3)]

    def start(port):
        return Rerankd("--port", str(port), "--drain-delay", "1.5", ends=False)

    servers = [start(p) for p in ports]
    try:
        with HAProxy(ports) as proxy:
            ledger = Ledger(Corpus(servers[0], queries=2, texts=16))
            loader = in_background(open_loop, proxy.port, ledger, 60, 14, clients=16)
            for i, port in enumerate(ports):
                time.sleep(1)
                servers[i].process.send_signal(signal.SIGTERM)
                assert servers[i].wait() == 0, servers[i].lines[-5:]
                servers[i] = start(port)
            loader.join()
            ledger.check()
            return "%d requests, median %.0f ms, p99 %.0f ms" % (
                len(ledger.entries), 1e3 * ledger.latency(0.5), 1e3 * ledger.latency(0.99))
    finally:
        for s in servers:
            s.process.kill()
            s.wait()


@case("P", "behind HAProxy under load the first of two servers is killed, stopped (SIGSTOP), or answers 503 "
      "only: killed and 503: at most the requests in flight fail; stopped: the same, others served; "
      "it comes back")
def r129_bad_primary():
    notes = []
    ports = [free_port(), free_port()]
    with Rerankd("--port", str(ports[1])) as other:
        corpus = Corpus(other, queries=2, texts=16)
        for how in ("killed", "stopped", "draining"):
            with Rerankd("--port", str(ports[0]), "--drain-delay", "300", ends=False) as first, \
                    HAProxy(ports, balance="first", backup=ports[1:]) as proxy:
                ledger = other.watch(Ledger(corpus, {OK, REFUSED, BROKEN}))
                ledger.statuses = dict  # some are counted by the first server, others by HAProxy
                until(lambda: first.metrics()["rerank_ready"] == 1, "the first")
                loader = in_background(open_loop, proxy.port, ledger, 60, 5, clients=12)
                time.sleep(1.5)
                if how == "draining":
                    first.process.send_signal(signal.SIGTERM)
                else:
                    first.process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
                loader.join()
                first.process.kill()
                counts = {k: n for k, n in ledger.counts().items() if k != OK}
                assert sum(counts.values()) <= (0 if how == "draining" else 12), (how, counts)
                late = other.watch(Ledger(corpus))
                closed_loop(proxy.port, late, clients=4, requests=10)
                notes.append("%s: %d of %d failed" % (how, sum(counts.values()), len(ledger.entries)))
    return ", ".join(notes)


class Refusing:
    """A server that is ready and answers every POST with 503."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                with contextlib.suppress(ConnectionError):
                    self.end_headers()

            def do_GET(self):
                self.answer(200)

            def do_POST(self):
                type(self).asked += 1
                self.answer(503)

            def log_message(self, *_):
                pass

        Handler.asked = 0
        self.handler = Handler
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        in_background(self.server.serve_forever)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@case("P", "bodies of 1, 15, 64 and 600 KiB while one of two servers answers 503: every one 200 after "
      "HAProxy's retry")
def r130_retries():
    with Refusing() as bad, Rerankd() as good, HAProxy([bad.port, good.port]) as proxy:
        for kib in (1, 15, 64, 600):
            for i in range(6):
                body = {"query": "q", "texts": ["x%d %s" % (i, "mot " * 250)] * kib}
                with Connection(proxy.port) as c:
                    a = c.ask("POST", "/rerank", body)
                assert a.status == 200 and len(a.json()) == kib, (kib, a)
        assert bad.handler.asked >= 8, bad.handler.asked
        return "%d requests retried" % bad.handler.asked


@case("P", "30 keys spread over three servers by a header (consistent hashing): one dies, only its keys "
      "move")
def r131_affinity():
    ports = [free_port() for _ in range(3)]
    servers = [Rerankd("--port", str(p), ends=False) for p in ports]
    try:
        with HAProxy(ports, balance="hdr(X-Key)",
                     extra="    hash-type consistent\n    http-response set-header X-Served-By %s") as proxy:
            def places():
                found = {}
                for i in range(30):
                    with Connection(proxy.port) as c:
                        a = c.ask("POST", "/rerank", GOOD, [("X-Key", "key-%d" % i)])
                    assert a.status == 200, a
                    found[i] = a.headers["x-served-by"]
                return found

            before = places()
            assert before == places() and len(set(before.values())) == 3, before
            servers[1].process.kill()
            servers[1].wait()
            time.sleep(1)
            after = places()
            moved = [i for i in before if before[i] != after[i]]
            assert moved == [i for i in before if before[i] == "s1"], (before, after)
            return "%d of 30 moved" % len(moved)
    finally:
        for s in servers:
            s.process.kill()
            s.wait()


# ---- the same bytes read by others --------------------------------------------------------------

BODY = json.dumps(GOOD).encode()
PIECE = b"%x\r\n%s\r\n" % (len(BODY), BODY)


def mutants(rng, n):
    """Requests that are right or nearly so."""
    heads = [b"Content-Length: %d\r\n" % len(BODY), b"Transfer-Encoding: chunked\r\n",
             b"content-length:%d\r\n" % len(BODY), b"Content-Length: %d \r\n" % len(BODY),
             b"Content-Length: +%d\r\n" % len(BODY), b"Content-Length: 0%d\r\n" % len(BODY),
             b"Content-Length : %d\r\n" % len(BODY), b"Transfer-Encoding: Chunked\r\n",
             b"Transfer-Encoding: chunked, identity\r\n", b"Transfer-Encoding:\tchunked\r\n",
             b"X-A: a\r\n b\r\n", b"X-A: b\n", b"X-A: \x00\r\n", b"X A: b\r\n", b"X-A:\r\n",
             b"Content-Length: 3\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n"]
    tails = [BODY, PIECE + b"0\r\n\r\n", PIECE + b"0\r\nT: a\r\n\r\n", PIECE + b"00\r\n\r\n",
             b"%x;ext=1\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), PIECE + b"0\n\n",
             b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), b"%X \r\n%s\r\n0\r\n\r\n" % (
                 len(BODY), BODY), b"-1\r\n" + BODY, b""]
    lines = [b"POST /rerank HTTP/1.1\r\n"] * 6 + [b"POST /rerank HTTP/1.0\r\n", b"POST  /rerank HTTP/1.1\r\n",
                                                  b"GET /live HTTP/1.1\r\n", b"POST /rerank HTTP/1.1\n"]
    for i in range(n):
        extra = rng.sample(heads, rng.choice([0, 1, 1, 1, 2, 2, 3]))
        line, tail = rng.choice(lines), rng.choice(tails)
        if i % 2:  # right but for what comes below
            length = rng.random() < 0.5
            line, tail = lines[0], BODY if length else rng.choice(tails[1:5])
            extra = [heads[0 if length else 1], rng.choice([b"", b"", b"X-A:\r\n", heads[10], heads[17]])]
        data = line + b"Host: x\r\n" + b"".join(extra) + b"\r\n" + tail
        if rng.random() < 0.3:
            at = rng.randrange(len(data))
            data = data[:at] + rng.choice([b"\r", b"\n", b" ", b"\t", b"\x00", b"", b"\xff"]) + data[at + 1:]
        yield data


FOLLOW = b"GET /live HTTP/1.1\r\nHost: x\r\nX-Request-Id: follower\r\nConnection: close\r\n\r\n"


def statuses(port, data):
    """(status of each answer, whether the follower was answered with 200)."""
    got, follower = [], False
    with Connection(port) as c:
        c.socket.settimeout(3)
        try:
            c.socket.sendall(data + FOLLOW)
            c.socket.shutdown(socket.SHUT_WR)
            while True:
                a = c.receive()
                if a is None:
                    break
                got.append(a.status)
                follower |= a.status == 200 and a.headers.get("x-request-id") == "follower"
        except (OSError, ValueError, IndexError):
            pass
    return got, follower


def read_by_h11(data):
    """The complete requests that h11 sees before it refuses something: (body, request id)."""
    import h11
    c, seen = h11.Connection(h11.SERVER), []
    c.receive_data(data + FOLLOW)
    c.receive_data(b"")
    body, name = b"", b""
    with contextlib.suppress(h11.RemoteProtocolError):
        while True:
            e = c.next_event()
            if isinstance(e, h11.Request):
                body, name = b"", dict(e.headers).get(b"x-request-id", b"")
            elif isinstance(e, h11.Data):
                body += bytes(e.data)
            elif isinstance(e, h11.EndOfMessage):
                seen.append((body, name))
                c.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                c.send(h11.EndOfMessage())
                if c.our_state is not h11.DONE or c.their_state is not h11.DONE:
                    break
                c.start_next_cycle()
            else:
                break
    return seen


@case("P", "600 requests that are right or nearly so, read by the server, by h11 and by HAProxy: what the "
      "server answers with 200 is what h11 sees, request by request; HAProxy refuses it or agrees.  Not "
      "compared: a bare line feed that ends a line of chunks, which libmicrohttpd takes")
def r14_differential():
    try:
        import h11  # noqa: F401
    except ImportError:
        raise Skip("the Python package h11 is not installed (Debian: python3-h11)")
    alike = refused = 0
    with Rerankd("--half-close", "--invalid-unicode", "reject") as s, HAProxy([s.port]) as proxy:
        for data in mutants(random.Random(14), 600):
            head, _, body = data.partition(b"\r\n\r\n")
            if b"chunked" in head.lower() and re.search(rb"(^|[^\r])\n", body):
                continue
            got, follower = statuses(s.port, data)
            seen = read_by_h11(data)
            assert sum(x == 200 for x in got) <= len(seen), (data, got, seen)
            assert not follower or seen[-1][1] == b"follower", (data, got, seen)
            if not got or got[0] != 200:
                refused += 1
                continue
            assert data[:4] != b"POST" or seen[0][0] == BODY, (data, got, seen)
            theirs, _ = statuses(proxy.port, data)
            assert not theirs or theirs[0] >= 400 or theirs[0] == got[0], (data, got, theirs)
            assert theirs.count(200) <= len(seen), (data, theirs, seen)
            alike += 1
        return "%d read alike, %d refused" % (alike, refused)
