# SPDX-License-Identifier: Apache-2.0
"""drive_haystack.py - Haystack's rankers; see kit.py."""
from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.rankers import huggingface_api
from haystack_integrations.components.rankers.cohere import CohereRanker
from haystack_integrations.components.rankers.jina import JinaRanker
from haystack_integrations.components.rankers.vllm import VLLMRanker
from kit import (ERRORS, KEY, KEYS, MAIN, MODEL, QUERY, TEXTS, busy_for_a_moment, drive, errors, raises,
                 texts_ranked)

TEIRanker = next(v for k, v in vars(huggingface_api).items() if k.endswith("Ranker"))


def runs(ranker, n):
    if hasattr(ranker, "warm_up"):
        ranker.warm_up()
    found = ranker.run(query=QUERY, documents=[Document(content=t) for t in TEXTS])["documents"]
    texts_ranked([(d.content, d.score) for d in found], n)


def rank(make):
    """For kit.errors."""
    def call(url, key, texts):
        ranker = make(url, key)
        if hasattr(ranker, "warm_up"):
            ranker.warm_up()
        return ranker.run(query=QUERY, documents=[Document(content=t) for t in texts])
    return call


def secret(key):
    return Secret.from_token(key)


def tei(url=MAIN, key="any", **options):
    return TEIRanker(url=url, top_k=3, token=secret(key), **options)


def tei_errors():
    errors(rank(lambda url, key: tei(url, key, max_retries=0)))
    runs(tei(KEYS, KEY), 3)


def tei_retries():
    with busy_for_a_moment(429) as url:
        runs(tei(url, max_retries=5), 3)


def jina(url=MAIN, key="any"):
    return JinaRanker(model=MODEL, api_key=secret(key), base_url=url + "/v1/rerank")


def vllm(url=MAIN, key="any", **options):
    return VLLMRanker(model=MODEL, api_key=secret(key), api_base_url=url + "/v1", **options)


def cohere(url=MAIN, key="any"):
    return CohereRanker(model=MODEL, api_key=secret(key), api_base_url=url, top_k=2)


def main():
    drive([
        ("Haystack", "huggingface-api-haystack", TEIRanker.__name__, lambda: runs(tei(), 3)),
        ("Haystack", "huggingface-api-haystack", ERRORS, tei_errors),
        ("Haystack", "huggingface-api-haystack", "tries again after 429", tei_retries),
        ("Haystack", "jina-haystack", "JinaRanker", lambda: runs(jina(), None)),
        ("Haystack", "jina-haystack", ERRORS, lambda: errors(rank(jina))),
        ("Haystack", "vllm-haystack", "VLLMRanker", lambda: runs(vllm(), None)),
        ("Haystack", "vllm-haystack", "VLLMRanker, top_k", lambda: runs(vllm(top_k=2), 2)),
        ("Haystack", "vllm-haystack", ERRORS, lambda: errors(rank(vllm))),
        ("Haystack", "cohere-haystack", "CohereRanker", lambda: runs(cohere(), 2)),
        ("Haystack", "cohere-haystack", ERRORS, lambda: errors(rank(cohere))),
        ("Haystack", "cohere-haystack", "error 401 in words",
         lambda: raises(Exception, lambda: runs(cohere(KEYS, "wrong"), 2), "401")),
    ])


main()
