# SPDX-License-Identifier: Apache-2.0
"""server_dialects.py - what each client sends and how it reads the answer; run by run.py."""
import json
import os

from cli_support import model
from server_support import QUERY, TEXTS, Server, candidate, shared, starter

FIELDS = ["chunk_id", "document_id", "document_title", "document_source", "chunk_index",
          "content", "similarity"]


def scores():
    """The score of each text, as the plainest dialect gives it."""
    return {x["index"]: x["score"] for x in shared().post({"query": QUERY, "texts": TEXTS}).json()}


def best():
    return sorted(range(len(TEXTS)), key=lambda i: -scores()[i])


def test_ragfab_seven_fields():
    documents = [candidate(i, t) for i, t in enumerate(TEXTS)]
    a = shared().post({"query": QUERY, "documents": documents, "top_k": 3})
    assert a.status == 200 and a.headers["content-type"] == "application/json", a
    for text in ('"count": 3', '"processing_time": ', '"chunk_id": "'):  # ragfab's own script
        assert text in a.body, a
    reply = a.json()
    assert list(reply) == ["documents", "count", "model", "processing_time"], a
    assert isinstance(reply["processing_time"], float) and reply["processing_time"] >= 0, a
    assert [d["chunk_index"] for d in reply["documents"]] == best()[:3], a
    for d in reply["documents"]:
        score = d.pop("rerank_score")
        assert score == scores()[d["chunk_index"]], (d, score)
        assert d == documents[d["chunk_index"]] and list(d) == FIELDS, d


def test_ragfab_top_k():
    documents = [candidate(i, "texte %d" % i) for i in range(8)]
    for extra, count in [({}, 5), ({"top_k": None}, 8), ({"top_k": 0}, 0), ({"top_k": 100}, 8),
                         ({"top_k": -2}, 6), ({"top_k": -50}, 0), ({"top_k": 1}, 1)]:
        reply = shared().post({"query": "texte", "documents": documents, **extra}).json()
        assert reply["count"] == len(reply["documents"]) == count, (extra, reply)


def test_ragfab_content_and_metadata():
    documents = [{"content": t, "metadata": {"page": i, "is_image_chunk": False, "ratio": 0.1}}
                 for i, t in enumerate(TEXTS)]
    reply = shared().post({"query": QUERY, "documents": documents}).json()
    assert reply["count"] == 4, reply
    for d in reply["documents"]:
        i = d["metadata"]["page"]
        assert d.pop("rerank_score") == d.pop("score") == scores()[i], d
        assert d == documents[i], d


def test_tei():
    a = shared().post({"query": QUERY, "texts": TEXTS, "raw_scores": False, "truncate": True})
    reply = a.json()
    assert [x["index"] for x in reply] == best() and all(len(x) == 2 for x in reply), a
    assert all(0 <= x["score"] <= 1 for x in reply), a
    for name in ("x-compute-type", "x-compute-time", "x-compute-characters", "x-compute-tokens",
                 "x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"):
        assert name in a.headers, (name, a)
    assert int(a.headers["x-compute-tokens"]) > 20, a
    assert int(a.headers["x-compute-characters"]) == sum(len(QUERY) + len(t) for t in TEXTS), a
    texts = shared().post({"query": QUERY, "texts": TEXTS, "return_text": True}).json()
    assert [x["text"] for x in texts] == [TEXTS[i] for i in best()], texts


def test_tei_on_root_and_invocations():
    for path in ("/", "/invocations", "/tei/rerank", "/tei"):
        assert shared().post({"query": QUERY, "texts": TEXTS}, path).status == 200, path


def test_reference_scores():
    """The model's reference logits, through HTTP."""
    with open(os.path.join(model(), "reference.jsonl"), encoding="utf-8") as f:
        cases = [json.loads(line) for line in f]
    checked = 0
    for case in cases[:12]:
        reply = shared().post({"query": case["query"], "texts": case["documents"],
                               "raw_scores": True, "max_length": case["max_length"]})
        assert reply.status == 200, reply
        for x in reply.json():
            assert abs(x["score"] - case["logits"][x["index"]]) < 2e-4, (case["query"], x)
            checked += 1
    assert checked > 20


def check_union(reply, documents):
    assert reply["object"] == "rerank" and reply["model"] and isinstance(reply["id"], str), reply
    assert reply["meta"]["api_version"]["version"] and reply["meta"]["billed_units"], reply
    usage = reply["usage"]
    assert all(isinstance(v, int) and v > 0 for v in usage.values()) and "total_tokens" in usage
    for r in reply["results"]:
        assert ("document" in r) == documents and r.get("document", 0) is not None, r
        if documents:
            assert r["document"]["text"] == TEXTS[r["index"]], r
        assert r["relevance_score"] == scores()[r["index"]], r
    assert [r["index"] for r in reply["results"]] == best()[:len(reply["results"])], reply


def test_cohere_and_jina():
    body = {"model": "any-name", "query": QUERY, "documents": TEXTS}
    objects = [{"text": t} for t in TEXTS]
    for path, extra, documents, n in [
            ("/v1/rerank", {}, True, 4),
            ("/v1/rerank", {"top_n": 2, "return_documents": False}, False, 2),
            ("/v1/rerank", {"max_chunks_per_doc": None, "top_n": None}, True, 4),
            ("/v1/rerank", {"documents": objects, "return_documents": True}, True, 4),
            ("/v2/rerank", {"top_n": 3, "max_tokens_per_doc": 4096}, False, 3),
            ("/v2/rerank", {"max_tokens_per_doc": None}, False, 4),
            ("/rerank", {"top_n": 0}, True, 4),
            ("/rerank", {"top_n": 50, "return_documents": "false", "return_len": "true"}, False, 4),
            ("//v1//rerank/", {}, True, 4),
            ("/reranking", {}, True, 4),
            ("/jina/v1/rerank", {"top_n": 1}, True, 1),
            ("/cohere/v1/rerank", {"top_n": 1}, False, 1)]:
        a = shared().post({**body, **extra}, path)
        assert a.status == 200, (path, extra, a)
        reply = a.json()
        assert len(reply["results"]) == n, (path, extra, a)
        check_union(reply, documents)


