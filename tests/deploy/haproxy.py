#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""haproxy.py - deploy/haproxy/haproxy.cfg with a real HAProxy and four real servers.

Under load, servers are killed, drained, stopped and restarted.  Every request must be answered with 200
and the scores that belong to it: nothing is lost, nothing mixed up.
"""
import contextlib
import http.server
import json
import os
import re
import signal
import tempfile
import threading
import time
import urllib.error
import urllib.request

import support
from support import DEPLOY, free_port, until

HAPROXY = support.need("haproxy")
import server_support  # noqa: E402 - only found once support is loaded

CONFIG = os.path.join(DEPLOY, "haproxy", "haproxy.cfg")
SERVERS = ("gpu1", "gpu2", "cpu1", "cpu2")
QUERIES = 40
RIGHT = {}  # query number -> scores


def post(port, body, path="/v1/rerank", seconds=60):
    data = json.dumps(body).encode()
    request = urllib.request.Request("http://127.0.0.1:%d%s" % (port, path), data,
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return json.load(answer), answer.headers


def body_of(n, documents=3, words=4):
    return {"query": "question number %d" % (n % QUERIES), "model": "starter",
            "documents": ["answer %d of %d" % (i, n % QUERIES) + " word" * words
                          for i in range(documents)]}


def scores(answer):
    return [(r["index"], r["relevance_score"]) for r in answer["results"]]


def request(port, n):
    """One request of the load; its scores must be its own."""
    answer, _ = post(port, body_of(n))
    found = scores(answer)
    assert RIGHT.setdefault(n % QUERIES, found) == found, "another request's scores: %s" % answer


class Cluster:
    """Four servers behind HAProxy with the shipped configuration; changes are (pattern, text)."""

    def __init__(self, *changes):
        self.ports = {name: free_port() for name in SERVERS}
        self.port = free_port()
        self.servers = {}
        self.changes = changes

    def start(self, name):
        self.servers[name] = server_support.Server(
            "--port", str(self.ports[name]), "--drain-delay", "3", "--cache-size", "0",
            "--threads", "1", model_folder=server_support.starter())

    def stop(self, name, how=signal.SIGTERM):
        server = self.servers.pop(name)
        server.process.send_signal(how)
        return server.wait()

    def config(self):
        with open(CONFIG, encoding="utf-8") as f:
            text = f.read()
        for name, port in self.ports.items():
            text, n = re.subn(r"server %s \S+" % name, "server %s 127.0.0.1:%d" % (name, port), text)
            assert n, name
        for pattern, new in ((r"bind :8080", "bind 127.0.0.1:%d" % self.port),
                             (r"/run/haproxy/admin.sock", self.folder + "/admin.sock"),
                             (r"  log /dev/log local0\n", "")) + self.changes:
            text, n = re.subn(pattern, new, text)
            assert n, pattern
        path = os.path.join(self.folder, "haproxy.cfg")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        for name in SERVERS:
            self.start(name)
        path = self.config()
        support.run(HAPROXY, "-c", "-f", path)
        self.stack.enter_context(support.program(HAPROXY, "-db", "-f", path,
                                                 log=os.path.join(self.folder, "log")))
        until(lambda: all(self.state(n) == "UP" for n in SERVERS), "all servers up")
        return self

    def __exit__(self, *_):
        for server in self.servers.values():
            with contextlib.suppress(ProcessLookupError):
                server.process.send_signal(signal.SIGCONT)
            server.process.kill()
            server.wait()
        self.stack.close()

    def state(self, name):
        """UP, DOWN... by HAProxy's own metrics."""
        try:
            url = "http://127.0.0.1:%d/haproxy-metrics" % self.port
            text = urllib.request.urlopen(url, timeout=5).read().decode()
        except OSError:
            return None
        found = re.search(r'haproxy_server_status\{[^}]*server="%s",state="(\w+)"\} 1' % name, text)
        return found and found.group(1)

    def wait_state(self, name, state):
        until(lambda: self.state(name) == state, "%s to be %s" % (name, state))

    def answered(self, name):
        return self.servers[name].metrics().get(
            'rerank_http_requests_total{handler="rerank",status="200"}', 0)

    def all_answered(self, n):
        """Of each server, when they have counted n together: an answer is counted once it is sent."""
        def counted():
            found = {name: self.answered(name) for name in SERVERS}
            return found if sum(found.values()) == n else None
        return until(counted, "%d answers to be counted" % n)

    def load(self, threads=4):
        return support.Load(lambda n: request(self.port, n), threads, pause=0.01)


def nothing_lost(load, least=50):
    assert not load.failures, "%d of %d lost: %s" % (
        len(load.failures), load.done + len(load.failures), load.failures[:3])
    assert load.done >= least, load.done
    print("     %d requests, none lost" % load.done)


def config_is_valid_as_shipped():
    _, out = support.run(HAPROXY, "-c", "-f", CONFIG)
    assert "[WARNING]" not in out, out


