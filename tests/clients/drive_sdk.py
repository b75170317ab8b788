# SPDX-License-Identifier: Apache-2.0
"""drive_sdk.py - vendors' own clients and plain HTTP; see kit.py."""
import asyncio

import cohere
import dashscope
import httpx
import huggingface_hub
import isaacus
import litellm
import mixedbread
import openai
import pinecone
import rerankers
import voyageai
from kit import (BEST, ERRORS, JOB, KEY, KEYS, MAIN, MODEL, QUERY, SCORES, SMALL, TEXTS, busy,
                 busy_for_a_moment, check_error, drive, errors, raises, ranked, texts_ranked)
from rerankers.documents import Document
from rerankers.models.api_rankers import APIRanker
from xinference_client import RESTfulClient

litellm.suppress_debug_info = True
litellm.telemetry = False


# ---- cohere -------------------------------------------------------------------------------------

def pairs(results):
    return [(r.index, r.relevance_score) for r in results]


def co(version, url=MAIN, key="any"):
    return (cohere.Client if version == 1 else cohere.ClientV2)(api_key=key, base_url=url, timeout=60)


def cohere_ranks(version):
    r = co(version).rerank(model=MODEL, query=QUERY, documents=TEXTS)
    ranked(pairs(r.results))
    assert r.id and r.meta.billed_units.search_units == 1, r
    ranked(pairs(co(version).rerank(model=MODEL, query=QUERY, documents=TEXTS, top_n=2).results), 2)


def cohere_v1_objects():
    r = co(1).rerank(query=QUERY, documents=[{"text": t, "n": i} for i, t in enumerate(TEXTS)],
                     return_documents=True, rank_fields=["text"])
    ranked(pairs(r.results))
    assert [x.document.text for x in r.results] == [TEXTS[i] for i in BEST], r
    r = co(1).rerank(query=QUERY, documents=TEXTS)
    ranked(pairs(r.results))


def cohere_async():
    async def go():
        client = cohere.AsyncClientV2(api_key="any", base_url=MAIN)
        return await asyncio.gather(*[client.rerank(model=MODEL, query=QUERY, documents=TEXTS)
                                      for _ in range(8)])
    for r in asyncio.run(go()):
        ranked(pairs(r.results))


def cohere_errors():
    def call(url, documents, key="any"):
        return lambda: co(2, url, key).rerank(model=MODEL, query=QUERY, documents=documents)
    raises(cohere.UnauthorizedError, call(KEYS, TEXTS, "wrong"), "key")
    ranked(pairs(call(KEYS, TEXTS, KEY)().results))
    raises(cohere.UnprocessableEntityError, call(SMALL, TEXTS[:3]), "2")
    e = raises(cohere.core.ApiError, call(SMALL, ["x" * 3000]), "413")
    assert e.status_code == 413, e
    raises(cohere.BadRequestError, call(MAIN, []), "documents")


def cohere_refused(status, error):
    with busy(status) as (url, _):
        e = raises(error, lambda: co(2, url).rerank(model=MODEL, query=QUERY, documents=TEXTS[:2],
                                                    request_options={"max_retries": 0}))
        assert e.status_code == status and "message" in e.body, e.body
        check_error(e, status)


def cohere_retries(status):
    with busy_for_a_moment(status) as url:
        r = co(2, url).rerank(model=MODEL, query=QUERY, documents=TEXTS)
        ranked(pairs(r.results))


# ---- voyageai -----------------------------------------------------------------------------------

def vo(url=MAIN, key="any", **options):
    return voyageai.Client(api_key=key, base_url=url + "/v1", **options)


def voyage_ranks():
    r = vo().rerank(QUERY, TEXTS, model=MODEL)
    ranked(pairs(r.results))
    assert [x.document for x in r.results] == [TEXTS[i] for i in BEST] and r.total_tokens > 0
    ranked(pairs(vo().rerank(QUERY, TEXTS, model=MODEL, top_k=2, truncation=True).results), 2)


def voyage_async():
    async def go():
        return await voyageai.AsyncClient(api_key="any", base_url=MAIN + "/v1").rerank(
            QUERY, TEXTS, model=MODEL)
    ranked(pairs(asyncio.run(go()).results))


