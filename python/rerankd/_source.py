# SPDX-License-Identifier: Apache-2.0
"""_source.py - what the adapters rank with: a Reranker, a CrossEncoder, or what makes one of them."""
from typing import Any, List, Optional, Sequence, Tuple, Union

from .client import Reranker
from .cross_encoder import CrossEncoder

Source = Union[Reranker, CrossEncoder]


def make_source(source: Any) -> Source:
    """A URL is a server, another text a model's folder."""
    if isinstance(source, str):
        return Reranker(source) if source.startswith(("http://", "https://")) else CrossEncoder(source)
    if not isinstance(source, (Reranker, CrossEncoder)):
        raise TypeError("source: found %s, expected a URL, a folder, a Reranker or a CrossEncoder"
                        % type(source).__name__)
    return source


def ranked(source: Source, query: str, texts: Sequence[str],
           top_n: Optional[int]) -> List[Tuple[int, float]]:
    """[(index, score)], best first."""
    if not texts:
        return []
    if isinstance(source, Reranker):
        return [(r.index, r.score) for r in source.rank(query, texts, top_n)]
    found = source.engine.score(query, texts)
    return [(i, found.scores[i].score) for i in found.order[:top_n]]
