#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""nginx.py - deploy/nginx/rerankd.conf with a real nginx: it is valid, and killed servers cost nothing."""
import json
import os
import re
import signal
import tempfile
import urllib.error
import urllib.request

import support
from support import DEPLOY, free_port, until

NGINX = support.need("nginx")
from server_support import Server, starter  # noqa: E402 - only found once support is loaded


def config(folder, port, ports):
    """The shipped file inside the least that nginx needs around it."""
    with open(os.path.join(DEPLOY, "nginx", "rerankd.conf"), encoding="utf-8") as f:
        text = f.read()
    for address, to in zip(("10.0.0.11:8002", "10.0.0.12:8002", "10.0.0.21:8002"), ports):
        assert address in text
        text = text.replace(address, "127.0.0.1:%d" % to)
    text, n = re.subn(r"listen 8080", "listen 127.0.0.1:%d" % port, text)
    assert n == 1
    return write_config(folder, text)


def write_config(folder, text):
    temp = "".join("%s_temp_path %s/%s;" % (x, folder, x) for x in
                   ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w", encoding="utf-8") as f:
        f.write("daemon off; master_process off; pid %s/pid; error_log %s/log;\nevents {}\n"
                "http { access_log off; %s\n%s}\n" % (folder, folder, temp, text))
    return path


def ask(port, n):
    body = {"query": "q%d" % n, "model": "m", "documents": ["text %d" % i for i in range(3)]}
    request = urllib.request.Request("http://127.0.0.1:%d/v1/rerank" % port,
                                     json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert len(json.load(answer)["results"]) == 3


def killed_servers_lose_nothing():
    with tempfile.TemporaryDirectory() as folder:
        servers = [Server(model_folder=starter()) for _ in range(3)]
        port = free_port()
        path = config(folder, port, [s.port for s in servers])
        support.run(NGINX, "-t", "-c", path)
        try:
            with support.program(NGINX, "-c", path):
                def listens():
                    try:
                        ask(port, 0)
                        return True
                    except OSError:
                        return False
                until(listens, "nginx")
                with support.Load(lambda n: ask(port, n), 3, pause=0.01) as load:
                    for server in servers[:2]:
                        until(lambda: load.done > 30, "some answers")
                        server.process.send_signal(signal.SIGKILL)
                        server.wait()
                        load.done = 0
                    until(lambda: load.done > 30 or load.failures, "answers of the CPU server")
                for name, code in (("/metrics", 403), ("//metrics", 403), ("/tei/metrics", 404)):
                    try:
                        urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, name), timeout=10)
                        raise AssertionError("%s is open" % name)
                    except urllib.error.HTTPError as e:
                        assert e.code == code, (name, e.code)
        finally:
            for server in servers:
                server.process.kill()
                server.wait()
        assert not load.failures, load.failures[:3]
        assert any("reranking" in x for x in servers[2].lines), "the CPU server got nothing"


def recorded_requests_can_be_replayed():
    """record.conf before a server: each body becomes a line that "rerankd shadow" takes."""
    with tempfile.TemporaryDirectory() as folder, Server(model_folder=starter()) as server:
        port, log = free_port(), os.path.join(folder, "rerank.jsonl")
        text = support.read("deploy", "nginx", "record.conf")
        for a, b in (("listen 8003", "listen 127.0.0.1:%d" % port), ("/var/log/nginx/rerank.jsonl", log),
                     ("127.0.0.1:8002", "127.0.0.1:%d" % server.port)):
            assert a in text, a
            text = text.replace(a, b)
        path = write_config(folder, text)
        with support.program(NGINX, "-c", path):
            body = json.loads(support.read("deploy", "test_rerank.json"))

            def passed_on():
                try:
                    data = json.dumps(body, indent=1).encode()
                    request = urllib.request.Request("http://127.0.0.1:%d/rerank" % port, data,
                                                     {"Content-Type": "application/json"})
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        return json.load(answer)["count"] == 5
                except OSError:
                    return False
            until(passed_on, "nginx")
            until(lambda: os.path.exists(log) and os.path.getsize(log) > 100, "the record")
        url = "http://127.0.0.1:%d" % server.port
        program = os.environ.get("RERANKD", os.path.join(support.ROOT, "build", "rerankd"))
        _, out = support.run(program, "shadow", "--primary", url, "--candidate", url, "--json", "--full",
                             "--gate", log)
        found = json.loads(out)
        assert found["both"] >= 1 and found["top_lists"] >= 1 and found["kendall_tau"] == 1, found


support.main([killed_servers_lose_nothing, recorded_requests_can_be_replayed])
