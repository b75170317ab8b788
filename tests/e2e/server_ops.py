# SPDX-License-Identifier: Apache-2.0
"""server_ops.py - what operators rely on: reloads, drain behind a balancer, logs, metrics, traces,
systemd, limits of memory; run by run.py."""
import fcntl
import http.server
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from cli_support import RERANKD, ROOT, SANITIZED, Skip, environment, folder, model, run, write
from server_support import (QUERY, SLOW, TEXTS, Connection, Server, long_body, run_threads, starter,
                            until)

GOOD = {"query": "q", "texts": ["a", "b"]}
ASK = {"query": QUERY, "texts": TEXTS}
KEY = [("Authorization", "Bearer s3cret-Admin")]


class Load:
    """Clients that ask until they are told to stop; what they got is in answers."""

    def __init__(self, server, n=6, body=ASK, keep_alive=True):
        self.server, self.body, self.keep_alive = server, body, keep_alive
        self.answers, self.errors, self.stopped = [], [], False
        self.threads = [threading.Thread(target=self.client) for _ in range(n)]

    def client(self):
        while not self.stopped:
            try:
                with self.server.connect() as c:
                    while not self.stopped:
                        a = c.ask("POST", "/rerank", self.body)
                        if a is None:
                            self.errors.append("closed")
                            return
                        self.answers.append(a)
                        if a.headers.get("connection", "").lower() == "close":
                            break
                        if not self.keep_alive:
                            break
            except OSError as e:
                self.errors.append(repr(e))
                return

    def __enter__(self):
        for t in self.threads:
            t.start()
        until(lambda: len(self.answers) > 20 or self.errors, "the load to begin")
        return self

    def __exit__(self, *_):
        self.stopped = True
        for t in self.threads:
            t.join()


def admin(d, *options, **more):
    write(os.path.join(d, "key"), "s3cret-Admin\n")
    return Server("--admin-key-file", os.path.join(d, "key"), "--open-routes",
                  "/live,/ready,/health,/metrics", "--sandbox-read",
                  os.path.dirname(model()), *options, **more)


def copy_model(source, to):
    """Puts a model into the folder file by file, each by rename, as a download would."""
    os.makedirs(to, exist_ok=True)
    for name in os.listdir(to):
        if name not in os.listdir(source):
            os.remove(os.path.join(to, name))
    for name in os.listdir(source):
        shutil.copy(os.path.join(source, name), os.path.join(to, name + ".new"))
        os.rename(os.path.join(to, name + ".new"), os.path.join(to, name))


# ---- drain ------------------------------------------------------------------------------------

def test_drain_delay_loses_nothing():
    """While balancers are being told, whoever still comes is served, on old and new connections."""
    with Server("--drain-delay", "300", model_folder=starter()) as s:
        idle = s.connect()
        with Load(s) as kept, Load(s, keep_alive=False) as fresh:
            s.process.send_signal(signal.SIGTERM)
            s.log("telling balancers")
            a = s.ask("GET", "/ready")
            assert a.status == 503 and a.json()["status"] == "draining", a
            assert s.ask("GET", "/live").status == 200
            a = idle.ask("POST", "/rerank", GOOD)
            assert a.status == 200 and a.headers["connection"].lower() == "close", a
            for path, body in (("/tokenize", {"inputs": "a"}), ("/decode", {"ids": [1]}),
                               ("/detokenize", {"tokens": [1]})):
                a = s.ask("POST", path, body)
                assert a.status == 200, a
            for method, path, status in (("GET", "/none", 404), ("PUT", "/rerank", 405),
                                         ("POST", "/admin/reload", 403)):
                with s.connect() as c:  # who is refused has to go elsewhere as well
                    a = c.ask(method, path)
                    assert a.status == status and a.headers["connection"].lower() == "close", a
            before = len(kept.answers) + len(fresh.answers)
            until(lambda: len(kept.answers) + len(fresh.answers) > before + 50, "more answers")
            kept.stopped = fresh.stopped = True
        assert not kept.errors and not fresh.errors, (kept.errors, fresh.errors)
        assert {a.status for a in kept.answers + fresh.answers} == {200}
        assert s.stop() == 0, s.lines  # the second signal


