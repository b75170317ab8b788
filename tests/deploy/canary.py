#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""canary.py - deploy/haproxy/canary.cfg with a real HAProxy between a stand-in for the old service and
a rerankd: shares by weight, changed without a restart, and back."""
import collections
import contextlib
import http.server
import json
import os
import re
import socket
import tempfile
import threading
import time
import urllib.request

import support
from support import DEPLOY, free_port, until

HAPROXY = support.need("haproxy")
from server_support import Server, candidate, starter  # noqa: E402 - found once support is loaded


class Old(http.server.BaseHTTPRequestHandler):
    """Healthy, and answers in the old form, one after the other: /health waits for computations, too."""
    protocol_version = "HTTP/1.1"
    takes_s, computing = 0, threading.Lock()

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        with self.computing:
            self.answer({"status": "healthy"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.computing:
            time.sleep(Old.takes_s)
        self.answer({"documents": body["documents"][:5], "count": 5, "model": "m", "processing_time": 1})

    def log_message(self, *_):
        pass


def served_by(port):
    body = {"query": "q", "documents": [candidate(i, "text %d" % i) for i in range(6)], "top_k": 5}
    request = urllib.request.Request("http://127.0.0.1:%d/rerank" % port, json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["count"] == 5
        return answer.headers["X-Served-By"]


def command(path, line):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(line.encode() + b"\n")
        return s.recv(65536).decode()


@contextlib.contextmanager
def canary():
    """HAProxy between both services; gives its port, its admin socket and the old service."""
    Old.takes_s = 0
    old = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Old)
    old.handle_error = lambda *_: None  # health checks hang up when they know enough
    threading.Thread(target=old.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder, Server(model_folder=starter()) as new:
        port, admin = free_port(), os.path.join(folder, "admin.sock")
        text = support.read("deploy", "haproxy", "canary.cfg")
        for a, b in (("bind :8002", "bind 127.0.0.1:%d" % port), ("/run/haproxy/admin.sock", admin),
                     ("127.0.0.1:8012", "127.0.0.1:%d" % old.server_port),
                     ("127.0.0.1:8022", "127.0.0.1:%d" % new.port)):
            assert a in text, a
            text = text.replace(a, b)
        path = os.path.join(folder, "haproxy.cfg")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        support.run(HAPROXY, "-c", "-f", path)
        with support.program(HAPROXY, "-db", "-f", path, log=os.path.join(folder, "log")):
            def ready():
                try:
                    return served_by(port)
                except OSError:
                    return None
            until(ready, "HAProxy")
            yield port, admin, old
    old.shutdown()


def shares_by_weight():
    with canary() as (port, admin, _):
        def shares(n):
            return collections.Counter(served_by(port) for _ in range(n))
        found = shares(256)
        assert 9 <= found["new"] <= 17, found  # 13 of 256; checks may be late to see a server
        assert not command(admin, "set weight rerank/new 100%").strip()
        weight = re.search(r"(\d+) \(initial 13\)", command(admin, "get weight rerank/new"))
        assert weight and weight.group(1) == "13", weight
        # What the file's head says makes the share larger, and takes it back.
        more, none = re.findall(r'echo "(set weight [^"]*)"', support.read("deploy", "haproxy", "canary.cfg"))
        command(admin, more)
        assert 35 <= shares(100)["new"] <= 65
        command(admin, none)
        assert shares(100)["new"] == 0, "the way back leaves requests behind"
        print("     %s of 256 at the shipped weights" % found["new"])


def a_busy_old_service_keeps_its_share():
    with canary() as (port, _, old):
        Old.takes_s = 3.5  # as on two cores; while it computes it answers no health check
        served = []
        for _ in range(3):
            users = [threading.Thread(target=lambda: served.append(served_by(port))) for _ in range(2)]
            for user in users:
                user.start()
            for user in users:
                user.join()
        assert served == ["old"] * 6, served
        old.shutdown()
        old.server_close()
        assert [served_by(port) for _ in range(3)] == ["new"] * 3, "nobody stands in for the old one"


support.main([shares_by_weight, a_busy_old_service_keeps_its_share])
