#!/usr/bin/env python3
"""Checks of the recipe that need neither the archive nor a trained model.

    python3 tools/starter/test_recipe.py
"""
import json
import os
import random
import string
import tempfile
import types
import unittest
import unittest.mock
import zlib

import numpy as np
import torch
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

import apps
import corpus
import data
import encoder
import gpu
import lists
import manual
import mean
import queries
import releases
import train
import translated


def small_model():
    torch.manual_seed(4)
    return XLMRobertaForSequenceClassification(XLMRobertaConfig(
        vocab_size=50, hidden_size=64, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=96, max_position_embeddings=40, type_vocab_size=1, pad_token_id=1,
        num_labels=1, initializer_range=0.3)).eval()


class Grid(unittest.TestCase):
    def setUp(self):
        g = torch.Generator().manual_seed(3)
        heavy = torch.randn(40, 64, generator=g) ** 3  # a few weights far larger than the others
        self.w = torch.cat([torch.randn(40, 64, generator=g), heavy, torch.zeros(1, 64)]) * 0.1
        self.on = encoder.on_grid(self.w)

    def steps(self):
        """The row's smallest power of two that all of it is a multiple of -> whole numbers"""
        for row in self.on[:-1]:
            fraction = torch.tensor([torch.frexp(v)[0].item() for v in row])
            self.assertTrue(torch.isfinite(fraction).all())
            for power in range(20, -20, -1):
                q = row / 2.0 ** power
                if torch.equal(q, q.round()):
                    yield q
                    break
            else:
                self.fail("no step")

    def test_whole_numbers_within_both_limits(self):
        for q in self.steps():
            self.assertLessEqual(q.abs().max().item(), encoder.MOST)
            for first in range(0, 64, 8):
                for a in (0, 2):
                    four = q[[first + a, first + a + 1, first + a + 4, first + a + 5]]
                    self.assertLessEqual(four.clamp(min=0).sum().item(), encoder.MOST_IN_SET)
                    self.assertLessEqual((-four).clamp(min=0).sum().item(), encoder.MOST_IN_SET)

    def test_small_types_hold_it_exactly(self):
        self.assertTrue(torch.equal(self.on.bfloat16().float(), self.on))
        self.assertTrue(torch.equal(self.on.half().float(), self.on))

    def test_grid_of_a_grid_is_itself(self):
        self.assertTrue(torch.equal(encoder.on_grid(self.on), self.on))

    def test_is_near(self):
        error = (self.on - self.w)[:40].norm(dim=1) / self.w[:40].norm(dim=1)
        self.assertLess(error.max().item(), 0.04)
        self.assertGreater(error.min().item(), 0)


class Forward(unittest.TestCase):
    def setUp(self):
        self.model = small_model()
        self.ids = torch.tensor([[0, 7, 8, 2, 2, 9, 10, 2], [0, 11, 2, 2, 12, 2, 1, 1]])
        self.mask = (self.ids != 1).long()

    def test_is_transformers(self):
        with torch.no_grad():
            want = self.model(input_ids=self.ids, attention_mask=self.mask).logits[:, 0]
            got = encoder.Encoder(self.model).score(self.ids, self.mask)
        self.assertLess((want - got).abs().max().item(), 1e-5)

    def test_grid_changes_little_and_all_gradients_pass(self):
        net = encoder.Encoder(self.model, grid=True)
        plain = encoder.Encoder(self.model).score(self.ids, self.mask)
        score = net.score(self.ids, self.mask)
        self.assertLess((plain - score).abs().max().item(), 0.2)
        self.assertGreater((plain - score).abs().max().item(), 0)
        score.sum().backward()
        for name in encoder.gridded(self.model):
            self.assertGreater(self.model.get_parameter(name).grad.abs().max().item(), 0, name)

    def test_eight_bits(self):
        x = torch.randn(5, 64) * 3 + 1
        y = encoder.eight_bits(x)
        step = (x.amax(1) - x.amin(1)) / 254
        self.assertLessEqual(((x - y).abs().amax(1) / step).max().item(), 0.501)
        self.assertTrue(all(len(r.unique()) <= 255 for r in y))
        self.assertTrue(torch.equal(encoder.eight_bits(torch.full((1, 8), 2.5)), torch.full((1, 8), 2.5)))

    def test_kept_weights_are_those_of_the_last_clear(self):
        fresh = encoder.Encoder(self.model, grid=True)
        keeps = encoder.Encoder(self.model, grid=True)
        keeps.kept = {}
        before = fresh.score(self.ids, self.mask)
        self.assertTrue(torch.equal(keeps.score(self.ids, self.mask), before))
        with torch.no_grad():
            for p in self.model.parameters():
                p *= 1.5
        after = fresh.score(self.ids, self.mask)
        self.assertFalse(torch.equal(keeps.score(self.ids, self.mask), after))
        keeps.kept.clear()
        self.assertTrue(torch.equal(keeps.score(self.ids, self.mask), after))