def test_second_signal_shortens_the_delay():
    with Server("--drain-delay", "300") as s:
        s.process.send_signal(signal.SIGTERM)
        s.log("telling balancers")
        assert s.stop() == 0, s.lines
    with Server("--drain-delay", "300") as s:  # Ctrl-C: no balancer has anything to do with it
        assert s.stop(signal.SIGINT) == 0, s.lines


# ---- reload of the configuration ----------------------------------------------------------------

def test_hangup_under_load():
    with folder() as d:
        path = write(os.path.join(d, "conf"), "max-documents = 4\n")
        with Server("--config", path, model_folder=starter()) as s:
            ok = "rerank_config_last_reload_successful"
            assert s.metrics()[ok] == 1
            with Load(s) as load:
                for i in range(100):
                    write(path, "max-documents = %d\nlog-level = warn\n" % (4 + i % 2))
                    s.process.send_signal(signal.SIGHUP)
                    time.sleep(0.005)  # a pending signal swallows the next
                write(path, "max-documents = none\n")
                s.process.send_signal(signal.SIGHUP)
                until(lambda: s.metrics()[ok] == 0, "the failed reload")
                s.log(":1: max-documents")
                write(path, "max-documents = 3\nlog-level = info\nhttp-threads = 3\n")
                s.process.send_signal(signal.SIGHUP)
                until(lambda: s.metrics()[ok] == 1, "the reload that works")
            assert not load.errors, load.errors
            assert {a.status for a in load.answers} <= {200, 422}, load.answers[-3:]
            assert any(a.status == 200 for a in load.answers)
            s.log("configuration reloaded")  # the level is info now
            s.log("http-threads has changed")
            assert s.post(ASK).status == 422  # four texts
            assert s.process.poll() is None


def test_hangup_all_or_nothing():
    """Keys that cannot be read leave the settings, too, as they were: that is what the log says."""
    with folder() as d:
        path, keys = write(os.path.join(d, "conf"), "max-documents = 4\n"), os.path.join(d, "keys")
        write(keys, "k" * 32 + "\n")
        os.chmod(keys, 0o600)
        headers = [("Authorization", "Bearer " + "k" * 32)]
        with Server("--config", path, "--api-key-file", keys, model_folder=starter()) as s:
            def allowed():  # which the answer to too many tells
                a = s.ask("POST", "/rerank", {"query": "q", "texts": ["a"] * 9}, headers)
                assert a.status == 422, a
                return int(a.body.split("at most ")[1].split()[0])

            assert allowed() == 4
            write(path, "max-documents = 5\n")
            os.rename(keys, keys + ".away")
            s.process.send_signal(signal.SIGHUP)
            s.log("the old one stays in force")
            assert allowed() == 4
            os.rename(keys + ".away", keys)
            s.process.send_signal(signal.SIGHUP)
            s.log("configuration reloaded")
            assert allowed() == 5


# ---- reload of the model ------------------------------------------------------------------------

def test_model_swap_under_load():
    """No answer mixes two models: its scores are those of the model that its header names."""
    with folder() as d:
        here = os.path.join(d, "model")
        copy_model(starter(), here)
        with admin(d, model_folder=here) as s:
            known = {}

            def remember():
                a = s.post(ASK)
                known[a.headers["x-rerank-model-fingerprint"]] = a.body

            remember()
            before = s.metrics()
            with Load(s, 4) as load:
                for i in range(4):
                    copy_model(starter() if i % 2 else model(), here)
                    a = s.ask("POST", "/admin/reload", headers=KEY)
                    assert a.status == 200 and a.json()["status"] == "reloaded", a
                    remember()
                    assert a.json()["fingerprint"] in known, (a, known)
            assert len(known) == 2 and not load.errors, (known, load.errors)
            for a in load.answers:
                assert a.status == 200, a
                assert known[a.headers["x-rerank-model-fingerprint"]] == a.body, a
            after = s.metrics()
            for name, value in before.items():  # counters go on, whatever was closed
                if re.match(r"[a-z_]+_total\b", name):
                    assert after[name] >= value, (name, value, after[name])
            assert after['rerank_model_reloads_total{result="ok"}'] == 4
            a = s.ask("POST", "/admin/reload", {"model": model("tiny-roberta")}, headers=KEY)
            assert a.status == 200 and a.json()["model"] == "tiny-roberta", a


