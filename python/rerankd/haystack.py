# SPDX-License-Identifier: Apache-2.0
"""haystack.py - RerankdRanker, a component of Haystack's pipelines."""
from dataclasses import replace
from typing import Any, Dict, List, Optional

from haystack import Document, component, default_from_dict, default_to_dict

from ._source import make_source, ranked


@component
class RerankdRanker:
    """Ranks documents and gives them the reranker's score.

    source: a URL or a model's folder."""

    def __init__(self, source: str = "http://localhost:8002", top_k: Optional[int] = 10,
                 score_threshold: Optional[float] = None) -> None:
        self.source, self.top_k, self.score_threshold = source, top_k, score_threshold
        self._opened: Any = None

    def warm_up(self) -> None:
        """Opens the model or the connection; run does it otherwise."""
        if self._opened is None:
            self._opened = make_source(self.source)

    def to_dict(self) -> Dict[str, Any]:
        """For saved pipelines."""
        return default_to_dict(self, source=self.source, top_k=self.top_k,
                               score_threshold=self.score_threshold)

    @classmethod
    def from_dict(cls, data: Dict[str, Any]) -> "RerankdRanker":
        """From a saved pipeline."""
        return default_from_dict(cls, data)

    @component.output_types(documents=List[Document])
    def run(self, query: str, documents: List[Document],
            top_k: Optional[int] = None) -> Dict[str, List[Document]]:
        """Best first."""
        self.warm_up()
        found = ranked(self._opened, query, [d.content or "" for d in documents], top_k or self.top_k)
        low = float("-inf") if self.score_threshold is None else self.score_threshold
        return {"documents": [replace(documents[i], score=s) for i, s in found if s >= low]}
