# SPDX-License-Identifier: Apache-2.0
"""server_slow.py - clients that are slow, idle, too many or half gone; run by run.py."""
import contextlib
import json
import re
import resource
import socket
import time

from server_support import SLOW, Connection, Server, long_body, request, starter, until

GOOD = {"query": "deux mots", "texts": ["mots", "deux"], "raw_scores": True}
POST = b"POST /rerank HTTP/1.1\r\nHost: x\r\n"
ENDED = 'rerank_http_connections_ended_total{reason="%s"}'


def test_slow_heads():
    """Bytes that trickle in do not help; connections that have sent nothing may wait."""
    with Server("--header-timeout", "1") as s:
        silent = s.connect()
        used = s.connect()
        assert used.ask("POST", "/rerank", GOOD).status == 200
        slow = [s.connect() for _ in range(100)]
        started = time.monotonic()
        waiting = set(range(len(slow)))
        while waiting and time.monotonic() - started < 20:
            for i in list(waiting):
                try:
                    slow[i].socket.sendall(b"G")
                except OSError:
                    waiting.discard(i)
            assert s.post(GOOD).status == 200  # the others do not notice
            time.sleep(0.05)
        took = time.monotonic() - started
        assert not waiting and 1 <= took < 15, (len(waiting), took)
        assert s.metrics()[ENDED % "slow_header"] == 100
        assert silent.ask("POST", "/rerank", GOOD).status == 200
        assert used.ask("POST", "/rerank", GOOD).status == 200
        used.socket.sendall(POST)  # and no more
        assert used.receive().status == 408 and used.file.read() == b""
        for c in [*slow, silent, used]:
            c.close()


def test_slow_bodies():
    """A body may take its time as long as enough of it comes."""
    with Server("--min-rate", "1000") as s, s.connect() as slow, s.connect() as steady:
        slow.socket.sendall(POST + b"Content-Length: 100000\r\n\r\n{")
        body = b'{"query":"q","texts":["a","b"]' + b" " * 30000 + b"}"
        steady.socket.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body))
        started = time.monotonic()
        for i in range(0, len(body), 2000):  # over about 7 s
            steady.socket.sendall(body[i:i + 2000])
            with contextlib.suppress(OSError):
                slow.socket.sendall(b" ")
            time.sleep(0.45)
        assert steady.receive().status == 200
        assert slow.receive().status == 408 and time.monotonic() - started < 15
        m = s.metrics()
        assert m[ENDED % "slow_body"] == 1, m
        assert m['rerank_http_requests_total{handler="rerank",status="408"}'] == 1, m


def test_slow_readers():
    """A reply that nobody reads is given up, and its memory with it."""
    body = {"query": "q", "texts": ["x" * 60000] * 100, "return_text": True}
    with Server("--write-timeout", "1") as s:
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.connect(("127.0.0.1", s.port))
        c.sendall(request("POST", "/rerank", body))
        until(lambda: s.metrics()[ENDED % "slow_reader"] == 1, "the reader to be dropped")
        until(lambda: s.metrics()["rerank_http_connections"] == 1, "only ourselves connected")
        c.close()


def connections(s, n):
    """The only ones: whoever waited for the server to be ready may not be seen to have gone."""
    first = s.connect()
    until(lambda: "\nrerank_http_connections 1\n" in first.ask("GET", "/metrics").body,
          "no other connection")
    return [first] + [s.connect() for _ in range(n - 1)]


def test_eviction():
    """At the cap the connection that is idle longest goes, not one at work, and not the new one."""
    with Server("--max-connections", "10") as s:
        kept = connections(s, 10)
        assert kept[1].ask("GET", "/live").status == 200
        time.sleep(0.2)  # its answer is here before its thread there counts it as idle
        for c in kept[:1] + kept[2:]:
            assert c.ask("GET", "/live").status == 200
        with s.connect() as new:
            assert new.ask("POST", "/rerank", GOOD).status == 200
            assert kept[1].receive() is None
            for c in kept[:1] + kept[2:]:
                assert c.ask("GET", "/live").status == 200
        assert s.metrics()[ENDED % "evicted"] >= 1
        for c in kept:
            c.close()


def test_full_of_work():
    with Server(*SLOW, "--max-connections", "3", model_folder=starter()) as s:
        before = cpu_seconds(s.process.pid)
        busy = [s.connect() for _ in range(3)]
        for c in busy:
            c.send("POST", "/rerank", long_body(30))
        # Asking would take a connection: when the first has been computed for some time, the others
        # have been read.  One that is idle would be evicted, and the test fail.
        until(lambda: cpu_seconds(s.process.pid) > before + 0.3, "work")
        with s.connect() as c, contextlib.suppress(ConnectionError):
            assert c.ask("GET", "/live") is None
        for c in busy:
            assert c.receive().status == 200
            c.close()