def test_bad_model_is_not_taken():
    with folder() as d, admin(d, model_folder=starter()) as s:
        mine = s.post(ASK).body
        bad = os.path.join(d, "bad")
        copy_model(starter(), bad)
        lines = open(os.path.join(bad, "reference.jsonl"), encoding="utf-8").read().splitlines()
        first = json.loads(lines[0])
        first["logits"][1] += 0.5
        write(os.path.join(bad, "reference.jsonl"), "\n".join([json.dumps(first)] + lines[1:]))
        cut = os.path.join(d, "cut")
        copy_model(starter(), cut)
        with open(os.path.join(cut, "model.safetensors"), "r+b") as f:
            f.truncate(100000)
        for body, word in (({"model": bad}, "logit"), ({"model": "/no/such"}, "/no/such"),
                           ({"model": cut}, "safetensors"),
                           ({"model": 5}, "body: model: found an integer, expected a string")):
            a = s.ask("POST", "/admin/reload", body, headers=KEY)
            assert a.status == 422 and word in a.json()["error"], (body, a)
            assert a.json()["error"].count("model: ") < 2, a
            assert a.json()["error_type"] == "Validation", a
            assert s.post(ASK).body == mine
        assert s.ask("POST", "/admin/reload", "[", headers=KEY).status == 400
        assert s.metrics()['rerank_model_reloads_total{result="failed"}'] == 3


def test_admin_key():
    with Server() as s:
        assert s.ask("GET", "/debug/state", headers=KEY).status == 403  # no key at all
    with folder() as d, admin(d) as s:
        for headers in ([], [("Authorization", "Bearer s3cret-Admi")],
                        [("Authorization", "Bearer s3cret-Adminn")],
                        [("Authorization", "Basic s3cret-Admin")], KEY + KEY):
            for method, path in (("GET", "/debug/state"), ("POST", "/admin/reload")):
                a = s.ask(method, path, headers=headers)
                assert a.status == 401 and a.headers["www-authenticate"].startswith(
                    "Bearer"), (headers, a)
        s.post(GOOD)
        state = s.ask("GET", "/debug/state", headers=KEY).json()
        assert state["phase"] == "ready" and state["batches"]["done"] >= 1, state
        assert state["queue"]["requests"] == 0 and state["memory"]["bodies"] == 0, state
        write(os.path.join(d, "key"), "another")  # noticed by itself
        until(lambda: s.ask("GET", "/debug/state", headers=KEY).status == 401, "the new key")
        assert not any("s3cret" in x for x in s.lines), s.lines


# ---- logs -----------------------------------------------------------------------------------------

HOSTILE = ['"},{"level":"error', "a b=c", "%0d%0aX: y", "\\", "\t", "x" * 129, "\u00e9"]


def logfmt(line):
    pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: |$)', line)
    assert " ".join("%s=%s" % p for p in pairs) == line, line
    return {k: json.loads(v) if v.startswith('"') else v for k, v in pairs}


def test_log_formats():
    for form, parse in (("json", json.loads), ("logfmt", logfmt)):
        with Server("--log-format", form, "--log-rate", "0") as s:
            for i, word in enumerate(HOSTILE):
                headers = [("X-Request-Id", word), ("User-Agent", word), ("traceparent", word)]
                s.post({"query": "canari secret", "texts": [word]}, headers=headers)
                s.post({"query": 5, word: "canari"}, headers=headers)
                s.ask("GET", "/x" + re.sub(r"[^!-~]", "", word), headers=headers)
            parent = "00-%032x-%016x-01" % (0xabc, 0xdef)
            s.post(GOOD, headers=[("X-Request-Id", "last"), ("traceparent", parent)])
            a = parse(s.log("last"))
            assert a["trace"] == "%032x" % 0xabc and a["span"] != "%016x" % 0xdef, a
            assert a["client"] == "127.0.0.1" and int(a["status"]) == 200, a
            assert float(a["ms"]) >= float(a["compute_ms"]) > 0, a
            assert int(a["documents"]) == 2 and int(a["tokens"]) > 4 and int(a["cached"]) == 0, a
            s.post(GOOD, headers=[("X-Request-Id", "again")])
            assert int(parse(s.log("again"))["cached"]) == 2
            assert s.stop() == 0
            for line in s.lines:
                parse(line)
            assert not any("canari" in x for x in s.lines)


