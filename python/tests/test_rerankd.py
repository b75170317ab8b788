# SPDX-License-Identifier: Apache-2.0
"""test_rerankd.py - the package as it is installed: layouts, engine, CrossEncoder, clients, program.

Run by run.py, which installs the wheel and sets MODEL, RERANKD, and ROOT."""
import asyncio
import ctypes
import gc
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import numpy as np
import rerankd
from rerankd import CrossEncoder, Engine, Reranker, RerankError, ServerError, _structs

ROOT, MODEL, PROGRAM = (os.environ[k] for k in ("ROOT", "MODEL", "RERANKD"))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from server_support import Server, until  # noqa: E402

QUERY = "Comment installer un serveur web ?"
TEXTS = ["La recette du gâteau au chocolat demande trois œufs et du beurre.",
         "L'installation d'un serveur web comme nginx se fait avec le gestionnaire de paquets.",
         "Le serveur du restaurant apporte la carte et prend la commande.",
         "Apache est un serveur HTTP libre, facile à installer et à configurer.", ""]


def truth():
    """Scores by the program."""
    lines = "".join(json.dumps({"query": QUERY, "text": t}) + "\n" for t in TEXTS)
    out = subprocess.run([PROGRAM, "score", "--model", MODEL, "--json", "--no-sort"],
                         input=lines.encode(), stdout=subprocess.PIPE, check=True).stdout
    return [json.loads(x)["score"] for x in out.splitlines()]


class Layout(unittest.TestCase):
    def test_structs_are_those_of_the_compiler(self):
        out = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "abi.py"), "--layout"],
                             stdout=subprocess.PIPE, check=True).stdout
        found = json.loads(out)
        for struct in _structs.ALL:
            name = struct.__name__
            self.assertEqual(ctypes.sizeof(struct), found["structs"][name]["size"], name)
            fields = {f: [getattr(struct, f).offset, getattr(struct, f).size]
                      for f, *_ in struct._fields_}
            self.assertEqual(fields, found["structs"][name]["fields"], name)
        for name, value in rerankd._native._POOLING.items():
            constant = {"max": "RR_POOL_MAX_SCORE", "mean": "RR_POOL_MEAN", "first": "RR_POOL_FIRST"}
            self.assertEqual(value, found["constants"][constant[name]])

    def test_versions(self):
        self.assertEqual(rerankd.version(), rerankd.__version__)


