# SPDX-License-Identifier: Apache-2.0
"""rerankd - rank passages by how well they answer a query.

    from rerankd import CrossEncoder          # the model in this process
    model = CrossEncoder("models/starter")
    model.rank("Where is Paris?", ["Paris is in France.", "Bread needs flour."])

    from rerankd import Reranker              # a server
    Reranker("http://localhost:8002").rank("Where is Paris?", ["Paris is in France."])

Adapters: rerankd.langchain, rerankd.llamaindex, rerankd.haystack.
"""
from ._native import Engine, Score, Scores, version
from .client import AsyncReranker, Reranker, Result
from .cross_encoder import CrossEncoder
from .errors import RerankError, ServerError

__version__ = "@VERSION@"
__all__ = ["AsyncReranker", "CrossEncoder", "Engine", "RerankError", "Reranker", "Result", "Score",
           "Scores", "ServerError", "version"]