class Sample(unittest.TestCase):
    def test_sum_is_right_on_average(self):
        rng, size = random.Random(2), torch.rand(48, generator=torch.Generator().manual_seed(1)) ** 4
        total = torch.zeros(48)
        for _ in range(4000):
            kept, weight = train.sample(size, 12, rng)
            self.assertEqual(len(kept), 12)
            total[kept] += weight * size[kept]
        self.assertLess(((total / 4000).sum() / size.sum() - 1).abs().item(), 0.01)
        large = size > size.median()
        self.assertLess((total / 4000 / size - 1)[large].abs().max().item(), 0.15)

    def test_what_is_far_larger_is_always_taken(self):
        size = torch.full((20,), 0.01)
        size[7] = 5
        for seed in range(50):
            kept, weight = train.sample(size, 4, random.Random(seed))
            self.assertIn(7, kept.tolist())
            self.assertEqual(weight[kept.tolist().index(7)].item(), 1)

    def test_gradient_is_that_of_the_whole(self):
        """With every pair taken the two passes give what one backward pass gives"""
        model = small_model()
        pairs = [(torch.tensor([0, 7 + i, 2, 2, 20 + i, 2]).numpy(), None,
                  torch.tensor([0, 0, 0, 1, 1, 1]).numpy()) for i in range(8)]
        gold, moved = torch.tensor([1, 0]), [0, 3] * 4
        cosines = torch.tensor([[0.2, 0.7, 0.5, 0.1], [float("nan")] * 4])
        run = types.SimpleNamespace(net=encoder.Encoder(model),
                                    a=types.SimpleNamespace(workers=2, teach=1.0))
        with unittest.mock.patch.object(train, "sample", lambda size, count, rng: (torch.arange(8), torch.ones(8))):
            logits, _ = train.Run.pull(run, pairs, moved, gold, cosines, 1.0, random.Random(1))
        twice = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        once, _ = train.forward(run.net, None, pairs, moved, None, 2, None)
        train.rank_loss(once, gold, cosines, 1.0).backward()
        self.assertLess((logits - once).abs().max().item(), 1e-5)
        for name, p in model.named_parameters():
            if p.grad is not None:
                self.assertLess((p.grad - twice[name]).abs().max().item(), 1e-5, name)


class Teacher(unittest.TestCase):
    def test_loss_is_least_where_logits_are_the_teachers(self):
        cosines = torch.tensor([[0.2, 0.7, 0.5, 0.1], [float("nan")] * 4])
        gold = torch.tensor([1, 2])
        want = train.SHARP * cosines[:1] + train.RIGHT * torch.tensor([[0.0, 1, 0, 0]])
        logits = torch.cat([want + 4, torch.tensor([[1.0, -3, 2, 0]])]).requires_grad_()
        loss = train.teach_loss(logits, gold, cosines)
        loss.backward()
        self.assertLess(abs(loss.item()), 1e-5)
        self.assertLess(logits.grad.abs().max().item(), 1e-5)
        other = logits.detach() + torch.tensor([[0.0, 0, 2, 0], [0, 0, 0, 0]])
        self.assertGreater(train.teach_loss(other, gold, cosines).item(), 0.05)
        self.assertEqual(train.teach_loss(logits, gold, torch.full((2, 4), float("nan"))).item(), 0)

    def test_lists_have_the_cosines_of_their_documents(self):
        """The query of an entry is nearest to its own document, wherever the list has it"""
        es = [corpus.Entry("p%d" % i, "s%d" % i, {"en": ("short %d" % i, "long text %d" % i)})
              for i in range(9)]
        vectors = np.stack([np.eye(9, dtype=np.float16)] * 2)
        mix = queries.Mix({("en", "en"): 1}, 0.0, 0.0, 1.0)
        near = np.array([[j for j in range(9) if j != i] for i in range(9)])
        with unittest.mock.patch.dict(queries.MIXES, {"test": mix}):
            maker = queries.Maker(es, {"en": [near]}, {}, "test", vectors)
        for seed in range(20):
            _, docs, gold, _, cosines = maker.make(random.Random(seed), 4, 0.9, 0, 1.0)
            self.assertEqual(cosines.tolist(), [float(k == gold) for k in range(5)])
        vectors[1, 3] = 0  # unknown: no list that has it is taught
        for seed in range(20):
            _, docs, _, _, cosines = maker.make(random.Random(seed), 4, 0.9, 0, 1.0)
            self.assertEqual(cosines is None, "long text 3" in docs)


