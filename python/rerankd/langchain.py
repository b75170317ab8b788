# SPDX-License-Identifier: Apache-2.0
"""langchain.py - RerankdCompressor, for LangChain's ContextualCompressionRetriever."""
from typing import Any, Optional, Sequence

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, model_validator

from ._source import make_source, ranked


class RerankdCompressor(BaseDocumentCompressor):
    """Keeps the top_n best documents; their metadata gets "relevance_score".

    source: a URL, a model's folder, a Reranker or a CrossEncoder."""

    source: Any = "http://localhost:8002"
    top_n: Optional[int] = 3

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @model_validator(mode="after")
    def _open_source(self) -> "RerankdCompressor":
        object.__setattr__(self, "source", make_source(self.source))
        return self

    def compress_documents(self, documents: Sequence[Document], query: str,
                           callbacks: Optional[Callbacks] = None) -> Sequence[Document]:
        """The best documents, as copies."""
        found = ranked(self.source, query, [d.page_content for d in documents], self.top_n)
        return [documents[i].model_copy(update={"metadata": {**documents[i].metadata,
                                                             "relevance_score": score}})
                for i, score in found]