class InProcess(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.truth = truth()
        cls.model = CrossEncoder(MODEL)
        cls.engine = cls.model.engine

    @classmethod
    def tearDownClass(cls):
        cls.model.close()

    def test_score(self):
        r = self.engine.score(QUERY, TEXTS)
        self.assertEqual([x.score for x in r.scores], self.truth)
        self.assertEqual(r.order, sorted(range(5), key=lambda i: (-r.scores[i].logit, i)))
        for x in r.scores:
            self.assertAlmostEqual(x.score, 1 / (1 + math.exp(-x.logit)), 12)
        self.assertEqual(r.tokens, sum(x.tokens for x in r.scores))

    def test_choices(self):
        long = "un texte " * 600
        cut, = self.engine.score("q", [long], max_length=32).scores
        self.assertTrue(cut.truncated and cut.tokens == 32)
        with self.assertRaises(RerankError) as e:
            self.engine.score("q", [long], truncate=False)
        self.assertEqual(e.exception.name, "RR_ETOOBIG")
        windows, = self.engine.score("q", [long], window=(100, 50, "max")).scores
        first, = self.engine.score("q", [long], window=(100, 50, "first")).scores
        self.assertGreaterEqual(windows.logit, first.logit)
        self.assertEqual(self.engine.score("q", [long], window=(100, 50)).scores, [windows])
        self.engine.score("q", [long], window=(100,))
        left, = self.engine.score("q", ["a b c " + long], truncate_left=True, max_length=32).scores
        right, = self.engine.score("q", ["a b c " + long], max_length=32).scores
        self.assertNotEqual(left.logit, right.logit)
        with self.assertRaises(RerankError) as e:
            self.engine.score("q", ["%d %s" % (i, long) for i in range(200)], timeout=0.001)
        self.assertEqual(e.exception.name, "RR_ETIMEDOUT")
        with self.assertRaises(TypeError):
            self.engine.score("q", ["a"], windows=(1,))
        with self.assertRaisesRegex(ValueError, "'least', known are max, mean and first"):
            self.engine.score("q", ["a"], window=(100, 0, "least"))
        with self.assertRaisesRegex(RerankError, "priority is 7, known are -1"):
            self.engine.score("q", ["a"], priority=7)
        with self.assertRaises(TypeError):
            self.engine.score("q", "one text, not its letters")

    def test_bad_input(self):
        with self.assertRaises(RerankError) as e:
            self.engine.score("q", [])
        self.assertEqual(e.exception.name, "RR_EINVAL")
        with self.assertRaises(TypeError):
            self.engine.score("q", ["a", None])
        with self.assertRaises(TypeError):
            self.engine.score_many([("q", ["a"]), ("q", [3])])  # the first one is waited for
        with self.assertRaises(RerankError) as e:
            Engine("/nonexistent")
        self.assertEqual(e.exception.name, "RR_ENOENT")
        self.assertFalse(self.engine._jobs)

    def test_surrogates_and_nul(self):
        a, b, c, d = self.engine.score("q", ["x\ud83dy", "x\ufffdy", "x\0y", "x"]).scores
        self.assertEqual(a, b)
        self.assertNotEqual(c.tokens, 0)
        self.assertGreaterEqual(c.tokens, d.tokens)

    def test_predict(self):
        pairs = [(QUERY, t) for t in TEXTS]
        found = self.model.predict(pairs)
        self.assertIsInstance(found, np.ndarray)
        self.assertEqual(found.dtype, np.float32)
        np.testing.assert_array_equal(found, np.asarray(self.truth, dtype=np.float32))
        mixed = self.model.predict([pairs[0], ("autre chose", TEXTS[1]), pairs[1]])
        self.assertEqual([mixed[0], mixed[2]], [found[0], found[1]])
        one = self.model.predict(pairs[1])
        self.assertEqual((one, np.ndim(one)), (found[1], 0))
        self.assertEqual(self.model.predict([list(p) for p in pairs]).tolist(), found.tolist())
        self.assertIsInstance(self.model.predict(pairs, convert_to_numpy=False), list)
        self.assertEqual(self.model.predict([]).shape, (0,))
        self.assertEqual(self.model.predict(sentences=pairs, num_workers=0).tolist(), found.tolist())
        with self.assertRaises(TypeError):
            self.model.predict(pairs, softmax=True)
        with self.assertRaises(ValueError):
            self.model.predict([("a", "b", "c")])
        with self.assertRaises(ValueError):
            self.model.predict(["ab", "cd", "ef"])

    def test_predict_in_steps(self):
        pairs = [(QUERY, t) for t in TEXTS]
        with open(os.devnull, "w", encoding="utf-8") as quiet:
            kept, sys.stderr = sys.stderr, quiet
            try:
                shown = self.model.predict(pairs, batch_size=2, show_progress_bar=True)
            finally:
                sys.stderr = kept
        np.testing.assert_array_equal(shown, self.model.predict(pairs))

    def test_activation(self):
        class Identity:
            def __call__(self, x):
                raise AssertionError("known by its name")
        logits = self.model.predict([(QUERY, t) for t in TEXTS], activation_fn=Identity())
        self.assertEqual(logits.tolist(), [x.logit for x in self.engine.score(QUERY, TEXTS).scores])
        double = self.model.predict([(QUERY, t) for t in TEXTS], activation_fn=lambda x: 2 * x)
        np.testing.assert_array_equal(double, 2 * logits)

    def test_activation_of_the_model(self):
        """A model whose folder asks for logits, and a caller who asks for probabilities."""
        class Sigmoid:
            def __call__(self, x):
                raise AssertionError("known by its name")
        pairs = [(QUERY, t) for t in TEXTS]
        with tempfile.TemporaryDirectory() as folder:
            for name in os.listdir(MODEL):
                os.symlink(os.path.join(os.path.abspath(MODEL), name), os.path.join(folder, name))
            own = os.path.join(folder, "config_sentence_transformers.json")
            if os.path.lexists(own):
                os.unlink(own)
            with open(own, "w", encoding="utf-8") as f:
                f.write('{"activation_fn": "torch.nn.modules.linear.Identity"}')
            with CrossEncoder(pathlib.Path(folder), threads=1) as model:
                logits = model.predict(pairs)
                asked = model.predict(pairs, activation_fn=Sigmoid())
        self.assertEqual(logits.tolist(), [x.logit for x in self.engine.score(QUERY, TEXTS).scores])
        np.testing.assert_allclose(asked, np.asarray(self.truth, dtype=np.float32), rtol=1e-6)
        self.assertEqual(self.model.predict(pairs, activation_fn=Sigmoid()).tolist(),
                         self.model.predict(pairs).tolist())

    def test_rank(self):
        rows = self.model.rank(QUERY, TEXTS + [TEXTS[0]], return_documents=True)
        truth = [*map(np.float32, self.truth), np.float32(self.truth[0])]
        order = sorted(range(6), key=lambda i: -truth[i])
        self.assertEqual([r["corpus_id"] for r in rows], order)
        self.assertEqual([r["score"] for r in rows], [truth[i] for i in order])
        self.assertEqual([r["text"] for r in rows], [(TEXTS + [TEXTS[0]])[i] for i in order])
        top = self.model.rank(QUERY, TEXTS, top_k=2)
        self.assertEqual([sorted(r) for r in top], [["corpus_id", "score"]] * 2)
        self.assertEqual(self.model.rank(QUERY, []), [])

    def test_threads_and_gil(self):
        """Other threads go on while a long request is computed."""
        texts = ["%d %s" % (i, "un long texte " * 200) for i in range(60)]
        steps, finished = 0, threading.Event()
        thread = threading.Thread(target=lambda: (self.engine.score(QUERY, texts), finished.set()))
        thread.start()
        while not finished.is_set():
            time.sleep(0.001)
            steps += 1
        thread.join()
        self.assertGreater(steps, 5)
        results = [None] * 8
        threads = [threading.Thread(target=lambda i=i: results.__setitem__(
            i, self.engine.score(QUERY, TEXTS))) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertTrue(all([x.score for x in r.scores] == self.truth for r in results))

    def test_asyncio(self):
        async def go():
            many = await asyncio.gather(*[self.engine.ascore(QUERY, TEXTS) for _ in range(20)])
            with self.assertRaises(RerankError):
                await self.engine.ascore("q", [])
            gone = asyncio.ensure_future(self.engine.ascore(QUERY, ["x %d" % i for i in range(50)]))
            await asyncio.sleep(0)
            gone.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await gone
            return many, await self.model.apredict([(QUERY, t) for t in TEXTS])
        many, predicted = asyncio.run(go())
        self.assertTrue(all([x.score for x in r.scores] == self.truth for r in many))
        np.testing.assert_array_equal(predicted, self.model.predict([(QUERY, t) for t in TEXTS]))

    def test_close(self):
        with Engine(MODEL, threads=1, max_length=64) as engine:
            self.assertEqual((engine.info["threads"], engine.info["max_length"]), (1, 64))
            self.assertEqual(engine.info["device"], "cpu")
        engine.close()
        for use in (lambda: engine.info, lambda: engine.score("q", ["a"])):
            with self.assertRaises(RerankError) as e:
                use()
            self.assertEqual(e.exception.name, "RR_ECLOSED")
        dropped = Engine(MODEL, threads=1)
        finalizer = dropped._finalizer
        del dropped
        gc.collect()
        self.assertFalse(finalizer.alive)

    def test_interrupted(self):
        """The result of a request that nobody waits for any more is freed."""
        library, freed = rerankd._native.library(), []
        free = library.rr_result_free

        def stop(*_):
            raise KeyboardInterrupt
        library.rr_result_free = lambda address: (freed.append(address), free(address))
        kept = signal.signal(signal.SIGALRM, stop)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with self.assertRaises(KeyboardInterrupt):
                self.engine.score(QUERY, ["%d %s" % (i, "un long texte " * 200) for i in range(60)])
            until(lambda: freed, "the result")
        finally:
            signal.signal(signal.SIGALRM, kept)
            library.rr_result_free = free

    def test_close_while_others_submit(self):
        """Who has seen the engine open is not left with a handle of freed memory."""
        engine, real, late = Engine(MODEL, threads=1), rerankd._native.library, []
        here, on = threading.Event(), threading.Event()

        def slow():
            if threading.current_thread() is thread:
                here.set()
                on.wait(0.5)  # time for close, if it does not wait
            return real()
        thread = threading.Thread(target=lambda: late.append(engine.score(QUERY, TEXTS)))
        rerankd._native.library = slow
        try:
            thread.start()
            here.wait()
            engine.close()
            on.set()
            thread.join()
        finally:
            rerankd._native.library = real
        self.assertEqual([x.score for x in late[0].scores], self.truth)

    def test_collected_in_a_callback(self):
        """Closing would wait there for its own thread."""
        collected = threading.Event()

        async def go():
            loop = asyncio.get_running_loop()
            plain = loop.call_soon_threadsafe

            def and_collect(*args):
                gc.collect()
                collected.set()
                return plain(*args)
            engine = Engine(MODEL, threads=1)
            finalizer, circle = engine._finalizer, [engine]
            circle.append(circle)
            gone = asyncio.ensure_future(engine.ascore(QUERY, ["%d x" % i for i in range(50)]))
            await asyncio.sleep(0)
            loop.call_soon_threadsafe = and_collect
            gone.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await gone
            del engine, circle, gone
            return finalizer, await loop.run_in_executor(None, collected.wait, 20)
        gc.collect()
        gc.disable()
        try:
            finalizer, in_time = asyncio.run(go())
        finally:
            gc.enable()
        self.assertTrue(in_time)
        self.assertFalse(finalizer.alive)

    def test_fork(self):
        """A child opens its own; the parent's engine is refused there, and does not keep it from
        ending."""
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with self.assertRaises(RerankError) as e:
                    self.engine.score("q", ["a"])
                self.assertEqual(e.exception.name, "RR_ECLOSED")
                with Engine(MODEL, threads=1) as own:
                    self.assertEqual([x.score for x in own.score(QUERY, TEXTS).scores], self.truth)
                self.engine._finalizer()  # as at the end of a process
                code = 0
            finally:
                os._exit(code)
        ended = []

        def wait():
            pid, status = os.waitpid(child, os.WNOHANG)
            return pid and (ended.append(status) or True)
        try:
            until(wait, "the child")
        finally:
            if not ended:
                os.kill(child, 9)
        self.assertEqual(ended, [0])


class OverHttp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.truth = truth()
        cls.server = Server("--max-documents", "50", model_folder=MODEL)
        cls.url = "http://127.0.0.1:%d" % cls.server.port

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None)

    def check(self, hits, n=5):
        order = sorted(range(5), key=lambda i: (-self.truth[i], i))[:n]
        self.assertEqual([(h.index, h.score, h.text) for h in hits],
                         [(i, self.truth[i], TEXTS[i]) for i in order])

    def test_rank(self):
        with Reranker(self.url + "/") as r:
            self.check(r.rank(QUERY, TEXTS))
            self.check(r.rank(QUERY, TEXTS, top_n=2), 2)
            self.assertEqual(r.rank(QUERY, TEXTS, score_threshold=1.0), [])
            self.assertEqual(r.rank(QUERY, []), [])

    def test_errors(self):
        r = Reranker(self.url, retries=0)
        for query, texts, status in ((" ", ["a"], 400), ("q", ["a"] * 51, 422)):
            with self.assertRaises(ServerError) as e:
                r.rank(query, texts)
            self.assertEqual(e.exception.status, status)
            self.assertNotIn("{", str(e.exception))
        with self.assertRaises(ServerError) as e:
            Reranker("http://127.0.0.1:1", timeout=5).rank("q", ["a"])
        self.assertEqual(e.exception.status, 0)
        with self.assertRaises(ValueError):
            Reranker("localhost:8002")

    def test_key_and_idle_connection(self):
        with Server("--api-key", "sesame-sesame-sesame", "--idle-timeout", "1",
                    model_folder=MODEL) as s:
            url = "http://127.0.0.1:%d" % s.port
            with self.assertRaises(ServerError) as e:
                Reranker(url, api_key="wrong").rank("q", ["a"])
            self.assertEqual(e.exception.status, 401)
            r = Reranker(url, api_key="sesame-sesame-sesame")
            self.check(r.rank(QUERY, TEXTS))
            socket = r._local.connection.sock
            until(lambda: not socket.recv(1), "the server to close")
            self.check(r.rank(QUERY, TEXTS))

    def busy(self):
        return Server("--queue-requests", "1", "--threads", "1", "--request-timeout", "300",
                      model_folder=MODEL)

    def hold(self, s):
        c = s.connect()
        c.send("POST", "/rerank", {"query": "q", "texts": ["%d %s" % (i, "un long texte " * 300)
                                                           for i in range(700)]})
        until(lambda: s.post({"query": "q", "texts": ["a"]}).status == 429, "a full queue")
        return c

    def test_retries(self):
        with self.busy() as s:
            url, c = "http://127.0.0.1:%d" % s.port, self.hold(s)
            with self.assertRaises(ServerError) as e:
                Reranker(url, retries=0).rank("q", ["a"])
            self.assertEqual(e.exception.status, 429)
            self.assertGreaterEqual(e.exception.retry_after, 1)
            threading.Timer(0.3, c.close).start()
            self.check(Reranker(url, retries=3).rank(QUERY, TEXTS))

    def test_async(self):
        try:
            import httpx  # noqa: F401
        except ImportError:
            self.skipTest("no httpx")

        async def go():
            async with rerankd.AsyncReranker(self.url) as r:
                many = await asyncio.gather(*[r.rank(QUERY, TEXTS) for _ in range(8)])
                self.assertEqual(await r.rank(QUERY, []), [])
                with self.assertRaises(ServerError):
                    await r.rank(" ", ["a"])
            async with rerankd.AsyncReranker("http://127.0.0.1:1") as r:
                with self.assertRaises(ServerError) as e:
                    await r.rank("q", ["a"])
                self.assertEqual(e.exception.status, 0)
            return many
        for hits in asyncio.run(go()):
            self.check(hits)


class Program(unittest.TestCase):
    def test_module(self):
        env = {k: v for k, v in os.environ.items() if k != "RERANKD"}
        p = subprocess.run([sys.executable, "-m", "rerankd", "--version"], stdout=subprocess.PIPE,
                           check=True, env=env)
        self.assertTrue(p.stdout.decode().startswith("rerankd " + rerankd.__version__), p)
        p = subprocess.run([sys.executable, "-m", "rerankd", "serve", "--port", "x"],
                           stderr=subprocess.PIPE, check=False, env=env)
        self.assertEqual(p.returncode, 64, p)


if __name__ == "__main__":
    unittest.main()
