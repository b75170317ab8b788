# SPDX-License-Identifier: Apache-2.0
"""cases_prometheus.py - group N: a real Prometheus with the rules of deploy/ looks at a server while
faults of the other groups are played."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request

from cases_device import serve
from registry import case
from server import ROOT, Redis, Skip, free_port, until

RULES = os.path.join(ROOT, "deploy", "prometheus", "rerankd.rules.yml")


@contextlib.contextmanager
def prometheus(target):
    """It scrapes the port every second; gives a function that returns the names of its alerts,
    pending or firing."""
    if not shutil.which("prometheus"):
        raise Skip("prometheus is not installed")
    port, folder = free_port(), tempfile.mkdtemp(prefix="rr_prometheus.")
    config = os.path.join(folder, "prometheus.yml")
    with open(config, "w", encoding="utf-8") as f:
        json.dump({"global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                   "rule_files": [RULES],
                   "scrape_configs": [{"job_name": "rerankd", "static_configs": [
                       {"targets": ["127.0.0.1:%d" % target]}]}]}, f)
    process = subprocess.Popen(
        ["prometheus", "--config.file=" + config, "--storage.tsdb.path=" + folder,
         "--web.listen-address=127.0.0.1:%d" % port], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def get(path):
        with urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, path), timeout=10) as reply:
            return reply.read()

    def alerts():
        return {a["labels"]["alertname"] for a in json.loads(get("/api/v1/alerts"))["data"]["alerts"]}

    def sees():
        with contextlib.suppress(OSError):
            found = json.loads(get("/api/v1/query?query=rerank_ready"))["data"]["result"]
            return bool(found) and found[0]["value"][1] == "1"
        return False

    try:
        until(sees, "Prometheus to see the server")
        yield alerts
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@contextlib.contextmanager
def light_load(s):
    """Two requests a second; what they get is the business of other cases."""
    stop = threading.Event()

    def ask():
        n = 0
        while not stop.wait(0.5):
            n += 1
            assert s.post({"query": "q%d" % n, "texts": ["a", "b"]}).status == 200

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


@case("N", "two minutes of scrapes with the rules of deploy/: nothing is pending while all is well; device "
      "lost, Redis lost, server stopped: the alerts for it and no other")
def r106_prometheus():
    with Redis() as redis, serve("--redis-url", redis.url) as (s, device), \
            prometheus(s.port) as alerts:
        def expect(what, names, seconds):
            """They come, and for so long nothing else does."""
            until(lambda: alerts() == names, "%s: %s" % (what, sorted(names)))
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                assert alerts() <= names, (what, alerts(), names)
                time.sleep(0.5)

        with light_load(s):
            expect("all well", set(), 40)
            device.set(fail=1)
            expect("device", {"RerankdDeviceDown", "RerankdDeviceErrors", "RerankdOnFallback"}, 20)
            device.set(fail=0)
            lasting = {"RerankdDeviceErrors"}  # of ten minutes
            expect("device back", lasting, 5)
            redis.signal(signal.SIGSTOP)
            expect("Redis", lasting | {"RerankdCacheBackendDown"}, 20)
            redis.signal(signal.SIGCONT)
            expect("Redis back", lasting, 5)
        os.kill(s.pid, signal.SIGSTOP)
        try:
            expect("server", lasting | {"RerankdDown"}, 5)
        finally:
            os.kill(s.pid, signal.SIGCONT)
        expect("server back", lasting, 20)