def voyage_pinned():
    """A body without top_k and truncation does not say that it is Voyage's; the path does."""
    r = httpx.post(MAIN + "/voyage/v1/rerank", json={"query": QUERY, "documents": TEXTS, "model": MODEL})
    ranked([(x["index"], x["relevance_score"]) for x in r.json()["data"]])
    r = voyageai.Client(api_key="any", base_url=MAIN + "/voyage/v1").rerank(QUERY, TEXTS, model=MODEL)
    ranked(pairs(r.results))


def voyage_errors():
    e = voyageai.error
    raises(e.AuthenticationError, lambda: vo(KEYS, "wrong").rerank(QUERY, TEXTS, model=MODEL))
    ranked(pairs(vo(KEYS, KEY).rerank(QUERY, TEXTS, model=MODEL).results))
    raises(e.InvalidRequestError, lambda: vo().rerank(QUERY, [], model=MODEL), "documents")
    raises(e.VoyageError, lambda: vo(SMALL).rerank(QUERY, TEXTS[:3], model=MODEL), "2")
    raises(e.VoyageError, lambda: vo(SMALL).rerank(QUERY, ["x" * 3000], model=MODEL))
    with busy(429) as (url, _):
        raises(e.RateLimitError, lambda: vo(url).rerank(QUERY, TEXTS[:2], model=MODEL))
    with busy(503) as (url, _):
        raises(e.ServiceUnavailableError, lambda: vo(url).rerank(QUERY, TEXTS[:2], model=MODEL))


def voyage_retries(status):
    with busy_for_a_moment(status) as url:
        ranked(pairs(vo(url, max_retries=5).rerank(QUERY, TEXTS, model=MODEL).results))


# ---- rerankers ----------------------------------------------------------------------------------

def api_ranker(provider, path):
    def go():
        r = APIRanker(MODEL, "any", provider, url=MAIN + path)
        found = r.rank(QUERY, TEXTS, doc_ids=list(range(len(TEXTS))))
        ranked([(x.document.doc_id, x.score) for x in found.results])
        assert abs(r.score(QUERY, Document(TEXTS[0], 0)) - SCORES[0]) < 1e-9
    return go


def reranker_factory():
    r = rerankers.Reranker("cohere", lang="en", api_key="any", url=MAIN + "/v1/rerank", verbose=0)
    texts_ranked([(x.text, x.score) for x in r.rank(QUERY, TEXTS).results])


def api_ranker_errors():
    """It looks at no status: what is not a ranking has to make it fail."""
    def call(url, key, texts):
        return APIRanker(MODEL, key, "cohere", url=url + "/v1/rerank").rank(QUERY, texts)
    errors(call)


# ---- litellm ------------------------------------------------------------------------------------

def lite(model, base, **more):
    r = litellm.rerank(model=model, query=QUERY, documents=TEXTS, api_base=base, api_key="any", **more)
    return [(x["index"], x["relevance_score"]) for x in r.results]


def litellm_ranks(model, base):
    def go():
        ranked(lite(model, base, top_n=len(TEXTS)))
        ranked(lite(model, base, top_n=2), 2)
        r = asyncio.run(litellm.arerank(model=model, query=QUERY, documents=TEXTS, api_base=base,
                                        api_key="any", top_n=3))
        ranked([(x["index"], x["relevance_score"]) for x in r.results], 3)
    return go


def litellm_call(url, key, texts):
    r = litellm.rerank(model="cohere/m", query=QUERY, documents=texts, api_base=url, api_key=key,
                       max_retries=0)
    return [x["index"] for x in r.results]


def litellm_errors():
    errors(litellm_call, {401: litellm.AuthenticationError, 413: Exception, 422: Exception,
                          429: litellm.RateLimitError, 503: litellm.ServiceUnavailableError})
    raises(Exception, lambda: litellm_call(SMALL, "any", TEXTS[:3]), "2")


# ---- openai: no call of its own, but its client posts anything -----------------------------------

def openai_call(url, key, texts, path="/v1", **options):
    client = openai.OpenAI(base_url=url + path, api_key=key, **options)
    r = client.post("/rerank", body={"model": MODEL, "query": QUERY, "documents": texts},
                    cast_to=object)
    return [(x["index"], x["relevance_score"]) for x in r["results"]]


