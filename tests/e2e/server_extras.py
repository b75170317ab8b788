# SPDX-License-Identifier: Apache-2.0
"""server_extras.py - what every form can be asked beyond its own options; tokens; the API's
description; run by run.py."""
import json
import os
import re

from server_clients import CLIENTS, N, Q
from server_support import QUERY, TEXTS, Server, long_body, shared, starter, until

LONG = "Le pain se fait avec de la farine. " * 200 + TEXTS[1]


def tei(**more):
    return shared().post({**Q, "texts": TEXTS, **more})


def test_threshold():
    whole = tei().json()
    cut = whole[1]["score"]
    assert tei(score_threshold=cut).json() == whole[:2]
    assert tei(score_threshold=cut, top_n=1).json() == whole[:1]
    assert tei(score_threshold=1.1).json() == []
    a = shared().post({**Q, "documents": TEXTS, "score_threshold": cut})
    assert len(a.json()["results"]) == 2, a
    documents = [{"content": t} for t in TEXTS]
    a = shared().post({**Q, "documents": documents, "score_threshold": cut})
    assert a.json()["count"] == 2, a


def test_logits_and_explain():
    raw = {x["index"]: x["score"] for x in tei(raw_scores=True).json()}
    assert all(x["logit"] == raw[x["index"]] for x in tei(return_logits=True).json())
    a = tei(explain=True)
    for x in a.json():
        assert x["explain"]["tokens"] > 5 and x["explain"]["truncated"] is False, a
    assert a.headers["x-rerank-cached"].isdigit() and a.headers["x-rerank-rescored"] == "0", a
    a = shared().post({**Q, "documents": ["un texte long"] * 2, "explain": True}, "/v1/rerank")
    e = a.json()["explain"]
    assert e["documents"] == 2 and e["duplicates"] == 1 and e["dialect"] == "union", a
    assert set(e["ms"]) == {"parse", "tokenize", "queue", "compute", "total"}, a
    cut = shared().post({**Q, "texts": [LONG], "explain": True}).json()[0]["explain"]
    assert cut["truncated"] is True and cut["tokens"] <= 512, cut


def test_cut_of_one_instance():
    """Vertex: an option inside an instance counts for that instance."""
    short, long = {**Q, "texts": ["court"]}, {**Q, "texts": [LONG]}
    for instances, status in [([short, long], 200), ([{**short, "truncate": False}, long], 200),
                              ([short, {**long, "truncate": False}], 422)]:
        a = shared().post({"instances": instances})
        assert a.status == status, (instances, a)
    a = shared().post({"instances": [short, long], "parameters": {"truncate": False}})
    assert a.status == 422, a
    ends = [shared().post({**long, "truncation_direction": d}).json()[0]["score"]
            for d in ("left", "right")]
    assert ends[0] != ends[1], ends  # what answers the question is at the end


def test_too_long_by_its_own_name():
    """What the engine refuses is called what the request calls it."""
    pair, never = [Q["query"], LONG], {"truncate": False}
    for path, body, name in [
            ("/rerank", {**Q, "documents": ["a", LONG]}, "documents[1]"),
            ("/rerank", {**Q, "documents": LONG}, "documents"),
            ("/rerank", {**Q, "texts": ["a", "b", LONG]}, "texts[2]"),
            ("/rerank", {"query": {"text": "q"}, "passages": [{"text": LONG}]}, "passages[0]"),
            ("/rerank", {**Q, "input": ["a", LONG]}, "input[1]"),
            ("/rerank", {"input": {**Q, "documents": ["a", LONG]}}, "input.documents[1]"),
            ("/rerank", {"instances": [{**Q, "texts": ["a"]}, {**Q, "texts": ["a", LONG]}]},
             "instances[1].texts[1]"),
            ("/predict", {"inputs": pair}, "inputs"),
            ("/predict", {"inputs": [["a", "b"], pair]}, "inputs[1]"),
            ("/score", {"text_1": "q", "text_2": ["a", LONG]}, "text_2[1]"),
            ("/score", {"queries": ["q", "r"], "items": ["a", LONG]}, "items[1]")]:
        a = shared().post({**body, **never}, path)
        error = a.json()["error"]
        if path == "/score":
            assert error["param"] == name, (body.keys(), a)
            error = error["message"]
        assert error.startswith(name + ": the pair is longer than 512"), (body.keys(), a)
    a = shared().post({**Q, "documents": [{"id": "1", "text": LONG}], "parameters": {"truncate": "NONE"}},
                      "/rerank", [("X-Pinecone-API-Version", "2025-10")])
    assert a.status == 422 and a.json()["error"].startswith("documents[0]: the pair is longer"), a
    a = shared().post({**Q, "texts": ["a", LONG], "window": {"size": 2, "stride": 1}})
    assert a.json()["error"].startswith("texts[1]: "), a


