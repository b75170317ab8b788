# SPDX-License-Identifier: Apache-2.0
"""server_clients.py - requests as known clients send them, and answers read as those clients read
them: same keys, same assertions; run by run.py.

Each reader gets the status and the parsed body, and returns [(index, score)] as the client would hand
it on, in the order it would use; what a client insists on is an assertion or a KeyError here."""
from server_support import QUERY, TEXTS, candidate, shared

N = len(TEXTS)
OBJECTS = [{"text": t} for t in TEXTS]


def results(status, r):
    assert status == 200
    return [(x["index"], x["relevance_score"]) for x in r["results"]]


def results_with_text(status, r):
    for x in r["results"]:
        if "document" in x:  # Dify's localai and gpustack plug-ins index into it when it is there
            assert x["document"]["text"] == TEXTS[x["index"]]
    return results(status, r)


def results_text_needed(status, r):
    assert all(x["document"]["text"] == TEXTS[x["index"]] for x in r["results"])
    return results(status, r)


def jina(status, r):
    if "results" not in r:
        raise RuntimeError(r["detail"])
    return results(status, r)


def haystack_jina(status, r):
    assert r["model"] and isinstance(r["usage"]["total_tokens"], int)
    return jina(status, r)


def vercel(status, r):
    assert "meta" in r
    return results(status, r)


def litellm(status, r):
    for key, value in r["usage"].items():  # unpacked into a typed dict
        assert isinstance(value, int), key
    assert all(x.get("document", 0) is not None for x in r["results"])
    return results(status, r)


def all_back(status, r):
    found = results(status, r)
    assert sorted(i for i, _ in found) == list(range(N))
    assert all(0 <= s <= 1 for _, s in found)
    return found


def tei_list(status, r):
    assert status == 200 and isinstance(r, list)
    return [(x["index"], x["score"]) for x in r]


def tei_all(status, r):
    assert len(r) == N  # LlamaIndex: as many scores as nodes
    return tei_list(status, r)


def tei_texts(status, r):
    assert all(x["text"] == TEXTS[x["index"]] for x in r)
    return tei_list(status, r)


def voyage(status, r):
    assert status == 200 and r["usage"]["total_tokens"] > 0 and r["object"] == "list"
    return [(x["index"], x["relevance_score"]) for x in r["data"]]


def voyage_texts(status, r):
    assert all(x["document"] == TEXTS[x["index"]] for x in r["data"])
    return voyage(status, r)


def mixedbread(status, r):
    assert all(x["input"] == TEXTS[x["index"]] for x in r["data"])
    return [(x["index"], x["score"]) for x in r["data"]]


def isaacus(status, r):
    assert status == 200 and r["usage"]["input_tokens"] > 0, r
    return [(x["index"], x["score"]) for x in r["results"]]


def pinecone(status, r):
    assert all(x["document"]["text"] == TEXTS[x["index"]] for x in r["data"])
    return [(x["index"], x["score"]) for x in r["data"]]


def infinity(status, r):
    assert r["object"] == "rerank" and r["id"] and r["created"] and "prompt_tokens" in r["usage"]
    assert all(x["document"] is None for x in r["results"])
    return results(status, r)


def string_document(status, r):
    assert all(x["document"] == TEXTS[x["index"]] for x in r["results"])
    return results(status, r)


def vllm(status, r):
    assert r["id"] and r["model"] and r["usage"]["total_tokens"]
    assert all(x["document"] == {"text": TEXTS[x["index"]], "multi_modal": None}
               for x in r["results"])
    return results(status, r)


def weaviate(status, r):
    assert r["query"] == QUERY and [x["document"] for x in r["scores"]] == TEXTS
    return sorted(((i, x["score"]) for i, x in enumerate(r["scores"])), key=lambda x: -x[1])


def score_data(status, r):
    assert r["object"] == "list" and [x["index"] for x in r["data"]] == list(range(N))
    assert all(x["object"] == "score" for x in r["data"])
    return sorted(((x["index"], x["score"]) for x in r["data"]), key=lambda x: -x[1])