def openai_errors():
    errors(lambda *given: openai_call(*given, max_retries=0), {
        401: openai.AuthenticationError, 413: openai.APIStatusError,
        422: openai.UnprocessableEntityError, 429: openai.RateLimitError,
        503: openai.InternalServerError})
    e = raises(openai.UnprocessableEntityError, lambda: openai_call(SMALL, "any", TEXTS[:3]), "2")
    assert e.request_id and "documents" in str(e.body), (e.request_id, e.body)
    # In vLLM's form the error is an object, as OpenAI's own is, and 400.
    e = raises(openai.BadRequestError,
               lambda: openai_call(SMALL, "any", TEXTS[:3], "/vllm/v1"), "2")
    assert "documents" in e.message and (e.code, e.param) == ("400", "documents"), vars(e)


def openai_retries(status):
    with busy_for_a_moment(status) as url:
        ranked(openai_call(url, "any", TEXTS, max_retries=5))


def openai_models():
    client = openai.OpenAI(base_url=MAIN + "/v1", api_key="any")
    assert [m.id for m in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


# ---- mixedbread, pinecone, isaacus, dashscope, xinference ----------------------------------------

FIELDS_OF_TEXT = [dict(zip(("a", "b"), t.split(" ", 1))) for t in TEXTS]


def mixedbread_call(url, key, texts, **more):
    client = mixedbread.Mixedbread(api_key=key, base_url=url, max_retries=0)
    return client.rerank(model=MODEL, query=QUERY, input=texts, **more).data


def mixedbread_ranks():
    found = mixedbread_call(MAIN, "any", TEXTS, return_input=True)
    ranked([(x.index, x.score) for x in found])
    assert [x.input for x in found] == [TEXTS[i] for i in BEST], found
    found = mixedbread_call(MAIN, "any", FIELDS_OF_TEXT, rank_fields=["a", "b"], top_k=2)
    assert [x.index for x in found] == BEST[:2], found


def mixedbread_errors():
    errors(mixedbread_call, mixedbread.APIStatusError)


def pinecone_ranks():
    client = pinecone.Pinecone(api_key="any", host=MAIN).inference
    r = client.rerank(model=MODEL, query=QUERY, documents=TEXTS)
    ranked([(x.index, x.score) for x in r.data])
    r = client.rerank(model=MODEL, query=QUERY, top_n=2, rank_fields=["body"], documents=[
        {"id": str(i), "body": t} for i, t in enumerate(TEXTS)], parameters={"truncate": "END"})
    ranked([(x.index, x.score) for x in r.data], 2)
    assert [x.document["id"] for x in r.data] == [str(i) for i in BEST[:2]], r


def isaacus_call(url, key, texts):
    client = isaacus.Isaacus(api_key=key, base_url=url + "/v1", max_retries=0)
    r = client.rerankings.create(model=MODEL, query=QUERY, texts=texts)
    return [(x.index, x.score) for x in r.results]


def dashscope_ranks():
    dashscope.base_http_api_url = MAIN + "/api/v1"
    r = dashscope.TextReRank.call(model=MODEL, query=QUERY, documents=TEXTS, api_key="any",
                                  return_documents=True)
    ranked(pairs(r.output.results))
    assert [x["document"]["text"] for x in r.output.results] == [TEXTS[i] for i in BEST], r
    dashscope.base_http_api_url = SMALL + "/api/v1"
    r = dashscope.TextReRank.call(model=MODEL, query=QUERY, documents=TEXTS[:3], api_key="any")
    assert (r.status_code, r.code) == (400, "InvalidParameter") and "2" in r.message, r
    dashscope.base_http_api_url = KEYS + "/api/v1"
    r = dashscope.TextReRank.call(model=MODEL, query=QUERY, documents=TEXTS, api_key="wrong")
    assert (r.status_code, r.code) == (401, "InvalidApiKey") and r.message, r


def xinference_call(url, key, texts):
    r = RESTfulClient(url, api_key=key).get_model("any-uid").rerank(texts, QUERY)
    return [(x["index"], x["relevance_score"]) for x in r["results"]]


def xinference_ranks():
    for url in (MAIN, MAIN + "/xinference"):
        ranked(xinference_call(url, "any", TEXTS))
        r = RESTfulClient(url).get_model(MODEL).rerank(TEXTS, QUERY, top_n=2, return_documents=True)
        assert [x["document"]["text"] for x in r["results"]] == [TEXTS[i] for i in BEST[:2]], r


# ---- huggingface_hub ----------------------------------------------------------------------------

def hub_classifies():
    client = huggingface_hub.InferenceClient(model=MAIN + "/predict", token="any")
    for i, text in enumerate(TEXTS):
        r = client.text_classification([{"text": QUERY, "text_pair": text}])
        ranked_one = r if isinstance(r, list) else [r]
        assert abs(ranked_one[0].score - SCORES[i]) < 1e-9 and ranked_one[0].label, r
    r = client.text_classification([{"text": QUERY, "text_pair": TEXTS[0]}], top_k=1,
                                   function_to_apply="none")
    assert r[0].score != SCORES[0], r


def hub_errors():
    def call(url, key, texts):
        client = huggingface_hub.InferenceClient(model=url + "/predict", token=key)
        return client.text_classification([{"text": QUERY, "text_pair": t} for t in texts])
    errors(call, huggingface_hub.errors.HfHubHTTPError)


# ---- ragfab's web-api, as it calls its reranker ---------------------------------------------------

FIELDS = ("chunk_id", "document_id", "document_title", "document_source", "chunk_index", "content",
          "similarity")


def ragfab_candidate(i):
    return dict(zip(FIELDS, ("c%d" % i, "d%d" % i, "Titre", "f.pdf", i, TEXTS[i], 0.9 - i / 100)))


def ragfab_ranks():
    """Unlike the web-api, which goes on in vector order after any failure, this one fails."""
    with httpx.Client(timeout=60.0) as client:
        r = client.post(MAIN + "/rerank", json={
            "query": QUERY, "documents": [ragfab_candidate(i) for i in range(len(TEXTS))],
            "top_k": 3})
    r.raise_for_status()
    body = r.json()
    assert "%.3f" % body["processing_time"] and body["count"] == len(body["documents"]) == 3, body
    for d in body["documents"]:
        sent = ragfab_candidate(d["chunk_index"])
        assert {k: d[k] for k in FIELDS} == sent and not d.get("metadata", {}), d
    ranked([(d["chunk_index"], d["rerank_score"]) for d in body["documents"]], 3)


def ragfab_errors():
    documents = [ragfab_candidate(0)]
    with httpx.Client(timeout=60.0) as client:
        for url, body, status in [
                (MAIN, {"query": " ", "documents": documents}, 400),
                (MAIN, {"query": "q", "documents": []}, 400),
                (MAIN, {"documents": documents}, 422),
                (SMALL, {"query": "q", "documents": documents * 3}, 422),
                (SMALL, {"query": "q" * 3000, "documents": documents}, 413),
                (KEYS, {"query": "q", "documents": documents}, 401)]:
            r = client.post(url + "/rerank", json=body)
            assert r.status_code == status, (body, r.status_code, r.text)
            raises(httpx.HTTPStatusError, r.raise_for_status)
            assert "detail" in r.json(), r.text
        for status in (429, 503):
            with busy(status) as (url, _):
                r = client.post(url + "/rerank", json={"query": "q", "documents": documents})
                assert r.status_code == status and int(r.headers["retry-after"]) >= 1, r.text


# ---- mcp ----------------------------------------------------------------------------------------

def mcp_session():
    import mcp
    from mcp.client.stdio import stdio_client

    async def go():
        server = mcp.StdioServerParameters(command=JOB["rerankd"], args=["mcp", "--model",
                                                                         JOB["folder"]])
        async with stdio_client(server) as (read, write), mcp.ClientSession(read, write) as session:
            hello = await session.initialize()
            tools = await session.list_tools()
            good = await session.call_tool("rerank", {"query": QUERY, "documents": TEXTS, "top_n": 3})
            bad = await session.call_tool("rerank", {"query": QUERY, "documents": []})
            await session.send_ping()
            return hello, tools, good, bad
    hello, tools, good, bad = (x.model_dump(by_alias=True) for x in asyncio.run(go()))
    assert hello["serverInfo"]["name"] == "rerankd", hello
    assert [t["name"] for t in tools["tools"]] == ["rerank"], tools
    assert not good["isError"] and bad["isError"], (good, bad)
    texts_ranked([(r["text"], r["score"]) for r in good["structuredContent"]["results"]], 3)


def main():
    drive([
        ("Cohere", "cohere", "Client.rerank (v1)", lambda: cohere_ranks(1)),
        ("Cohere", "cohere", "Client.rerank, objects, rank_fields", cohere_v1_objects),
        ("Cohere", "cohere", "ClientV2.rerank", lambda: cohere_ranks(2)),
        ("Cohere", "cohere", "AsyncClientV2.rerank, 8 at once", cohere_async),
        ("Cohere", "cohere", "errors 400, 401, 413, 422", cohere_errors),
        ("Cohere", "cohere", "error 429", lambda: cohere_refused(429, cohere.TooManyRequestsError)),
        ("Cohere", "cohere", "error 503", lambda: cohere_refused(503, cohere.ServiceUnavailableError)),
        ("Cohere", "cohere", "tries again after 429", lambda: cohere_retries(429)),
        ("Cohere", "cohere", "tries again after 503", lambda: cohere_retries(503)),
        ("Voyage", "voyageai", "Client.rerank", voyage_ranks),
        ("Voyage", "voyageai", "AsyncClient.rerank", voyage_async),
        ("Voyage", "voyageai", "Client.rerank, /voyage", voyage_pinned),
        ("Voyage", "voyageai", "errors 400, 401, 413, 422, 429, 503", voyage_errors),
        ("Voyage", "voyageai", "tries again after 429", lambda: voyage_retries(429)),
        ("Voyage", "voyageai", "tries again after 503", lambda: voyage_retries(503)),
        ("rerankers", "rerankers", "APIRanker, text-embeddings-inference",
         api_ranker("text-embeddings-inference", "/rerank")),
        ("rerankers", "rerankers", "APIRanker, cohere", api_ranker("cohere", "/v1/rerank")),
        ("rerankers", "rerankers", "APIRanker, jina", api_ranker("jina", "/v1/rerank")),
        ("rerankers", "rerankers", "APIRanker, voyage", api_ranker("voyage", "/v1/rerank")),
        ("rerankers", "rerankers", "APIRanker, mixedbread.ai",
         api_ranker("mixedbread.ai", "/v1/reranking")),
        ("rerankers", "rerankers", "APIRanker, pinecone", api_ranker("pinecone", "/rerank")),
        ("rerankers", "rerankers", "APIRanker, isaacus", api_ranker("isaacus", "/v1/rerankings")),
        ("rerankers", "rerankers", "Reranker(\"cohere\")", reranker_factory),
        ("rerankers", "rerankers", ERRORS, api_ranker_errors),
        ("LiteLLM", "litellm", "rerank, cohere", litellm_ranks("cohere/m", MAIN)),
        ("LiteLLM", "litellm", "rerank, jina_ai", litellm_ranks("jina_ai/m", MAIN)),
        ("LiteLLM", "litellm", "rerank, huggingface", litellm_ranks("huggingface/m", MAIN)),
        ("LiteLLM", "litellm", "rerank, hosted_vllm", litellm_ranks("hosted_vllm/m", MAIN)),
        ("LiteLLM", "litellm", "rerank, infinity", litellm_ranks("infinity/m", MAIN + "/infinity")),
        ("LiteLLM", "litellm", "rerank, voyage", litellm_ranks("voyage/m", MAIN)),
        ("LiteLLM", "litellm", ERRORS, litellm_errors),
        ("OpenAI", "openai", "post to /rerank", lambda: ranked(openai_call(MAIN, "any", TEXTS))),
        ("OpenAI", "openai", ERRORS, openai_errors),
        ("OpenAI", "openai", "tries again after 429", lambda: openai_retries(429)),
        ("OpenAI", "openai", "tries again after 503", lambda: openai_retries(503)),
        ("OpenAI", "openai", "models.list, models.retrieve", openai_models),
        ("Mixedbread", "mixedbread", "rerank, objects, rank_fields", mixedbread_ranks),
        ("Mixedbread", "mixedbread", ERRORS, mixedbread_errors),
        ("Pinecone", "pinecone", "inference.rerank, objects, rank_fields", pinecone_ranks),
        ("Isaacus", "isaacus", "rerankings.create", lambda: ranked(isaacus_call(MAIN, "any", TEXTS))),
        ("DashScope", "dashscope", "TextReRank.call, errors 400, 401", dashscope_ranks),
        ("Xinference", "xinference-client", "get_model(uid).rerank", xinference_ranks),
        ("Xinference", "xinference-client", ERRORS, lambda: errors(xinference_call, RuntimeError)),
        ("Hugging Face Hub", "huggingface_hub", "InferenceClient.text_classification, pairs",
         hub_classifies),
        ("Hugging Face Hub", "huggingface_hub", ERRORS, hub_errors),
        ("ragfab web-api", "httpx", "its request, 60 s, seven fields", ragfab_ranks),
        ("ragfab web-api", "httpx", "errors 400, 401, 413, 422, 429, 503", ragfab_errors),
        ("Model Context Protocol", "mcp", "session with rerankd mcp", mcp_session),
    ])


main()
