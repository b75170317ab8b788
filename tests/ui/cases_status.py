# SPDX-License-Identifier: Apache-2.0
"""cases_status.py - /ui/status: what its charts say is what /metrics says."""
import json
import re
import threading

from pages import TEXTS, page

STATUS = "/ui/status"


def table(b):
    return dict(b.run("return [...document.querySelectorAll('#values tr')].map((r) => "
                      "[r.children[0].textContent, r.children[1].textContent])"))


class Load:
    """Requests one after the other, half of their passages known already, until it ends."""

    def __init__(self, server):
        self.server, self.over, self.n = server, threading.Event(), 0
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.over.wait(0.02):
            self.n += 1
            fresh = ["passage %d de la requête %d" % (i, self.n) for i in range(6)]
            self.server.post({"query": "une question", "texts": TEXTS + fresh})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test_charts_after_load():
    with page(path=STATUS) as (s, b), Load(s) as load:
        b.until("return document.querySelectorAll('#values tr').length > 0 && "
                "parseFloat(document.querySelector('.now').textContent) > 0")
        n = b.run("return document.querySelectorAll('.chart').length")
        assert n == 8, n
        b.until("return [...document.querySelectorAll('.chart')].every((c) => "
                "(c.querySelector('.series')?.getAttribute('d').match(/L/g) ?? []).length > 1)")
        labels = b.run("return [...document.querySelectorAll('.plot svg')].map((n) => n.getAttribute('aria-label'))")
        assert all(re.search(r"\d.*\. The last 1 minutes?\.", x) for x in labels), labels
        got = table(b)
        assert got["Memory: resident"].endswith("MB"), got
        assert 0 < float(got["Cache hits: of look-ups"].rstrip("%")) < 100, got
        assert 0 < float(got["Device busy: of the time"].rstrip("%")) <= 100, got
        assert float(got["Batch: pairs"]) > 1 and got["Queue: limit"] == "262,144", got
        for name in ("p50", "p95", "p99"):
            assert re.fullmatch(r"[\d.]+ m?s", got["Latency: " + name]), got
        facts = b.text("#facts")
        assert "starter (f32)" in facts and "cpu" in facts and "0." in facts, facts
        assert load.n > 0
        b.click("[data-lang=fr]")
        assert "Mémoire: résidente" in table(b), table(b)


def test_arithmetic():
    """Rates and quantiles of two readings, by hand."""
    before = """# HELP a b
a_total{x="1",model="m"} 5
a_total{x="2",model="m\\"\\\\n"} 7
h_bucket{s="ok",le="0.1"} 10
h_bucket{s="ok",le="0.2"} 10
h_bucket{s="ok",le="+Inf"} 10
h_bucket{s="no",le="+Inf"} 99
big 1.5e+09
"""
    after = """a_total{x="1",model="m"} 8
a_total{x="2",model="m\\"\\\\n"} 2
h_bucket{s="ok",le="0.1"} 60
h_bucket{s="ok",le="0.2"} 100
h_bucket{s="ok",le="+Inf"} 110
h_bucket{s="no",le="+Inf"} 99
big 2.5e+09
"""
    with page(path=STATUS) as (s, b):
        source = re.search(r"<script[^>]*>(.*?)</script>", s.ask("GET", STATUS).body, re.S).group(1)
        start, end = source.index("// metrics.js"), source.index("// chart.js")
        functions = source[start:end].rsplit("// SPDX", 1)[0]
        got = b.cdp("Runtime.evaluate", returnByValue=True, expression="(() => {%s\n%s})()" % (functions, """
            const a = parseMetrics(%s), b = parseMetrics(%s);
            return { sum: total(a, "a_total"), one: total(a, "a_total", { x: "1" }), none: total(a, "nothing"),
              labels: a.a_total[1].labels.model, up: increase(a, b, "a_total", { x: "1" }),
              anew: increase(a, b, "a_total", { x: "2" }), big: increase(a, b, "big"),
              q: quantiles(a, b, "h", { s: "ok" }, [0.25, 0.5, 0.7, 0.99]),
              nothing: quantiles(a, b, "h", { s: "no" }, [0.5]) };""" % (json.dumps(before), json.dumps(after))))
        assert "exceptionDetails" not in got, got
        v = got["result"]["value"]
        # 100 were counted: 50 up to 0.1, 40 up to 0.2, 10 above, where the last bound is all that is known.
        q = [round(x, 9) for x in v.pop("q")]
        assert q == [0.05, 0.1, 0.15, 0.2], q
        assert v == {"sum": 12, "one": 5, "none": 0, "labels": 'm"\\n', "up": 3, "anew": 2, "big": 1e9,
                     "nothing": [None]}, v


def test_states():
    with page(path=STATUS, allowed=["ERR_CONNECTION", "503"]) as (s, b):
        b.until("return document.getElementById('state-text').textContent === 'Ready'")
        b.click("#pause")
        assert b.run("return document.getElementById('pause').getAttribute('aria-pressed')") == "true"
        assert b.text("#age") == "paused"
        seen = s.metrics()['rerank_http_requests_total{handler="ready",status="200"}']
        b.later("setTimeout(arguments[0], 2600)")  # longer than a period
        assert s.metrics()['rerank_http_requests_total{handler="ready",status="200"}'] == seen
        b.click("#pause")
        s.stop()
        b.until("return document.getElementById('state-text').textContent === 'Not reachable'")
        assert b.run("return document.getElementById('state').dataset.state") == "bad"


def test_pointer_reads_values():
    with page(path=STATUS) as (s, b), Load(s):
        b.until("return document.querySelectorAll('.series').length > 3")
        b.run("""const plot = document.querySelector('.plot'), box = plot.getBoundingClientRect();
                 plot.dispatchEvent(new PointerEvent('pointermove', { clientX: box.right - 2, clientY: box.top + 20 }))""")
        assert b.run("return document.querySelectorAll('.cursor').length") == 1
        b.run("document.querySelector('.plot').dispatchEvent(new PointerEvent('pointerleave'))")
        assert b.run("return document.querySelectorAll('.cursor').length") == 0