def labels(status, r):
    assert all(len(x) == 1 and x[0]["label"] for x in r)
    return sorted(((i, x[0]["score"]) for i, x in enumerate(r)), key=lambda x: -x[1])


def dashscope(status, r):
    assert r["request_id"] and r["usage"]["total_tokens"]
    assert all(x["document"]["text"] == TEXTS[x["index"]] for x in r["output"]["results"])
    return [(x["index"], x["relevance_score"]) for x in r["output"]["results"]]


def vertex(status, r):
    return tei_list(status, r["predictions"][0])


def ragfab(status, r):
    assert status < 400 and "%.3f" % r["processing_time"] and r["count"] == len(r["documents"])
    for d in r["documents"]:
        assert not d.get("metadata", {}).get("is_image_chunk")
        assert d == {**candidate(d["chunk_index"], TEXTS[d["chunk_index"]]),
                     "rerank_score": d["rerank_score"]}
    return [(d["chunk_index"], d["rerank_score"]) for d in r["documents"]]


Q, D = {"query": QUERY}, {"query": QUERY, "documents": TEXTS}
M = {"model": "BAAI/bge-reranker-v2-m3"}

# client, path, body, headers, reader, number of results
CLIENTS = [
    ("ragfab web-api", "/rerank",
     {**Q, "documents": [candidate(i, t) for i, t in enumerate(TEXTS)], "top_k": 3}, [], ragfab, 3),
    ("cohere-ai JS, v1", "/v1/rerank", {**D, **M, "top_n": 2}, [], results, 2),
    ("cohere-ai JS, v1 without model", "/v1/rerank", D, [], results, N),
    ("cohere-ai JS, v2", "/v2/rerank", {**D, **M, "max_tokens_per_doc": 4096}, [], results, N),
    ("cohere Python, v1", "/v1/rerank",
     {**D, **M, "top_n": None, "rank_fields": None, "return_documents": None,
      "max_chunks_per_doc": None}, [], results, N),
    ("cohere Python, v2", "/v2/rerank", {**D, **M, "top_n": 3, "priority": 0}, [], results, 3),
    ("LangChain JS", "/v1/rerank", {**D, **M, "max_chunks_per_doc": None, "top_n": 3}, [], results, 3),
    ("LangChain CohereRerank", "/v2/rerank", {**D, **M, "top_n": 3, "max_tokens_per_doc": None}, [],
     results, 3),
    ("LangChain JinaRerank", "/v1/rerank", {**D, **M, "top_n": 2}, [], jina, 2),
    ("LangChain InfinityRerank", "/infinity/rerank", {**D, **M}, [], infinity, N),
    ("Infinity, documents asked for", "/infinity/v1/rerank", {**D, "return_documents": True}, [],
     string_document, N),
    ("Vercel AI SDK", "/v2/rerank", {**D, **M, "top_n": 2}, [], vercel, 2),
    ("LlamaIndex TEI", "/rerank", {**Q, "texts": TEXTS}, [("Authorization", "raw-token")], tei_all, N),
    ("LlamaIndex Cohere", "/v2/rerank", {**D, **M, "top_n": 2}, [], results, 2),
    ("Haystack TEI", "/rerank", {**Q, "texts": TEXTS, "raw_scores": False, "truncate": True,
                                 "truncation_direction": "Right"}, [], tei_list, N),
    ("Haystack Jina", "/v1/rerank", {**D, **M, "top_n": None}, [], haystack_jina, N),
    ("Haystack vLLM", "/v1/rerank", {**D, **M, "top_n": 3}, [], haystack_jina, 3),
    ("Haystack Cohere", "/v2/rerank", {**D, **M, "max_tokens_per_doc": 4096}, [], results, N),
    ("Dify TEI", "/rerank", {**Q, "texts": TEXTS, "return_text": True}, [], tei_texts, N),
    ("Dify OpenAI-compatible", "/v1/rerank", {**D, **M, "top_n": 3}, [], results, 3),
    ("Dify localai, gpustack", "/v1/rerank", {**D, **M, "top_n": 3}, [], results_with_text, 3),
    ("Dify cohere", "/v1/rerank", {**D, **M, "return_documents": True}, [], results_text_needed, N),
    ("Dify jina", "/v1/rerank", {**D, **M, "top_n": None, "return_documents": False}, [], results, N),
    ("Dify voyage", "/v1/rerank", {**D, **M, "top_k": 2, "return_documents": True}, [],
     voyage_texts, 2),
    ("Dify siliconflow, gitee", "/v1/rerank",
     {**D, **M, "top_n": 2, "max_chunks_per_doc": 10, "overlap_tokens": 80}, [],
     results_text_needed, 2),
    ("Dify mixedbread", "/v1/reranking", {**Q, **M, "input": TEXTS, "top_k": N, "return_input": True},
     [], mixedbread, N),
    ("RAGFlow TEI", "/rerank", {**Q, "texts": TEXTS, "raw_scores": False, "truncate": True}, [],
     tei_list, N),
    ("RAGFlow OpenAI", "/v1/rerank", {**D, **M, "top_n": N}, [], all_back, N),
    ("RAGFlow Xinference", "/v1/rerank", {**D, **M, "return_documents": "true", "return_len": "true"},
     [], all_back, N),
    ("Xinference pinned", "/xinference/v1/rerank",
     {**D, **M, "max_chunks_per_doc": None, "kwargs": "{}", "return_documents": True}, [],
     results_text_needed, N),
    ("Open WebUI", "/v1/rerank", {**D, **M, "top_n": N}, [("Authorization", "Bearer x")], all_back, N),
    ("LiteLLM cohere, infinity", "/v1/rerank", {**D, **M, "top_n": 2, "return_documents": True}, [],
     litellm, 2),
    ("LiteLLM jina_ai", "/v1/rerank", {**D, **M, "top_n": 2}, [], litellm, 2),
    ("LiteLLM hosted_vllm", "/rerank", {**D, **M, "top_n": 2, "truncate_prompt_tokens": -1}, [],
     litellm, 2),
    ("LiteLLM huggingface", "/rerank",
     {**Q, "texts": TEXTS, "raw_scores": False, "truncate": False, "truncation_direction": "Right",
      "top_n": 2, "return_text": False}, [], tei_list, 2),
    ("rerankers, TEI", "/rerank", {**Q, **M, "texts": TEXTS, "top_n": N, "return_text": True}, [],
     tei_texts, N),
    ("rerankers, Jina", "/v1/rerank", {**D, **M, "top_n": N, "return_documents": True}, [], results, N),
    ("rerankers, Voyage", "/v1/rerank", {**D, **M, "top_k": N, "return_documents": True}, [], voyage, N),
    ("rerankers, Mixedbread", "/v1/reranking", {**Q, **M, "input": TEXTS, "top_k": 2,
                                                "return_input": True}, [], mixedbread, 2),
    ("rerankers, Pinecone", "/rerank", {**Q, **M, "documents": OBJECTS, "top_n": N},
     [("X-Pinecone-API-Version", "2024-10"), ("Api-Key", "x")], pinecone, N),
    ("Pinecone pinned", "/pinecone/rerank", {**Q, "documents": OBJECTS}, [], pinecone, N),
    ("rerankers, Isaacus", "/v1/rerankings", {**Q, **M, "texts": TEXTS, "top_n": N,
                                              "return_documents": True}, [], isaacus, N),
    ("Isaacus pinned", "/isaacus/rerank", {**Q, "texts": TEXTS, "top_n": 2}, [], isaacus, 2),
    ("Voyage Python", "/v1/rerank", {**D, **M, "top_k": None, "truncation": True}, [], voyage, N),
    ("Voyage JS", "/v1/rerank", {**D, **M, "topK": 1, "top_k": 1, "return_documents": False}, [],
     voyage, 1),
    ("LangChain4j, Voyage", "/voyage/v1/rerank", {**D, **M}, [], voyage, N),
    ("LightRAG", "/rerank", {**D, **M, "top_n": 2}, [], results, 2),
    ("n8n, Cohere's node", "/v2/rerank", {**D, **M, "top_n": 3}, [("Authorization", "Bearer x")],
     results, 3),
    ("FastGPT", "/v1/rerank", {**M, **D}, [("Authorization", "Bearer x")], all_back, N),
    ("MaxKB, vLLM", "/v1/rerank", {**D, **M, "top_n": 3}, [], results_text_needed, 3),
    ("Weaviate", "/rerank", {**D, "property": ""}, [], weaviate, N),
    ("vLLM", "/vllm/v1/rerank", {**D, **M, "top_n": 0, "max_tokens_per_query": 0}, [], vllm, N),
    ("vLLM score, one against many", "/score", {**M, "text_1": QUERY, "text_2": TEXTS}, [],
     score_data, N),
    ("vLLM score, pair by pair", "/v1/score", {**M, "queries": [QUERY] * N, "items": TEXTS}, [],
     score_data, N),
    ("llama.cpp", "/llamacpp/v1/reranking", {**D, "top_n": 2}, [], results, 2),
    ("llama.cpp, TEI form", "/llamacpp/rerank", {**Q, "texts": TEXTS, "top_n": 2}, [], tei_list, 2),
    ("NIM", "/v1/ranking", {**M, "query": {"text": QUERY}, "passages": OBJECTS, "truncate": "END"},
     [], lambda s, r: [(x["index"], x["logit"]) for x in r["rankings"]], N),
    ("DashScope", "/rerank", {**M, "input": D, "parameters": {"top_n": 2, "return_documents": True}},
     [], dashscope, 2),
    ("DashScope SDK, its own path", "/api/v1/services/rerank/text-rerank/text-rerank",
     {**M, "parameters": {"top_n": 2, "return_documents": True}, "input": D},
     [("Authorization", "Bearer x")], dashscope, 2),
    ("Ollama plug-in", "/api/rerank", {**D, **M}, [], string_document, N),
    ("OpenVINO Model Server", "/v3/rerank", {**D, **M, "top_n": 2}, [], results, 2),
    ("qwen3-rerank", "/compatible-api/v1/reranks", {**D, **M, "top_n": 2, "instruct": "Find it."},
     [("Authorization", "Bearer x")], results, 2),
    ("qwen3-rerank, OpenAI's client", "/v1/reranks", {**D, **M, "top_n": 2}, [], results, 2),
    ("TensorRT-LLM", "/v2/rerank", {**D, **M}, [], results, N),
    ("MariaDB AI RAG", "/rerank", {**D, "doc_ids": [7, 8, 9, 10]}, [], results, N),
    ("Jina, objects", "/v1/rerank", {**M, "query": {"text": QUERY}, "documents": OBJECTS}, [],
     results_text_needed, N),
    ("HF pipeline", "/predict", {"inputs": [{"text": QUERY, "text_pair": t} for t in TEXTS],
                                 "parameters": {"function_to_apply": "sigmoid", "top_k": 1}}, [],
     labels, N),
    ("HF endpoint", "/", {**Q, "texts": TEXTS}, [], tei_list, N),
    ("SageMaker", "/invocations", {**Q, "texts": TEXTS}, [("Content-Type", "application/json")],
     tei_list, N),
    ("Vertex", "/", {"instances": [{**Q, "texts": TEXTS}]}, [], vertex, N),
]


