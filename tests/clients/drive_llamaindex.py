# SPDX-License-Identifier: Apache-2.0
"""drive_llamaindex.py - LlamaIndex's node post-processors; see kit.py."""
from kit import ERRORS, KEY, KEYS, MAIN, MODEL, QUERY, SMALL, TEXTS, drive, errors, raises, texts_ranked
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


def process(make):
    """For kit.errors."""
    return lambda url, key, texts: make(url, key).postprocess_nodes(
        [NodeWithScore(node=TextNode(text=t), score=0.5) for t in texts], query_str=QUERY)


def tei(url=MAIN, token=None):
    return TextEmbeddingInference(base_url=url, top_n=3, auth_token=token)


def tei_errors():
    """It looks at no status: what is not a list of scores has to make it fail."""
    errors(process(tei))
    processes(tei(KEYS, KEY), 3)  # the bare key in Authorization


def cohere(url=MAIN, key="any"):
    return CohereRerank(api_key=key, base_url=url, model=MODEL, top_n=2)


def cohere_errors():
    errors(process(cohere))
    raises(Exception, lambda: processes(cohere(SMALL), 2), "422")


def jina(url=MAIN, key="any"):
    return JinaRerank(api_key=key, base_url=url + "/v1", model=MODEL, top_n=2)


def jina_errors():
    errors(process(jina), RuntimeError)
    raises(RuntimeError, lambda: processes(jina(KEYS, "wrong"), 2), "key")
    raises(RuntimeError, lambda: processes(jina(SMALL), 2), "2")


def voyage(url=MAIN, key="any"):
    ranker = VoyageAIRerank(model=MODEL, api_key=key, top_n=2)
    ranker._client._params["base_url"] = url + "/v1"  # it has no setting for it
    return ranker


def main():
    drive([
        ("LlamaIndex", TEI, "TextEmbeddingInference", lambda: processes(tei(), 3)),
        ("LlamaIndex", TEI, ERRORS, tei_errors),
        ("LlamaIndex", COHERE, "CohereRerank", lambda: processes(cohere(), 2)),
        ("LlamaIndex", COHERE, ERRORS, cohere_errors),
        ("LlamaIndex", JINA, "JinaRerank", lambda: processes(jina(), 2)),
        ("LlamaIndex", JINA, ERRORS, jina_errors),
        ("LlamaIndex", VOYAGE, "VoyageAIRerank", lambda: processes(voyage(), 2)),
        ("LlamaIndex", VOYAGE, ERRORS, lambda: errors(process(voyage))),
    ])


main()