def test_refusals_are_logged():
    """Each is one line, also of what was refused before its body was read, with who it was."""
    with Server("--api-key", "k", "--log-format", "json", "--trusted-proxies", "127.0.0.0/8") as s:
        for i, (method, path, key, status) in enumerate((
                ("POST", "/rerank", "wrong", 401), ("POST", "/rerank", "", 401),
                ("GET", "/none", "k", 404), ("PUT", "/rerank", "k", 405),
                ("POST", "/rerank", "k", 400))):
            a = s.ask(method, path, b"{" if method == "POST" else None,
                      [("Authorization", key), ("X-Request-Id", "n%d" % i),
                       ("X-Forwarded-For", "192.0.2.%d" % i)])
            assert a.status == status, a
            line = json.loads(s.log('"id":"n%d"' % i))
            assert line["status"] == status and line["client"] == "192.0.2.%d" % i, line
            assert line["message"].startswith("request refused with %d: " % status), line
        assert s.stop() == 0
        assert sum('"message":"request refused ' in x for x in s.lines) == 5, s.lines


def test_log_bodies():
    with Server("--log-bodies") as s:
        s.post({"query": "canari", "texts": ["a\nb"]})
        assert "canari" in s.log("body of"), s.lines


def test_log_rate():
    with Server("--log-rate", "1") as s:
        started = time.monotonic()
        for _ in range(30):
            s.post(GOOD)
        dropped = s.metrics()['rerank_log_dropped_total{level="info"}']
        took = time.monotonic() - started
        assert 20 - took <= dropped <= 20, (dropped, took)  # ten at once, one more each second
        time.sleep(1.1)
        s.post(GOOD, headers=[("X-Request-Id", "later")])
        s.log("later")
        assert any("lines like the next one" in x for x in s.lines), s.lines


