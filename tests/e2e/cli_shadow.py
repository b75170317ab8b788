# SPDX-License-Identifier: Apache-2.0
"""cli_shadow.py - "rerankd shadow" with two live servers: rerankd, and one that answers as ragfab's
FastAPI service does; run by test_cli.py."""
import http.server
import json
import os
import threading
import time
import urllib.request

from cli_support import folder, model, one_line, run, write
from server_support import Server, candidate

QUERIES = ["capitale de la France", "installer un serveur", "recette du pain"]
FIELDS = ("chunk_id", "document_id", "document_title", "document_source", "chunk_index", "content",
          "similarity")


class OldService:
    """The form of ragfab's FastAPI service around the scores of a rerankd: seven fields back, best
    first, no scores, 422 for a wrong schema, 400 for an empty query.  wrong: that many of the first
    requests get the reverse order.  Remembers what it was sent."""

    def __init__(self, behind, wrong=0):
        outer = self
        self.seen, self.wrong, self.lock = [], wrong, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = outer.answer(behind, json.loads(body), self.headers)
                data = json.dumps(answer, separators=(",", ":")).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d/rerank" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, behind, body, headers):
        with self.lock:
            self.seen.append((time.monotonic(), body, headers.get("Authorization")))
            wrong = len(self.seen) <= self.wrong
        documents = body.get("documents", [])
        if not all(isinstance(d, dict) and set(FIELDS) <= set(d) for d in documents):
            return 422, {"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required"}]}
        if not body["query"].strip():
            return 400, {"detail": "La query ne peut pas \u00eatre vide"}
        asked = {"query": body["query"], "texts": [d["content"] for d in documents]}
        request = urllib.request.Request(behind, json.dumps(asked).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            scored = json.load(reply)
        order = sorted(scored, key=lambda s: (-s["score"], s["index"]), reverse=wrong)
        chosen = [{f: documents[s["index"]][f] for f in FIELDS} for s in order][:body.get("top_k", 5)]
        return 200, {"documents": chosen, "count": len(chosen), "model": "m", "processing_time": 0.1}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def old_bodies(n, documents=12):
    return [{"query": "%s %d" % (QUERIES[i % 3], i),
             "documents": [candidate(d, "passage %d, %s" % (d, QUERIES[(i + d) % 3]))
                           for d in range(documents)], "top_k": 5} for i in range(n)]


def lines(bodies):
    return "".join(json.dumps(b) + "\n" for b in bodies)


def shadow(primary, candidate_url, bodies, *words):
    r = run("shadow", "--primary", primary, "--candidate", candidate_url, "--json", *words,
            stdin=bodies if isinstance(bodies, str) else lines(bodies))
    return r, json.loads(r.out) if r.out else None


def test_shadow_of_the_old_service():
    """The move that the guide describes: the same order from both, and numbers for the decision."""
    with Server() as new, OldService("http://127.0.0.1:%d/rerank" % new.port) as old:
        url = "http://127.0.0.1:%d" % new.port
        bodies = old_bodies(9) + [dict(old_bodies(1)[0], query=" ")]
        r, found = shadow(old.url, url, bodies, "--gate", "--gate-tau", "1", "--concurrency", "3")
        assert r.code == 0 and r.err == "", r
        assert (found["requests"], found["both"], found["neither"]) == (10, 9, 1), found
        assert found["kendall_tau"] == found["top_equal"] == found["top1_equal"] == 1, found
        assert found["top_lists"] == 9 and found["scores"] == 0, found
        assert found["primary"]["first_failure"].startswith("line 10: status 400"), found
        for side in ("primary", "candidate"):
            ms = found[side]["latency_ms"]
            assert 0 < ms["p50"] <= ms["p90"] <= ms["p99"] <= ms["max"], ms
        assert len(old.seen) == 10
        # whole orders
        _, found = shadow(old.url, url, bodies[:3], "--full")
        assert [b["top_k"] for _, b, _ in old.seen[10:]] == [12] * 3 and found["kendall_tau"] == 1
        # for people
        r = run("shadow", "--primary", old.url, "--candidate", url, stdin=lines(bodies))
        assert "Kendall's tau 1.0000 on average of 9" in r.out and "ratio" in r.out, r
        assert "9 answered by both, 1 by neither" in r.out and "scores      not compared" in r.out, r


def test_shadow_finds_differences():
    with Server() as new, \
            OldService("http://127.0.0.1:%d/rerank" % new.port, wrong=2) as old:
        url = "http://127.0.0.1:%d/rerank" % new.port
        bodies = old_bodies(6)
        bodies[4]["documents"][0].pop("similarity")  # the old one refuses it, the new one does not
        r, found = shadow(url, old.url, bodies, "--gate")
        assert r.code == 1 and one_line(r.err) and "1 of 6 requests fail at the candidate" in r.err, r
        assert found["candidate"]["failed_alone"] == 1 and found["primary"]["failed_alone"] == 0
        assert found["refused_because"] in r.err and found["kendall_tau"] < 1, found
        assert [w["line"] for w in found["worst"]] == [1, 2], found
        assert found["top1_lists"] == 5 and found["top1_equal"] == 0.6, found
        # the other way round nothing fails at the candidate only
        old.wrong = 0
        r, found = shadow(old.url, url, bodies, "--gate")
        assert r.code == 0 and found["primary"]["failed_alone"] == 1, r


def test_shadow_scores():
    """Two models; logits of one beside probabilities of the other."""
    bodies = [{"query": q, "documents": ["du pain", "Paris, la capitale", "un serveur", "rien",
                                         "la France", "apt install"], "model": "m"} for q in QUERIES]
    with Server() as one, Server() as two:
        urls = ["http://127.0.0.1:%d/v1/rerank" % s.port for s in (one, two)]
        r, found = shadow(urls[0], urls[1], bodies, "--gate", "--gate-score", "1e-6")
        assert r.code == 0 and found["scores"] == 18 and found["max_score_difference"] == 0, r
        assert found["converted"] is None and found["worst"] == [], found
    with Server() as one, Server(model_folder=model("tiny-bert")) as two:
        urls = ["http://127.0.0.1:%d/v1/rerank" % s.port for s in (one, two)]
        r, found = shadow(urls[0], urls[1], bodies, "--gate", "--gate-top", "0", "--gate-score", "1e-6")
        assert r.code == 1 and "scores differ by up to" in r.err, r
        assert found["max_score_difference"] > 1e-3 and found["kendall_tau"] < 1, found


def test_shadow_dialects():
    """What marks the documents of a request and of its reply, whatever the dialect."""
    texts = ["Paris is in France.", "Bread needs flour.", "Lyon."]
    pairs = [["Where is Paris?", t] for t in texts]
    with Server() as s:
        url = "http://127.0.0.1:%d" % s.port
        for body in ({"input": texts}, {"input": {"documents": texts}, "parameters": {"top_n": 1}},
                     {"input": {"documents": texts}}, {"texts": texts}, {"documents": texts, "top_n": 1},
                     {"passages": [{"text": t} for t in texts]}, {"documents": texts, "property": "x"},
                     {"documents": texts, "top_k": 1}, {"inputs": pairs}):
            inner = body["input"] if isinstance(body.get("input"), dict) else body
            inner["query"] = "Where is Paris?"
            r, found = shadow(url, url, [body], "--full")
            assert r.code == 0 and found["both"] == 1 and found["scores"] == 3, (body, r)
        two = {"instances": [{"query": "Where is Paris?", "texts": texts},
                             {"query": "What is bread made of?", "texts": texts[:2]}]}
        r, found = shadow(url + "/", url + "/", [two], "--full")
        assert r.code == 0 and found["both"] == 1 and found["scores"] == 5, r
        assert found["kendall_tau"] == 1 and found["top1_lists"] == 2, found


def test_shadow_forms_of_requests():
    """A body as a JSON string (as a proxy logs it), blank lines, a file, a limit, keys, a rate."""
    with folder() as d, Server() as new, \
            OldService("http://127.0.0.1:%d/rerank" % new.port) as old:
        url = "http://127.0.0.1:%d" % new.port
        bodies = old_bodies(8)
        path = write(os.path.join(d, "r.jsonl"), json.dumps(json.dumps(bodies[0])) + "\n\n" +
                     lines(bodies[1:]))
        key = write(os.path.join(d, "key"), "s3cret\n")
        r = run("shadow", "--primary", old.url, "--candidate", url, "--json", "--limit", "5",
                "--rate", "20", "--concurrency", "4", "--primary-key-file", key, path)
        found = json.loads(r.out)
        assert r.code == 0 and found["both"] == 5 and len(old.seen) == 5, r
        assert old.seen[0][1]["query"] in [b["query"] for b in bodies]
        assert {k for _, _, k in old.seen} == {"Bearer s3cret"}
        times = sorted(t for t, _, _ in old.seen)
        # begun 50 ms apart; each may have waited for the other server first
        assert times[-1] - times[0] > 0.1, times
        for words, text, code, message in (
                ([], "", 65, "no requests in it"),
                ([], "{\"query\"", 65, "line 1: "),
                ([], lines(bodies[:1]) + "[1]\n", 65, "line 2: found an array, expected an object"),
                (["--gate-top", "2"], "", 64, "--gate-top: found \"2\""),
                (["--candidate", "ftp://x"], "", 64, "--candidate: URL"),
                (["--candidate-key-file", d + "/none"], "", 66, "none")):
            r = run("shadow", "--primary", old.url, "--candidate", url, *words, stdin=text)
            assert r.code == code and message in r.err and one_line(r.err), (words, text, r)
        r = run("shadow", "--primary", url)
        assert r.code == 64 and "--candidate is missing" in r.err, r
        for words in (["--gate"], []):
            r, found = shadow(url, "http://127.0.0.1:1", bodies[:2], *words)
            assert r.code == 1 and "no request was answered by both" in r.err, (words, r)
            assert "refused" in found["candidate"]["first_failure"], found