def gpu_first_and_each_query_to_its_server():
    with Cluster() as c:
        for n in range(QUERIES):
            request(c.port, n)
        first = c.all_answered(QUERIES)
        assert first["cpu1"] == first["cpu2"] == 0, first
        assert min(first["gpu1"], first["gpu2"]) >= QUERIES / 8, first
        before = first["gpu1"]
        for n in range(QUERIES):
            request(c.port, n)
        # But for a few: a server that has not quite done with the last query is passed over.
        again = c.all_answered(2 * QUERIES)["gpu1"] - before
        assert abs(again - before) <= QUERIES / 10, "%d queries, then %d" % (before, again)
        # what is not the clients' business, and what is too large
        for path, code in (("/metrics", 403), ("/admin/reload", 403), ("/debug/state", 403),
                           ("/tei/metrics", 404), ("//metrics", 404), ("/%6detrics", 404),
                           ("/metrics/", 404), ("/tei/debug/state", 404)):
            try:
                urllib.request.urlopen("http://127.0.0.1:%d%s" % (c.port, path), timeout=10)
                raise AssertionError("%s is open" % path)
            except urllib.error.HTTPError as e:
                assert e.code == code, (path, e.code)


def a_killed_server_loses_nothing():
    with Cluster() as c, c.load() as load:
        time.sleep(1)
        c.stop("gpu1", signal.SIGKILL)
        c.wait_state("gpu1", "DOWN")
        time.sleep(1)
        c.stop("gpu2", signal.SIGKILL)
        c.wait_state("gpu2", "DOWN")
        time.sleep(1)
        assert c.answered("cpu1") + c.answered("cpu2") > 0, "the CPU servers did not take over"
        c.start("gpu1")
        c.wait_state("gpu1", "UP")
        until(lambda: c.answered("gpu1") > 0, "work for the server that came back")
    nothing_lost(load)


def a_drained_server_loses_nothing():
    with Cluster() as c, c.load() as load:
        time.sleep(1)
        assert c.stop("gpu1") == 0
        assert c.stop("gpu2") == 0
        time.sleep(0.5)
    nothing_lost(load)


def a_stopped_server_loses_nothing():
    """A process that hangs takes its requests until the timeout; then they go elsewhere."""
    with Cluster((r"timeout server 35s", "timeout server 2s")) as c:
        with c.load() as load:
            time.sleep(1)
            c.servers["gpu1"].process.send_signal(signal.SIGSTOP)
            c.wait_state("gpu1", "DOWN")
            time.sleep(3)
            c.servers["gpu1"].process.send_signal(signal.SIGCONT)
            c.wait_state("gpu1", "UP")
            time.sleep(0.5)
    nothing_lost(load)


def a_rolling_restart_loses_nothing():
    with Cluster() as c, c.load() as load:
        for name in SERVERS:
            assert c.stop(name) == 0
            c.start(name)
            c.wait_state(name, "UP")
    nothing_lost(load)


def busy_gpu_servers_overflow_to_the_cpu():
    with Cluster((r"maxconn 16", "maxconn 1"), (r"slowstart 10s", "")) as c:
        bodies = [body_of(n, documents=20, words=40) for n in range(24)]
        answers = []

        def one(n):
            answers.append(scores(post(c.port, bodies[n])[0]))
        threads = [threading.Thread(target=one, args=(n,)) for n in range(len(bodies))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        share = {n: c.answered(n) for n in SERVERS}
        assert len(answers) == len(bodies), "%d of %d" % (len(answers), len(bodies))
        assert share["cpu1"] + share["cpu2"] > 0 and share["gpu1"] + share["gpu2"] > 0, share
        print("     %s" % share)


class Refusing(http.server.BaseHTTPRequestHandler):
    """Ready, and refuses all work: what retries are for."""
    refused = 0

    def answer(self, code):
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        Refusing.refused += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(503)

    def log_message(self, *_):
        pass


def large_bodies_are_sent_again_after_503():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    change = (r"server gpu2 \S+", "server gpu2 127.0.0.1:%d" % server.server_port)
    with Cluster(change, (r"slowstart 10s", "")) as c:
        for n in range(12):
            answer, _ = post(c.port, body_of(n, documents=4, words=30000))  # 600 KB
            assert len(answer["results"]) == 4
    server.shutdown()
    assert Refusing.refused, "no request met the server that refuses: nothing was tested"
    print("     %d refusals, no client saw one" % Refusing.refused)


support.main([config_is_valid_as_shipped, gpu_first_and_each_query_to_its_server,
              a_killed_server_loses_nothing, a_drained_server_loses_nothing,
              a_stopped_server_loses_nothing, a_rolling_restart_loses_nothing,
              busy_gpu_servers_overflow_to_the_cpu, large_bodies_are_sent_again_after_503])