def start_raw(stderr, *words, env=None, **options):
    """A server whose log goes elsewhere; gives process and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    p = subprocess.Popen([RERANKD, "serve", "--port", str(port), "--model", model(),
                          "--drain-delay", "0", "--log-rate", "0", *words],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                         env=env or environment(), cwd=ROOT, **options)

    def ready():
        assert p.poll() is None, p.returncode
        try:
            with Connection(port) as c:
                return c.ask("GET", "/ready").status == 200
        except OSError:
            return False

    until(ready, "readiness")
    return p, port


def test_log_that_cannot_be_written():
    """A reader that stopped, a full disk or file, a closed descriptor: serving goes on."""
    ours, theirs = os.pipe()
    sink, source = socket.socketpair()
    limit = (1 << 16, 1 << 16)
    with open("/dev/full", "wb") as full, tempfile.TemporaryFile() as limited:
        for what in (theirs, full, limited, source, "closed"):
            more = {}
            if what == "closed":
                more["preexec_fn"] = lambda: os.close(2)
            elif what == limited:
                more["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            p, port = start_raw(subprocess.DEVNULL if what == "closed" else what, **more)
            try:
                with Connection(port) as c:
                    for i in range(2000):  # 300 KiB of lines: more than any buffer
                        a = c.ask("POST", "/rerank", GOOD, [("X-Request-Id", "i" * 100)])
                        assert a.status == 200, a
                    lost = re.search(r'log_dropped_total\{level="info"\} (\d+)',
                                     c.ask("GET", "/metrics").body)
                    assert int(lost.group(1)) > 100 or what == "closed", (what, lost)
                p.send_signal(signal.SIGTERM)
                assert p.wait(60) == 0
            finally:
                p.kill()
                p.wait()
    for fd in (ours, theirs):
        os.close(fd)
    sink.close()
    source.close()


# ---- metrics ----------------------------------------------------------------------------------------

def promtool(text):
    if not shutil.which("promtool"):
        raise Skip("promtool is not installed (Debian: prometheus)")
    p = subprocess.run(["promtool", "check", "metrics"], input=text.encode(),
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert p.returncode == 0 and not p.stdout, p.stdout.decode()


def test_metrics_are_clean():
    with Server() as s:
        s.post(GOOD)
        s.ask("GET", "/nothing")
        s.metrics()
        # An answer is counted once it is sent, so the client may have it before.
        row = 'rerank_http_requests_total{handler="%s",status="%d"}'
        seen = {row % x for x in (("rerank", 200), ("none", 404), ("metrics", 200))}
        known = set(until(lambda: (lambda m: seen <= set(m) and m)(s.metrics()), "three answers"))
        for i in range(300):  # nothing that clients choose becomes a label
            s.ask("GET", "/p%d" % i, headers=[("User-Agent", "u%d" % i),
                                               ("Authorization", "Bearer k%d" % i)])
        s.post(GOOD)
        assert set(s.metrics()) == known, set(s.metrics()) ^ known
        text = s.ask("GET", "/metrics").body
    promtool(text)


def test_metrics_move_as_they_should():
    with Server(*SLOW, "--cache-size", "1M", "--max-documents", "5", model_folder=starter()) as s:
        def answers(m):
            return sum(v for k, v in m.items()
                       if k.startswith('rerank_http_requests_total{handler="rerank"'))

        def deltas(action):
            before = s.metrics()
            action()
            # An answer is counted once it is sent, so the client may have it before.
            after = until(lambda: (lambda m: answers(m) > answers(before) and m)(s.metrics()), "it")
            return {k: after[k] - before.get(k, 0) for k in after if after[k] != before.get(k, 0)}

        http = 'rerank_http_requests_total{handler="rerank",status="%d"}'
        got = []
        d = deltas(lambda: got.append(s.post({"query": "x", "texts": ["a", "b", "b"]})))
        assert d[http % 200] == 1 and d['rerank_requests_total{dialect="tei"}'] == 1, d
        assert d['rerank_documents_total{source="model"}'] == 2, d
        assert d['rerank_documents_total{source="deduplicated"}'] == 1, d
        assert d["rerank_pair_tokens_count"] == 3 and d["rerank_batches_total"] >= 1, d
        assert d['rerank_request_duration_seconds_count{status="ok"}'] == 1, d
        best = max(x["score"] for x in got[0].json())
        assert d["rerank_top_score_count"] == 1 and abs(d["rerank_top_score_sum"] - best) < 2e-6, d
        parts = sum(v for k, v in d.items() if k.startswith("rerank_stage_duration_seconds_sum"))
        whole = d['rerank_request_duration_seconds_sum{status="ok"}']
        assert parts <= whole * 1.01, (parts, whole)
        d = deltas(lambda: s.post({"query": "x", "texts": ["a", "b"]}))
        assert d['rerank_cache_requests_total{tier="local",result="hit"}'] == 2, d
        assert "rerank_batches_total" not in d, d
        d = deltas(lambda: s.post({"query": "x", "texts": ["a"] * 6}))
        assert d[http % 422] == 1 and d['rerank_requests_rejected_total{reason="invalid"}'] == 1, d
        assert d['rerank_request_duration_seconds_count{status="error"}'] == 1, d

        with s.connect() as c:  # the queue's gauges under load, and after the client left
            body = long_body(5)
            c.send("POST", "/rerank", body)
            m = until(lambda: (lambda m: m["rerank_queue_requests"] and m)(s.metrics()), "a queue")
            assert m["rerank_requests_in_flight"] == 1, m
            assert m["rerank_queue_pairs"] == len(body["texts"]), m
            assert m["rerank_queue_bytes"] > 1000 and m["rerank_queue_tokens"] > 1000, m
            assert abs(m["rerank_queue_oldest_timestamp_seconds"] - time.time()) < 30, m
            assert m["rerank_heartbeat_timestamp_seconds"] > time.time() - 30, m
        # The batch that was being computed keeps its texts until it ends.
        m = until(lambda: (lambda m: not m["rerank_requests_in_flight"] and
                           not m["rerank_queue_bytes"] and m)(s.metrics()), "idle")
        assert m["rerank_queue_oldest_timestamp_seconds"] == 0, m
        left = m['rerank_requests_cancelled_total{stage="waiting"}']
        assert left + m['rerank_requests_cancelled_total{stage="writing"}'] <= 1, m
        with s.connect() as c:
            c.socket.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            until(lambda: s.metrics()["rerank_queue_bytes"] == 100, "the body to be counted")
        until(lambda: s.metrics()['rerank_requests_cancelled_total{stage="reading"}'] == 1,
              "the client that left")
        total = sum(v for k, v in s.metrics().items()
                    if k.startswith('rerank_http_requests_total{handler="rerank"'))
        assert total in (3, 4), total


def test_metrics_of_tei():
    with Server("--metrics-te") as s:
        s.post(GOOD)
        m = s.metrics()
        assert m['te_request_count{method="batch"}'] == m['te_request_success{method="batch"}'] == 1
        assert m["te_queue_size"] == 0


# ---- limits ---------------------------------------------------------------------------------------

def test_bodies_in_memory_are_bounded():
    with Server("--max-body", "1M", "--max-inflight-bytes", "1M") as s:
        assert s.metrics()["rerank_queue_bytes_limit"] == 1 << 20
        with s.connect() as slow:
            slow.socket.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
                                b"\r\n{")
            until(lambda: s.metrics()["rerank_queue_bytes"] == 1000000, "the first body")
            body = {"query": "q", "texts": ["x" * 60000]}
            a = s.post(body)
            assert a.status == 503 and int(a.headers["retry-after"]) >= 1, a
            assert "max-inflight-bytes" in a.json()["error"], a
            assert s.post(GOOD).status == 200  # there is room for a small one
        until(lambda: s.metrics()["rerank_queue_bytes"] == 0, "the slow one to be gone")
        assert s.post(body).status == 200
        assert s.metrics()['rerank_requests_rejected_total{reason="memory"}'] == 1


def test_bodies_of_all_routes_are_bounded():
    """Who needs no key must neither fill the memory nor use up what others' bodies may take."""
    head = b"%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    kept = 'rerank_memory_bytes{use="request"}'
    with Server("--max-body", "1M", "--max-inflight-bytes", "1M") as s:
        with s.connect() as slow, s.connect() as more:
            slow.socket.sendall(head % b"POST /tokenize")
            until(lambda: s.metrics()["rerank_queue_bytes"] == 1000000, "the first body")
            more.socket.sendall(head % b"POST /tokenize")
            assert more.receive().status == 503
        until(lambda: s.metrics()["rerank_queue_bytes"] == 0, "it to be gone")
        for line, status in ((b"GET /live", 200), (b"OPTIONS /rerank", 204)):
            with s.connect() as c:
                c.socket.sendall(head % line + b" " * 900000)
                until(lambda: s.metrics()["rerank_http_connections"] == 2, "both connected")
                m = s.metrics()
                assert m["rerank_queue_bytes"] == 0 and m[kept] < 100000, m
                c.socket.sendall(b" " * 100000)
                assert c.receive().status == status
                assert c.ask("GET", "/live").status == 200  # in step