def test_exact_top_k_of_the_server():
    """--exact-top-k 3: what clients that know nothing of it get first is what f32 says, to the bit"""
    with open(os.path.join(starter(), "calibration.jsonl"), encoding="utf-8") as f:
        lists = [json.loads(x) for x in f][:12]
    with Server("--threads", "1", model_folder=starter()) as full, \
            Server("--threads", "1", "--dtype", "int8", "--exact-top-k", "3", model_folder=starter()) as s:
        assert s.ask("GET", "/info").json()["rescore_dtype"] == "f32"
        moved = 0
        for x in lists:
            body = {"query": x["query"], "documents": x["documents"]}
            a, b = (server.post(body, "/v1/rerank") for server in (s, full))
            first = [[(r["index"], r["relevance_score"]) for r in reply.json()["results"][:3]]
                     for reply in (a, b)]
            assert first[0] == first[1], (a, b)
            assert a.headers["x-rerank-exact"] == "true", a
            assert 3 <= int(a.headers["x-rerank-rescored"]) < len(x["documents"]), a
            assert "exact" not in a.json() and "x-rerank-exact" not in b.headers, (a, b)
            plain = s.post({**body, "exact_top_k": 0}, "/v1/rerank")
            assert "x-rerank-exact" not in plain.headers, plain
            moved += plain.json()["results"][:3] != b.json()["results"][:3]
        assert moved, "int8 gives what f32 does: this test shows nothing"
        body["no_cache"] = True
        one = s.post({**body, "top_n": 1}, "/v1/rerank")
        assert one.json()["results"][0]["index"] == first[0][0][0], one
        assert int(one.headers["x-rerank-rescored"]) < len(body["documents"]) / 2, one
        asked = s.post({**body, "exact_top_k": 5}, "/v1/rerank").json()
        assert asked["exact"] is True and asked["rescored"] >= 5, asked
        pairs = s.post({"inputs": [[x["query"], d] for d in x["documents"]]}, "/predict")
        assert pairs.status == 200 and "x-rerank-exact" not in pairs.headers, pairs
    with Server("--threads", "1", "--exact-top-k", "3", model_folder=starter()) as s:  # f32 needs no other
        a = s.post(body, "/v1/rerank")
        assert a.json()["results"] == b.json()["results"] and "x-rerank-exact" not in a.headers, a


def test_extras_leave_no_trace():
    """Explicit nulls and falses of every option give the very bytes of a request without them."""
    off = {"score_threshold": None, "return_logits": False, "explain": False, "window": None,
           "priority": None, "timeout_ms": None, "allow_partial": False, "no_cache": None,
           "exact_top_k": None, "max_length": None}
    for name, path, body, headers, _, _ in CLIENTS:
        a = shared().post({**body, **off, **{k: v for k, v in body.items() if k in off}}, path, headers)
        b = shared().post(body, path, headers)
        changing = r'"(id|request_id|created|processing_time)": ?("[^"]*"|[0-9.e-]+)'
        assert re.sub(changing, "", a.body) == re.sub(changing, "", b.body), (name, a, b)


def test_every_client_explained():
    for name, path, body, headers, _, n in CLIENTS:
        a = shared().post({**body, "explain": True, "no_cache": True, "priority": "low",
                           "allow_partial": True}, path, headers)
        assert a.status == 200 and a.body.count('"tokens"') >= n, (name, a)


def test_deadlines():
    with Server("--threads", "1") as s:
        slow = long_body(60)
        for more, headers in [({"timeout_ms": 1}, []), ({}, [("X-Request-Timeout", "1ms")]),
                              ({"timeout_ms": 60000}, [("X-Request-Timeout", "0.001")]),
                              ({"timeout_ms": 1}, [("X-Request-Timeout", "60s")])]:
            a = s.post({**slow, **more}, headers=headers)
            assert a.status == 504 and a.json()["error"], a
        for word in ("soon", "0", "-1", "1h"):
            a = s.post({**Q, "texts": TEXTS}, headers=[("X-Request-Timeout", word)])
            assert a.status == 422 and "X-Request-Timeout" in a.json()["error"], a
        assert s.post({**Q, "texts": TEXTS}, headers=[("X-Request-Timeout", "20")]).status == 200