def test_other_dialects():
    """Each of these reads its answer by other keys."""
    s, order = scores(), best()
    pairs = [[QUERY, t] for t in TEXTS]
    for path, body, read in [
            ("/v1/rerank", {"model": "m", "query": QUERY, "documents": TEXTS, "top_k": 2,
                            "truncation": True, "return_documents": True},
             lambda r: [(x["index"], x["relevance_score"]) for x in r["data"]
                        if x["document"] == TEXTS[x["index"]]] == [(i, s[i]) for i in order[:2]]),
            ("/v1/ranking", {"model": "m", "query": {"text": QUERY},
                             "passages": [{"text": t} for t in TEXTS], "truncate": "END"},
             lambda r: [x["index"] for x in r["rankings"]] == order
             and all(isinstance(x["logit"], float) for x in r["rankings"])),
            ("/v1/reranking", {"query": QUERY, "input": TEXTS, "top_k": 4, "return_input": True},
             lambda r: [(x["index"], x["score"], x["input"]) for x in r["data"]]
             == [(i, s[i], TEXTS[i]) for i in order]),
            ("/rerank", {"query": QUERY, "documents": TEXTS, "property": ""},
             lambda r: r["query"] == QUERY and [x["score"] for x in r["scores"]]
             == [s[i] for i in range(4)]),
            ("/rerank", {"model": "m", "input": {"query": QUERY, "documents": TEXTS},
                         "parameters": {"top_n": 2}},
             lambda r: [x["index"] for x in r["output"]["results"]] == order[:2]),
            ("/score", {"text_1": QUERY, "text_2": TEXTS},
             lambda r: [x["score"] for x in r["data"]] == [s[i] for i in range(4)]),
            ("/predict", {"inputs": pairs},
             lambda r: [x[0]["score"] for x in r] == [s[i] for i in range(4)]),
            ("/predict", {"inputs": pairs[1]}, lambda r: r[0]["score"] == s[1]),
            ("/", {"instances": [{"query": QUERY, "texts": TEXTS}]},
             lambda r: [x["index"] for x in r["predictions"][0]] == order),
            ("/pinecone/rerank", {"query": QUERY, "documents": [{"id": "1", "text": TEXTS[1]}]},
             lambda r: r["data"][0]["score"] == s[1] and r["data"][0]["document"]["id"] == "1")]:
        a = shared().post(body, path)
        assert a.status == 200 and read(a.json()), (path, a)


def test_options_of_requests():
    raw = {x["index"]: x["score"] for x in
           shared().post({"query": QUERY, "texts": TEXTS, "raw_scores": True}).json()}
    assert any(not 0 <= v <= 1 for v in raw.values()), raw
    off = shared().post({"query": QUERY, "documents": TEXTS, "use_activation": False}).json()
    assert {r["index"]: r["relevance_score"] for r in off["results"]} == raw
    long = {"query": QUERY, "texts": ["mot " * 2000]}
    assert shared().post(long).status == 200
    a = shared().post({**long, "truncate": False})
    assert a.status == 422 and a.json()["error_type"] == "Validation", a
    short = shared().post({"query": QUERY, "texts": TEXTS, "max_length": 12})
    assert short.status == 200 and int(short.headers["x-compute-tokens"]) <= 48, short


def test_pinned_by_option():
    with Server("--dialect", "tei") as s:
        assert s.post({"query": "q", "texts": ["a"]}).status == 200
        a = s.post({"query": "q", "documents": ["a"]})
        assert a.status == 422 and "texts" in a.json()["error"], a
    with Server("--return-documents", "no") as s:
        assert "document" not in s.post({"query": "q", "documents": ["a"]}).json()["results"][0]
        a = s.post({"query": "q", "documents": ["a"], "return_documents": True})
        assert a.json()["results"][0]["document"] == {"text": "a"}, a


def test_about():
    s = shared()
    name = os.path.basename(model())
    assert s.ask("GET", "/").json() == {"service": "Serveur de reranking", "model": name,
                                        "status": "ready"}
    assert s.ask("GET", "/health").json() == {"status": "healthy", "device": "cpu", "model": name}
    info = s.ask("GET", "/info").json()
    assert info["model_name"] == info["model_id"] == name and info["max_length"] == 512, info
    assert info["description"] and "reranker" in info["model_type"], info  # ragfab's, Dify's
    assert info["max_input_length"] == 512 and info["max_client_batch_size"] == 1000, info
    assert s.ask("GET", "/v1/models").json()["data"][0]["id"] == name
    for path in ("/live", "/ready", "/ping", "/v1/health"):
        assert s.ask("GET", path).status == 200, path
    with s.connect() as c:
        c.send("HEAD", "/health")
        c.send("GET", "/live")
        c.file.readline()
        while c.file.readline() != b"\r\n":
            pass
        assert c.receive().json() == {"status": "alive"}  # no body came with the first


def test_starter_ranks():
    with Server(model_folder=starter()) as s:
        reply = s.post({"query": QUERY, "texts": TEXTS[:3]}).json()
        assert reply[0]["index"] == 1, reply
