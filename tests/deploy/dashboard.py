#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dashboard.py - a real Prometheus scrapes a real rerankd under load; every panel shows data.

The GPU panels are fed by a page with the series of NVIDIA's exporter.
"""
import http.server
import json
import os
import re
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import support
from support import DEPLOY, read

PROMETHEUS, PROMTOOL = support.need("prometheus", "promtool")
from server_support import Server, starter  # noqa: E402 - only found once support is loaded

GPU_PAGE = "".join("# TYPE %s gauge\n%s{gpu=\"0\",Hostname=\"h\"} %d\n" % (n, n, v) for n, v in (
    ("DCGM_FI_DEV_GPU_UTIL", 50), ("DCGM_FI_DEV_FB_USED", 4000), ("DCGM_FI_DEV_FB_FREE", 12000),
    ("DCGM_FI_DEV_GPU_TEMP", 60), ("DCGM_FI_DEV_POWER_USAGE", 70), ("DCGM_FI_DEV_XID_ERRORS", 0)))
SECONDS = 20


class Gpu(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(GPU_PAGE.encode())

    def log_message(self, *_):
        pass


def panels():
    board = json.loads(read("deploy", "grafana", "rerankd.json"))
    return [p for p in board["panels"] if p["type"] != "row"], board


def filled(expr, span="10s"):
    """As Grafana sends it, all jobs and instances chosen."""
    return expr.replace("$__rate_interval", span).replace("$job", ".*").replace("$instance", ".*")


def is_fresh():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "d.json")
        support.run("python3", os.path.join(DEPLOY, "grafana", "make_dashboard.py"), path)
        with open(path, encoding="utf-8") as f:
            assert f.read() == read("deploy", "grafana", "rerankd.json"), \
                "rerankd.json is stale: run deploy/grafana/make_dashboard.py"


def panels_do_not_overlap():
    seen, ids = set(), set()
    for p in panels()[1]["panels"]:
        g = p["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"])
                 for y in range(g["y"], g["y"] + g["h"])}
        assert not cells & seen and g["x"] + g["w"] <= 24, p["title"]
        seen |= cells
        assert p["id"] not in ids
        ids.add(p["id"])


def ask(number, port):
    body = {"query": "question %d" % (number % 40), "model": "starter",
            "documents": ["document %d of %d" % (i, number) * 8 for i in range(5)]}
    if number % 7 == 0:
        body = {"query": "", "documents": []}  # refused: the panels of refusals get something
    try:
        request = urllib.request.Request("http://127.0.0.1:%d/v1/rerank" % port,
                                         json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=30).read()
    except urllib.error.HTTPError as e:
        assert e.code in (400, 422), e


def names_in(expr):
    return re.findall(r"\b(?:rerank|process|DCGM)_\w+", expr)


def live():
    """Every expression is parsed, every name is exposed, every query returns data."""
    gpu = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gpu)
    threading.Thread(target=gpu.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder, Server(model_folder=starter()) as server:
        config = os.path.join(folder, "prometheus.yml")
        with open(config, "w", encoding="utf-8") as f:
            json.dump({"global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                       "rule_files": [os.path.join(DEPLOY, "prometheus", "rerankd.rules.yml")],
                       "scrape_configs": [
                           {"job_name": job, "static_configs": [{"targets": ["127.0.0.1:%d" % p]}]}
                           for job, p in (("rerankd", server.port), ("dcgm", gpu.server_port))]}, f)
        port = support.free_port()
        log = os.path.join(folder, "log")
        with support.program(PROMETHEUS, "--config.file=" + config, "--storage.tsdb.path=" + folder,
                             "--web.listen-address=127.0.0.1:%d" % port, log=log), \
                support.Load(lambda n: ask(n, server.port), 3, pause=0.05) as load:
            time.sleep(SECONDS)
            check(server, port, load)
    gpu.shutdown()


def query(port, expr):
    url = "http://127.0.0.1:%d/api/v1/query?%s" % (port, urllib.parse.urlencode({"query": expr}))
    try:
        answer = urllib.request.urlopen(url, timeout=30)
    except urllib.error.HTTPError as e:
        raise AssertionError("%s\n%s" % (expr, e.read())) from e
    return json.load(answer)["data"]["result"]


def check(server, port, load):
    text = server.ask("GET", "/metrics").body
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write(text)
        f.flush()
        with open(f.name, encoding="utf-8") as page:
            support.run(PROMTOOL, "check", "metrics", stdin=page)
    exposed = set(re.findall(r"^(\w+)", text + GPU_PAGE, re.M))
    boards, board = panels()
    queries = 0
    for p in boards:
        for target in p["targets"]:
            expr = filled(target["expr"])
            missing = [n for n in names_in(expr) if n not in exposed]
            assert not missing, "%s: %s is not exposed" % (p["title"], missing)
            assert query(port, expr), "%s: no data for %s" % (p["title"], expr)
            queries += 1
    for note in board["annotations"]["list"]:
        query(port, filled(note["expr"]))
    for name in ("job:rerank_http_requests:rate5m", "job:rerank_cache_hits:ratio15m",
                 "job:rerank_request_duration_seconds:p95_5m", "job:rerank_http_errors:ratio5m"):
        assert query(port, name), "no data for the recording rule " + name
    firing = {r["metric"]["alertname"] for r in query(port, 'ALERTS{alertstate="firing"}')}
    assert not firing, "alerts of a healthy server: %s" % firing
    assert not load.failures and load.done > 20, load.failures[:3]
    print("     %d queries of %d panels returned data, %d requests" %
          (queries, len(boards), load.done))


support.main([is_fresh, panels_do_not_overlap, live])