def test_refused_bodies_take_no_room():
    head = b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{"
    with Server("--max-body", "64K", "--max-inflight-bytes", "100K") as s:
        with s.connect() as first, s.connect() as refused:
            first.socket.sendall(head)
            until(lambda: s.metrics()["rerank_queue_bytes"] == 60000, "the first body")
            refused.socket.sendall(head)  # is read to its end, so that the connection goes on
            until(lambda: s.metrics()['rerank_requests_rejected_total{reason="memory"}'] == 1,
                  "the second to be refused")
            assert s.metrics()["rerank_queue_bytes"] == 60000
            first.close()
            until(lambda: s.metrics()["rerank_queue_bytes"] == 0, "the first to be gone")
            assert s.post({"query": "q", "texts": ["x" * 59000]}).status == 200
            refused.socket.sendall(b" " * 59999)
            assert refused.receive().status == 503


def test_check():
    r = run("serve", "--check", "--model", model(), "--port", "77",
            "--otlp-endpoint", "http://me:hidden@collector:4318")
    assert r.code == 0 and re.search(r"^port +=\s+77  # --port$", r.out, re.M), r
    assert "hidden" not in r.out and "http://me:***@collector:4318" in r.out, r
    for path, words, code, text in (
            ("/no/such", [], 66, "/no/such"), (model(), ["--admin-key-file", "/no/key"], 66, "/no/key"),
            (model(), ["--max-inflight-bytes", "1024G"], 71, "max-inflight-bytes"),
            (model(), ["--model", "/b"], 64, "two models without a name, %s and /b" % model())):
        r = run("serve", "--check", "--model", path, *words)
        assert r.code == code and text in r.err, (words, r)
    s = Server("--max-inflight-bytes", "1024G", ready=False)
    assert s.wait() == 71 and any("max-inflight-bytes" in x for x in s.lines), s.lines


def test_clock_jumps():
    """Only the monotonic clock decides about time: a day forth and back changes nothing."""
    lib = next((p for p in ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
                            "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1")
                if os.path.exists(p)), None)
    if not lib or SANITIZED:
        raise Skip("libfaketime is not installed (Debian: faketime), or a sanitizer is in the way")
    with folder() as d:
        now = write(os.path.join(d, "now"), "+0d")
        env = environment(LD_PRELOAD=lib, FAKETIME_TIMESTAMP_FILE=now, FAKETIME_NO_CACHE="1",
                          FAKETIME_DONT_FAKE_MONOTONIC="1")
        with Server("--request-timeout", "5", model_folder=starter(), env=env) as s:
            with Load(s, 3) as load:
                for jump in ("+1d", "-1d", "+0d"):
                    before = len(load.answers)
                    write(now + ".new", jump)
                    os.rename(now + ".new", now)
                    until(lambda: len(load.answers) > before + 30 or load.errors, "answers")
                    assert s.ask("GET", "/ready").status == 200
            assert not load.errors and {a.status for a in load.answers} == {200}, load.errors