def test_tokens():
    s = shared()
    a = s.post({"inputs": TEXTS}, "/tokenize")
    for text, tokens in zip(TEXTS, a.json()):
        assert tokens[0]["special"] and tokens[0]["start"] is None, a
        for t in tokens:
            assert set(t) == {"id", "text", "special", "start", "stop"}, t
            if not t["special"]:
                assert t["text"] == text[t["start"]:t["stop"]], (t, text)
    plain = s.post({"inputs": TEXTS[0], "add_special_tokens": False}, "/tokenize").json()
    assert not any(t["special"] for t in plain[0]) and len(plain) == 1, plain
    ids = [t["id"] for t in plain[0]]
    assert s.post({"ids": ids}, "/decode").json() == [TEXTS[0]]
    assert s.post({"ids": [ids, ids]}, "/decode").json() == [TEXTS[0]] * 2
    assert s.post({"ids": [float(i) for i in ids]}, "/decode").json() == [TEXTS[0]]
    vllm = s.post({"model": "m", "prompt": TEXTS[0]}, "/tokenize").json()
    assert vllm["count"] == len(ids) + 2 and vllm["max_model_len"] == 512, vllm
    assert s.post({"content": TEXTS[0]}, "/tokenize").json()["tokens"] == ids
    for nulls in ({"inputs": None, "prompt": TEXTS[0]},  # a null counts as left out
                  {"inputs": None, "prompt": None, "content": TEXTS[0]}):
        assert s.post(nulls, "/tokenize").json()["tokens"] == s.post(
            {k: v for k, v in nulls.items() if v}, "/tokenize").json()["tokens"], nulls
    assert s.post({"tokens": ids}, "/detokenize").json() == {"prompt": TEXTS[0], "content": TEXTS[0]}
    text = "é €uro 😀 tâche"  # offsets are characters, whatever their bytes
    placed = [t for t in s.post({"inputs": text}, "/tokenize").json()[0] if t["stop"] is not None]
    assert all(t["text"] == text[t["start"]:t["stop"]] for t in placed), placed
    assert [t for t in placed if t["text"] == "😀"] and placed[-1]["stop"] == len(text), placed
    for path, body, status in [("/tokenize", {}, 422), ("/tokenize", {"inputs": []}, 400),
                               ("/tokenize", {"inputs": [1]}, 422), ("/decode", {"ids": ["a"]}, 422),
                               ("/decode", {"ids": [-1]}, 422), ("/decode", {}, 422),
                               ("/decode", {"ids": 5}, 422), ("/detokenize", {}, 422)]:
        a = s.post(body, path)
        assert a.status == status and a.json()["error_type"], (path, body, a)
    assert s.post({"ids": [2 ** 31 - 1]}, "/decode").json() == [""]
    assert s.post({"ids": []}, "/decode").json() == [""]


def test_description():
    a = shared().ask("GET", "/openapi.json")
    document = a.json()
    assert a.status == 200 and document["openapi"].startswith("3.1"), a
    assert shared().ask("GET", "/api-doc/openapi.json").body == a.body
    for path, methods in document["paths"].items():
        for method in methods:
            if "{" not in path and method == "get":
                assert shared().ask("GET", path).status in (200, 204), path
    for name, path, body, _, _, _ in CLIENTS:  # every path that a client uses is described
        first = path.split("/")[1]
        assert path in document["paths"] or re.match(r"/\w+/", path) and first != "v1", (name, path)
    a = shared().ask("GET", "/docs")
    assert a.headers["content-type"] == "text/html; charset=utf-8" and "/v2/rerank" in a.body
    assert not re.search(r'(src|href)="(https?:)?//', a.body), "the page is self-contained"
    assert "<script" not in a.body
    for e in re.findall(r"<pre>(.*?)</pre>", a.body, re.S):
        json.loads(e.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def test_unknown_values():
    for more, field in [({"priority": "urgent"}, "priority"), ({"window": {"size": 0}}, "window.size"),
                        ({"window": {"size": 9, "pooling": "sum"}}, "window.pooling"),
                        ({"score_threshold": "x"}, "score_threshold"), ({"explain": 2}, "explain"),
                        ({"timeout_ms": 0}, "timeout_ms"), ({"exact_top_k": 1.5}, "exact_top_k"),
                        ({"allow_partial": []}, "allow_partial"), ({"no_cache": "no"}, "no_cache")]:
        for path, body in [("/rerank", {**Q, "texts": TEXTS}), ("/v1/rerank", {**Q, "documents": TEXTS}),
                           ("/predict", {"inputs": [QUERY, TEXTS[0]]})]:
            a = shared().post({**body, **more}, path)
            assert a.status == 422 and a.json()["error"].startswith(field + ":"), (more, a)
    assert N == len(TEXTS)


def test_more_parts_than_the_queue_holds():
    """Requests of many queries are of many parts inside; an idle server takes them all the same."""
    n = 60
    bodies = [("/predict", {"inputs": [["q%d" % i, "mot " * (i % 20)] for i in range(n)]}),
              ("/score", {"text_1": ["s%d" % i for i in range(n)], "text_2": ["deux mots"] * n}),
              ("/rerank", {"instances": [{"query": "v%d" % i, "texts": TEXTS} for i in range(n)]})]

    def scores(a):
        assert a.status == 200, a
        reply = a.json()
        return reply["data"] if isinstance(reply, dict) and "data" in reply else reply

    for option, value in (("--queue-requests", "7"), ("--queue-tokens", "512")):
        with Server(option, value, "--cache-size", "0") as s:
            for path, body in bodies:
                assert scores(s.post(body, path)) == scores(shared().post(body, path)), (option, path)
            a = s.post({**bodies[0][1], "timeout_ms": 1, "no_cache": True}, "/predict")
            assert a.status in (200, 504), a
            until(lambda: s.metrics()["rerank_queue_requests"] == 0, "idle")
            assert s.post(bodies[1][1], "/score").status == 200