def truth():
    """[(index, score)] and [(index, logit)], best first, by the plainest form."""
    return [tei_list(200, shared().post({**Q, "texts": TEXTS, "raw_scores": raw}).json())
            for raw in (False, True)]


def test_clients():
    scores, logits = truth()
    for name, path, body, headers, reader, n in CLIENTS:
        a = shared().post(body, path, headers)
        assert a.status == 200, (name, a)
        try:
            found = reader(a.status, a.json())
        except (AssertionError, KeyError) as e:
            raise AssertionError("%s: %r in %s" % (name, e, a)) from e
        expected = logits if name == "NIM" else scores
        assert found == expected[:n], (name, found, a)


def test_clients_before_they_ask():
    """What clients look up first, and what balancers and clusters poll."""
    s = shared()
    info = s.ask("GET", "/info").json()  # Dify's TEI plug-in
    assert "reranker" in info["model_type"] and info["max_client_batch_size"] > 0, info
    assert s.ask("GET", "/meta").json()["model_name"], "Weaviate"
    for path in ("/v1/models/any-uid", "/xinference/v1/models/any-uid"):  # Dify's plug-in, too
        assert s.ask("GET", path).json()["model_type"] == "rerank", "Xinference"
    assert s.ask("GET", "/v1/cluster/auth").json() == {"auth": False}, "Xinference"
    for path, status in [("/.well-known/live", 204), ("/.well-known/ready", 204), ("/ping", 200),
                         ("/health", 200), ("/v1/health", 200), ("/v1/models", 200),
                         ("/models", 200), ("/version", 200), ("/props", 200)]:
        a = s.ask("GET", path)
        assert a.status == status, (path, a)