# ---- traces ---------------------------------------------------------------------------------------

class Collector:
    """Takes what an OpenTelemetry collector would take."""

    def __init__(self, status=200):
        outer = self
        self.spans, self.posts, self.status = [], 0, status

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.posts += 1
                assert self.path == "/v1/traces"
                for r in json.loads(body)["resourceSpans"]:
                    for scope in r["scopeSpans"]:
                        outer.spans += scope["spans"]
                self.send_response(outer.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = "http://127.0.0.1:%d/" % self.server.server_address[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_traces():
    trace, parent = "%032x" % 0x123, "%016x" % 0x456
    with Collector() as c, Server("--otlp-endpoint", c.url) as s:
        s.post(GOOD, headers=[("traceparent", "00-%s-%s-01" % (trace, parent)),
                              ("X-Request-Id", "traced")])
        s.post(GOOD, headers=[("traceparent", "00-%032x-%s-00" % (0x789, parent))])  # not sampled
        root = until(lambda: [x for x in c.spans if x["name"] == "rerank"], "a span")[0]
        assert root["traceId"] == trace and root["parentSpanId"] == parent, root
        attributes = {a["key"]: a["value"] for a in root["attributes"]}
        assert attributes["rerank.request_id"] == {"stringValue": "traced"}, root
        assert attributes["http.response.status_code"] == {"intValue": "200"}, root
        children = [x for x in c.spans if x.get("parentSpanId") == root["spanId"]]
        assert [x["name"] for x in children] == ["prep", "queue", "compute"], c.spans
        for x in children:
            assert int(root["startTimeUnixNano"]) <= int(x["startTimeUnixNano"]) \
                <= int(x["endTimeUnixNano"]) <= int(root["endTimeUnixNano"]), (root, x)
        assert abs(int(root["endTimeUnixNano"]) * 1e-9 - time.time()) < 60
        assert s.stop() == 0
        assert {x["traceId"] for x in c.spans} == {trace}, c.spans
    with Collector() as c, Server("--otlp-endpoint", c.url, "--otlp-sample", "0") as s:
        s.post(GOOD)
        assert s.stop() == 0 and c.posts == 0


def test_lost_traces_are_said():
    """One line when a collector fails and one when it takes spans again, whatever the number of batches."""
    with Collector(404) as c, Server("--otlp-endpoint", c.url) as s:
        for n in (1, 2):
            s.post(GOOD)
            until(lambda: c.posts == n, "a batch")
        s.log("otlp-endpoint: traces are lost: HTTP status 404; expected a collector")
        c.status = 200
        s.post(GOOD)
        s.log("otlp-endpoint: traces are sent again")
        assert s.metrics()['rerank_traces_total{result="sent"}'] == 1
        assert s.stop() == 0 and sum("traces are lost" in x for x in s.lines) == 1, s.lines
    with socket.socket() as free:  # nobody listens
        free.bind(("127.0.0.1", 0))
        with Server("--otlp-endpoint", "127.0.0.1:%d" % free.getsockname()[1]) as s:
            s.post(GOOD)
            s.log("traces are lost: .*onnect to 127.0.0.1 port")


def test_traces_never_hold_up_a_request():
    with socket.socket() as hole:  # accepts, never answers
        hole.bind(("127.0.0.1", 0))
        hole.listen(50)
        with Server("--otlp-endpoint", "http://127.0.0.1:%d" % hole.getsockname()[1]) as s:
            start = time.monotonic()
            with s.connect() as c:
                for _ in range(3000):
                    assert c.ask("POST", "/rerank", GOOD).status == 200
            assert s.metrics()['rerank_traces_total{result="lost"}'] > 1000  # more than the queue
            assert time.monotonic() - start < 60
            stopped = time.monotonic()
            assert s.stop() == 0 and time.monotonic() - stopped < 10


# ---- systemd ----------------------------------------------------------------------------------------

def test_notify():
    with folder() as d, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as n:
        path = os.path.join(d, "notify")
        n.bind(path)
        n.settimeout(60)
        said = []

        def hear(word):
            while not any(word in x for x in said):
                said.append(n.recv(4096).decode())

        env = environment(NOTIFY_SOCKET=path, WATCHDOG_USEC="2000000")
        s = Server(env=env)
        hear("READY=1\nSTATUS=serving at http")
        hear("WATCHDOG=1")
        del said[:]
        s.process.send_signal(signal.SIGHUP)
        hear("RELOADING=1\nMONOTONIC_USEC=")
        hear("READY=1")
        s.process.send_signal(signal.SIGTERM)
        hear("STOPPING=1")
        assert s.wait() == 0
        s = Server(model_folder="/no/such/folder", env=env, ready=False)
        assert s.wait() == 66
        hear("STOPPING=1\nSTATUS=/no/such/folder")


def activated(*listeners):
    """A server that the listeners are handed over to, as systemd does."""
    def place():
        copies = [os.dup(x.fileno()) for x in listeners]
        copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, 3 + len(copies)) for fd in copies]
        for i, fd in enumerate(copies):
            os.dup2(fd, 3 + i)

    words = "LISTEN_PID=$$ LISTEN_FDS=%d exec %s serve --model %s --port 1 --drain-delay 1" % (
        len(listeners), RERANKD, model())
    return subprocess.Popen(["sh", "-c", words], preexec_fn=place, close_fds=False, cwd=ROOT,
                            env=environment(), stderr=subprocess.DEVNULL)