def busy(s, n):
    """n connections at work: the head is in, and a body is to come."""
    kept = [s.connect() for _ in range(n)]
    for c in kept:
        c.socket.sendall(POST + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
        assert c.file.readline().startswith(b"HTTP/1.1 100") and c.file.readline() == b"\r\n"
    return kept


def admins(s, n, wait=True):
    """At the admin address; at first the only ones."""
    port = int(re.search(r"port (\d+)", s.log("admin address")).group(1))
    kept = [Connection(port) for _ in range(n)]
    until(lambda: not wait or "\nrerank_http_connections %d\n" % n in
          kept[0].ask("GET", "/metrics").body, "no other connection")
    return kept


def test_admin_address_of_a_full_server():
    """Its operator gets in, whatever clients do, and takes no place from them."""
    with Server("--max-connections", "3", "--max-connections-per-ip", "3",
                "--admin-listen", "127.0.0.1:0") as s:
        admin = admins(s, 3)
        kept = busy(s, 3)
        for c in admin:
            assert c.ask("GET", "/ready").status == 200
        assert not connected(s)
        m = admin[0].ask("GET", "/metrics").body
        assert "\nrerank_http_connections 6\n" in m and ENDED % "per_ip" + " 1\n" in m, m
        for c in kept:
            c.socket.sendall(b"%-1000s" % json.dumps(GOOD).encode())
            assert c.receive().status == 200
        for c in [*kept, *admin]:
            assert c.ask("GET", "/live").status == 200
            c.close()


def test_full_admin_address():
    """Its places, too, end, and who waits there idle goes before who waits elsewhere."""
    with Server("--max-connections", "3", "--admin-listen", "127.0.0.1:0") as s:
        first = admins(s, 1)
        kept = [s.connect() for _ in range(3)]
        for c in kept:
            assert c.ask("GET", "/live").status == 200
        admin = first + admins(s, 16, wait=False)
        assert ENDED % "evicted" + " 1\n" in admin[-1].ask("GET", "/metrics").body
        for c in kept:
            assert c.ask("GET", "/live").status == 200
        for c in [*kept, *admin]:
            c.close()


def test_per_address():
    with Server("--max-connections-per-ip", "3") as s:
        kept = connections(s, 3)
        assert kept[0].ask("GET", "/live").status == 200
        with s.connect() as c, contextlib.suppress(ConnectionError):
            assert c.ask("GET", "/live") is None
        kept.pop().close()
        until(lambda: kept[0].ask("GET", "/metrics").body.count(" 1") and connected(s),
              "room for another")
        for c in kept:
            c.close()


def connected(s):
    with contextlib.suppress(ConnectionError), s.connect() as c:
        return c.ask("GET", "/live") is not None
    return False


def test_requests_per_connection():
    with Server("--max-requests-per-connection", "5") as s, s.connect() as c:
        for i in range(5):
            a = c.ask("POST", "/rerank", GOOD)
            assert a.status == 200 and ("close" in a.headers.get("connection", "")) == (i == 4), a
        assert c.receive() is None


def test_no_descriptors_left():
    """The accept loop must not spin, and recovers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Server() as s:
        pid = s.process.pid
        used = int(s.metrics()["process_open_fds"])
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 20, hard))
        some = []
        for _ in range(60):
            with contextlib.suppress(OSError):
                some.append(s.connect())
        before = cpu_seconds(pid)
        time.sleep(1)
        assert cpu_seconds(pid) - before < 0.3, "it spins"
        for c in some:
            c.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(soft, hard), hard))
        assert s.post(GOOD).status == 200


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_ten_thousand_idle():
    n = 10000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < n + 1000:
        n = hard - 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = []
    with Server() as s:
        before = s.metrics()["process_open_fds"]
        try:
            for _ in range(n - 50):
                connections.append(socket.create_connection(("127.0.0.1", s.port)))
            started = time.monotonic()
            for _ in range(20):
                assert s.post(GOOD).status == 200
            assert time.monotonic() - started < 5
            m = s.metrics()
            assert m["rerank_http_connections"] >= n - 60, m
            assert m["process_resident_memory_bytes"] < 1.5e9, m
        finally:
            for c in connections:
                c.close()
        until(lambda: s.metrics()["process_open_fds"] <= before + 5, "the descriptors to return")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_reset_in_each_phase():
    data = request("POST", "/rerank", GOOD)
    with Server() as s:
        for cut in (0, 1, 30, len(data) - 5, len(data)):
            for _ in range(20):
                with Connection(s.port) as c:
                    c.socket.sendall(data[:cut])
                    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                        b"\x01\0\0\0\0\0\0\0")
        assert s.post(GOOD).status == 200
        until(lambda: s.metrics()["rerank_http_connections"] == 1, "only ourselves connected")
        assert s.metrics()["rerank_requests_in_flight"] == 0
