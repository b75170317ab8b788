# SPDX-License-Identifier: Apache-2.0
"""test_sentence_transformers.py - the calls of sentence-transformers' documentation, made to its
CrossEncoder and to ours, with the same model; skipped where it is not installed."""
import importlib.util
import os
import unittest

import numpy as np
import rerankd

MODEL = os.environ["MODEL"]
QUERY = "How many people live in Berlin?"
DOCUMENTS = ["Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square "
             "kilometers.", "Berlin is well known for its museums.",
             "In 2014, the city state Berlin had 37,368 live births (+6.6%), a record number since 1991.",
             "The urban area of Berlin comprised about 4.1 million people in 2014.",
             "The capital of France is Paris.", "Paris " * 900]
TOLERANCE = 2e-5  # of a probability; float32 against float32 in another order


@unittest.skipUnless(importlib.util.find_spec("sentence_transformers"), "no sentence-transformers")
class SentenceTransformers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import torch
        from sentence_transformers import CrossEncoder
        cls.torch = torch
        # Without it they compute in the file's precision, float16.
        cls.theirs = CrossEncoder(MODEL, max_length=512, device="cpu",
                                  model_kwargs={"torch_dtype": torch.float32})
        cls.ours = rerankd.CrossEncoder(MODEL, max_length=512, device="cpu")

    def both(self, method, *arguments, **options):
        return [getattr(m, method)(*arguments, **options) for m in (self.theirs, self.ours)]

    def test_predict(self):
        pairs = [(QUERY, d) for d in DOCUMENTS] + [("Paris", DOCUMENTS[4])]
        identity = self.torch.nn.Identity()
        for options in ({}, {"batch_size": 2}, {"convert_to_tensor": True}, {"apply_softmax": False},
                        {"activation_fn": identity}, {"activation_fn": self.torch.nn.Sigmoid()},
                        {"activation_fn": self.torch.nn.Tanh()}, {"show_progress_bar": True}):
            theirs, ours = self.both("predict", pairs, **options)
            self.assertEqual(type(theirs), type(ours), options)
            self.assertEqual((theirs.dtype, theirs.shape), (ours.dtype, ours.shape), options)
            np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=0,
                                       atol=2e-4 if "activation_fn" in options else TOLERANCE)
        theirs, ours = self.both("predict", pairs, convert_to_numpy=False)
        self.assertEqual((type(theirs), len(theirs)), (type(ours), len(ours)))
        self.assertEqual(type(theirs[0]), type(ours[0]))
        theirs, ours = self.both("predict", pairs[0])
        self.assertEqual(np.shape(theirs), np.shape(ours))
        self.assertAlmostEqual(float(theirs), float(ours), delta=TOLERANCE)

    def test_rank(self):
        for options in ({}, {"top_k": 2}, {"return_documents": True}, {"batch_size": 4}):
            theirs, ours = self.both("rank", QUERY, DOCUMENTS, **options)
            self.assertEqual([sorted(r) for r in theirs], [sorted(r) for r in ours], options)
            self.assertEqual([r["corpus_id"] for r in theirs], [r["corpus_id"] for r in ours])
            for a, b in zip(theirs, ours):
                self.assertAlmostEqual(float(a["score"]), float(b["score"]), delta=TOLERANCE)
                self.assertEqual((type(a["score"]), a.get("text")), (type(b["score"]), b.get("text")))


if __name__ == "__main__":
    unittest.main()