def test_socket_activation():
    """All that is handed over is answered, when the model is there: systemd lets clients in at once."""
    with socket.socket() as listener, socket.socket(socket.AF_UNIX) as second, folder() as d:
        listener.bind(("127.0.0.1", 0))
        second.bind(os.path.join(d, "socket"))
        listener.listen(10)
        second.listen(10)
        port = listener.getsockname()[1]
        with Connection(port) as early, Connection(port) as looking:  # before there is a server
            early.send("POST", "/rerank", GOOD)
            looking.send("GET", "/ready")
            p = activated(listener, second)
            try:
                assert early.receive().status == 200 and looking.receive().status == 200
                with socket.socket(socket.AF_UNIX) as c:
                    c.settimeout(10)
                    c.connect(os.path.join(d, "socket"))
                    c.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
                    assert c.recv(100).startswith(b"HTTP/1.1 200")
                p.send_signal(signal.SIGTERM)
                assert p.wait(60) == 0
            finally:
                p.kill()
                p.wait()


def test_restart_with_a_socket_loses_nothing():
    """What the old process has not let in waits for the new one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1000)
        p = activated(listener)
        statuses, stopped = [], threading.Event()

        def client(i):
            c = None
            while not stopped.is_set():
                c = c or Connection(listener.getsockname()[1])
                a = c.ask("POST", "/rerank", GOOD)
                statuses.append(a and a.status)
                if a is None or i % 2 or a.headers.get("connection", "").lower() == "close":
                    c.close()
                    c = None

        def restart(_):
            nonlocal p
            try:
                for _ in range(3):
                    n = len(statuses)
                    until(lambda n=n: len(statuses) > n + 100, "answers")
                    p.send_signal(signal.SIGTERM)
                    assert p.wait(60) == 0
                    p = activated(listener)
                until(lambda: len(statuses) > n + 200, "answers of the last one")
            finally:
                stopped.set()

        try:
            run_threads(5, lambda i: client(i) if i else restart(i))
        finally:
            p.kill()
            p.wait()
        assert set(statuses) == {200}, {x: statuses.count(x) for x in set(statuses)}