def test_clients_read_errors():
    """Where each client looks for the reason, with the status it expects."""
    for path, body, status, read in [
            ("/rerank", {"query": "", "documents": [candidate(0, "a")]}, 400,
             lambda e: e["detail"] == "La query ne peut pas être vide"),
            ("/rerank", {"documents": [candidate(0, "a")]}, 422,
             lambda e: e["detail"][0]["loc"] == ["body", "query"]),
            ("/rerank", {"query": "q", "texts": []}, 400, lambda e: e["error_type"] == "Empty"),
            ("/rerank", {"query": "q", "texts": ["a"] * 1001}, 422,
             lambda e: e["error_type"] == "Validation" and isinstance(e["error"], str)),
            ("/v2/rerank", {"query": "q", "documents": []}, 400, lambda e: e["message"]),
            ("/v1/rerank", {"query": "q", "documents": [], "top_k": 1}, 400,
             lambda e: isinstance(e["detail"], str)),
            ("/rerank", {"query": "q", "documents": [], "property": ""}, 400,
             lambda e: isinstance(e["error"], str)),
            ("/score", {"text_1": "q"}, 400, lambda e: e["error"]["message"] and
             e["error"]["code"] == 400 and e["error"]["param"]),
            ("/vllm/rerank", {"query": "q"}, 400,
             lambda e: e["error"]["type"] == "BadRequestError" and e["error"]["code"] == 400),
            ("/vllm/rerank", {"query": "q", "documents": ["a " * 600], "truncate": False}, 400,
             lambda e: e["error"]["param"] == "documents[0]"),
            ("/llamacpp/rerank", {"query": "q", "documents": [1, 2, 3]}, 400,
             lambda e: e["error"]["code"] == 400),
            ("/llamacpp/nothing", {"query": "q"}, 404, lambda e: e["error"]["type"] == "not_found_error"),
            ("/llamacpp/rerank", {"query": "q", "texts": 123}, 400, lambda e: e["error"]["code"] == 400),
            ("/llamacpp/rerank", {"query": "q", "documents": []}, 400,
             lambda e: e["error"]["type"] == "invalid_request_error"),
            ("/rerank", {"input": {"query": "q"}}, 400, lambda e: e["code"] == "InvalidParameter"),
            ("/dashscope/api/v1/services/rerank/text-rerank/text-rerank", {"query": "q"}, 400,
             lambda e: e["code"] == "InvalidParameter" and e["message"]),
            ("/infinity/rerank", {"query": "q"}, 422, lambda e: isinstance(e["detail"], list)),
            ("/xinference/v1/rerank", {"query": "q", "documents": []}, 400,
             lambda e: isinstance(e["detail"], str))]:
        a = shared().post(body, path)
        assert a.status == status and read(a.json()), (path, body, a)


def test_order_of_keys():
    """A body means the same whatever the order of its keys."""
    for name, path, body, headers, reader, n in CLIENTS:
        turned = dict(reversed(list(body.items())))
        if name != "NIM":
            a = shared().post(turned, path, headers)
            assert reader(a.status, a.json()) == truth_cached()[:n], (name, a)


_truth = []


def truth_cached():
    if not _truth:
        _truth.extend(truth()[0])
    return _truth