class Mean(unittest.TestCase):
    def test_shares(self):
        a, b = small_model(), small_model()
        with torch.no_grad():
            for p in b.parameters():
                p.add_(1)
        before = {k: p.clone() for k, p in a.named_parameters()}
        for k, p in mean.mean(a, b, 0.25).named_parameters():
            self.assertLess((p - before[k] - 0.25).abs().max().item(), 1e-6, k)


class Lists(unittest.TestCase):
    def entries(self):
        words = "alpha beta gamma delta epsilon zeta eta theta iota kappa".split()
        return [corpus.Entry("p%d" % i, "s%d" % (i // 2), {
            l: (words[i % 10] + " tool", "%s %s %s thing number %d" % (l, words[i % 10],
                                                                       words[i // 10], i))
            for l in ("en", "fr")}) for i in range(100)]

    def test_lists(self):
        entries = self.entries()
        rows = lists.candidate_lists(entries, "fr", "en", 30, 1)
        source = {e.text["en"][1]: e.source for e in entries}
        name = {e.text["en"][1]: e.name for e in entries}
        self.assertEqual(len(rows), 30)
        for row in rows:
            self.assertEqual(len(set(row["documents"])), 20)
            right = row["documents"][row["positive"]]
            self.assertEqual(name[right], row["id"])
            others = [d for d in row["documents"] if d != right]
            self.assertNotIn(source[right], [source[d] for d in others])

    def test_fewer_are_the_first_ones(self):
        many = lists.candidate_lists(self.entries(), "en", "en", 30, 1)
        few = lists.candidate_lists(self.entries(), "en", "en", 5, 1)
        self.assertEqual([r["query"] for r in few], [r["query"] for r in many[:5]])
        self.assertEqual([r["documents"] for r in few], [r["documents"] for r in many[:5]])

    def test_metrics_count_ties_against(self):
        row = dict(positive=1)
        self.assertEqual(lists.metrics([row], [[0.5, 0.5, 0.1]]), (1 / 2, 1 / 1.584962500721156, 0))
        self.assertEqual(lists.metrics([row], [[0.1, 0.5, 0.1]]), (1, 1, 1))


PAGE = """<html><head><title>%s</title><style>p { color: red }</style></head><body>
<h1 id="one">%s</h1><p class="paragraph">%s</p><p class="code">Print "%s"</p>
<h2 id="two">Name</h2><ul><li><p>%s</p></li></ul>
<footer><h3>Debug</h3><p>/text/page.xhp</p></footer></body></html>"""


class Manual(unittest.TestCase):
    english = ("Tables", "Tables", "A table has rows and columns " * 3, "x", "What it is called " * 4)
    spanish = ("Tablas", "Tablas", "Una tabla tiene filas y columnas " * 3, "x", english[4])

    def read(self):
        with tempfile.TemporaryDirectory() as top:
            for lang in manual.PACKAGE:
                folder = os.path.join(top, manual.FOLDER.get(lang, lang), "text")
                os.makedirs(folder)
                with open(os.path.join(folder, "page.html"), "w", encoding="utf-8") as f:
                    f.write(PAGE % (self.spanish if lang == "es" else self.english))
            return manual.read(top)

    def test_sections(self):
        first, second = self.read()
        self.assertEqual(first.text["en"], ("Tables", self.english[2].strip()))
        self.assertEqual(first.text["es"], ("Tablas", self.spanish[2].strip()))
        self.assertEqual(second.text, {"en": ("Tables: Name", self.english[4].strip())},
                         "what nobody translated is left out")
        self.assertEqual(first.source, second.source)
        self.assertTrue(manual.is_section(first))

    def test_share_of_lists(self):
        entries = self.read()[:1] * 9 + [corpus.Entry("a", "a", {"es": ("breve", "largo"), "en": ("s", "l")})]
        maker = queries.Maker(entries, {}, {})
        rng = random.Random(1)
        asked = [maker.entry(rng, ("es", "en")) for _ in range(2000)]
        self.assertAlmostEqual(sum(i < 9 for i in asked) / 2000, queries.MIXES["across"].manual, delta=0.04)


COMPONENTS = """---
File: DEP-11
---
ID: org.example.Reader
Package: reader-gui
Name: {C: Reader}
Summary: {C: Reads documents, es: Lee documentos, fr: Lit}
Description:
  C: "<p>Reader shows &quot;documents&quot; of all kinds.</p><ul><li>fast and small as it is</li></ul>"
  es: "<p>Reader muestra documentos de todo tipo, tambi\u00e9n los que son muy largos.</p>"
  fr: "<p>Reader affiche des documents de toute sorte, aussi ceux qui sont tr\u00e8s longs.</p>"
---
ID: org.example.Short
Package: short
Summary: {C: Too short a text}
Description: {C: <p>Short.</p>}
"""


class Apps(unittest.TestCase):
    def test_components(self):
        reader, = apps.read(COMPONENTS, {"reader-gui": "reader"})
        self.assertEqual((reader.name, reader.source), ("apps/org.example.Reader", "reader"))
        self.assertEqual(sorted(reader.text), ["en", "es"], "a short text of four letters says nothing")
        self.assertEqual(reader.text["en"], ("Reads documents", 'Reader shows "documents" of all kinds. '
                                             "- fast and small as it is"))
        self.assertFalse(manual.is_section(reader))


class Releases(unittest.TestCase):
    def entry(self, name, source, short, long, **text):
        return corpus.Entry(name, source, {"en": (short, long), **text})

    def test_added(self):
        held = next("tool%d" % i for i in range(100) if corpus.split_of("tool%d" % i) == "test")
        kept = [s for s in ("shelf%s" % c for c in string.ascii_letters) if corpus.split_of(s) == "train"]
        long = "This tool is held out and says so at such a length that sixty letters are there."
        own = [self.entry("a", held, "a held-out tool", long),
               self.entry("b", kept[0], "a shelf", "Shelves for books of all sizes.")]
        spanish = ("estante", "Estantes para libros de todos los tamaños.")
        more = [self.entry("a2", "tool100", "another one", "Other text."),  # may be its next version
                self.entry("a3", kept[1], "renamed", long.upper().replace(" ", ", ") + " And more."),
                self.entry("a4", kept[1], "renamed", "New text.", es=("a held-out tool", "x")),
                self.entry("b", kept[0], "a shelf", "Shelves for books of all sizes."),
                self.entry("b2", kept[2], "a shelf", "Shelves for books of all sizes.", es=spanish),
                self.entry("c", kept[3], "a chair", "A chair with four legs."),
                self.entry("c2", kept[4], "a chair", "A chair with four legs.")]
        got = releases.added(own, more)
        self.assertEqual([e.name for e in got], ["b2", "c"])
        self.assertEqual(got[0].source, kept[0], "what has a package's text is of its source")

    def test_family(self):
        self.assertEqual(releases.family("gcc-12"), releases.family("gcc-14"))
        self.assertEqual(releases.family("postgresql-15.1"), releases.family("postgresql-13"))
        self.assertNotEqual(releases.family("glib2.0"), releases.family("gtk2.0"))


class Translated(unittest.TestCase):
    def test_mended(self):
        self.assertEqual(translated.mended("Los *Utilitaires de *débogage: 2 ficheros #dar *Qt", "fr"),
                         "Los Utilidades de depuración: 2 archivos dar Qt")
        self.assertEqual(translated.mended("librería", "fr"), "librería")  # Italian's mistake alone
        self.assertEqual(translated.mended("Librería de *stringhe", "it"), "Biblioteca de cadenas")

    def test_line(self):
        self.assertEqual(translated.line("a *b*\n c@d"), "a b c d \n\n")
        long = translated.line("word " * 200)
        self.assertTrue(len(long.strip()) < translated.LONG and long.endswith("word \n\n"))

    def test_source(self):
        text = ("short", "long")
        for have, want in (("fr it", "fr-es"), ("it pt", "pt-es"), ("it de", "ita-spa"), ("de", None)):
            e = corpus.Entry("p", "s", {lang: text for lang in have.split() + ["en"]})
            self.assertEqual((translated.source(e) or (None, None))[1], want)

    def test_add(self):
        entries = [corpus.Entry(name, source, {"en": ("s", name), "fr": ("c", "l")})
                   for name, source in (("a", "a"), ("b", "b"), ("a", manual.MARK + "a"))]
        with tempfile.TemporaryDirectory() as work:
            with open(os.path.join(work, "translated.json"), "w") as f:
                json.dump({translated.key(entries[0]): ["c", "l"]}, f)
            found = translated.add(entries, work)
        self.assertEqual([translated.MACHINE in e.text for e in found], [True, False, False])
        self.assertEqual(found[0].text[translated.MACHINE], ("c", "l"))

    def test_lists_do_not_mix(self):
        """A list is in people's or in Apertium's Spanish"""
        for pair in queries.MIXES["spanish"].shares:
            self.assertEqual(queries.speaks("long", translated.MACHINE), False)
            self.assertTrue(set(pair) <= set(corpus.LANGS + [translated.MACHINE]))
        self.assertTrue(queries.speaks("spanish", translated.MACHINE))


class OnGpu(unittest.TestCase):
    def pairs(self, n):
        rng = np.random.default_rng(5)
        texts = [(rng.integers(4, 50, size), np.zeros(size, int)) for size in rng.integers(3, 14, n + 1)]
        return [data.join_pair(texts[0], t, 30) for t in texts[1:]]

    def test_blank(self):
        pairs = self.pairs(400)
        out = train.blank(pairs, 4, 0.4, np.random.default_rng(1))
        lost = [o[0] != p[0] for o, p in zip(out, pairs)]
        for (ids, _, segment), (was, *_), gone in zip(out, pairs, lost):
            self.assertTrue((ids[gone] == train.UNKNOWN).all() and (segment[gone] == 1).all())
            self.assertTrue((was[gone] > train.UNKNOWN).all())
        touched = [any(gone.any() for gone in lost[at:at + 4]) for at in range(0, 400, 4)]
        self.assertAlmostEqual(np.mean(touched), 0.4, delta=0.15)

    def test_same_logits_in_any_packing(self):
        model, pairs = small_model(), self.pairs(23)
        net, moved = encoder.Encoder(model), [i % 3 for i in range(23)]
        with torch.no_grad():
            logits, excess = gpu.forward(net, *gpu.packed(pairs, moved), "cpu", 2)
            for p, m, logit in zip(pairs, moved, logits):
                alone, _ = train.forward(net, None, [p], [m], None, 1, None)
                self.assertAlmostEqual(alone.item(), logit.item(), delta=1e-4)
        self.assertGreaterEqual(excess.item(), 0)
        self.assertIsNone(net.excesses)

    def test_excess(self):
        normal = torch.randn(200, 224, generator=torch.Generator().manual_seed(1))
        far = normal.clone()
        far[:, 0] = 20
        self.assertLess(encoder.excess(normal).item(), 0.3)
        self.assertGreater(encoder.excess(far).item(), 6)

    def test_remembered_texts_have_the_same_ids(self):
        tok = unittest.mock.Mock()
        tok.encode_batch = lambda texts, add_special_tokens: [
            types.SimpleNamespace(ids=[ord(c) for c in t]) for t in texts]
        coder = data.Coder(tok, {})
        before = coder.encode(["ab", "c", "ab"], stems=False)
        coder.remember(["ab", "d"])
        after = coder.encode(["ab", "c", "ab"], stems=False)
        for (a, x), (b, y) in zip(before, after):
            self.assertTrue((a == b).all() and (x == y).all() and a.dtype == b.dtype)


class Worn(unittest.TestCase):
    def test_words_are_the_texts_own(self):
        rng, text = random.Random(1), "One sentence is here. Another sentence follows it; a third one ends it."
        seen = {queries.worn(rng, text) for _ in range(300)}
        self.assertIn(text, seen)
        self.assertGreater(len(seen), 50)
        for s in seen:
            words = iter(text.split())
            self.assertTrue(s and all(w in words for w in s.split()), s)


class Neighbours(unittest.TestCase):
    """Wrong documents are of the right one's kind and part, never of its source"""

    def find(self, pools):
        packages = [corpus.Entry("p%d" % i, "s%d" % (i // 2), {"en": ("a tool", "tool number %d" % i)})
                    for i in range(60)]
        sections = [corpus.Entry("m%d" % i, manual.MARK + "m%d" % i, {"en": ("a tool", "tool text %d" % i)})
                    for i in range(60)]
        entries = packages + sections + [corpus.Entry("f", "f", {"fr": ("un outil", "outil")})]
        with tempfile.TemporaryDirectory() as work:
            near = data.neighbours(entries, work, "en", 8, pools)
        self.assertTrue((near[-1] == -1).all())
        for i, row in enumerate(near[:-1]):
            self.assertTrue(((row < 60) == (i < 60)).all())
            self.assertNotIn(entries[i].source, [entries[j].source for j in row])
        return near[:-1]

    def test_kinds(self):
        self.find(1)

    def test_parts(self):
        near = self.find(3)
        part = [zlib.crc32(b"%s%d" % (b"p" if i < 60 else b"m", i % 60)) % 3 for i in range(120)]
        for i, row in enumerate(near):
            self.assertEqual({part[j] for j in row}, {part[i]})


if __name__ == "__main__":
    unittest.main()
