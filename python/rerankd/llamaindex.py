# SPDX-License-Identifier: Apache-2.0
"""llamaindex.py - RerankdPostprocessor, for LlamaIndex's query engines."""
from typing import Any, List, Optional

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from ._source import make_source, ranked


class RerankdPostprocessor(BaseNodePostprocessor):
    """Keeps the top_n best nodes, with the reranker's score.

    source: a URL, a model's folder, a Reranker or a CrossEncoder."""

    top_n: int = Field(default=2, description="Number of nodes to return.")
    _source: Any = PrivateAttr()

    def __init__(self, source: Any = "http://localhost:8002", top_n: int = 2) -> None:
        super().__init__(top_n=top_n)
        self._source = make_source(source)

    @classmethod
    def class_name(cls) -> str:
        """Name for saved pipelines."""
        return "RerankdPostprocessor"

    def _postprocess_nodes(self, nodes: List[NodeWithScore],
                           query_bundle: Optional[QueryBundle] = None) -> List[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("a query is needed")
        texts = [n.node.get_content(metadata_mode=MetadataMode.EMBED) for n in nodes]
        return [NodeWithScore(node=nodes[i].node, score=score)
                for i, score in ranked(self._source, query_bundle.query_str, texts, self.top_n)]
