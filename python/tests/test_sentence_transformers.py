# SPDX-License-Identifier: Apache-2.0
"""test_sentence_transformers.py - sentence-transformers' CrossEncoder and ours with the same model: the
examples of its own documentation as they stand there, and each argument; skipped where it is not
installed."""
import ast
import importlib.util
import inspect
import os
import re
import textwrap
import unittest

import numpy as np
import rerankd

MODEL = os.environ["MODEL"]
TINY = os.path.join(os.environ["ROOT"], "tests", "golden", "models")
QUERY = "How many people live in Berlin?"
DOCUMENTS = ["Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square "
             "kilometers.", "Berlin is well known for its museums.",
             "In 2014, the city state Berlin had 37,368 live births (+6.6%), a record number since 1991.",
             "The urban area of Berlin comprised about 4.1 million people in 2014.",
             "The capital of France is Paris.", "Paris " * 900]
TOLERANCE = 2e-5  # of a probability; float32 against float32 in another order


def examples(function):
    """The pieces of code in a docstring, without what needs GPUs or several processes."""
    found = re.findall(r"^::\n((?:\n|    .*\n?)+)", textwrap.dedent(
        re.split(r"^Examples?:$", inspect.getdoc(function), flags=re.M)[-1]), flags=re.M)
    pieces = []
    for text in found:
        tree = ast.parse(textwrap.dedent(text))
        tree.body = [s for s in tree.body if not re.search("import|pool|cuda", ast.unparse(s))]
        if any(isinstance(n, ast.Name) and n.id == "model" for n in ast.walk(tree)):
            pieces.append(tree)
    return pieces


def results(tree, make):
    """Runs the piece with make as CrossEncoder: everything that it prints, assigns or leaves."""
    shown = []
    names = {"CrossEncoder": make, "print": shown.append}
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and not ast.unparse(statement).startswith("print"):
            shown.append(eval(compile(ast.Expression(statement.value), "doc", "eval"), names))
        else:
            exec(compile(ast.Module([statement], []), "doc", "exec"), names)
    return shown + [v for k, v in sorted(names.items()) if k in ("scores", "results", "ranks")]


@unittest.skipUnless(importlib.util.find_spec("sentence_transformers"), "no sentence-transformers")
class SentenceTransformers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import torch
        from sentence_transformers import CrossEncoder
        cls.torch = torch
        cls.CrossEncoder = CrossEncoder
        cls.theirs, cls.ours = cls.pair(MODEL)

    @classmethod
    def pair(cls, model):
        # Without it they compute in the file's precision, float16.
        return (cls.CrossEncoder(model, max_length=512, device="cpu",
                                 model_kwargs={"dtype": cls.torch.float32}),
                rerankd.CrossEncoder(model, max_length=512, device="cpu"))

    def both(self, method, *arguments, **options):
        return [getattr(m, method)(*arguments, **options) for m in (self.theirs, self.ours)]

    def same(self, theirs, ours):
        """Values as predict and rank give them, down to their types."""
        self.assertEqual(type(theirs), type(ours))
        if isinstance(theirs, dict):
            self.assertEqual(sorted(theirs), sorted(ours))
            for k in theirs:
                self.same(theirs[k], ours[k])
        elif isinstance(theirs, list):
            self.assertEqual(len(theirs), len(ours))
            for a, b in zip(theirs, ours):
                self.same(a, b)
        elif isinstance(theirs, (str, int)):
            self.assertEqual(theirs, ours)
        else:
            self.assertEqual(np.shape(theirs), np.shape(ours))
            np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=0, atol=TOLERANCE)

    def test_documented_examples(self):
        """With the starter model, and with networks of other kinds."""
        pieces = [p for f in (self.CrossEncoder, self.CrossEncoder.predict, self.CrossEncoder.rank)
                  for p in examples(f)]
        self.assertGreaterEqual(len(pieces), 3)
        for folder in (MODEL, *(os.path.join(TINY, n) for n in ("tiny-bert", "tiny-roberta",
                                                                "tiny-electra"))):
            theirs, ours = self.pair(folder)
            for piece in pieces:
                a, b = (results(piece, lambda name, m=m: m) for m in (theirs, ours))
                self.assertGreaterEqual(len(a), 1)
                self.same(a, b)

    def test_predict(self):
        pairs = [(QUERY, d) for d in DOCUMENTS] + [("Paris", DOCUMENTS[4])]
        identity = self.torch.nn.Identity()
        for options in ({}, {"batch_size": 2}, {"convert_to_tensor": True}, {"apply_softmax": False},
                        {"activation_fn": identity}, {"activation_fn": self.torch.nn.Sigmoid()},
                        {"activation_fn": self.torch.nn.Tanh()}, {"show_progress_bar": True},
                        {"prompt": None, "prompt_name": None, "device": None, "pool": None}):
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
        for options in ({}, {"top_k": 2}, {"return_documents": True}, {"batch_size": 4},
                        {"prompt": None, "chunk_size": None}):
            self.same(*self.both("rank", QUERY, DOCUMENTS, **options))

    def test_every_argument_is_known(self):
        """Those of their predict and rank, by name; what cannot be done is refused, not ignored."""
        for name in ("predict", "rank"):
            given = QUERY, DOCUMENTS
            if name == "predict":
                given = ([(QUERY, d) for d in DOCUMENTS],)
            parameters = inspect.signature(getattr(self.CrossEncoder, name)).parameters
            options = {p.name: p.default for p in parameters.values()
                       if p.default is not inspect.Parameter.empty}
            self.assertGreater(len(options), 6)
            getattr(self.ours, name)(*given, **options)
            for unable in ({"prompt": "query: "}, {"pool": {}}, {"device": "cuda:7"}):
                with self.assertRaises(TypeError):
                    getattr(self.ours, name)(*given, **unable)


if __name__ == "__main__":
    unittest.main()
