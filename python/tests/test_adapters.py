# SPDX-License-Identifier: Apache-2.0
"""test_adapters.py - the adapters inside their frameworks; each is skipped where there is none."""
import importlib.util
import os
import unittest

from rerankd import CrossEncoder

MODEL = os.environ["MODEL"]
os.environ["HAYSTACK_DESERIALIZATION_ALLOWLIST"] = "rerankd.haystack"
QUERY = "Comment installer un serveur web ?"
TEXTS = ["La recette du gâteau.", "Apache est un serveur HTTP facile à installer.",
         "Le serveur du restaurant apporte la carte.", "Nginx s'installe comme serveur web."]


def there(module):
    return unittest.skipUnless(importlib.util.find_spec(module), "no " + module)


class Adapters(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with CrossEncoder(MODEL) as model:
            found = model.engine.score(QUERY, TEXTS)
        cls.expected = [(TEXTS[i], found.scores[i].score) for i in found.order]

    @there("langchain_core")
    def test_langchain(self):
        from langchain_core.documents import Document
        from rerankd.langchain import RerankdCompressor
        documents = [Document(page_content=t, metadata={"n": i}) for i, t in enumerate(TEXTS)]
        found = RerankdCompressor(source=MODEL, top_n=2).compress_documents(documents, QUERY)
        self.assertEqual([(d.page_content, d.metadata["relevance_score"]) for d in found],
                         self.expected[:2])
        self.assertEqual([TEXTS[d.metadata["n"]] for d in found], [d.page_content for d in found])
        self.assertNotIn("relevance_score", documents[1].metadata)
        self.assertEqual(len(RerankdCompressor(source=MODEL, top_n=None).compress_documents(
            documents, QUERY)), 4)
        self.assertEqual(RerankdCompressor(source=MODEL).compress_documents([], QUERY), [])
        with self.assertRaises(TypeError):
            RerankdCompressor(source=3)

    @there("llama_index")
    def test_llamaindex(self):
        from llama_index.core.schema import NodeWithScore, TextNode
        from rerankd.llamaindex import RerankdPostprocessor
        nodes = [NodeWithScore(node=TextNode(text=t), score=0.1) for t in TEXTS]
        found = RerankdPostprocessor(MODEL, top_n=3).postprocess_nodes(nodes, query_str=QUERY)
        self.assertEqual([(n.node.get_content(), n.score) for n in found], self.expected[:3])
        self.assertEqual(RerankdPostprocessor(MODEL).postprocess_nodes([], query_str=QUERY), [])
        with self.assertRaises(ValueError):
            RerankdPostprocessor(MODEL).postprocess_nodes(nodes)

    @there("haystack")
    def test_haystack(self):
        from haystack import Document, Pipeline
        from rerankd.haystack import RerankdRanker
        documents = [Document(content=t) for t in TEXTS]
        pipeline = Pipeline()
        pipeline.add_component("ranker", RerankdRanker(MODEL, top_k=3))
        again = Pipeline.loads(pipeline.dumps())
        for p in (pipeline, again):
            found = p.run({"ranker": {"query": QUERY, "documents": documents}})["ranker"]["documents"]
            self.assertEqual([(d.content, d.score) for d in found], self.expected[:3])
        low = RerankdRanker(MODEL, score_threshold=self.expected[0][1])
        self.assertEqual(len(low.run(query=QUERY, documents=documents)["documents"]), 1)
        self.assertEqual(low.run(query=QUERY, documents=[])["documents"], [])


if __name__ == "__main__":
    unittest.main()
