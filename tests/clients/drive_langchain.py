# SPDX-License-Identifier: Apache-2.0
"""drive_langchain.py - LangChain's rerankers and Infinity's client; see kit.py."""
import infinity_client
from infinity_client.api.default import rerank as infinity_call
from infinity_client.models import RerankInput
from kit import (ERRORS, KEY, KEYS, MAIN, MODEL, QUERY, SMALL, TEXTS, drive, errors, raises, ranked,
                 texts_ranked)
from langchain_cohere import CohereRerank
from langchain_community.document_compressors import InfinityRerank, JinaRerank
from langchain_community.document_compressors import jina_rerank
from langchain_core.documents import Document
from langchain_voyageai import VoyageAIRerank

DOCUMENTS = [Document(page_content=t, metadata={"n": i}) for i, t in enumerate(TEXTS)]


def compress(make):
    """For kit.errors: a call through the interface of chains."""
    return lambda url, key, texts: make(url, key).compress_documents(
        [Document(page_content=t) for t in texts], QUERY)


def compresses(ranker, n):
    """Through the interface that chains use."""
    found = ranker.compress_documents(DOCUMENTS, QUERY)
    assert [TEXTS[d.metadata["n"]] for d in found] == [d.page_content for d in found], found
    texts_ranked([(d.page_content, d.metadata["relevance_score"]) for d in found], n)


def cohere_ranker(url=MAIN, key="any", n=3):
    return CohereRerank(cohere_api_key=key, base_url=url, model=MODEL, top_n=n)


def cohere_errors():
    errors(compress(cohere_ranker))
    raises(Exception, lambda: compresses(cohere_ranker(KEYS, "wrong"), 3), "401")
    compresses(cohere_ranker(KEYS, KEY), 3)


def jina(url=MAIN, key="any"):
    jina_rerank.JINA_API_URL = url + "/v1/rerank"  # it has no other setting for it
    return JinaRerank(jina_api_key=key, model=MODEL, top_n=2)


def jina_errors():
    errors(compress(jina), RuntimeError)
    raises(RuntimeError, lambda: compresses(jina(KEYS, "wrong"), 2), "key")
    raises(RuntimeError, lambda: compresses(jina(SMALL), 2), "2")


def infinity():
    client = infinity_client.Client(base_url=MAIN + "/infinity")
    compresses(InfinityRerank(client=client, model=MODEL, top_n=3), 3)


def infinity_direct():
    client = infinity_client.Client(base_url=MAIN + "/infinity", raise_on_unexpected_status=True)
    r = infinity_call.sync(client=client, body=RerankInput(query=QUERY, documents=TEXTS, model=MODEL))
    ranked([(x.index, x.relevance_score) for x in r.results])
    assert r.model and r.usage.total_tokens > 0, r
    r = infinity_call.sync(client=client, body=RerankInput(
        query=QUERY, documents=TEXTS, model=MODEL, return_documents=True))
    assert [x.document for x in r.results] == [TEXTS[x.index] for x in r.results], r


def infinity_errors():
    def call(url, key, texts):
        client = infinity_client.AuthenticatedClient(base_url=url + "/infinity", token=key,
                                                     raise_on_unexpected_status=True)
        r = infinity_call.sync(client=client, body=RerankInput(query=QUERY, documents=texts,
                                                               model=MODEL))
        if hasattr(r, "detail"):  # a 422 is parsed: FastAPI's list
            assert r.detail[0].msg and r.detail[0].loc, r
            raise ValueError(r)
        return r
    unexpected = infinity_client.errors.UnexpectedStatus
    errors(call, {401: unexpected, 413: unexpected, 422: ValueError, 429: unexpected, 503: unexpected})


def infinity_ranker_errors():
    def make(url, key):
        client = infinity_client.Client(base_url=url + "/infinity",
                                        headers={"Authorization": "Bearer " + key})
        return InfinityRerank(client=client, model=MODEL, top_n=2)
    errors(compress(make))


def voyage(url=MAIN, key="any"):
    return VoyageAIRerank(api_key=key, base_url=url + "/v1", model=MODEL, top_k=2)


def main():
    drive([
        ("LangChain", "langchain-cohere", "CohereRerank.compress_documents",
         lambda: compresses(cohere_ranker(), 3)),
        ("LangChain", "langchain-cohere", "CohereRerank.rerank, dictionaries", lambda: ranked(
            [(r["index"], r["relevance_score"]) for r in cohere_ranker().rerank(
                TEXTS, QUERY, top_n=None)])),
        ("LangChain", "langchain-cohere", ERRORS, cohere_errors),
        ("LangChain", "langchain-community", "JinaRerank.compress_documents",
         lambda: compresses(jina(), 2)),
        ("LangChain", "langchain-community", "JinaRerank, " + ERRORS, jina_errors),
        ("LangChain", "langchain-community", "InfinityRerank.compress_documents", infinity),
        ("LangChain", "langchain-community", "InfinityRerank, " + ERRORS, infinity_ranker_errors),
        ("LangChain", "langchain-voyageai", "VoyageAIRerank.compress_documents",
         lambda: compresses(voyage(), 2)),
        ("LangChain", "langchain-voyageai", ERRORS, lambda: errors(compress(voyage))),
        ("Infinity", "infinity-client", "rerank.sync", infinity_direct),
        ("Infinity", "infinity-client", ERRORS, infinity_errors),
    ])


main()
