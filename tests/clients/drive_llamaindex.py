# SPDX-License-Identifier: Apache-2.0
"""drive_llamaindex.py - LlamaIndex's node post-processors; see kit.py."""
from kit import KEY, KEYS, MAIN, MODEL, QUERY, SMALL, TEXTS, busy, drive, raises, texts_ranked
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
from llama_index.postprocessor.voyageai_rerank import VoyageAIRerank

TEI = "llama-index-postprocessor-tei-rerank"
COHERE = "llama-index-postprocessor-cohere-rerank"
JINA = "llama-index-postprocessor-jinaai-rerank"
VOYAGE = "llama-index-postprocessor-voyageai-rerank"


def processes(ranker, n):
    nodes = [NodeWithScore(node=TextNode(text=t), score=0.5) for t in TEXTS]
    found = ranker.postprocess_nodes(nodes, query_str=QUERY)
    texts_ranked([(x.node.get_content(), x.score) for x in found], n)


def tei(url=MAIN, token=None):
    return TextEmbeddingInference(base_url=url, top_n=3, auth_token=token)


def tei_errors():
    """It looks at no status: what is not a list of scores has to make it fail."""
    raises(Exception, lambda: processes(tei(KEYS), 3))
    processes(tei(KEYS, KEY), 3)  # the bare key in Authorization
    raises(Exception, lambda: processes(tei(SMALL), 3))
    with busy(429) as (url, _):
        raises(Exception, lambda: processes(tei(url), 3))


def cohere(url=MAIN, key="any"):
    return CohereRerank(api_key=key, base_url=url, model=MODEL, top_n=2)


def cohere_errors():
    raises(Exception, lambda: processes(cohere(KEYS, "wrong"), 2), "401")
    raises(Exception, lambda: processes(cohere(SMALL), 2), "422")


def jina(url=MAIN, key="any"):
    return JinaRerank(api_key=key, base_url=url + "/v1", model=MODEL, top_n=2)


def jina_errors():
    raises(RuntimeError, lambda: processes(jina(KEYS, "wrong"), 2), "key")
    raises(RuntimeError, lambda: processes(jina(SMALL), 2), "2")


def voyage():
    ranker = VoyageAIRerank(model=MODEL, api_key="any", top_n=2)
    ranker._client._params["base_url"] = MAIN + "/v1"  # it has no setting for it
    processes(ranker, 2)


def main():
    drive([
        ("LlamaIndex", TEI, "TextEmbeddingInference", lambda: processes(tei(), 3)),
        ("LlamaIndex", TEI, "errors 401, 422, 429", tei_errors),
        ("LlamaIndex", COHERE, "CohereRerank", lambda: processes(cohere(), 2)),
        ("LlamaIndex", COHERE, "errors 401, 422", cohere_errors),
        ("LlamaIndex", JINA, "JinaRerank", lambda: processes(jina(), 2)),
        ("LlamaIndex", JINA, "errors 401, 422", jina_errors),
        ("LlamaIndex", VOYAGE, "VoyageAIRerank", voyage),
    ])


main()
