# SPDX-License-Identifier: Apache-2.0
"""cases_device.py - groups G and K with the device "fault", which fails on demand; L, the model's files.

The device is the plugin librerank_fault.so beside the tests; its switches are in a file that it reads
before each run (docs/internals/engine.md)."""
import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time

import probe
from cli_support import RERANKD, environment
from ledger import BROKEN, OK, REFUSED, SERVER_ERROR, Corpus, Ledger, closed_loop
from registry import case
from server import ROOT, Rerankd, Skip, model, server_support, total, until

PLUGINS = os.path.join(os.path.dirname(RERANKD), "tests", "unit")
ENOMEM = 6  # RR_ENOMEM of include/rerank_types.h
FAST = ["--cache-size", "0", "--sandbox", "off"]  # the sandbox would hide the file of switches
PROBE = " ".join([probe.QUERY, *probe.TEXTS])
GOOD = {"query": "q", "texts": ["a", "b"], "raw_scores": True}


class Device:
    """Switches of the device of one server: device.set("fail=1")."""

    def __init__(self):
        if not os.path.exists(os.path.join(PLUGINS, "librerank_fault.so")):
            raise Skip("librerank_fault.so is not built")
        self.folder = tempfile.mkdtemp(prefix="rr_fault.")
        self.path = os.path.join(self.folder, "switches")
        self.state = {}
        self.set()
        self.env = environment(LD_LIBRARY_PATH=PLUGINS, RR_FAULT_FILE=self.path)

    def set(self, **switches):
        """Those that are not named keep what they are."""
        self.state.update(switches)
        with open(self.path + ".new", "w", encoding="utf-8") as f:
            f.write("".join("%s=%d\n" % x for x in self.state.items()))
        os.rename(self.path + ".new", self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.set(hang=0, fail=0)
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def serve(*options, **more):
    """A server on the device, and the device; well again before its invariants are looked at."""
    with Device() as device:
        with Rerankd("--device", "fault", *FAST, *options, env=device.env, **more) as s:
            # Who opens a lost device again, and the threads of the CPU that stands in.
            s.threads_slack = 1 + len(os.sched_getaffinity(0))
            try:
                yield s, device
            finally:
                device.set(hang=0, fail=0)


def ready(s, status=200):
    until(lambda: s.ask("GET", "/ready").status == status, "/ready to be %d" % status)


def tokens(s, text):
    """The ids of a text's tokens that are not special."""
    return [x["id"] for x in s.ask("POST", "/tokenize", {"inputs": text}).json()[0]
            if not x["special"]]


def rare_word(s, texts):
    """A word, and the id of a token of it that none of the texts has."""
    known = {x for text in texts for x in tokens(s, text)}
    for word in ("zebra", "X", "Q", "7", "K", "!", "W", "fjord", "J", "9"):
        rare = [x for x in tokens(s, word) if x not in known]
        if rare:
            return word, rare[0]
    raise AssertionError("every token is in use")


def waiters(s, n):
    """n requests that wait behind one that is computed; gives a function that collects answers."""
    answers = [None] * n

    def ask(i):
        answers[i] = s.post({"query": "q", "texts": ["wait %d %d" % (i, k) for k in range(4)]})

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()

    def collect():
        for t in threads:
            t.join(60)
        return answers

    return collect


def check_refused(answers):
    for a in answers:
        assert a is not None and a.status == 503 and "retry-after" in a.headers, a


@case("P", "a device that fails for good under load, without a stand-in: all waiters 503 within 2 s, "
      "/ready 503, /live 200, the process goes on; healed: ready by itself, the same scores")
def r58_device_ends():
    with serve("--no-fallback") as (s, device):
        device.set(slow_us=200000)
        collect = waiters(s, 10)
        until(lambda: s.metrics()["rerank_requests_in_flight"] == 10, "10 in flight")
        device.set(fail=1)
        start = time.monotonic()
        check_refused([a for a in collect() if a is None or a.status != 200])
        took = time.monotonic() - start
        assert took < 2, took
        ready(s, 503)
        assert s.ask("GET", "/live").status == 200
        assert s.ask("GET", "/health").status == 503
        check_refused([s.post(GOOD) for _ in range(10)])
        device.set(fail=0, slow_us=0)
        ready(s)
        assert s.post(GOOD).status == 200
        return "waiters answered within %.2f s" % took


@case("P", "a batch that hangs: waiters 503 at --stall-timeout, /ready 503, requests refused at once; "
      "the batch returns: serving again")
def r59_hang():
    with serve("--no-fallback", "--stall-timeout", "1", "--stall-exit", "0") as (s, device):
        device.set(hang=1)
        start = time.monotonic()
        collect = waiters(s, 6)
        check_refused(collect())
        took = time.monotonic() - start
        assert 0.9 < took < 10, took
        ready(s, 503)
        start = time.monotonic()
        check_refused([s.post(GOOD)])
        assert time.monotonic() - start < 0.9
        assert s.ask("GET", "/live").status == 200
        device.set(hang=0)
        ready(s)
        assert s.post(GOOD).status == 200
        return "503 after %.1f s" % took


@case("P", "a batch that hangs for ever: the process ends with 70 after --stall-exit")
def r59_hang_exit():
    with Device() as device, Rerankd("--device", "fault", *FAST, "--no-fallback", "--stall-timeout", "1",
                                     "--stall-exit", "2", "--drain-timeout", "1", env=device.env,
                                     ends=False) as s:
        s.exits = (70,)
        device.set(hang=1)
        check_refused(waiters(s, 2)())
        start = time.monotonic()
        code = s.wait()
        assert code == 70, (code, s.lines[-5:])
        return "exit 70 %.1f s after the refusals" % (time.monotonic() - start)


@case("P", "a pair that breaks its batch: its own requests get 503, 200 others beside it their scores; "
      "the pair is refused for a while without touching the device")
def r60_poison():
    with serve("--no-fallback") as (s, device):
        corpus = Corpus(s, queries=2, texts=20)
        word, token = rare_word(s, corpus.queries + corpus.texts + [PROBE])
        device.set(poison_id=token)
        ledger = s.watch(Ledger(corpus))
        stop, sick = threading.Event(), []

        def poison():
            while not stop.is_set():
                sick.append(s.post({"query": "q", "texts": [word]}))

        thread = threading.Thread(target=poison)
        thread.start()
        closed_loop(s.port, ledger, clients=4, requests=50)
        stop.set()
        thread.join()
        assert sick and all(a.status in (500, 503) for a in sick), sick[:3]
        ready(s)
        before = s.metrics()["rerank_batches_total"]
        for _ in range(5):
            assert s.post({"query": "q", "texts": [word]}).status in (500, 503)
        assert s.metrics()["rerank_batches_total"] == before
        device.set(poison_id=0)
        return "%d sick requests refused" % len(sick)


@case("P", "states through a life: /live, /ready and /health while serving, overloaded, without a "
      "device, draining")
def r74_states():
    with serve("--no-fallback", "--queue-requests", "4", "--no-ready-when-saturated",
               "--drain-delay", "300", ends=False) as (s, device):
        def states():
            return tuple(s.ask("GET", x).status for x in ("/live", "/ready", "/health"))

        assert states() == (200, 200, 200), states()
        device.set(hang=1)
        collect = waiters(s, 4)
        until(lambda: s.metrics()["rerank_queue_requests"] == 4, "a full queue")
        assert states()[:2] == (200, 503), states()
        device.set(hang=0)
        assert [a.status for a in collect()] == [200] * 4
        ready(s)
        device.set(fail=1)
        s.post(GOOD)
        until(lambda: states() == (200, 503, 503), "a dead device")
        device.set(fail=0)
        ready(s)
        s.process.terminate()
        s.log("telling balancers")
        a = s.ask("GET", "/ready")
        assert a.status == 503 and a.json()["status"] == "draining", a
        assert states()[0] == 200
        assert s.stop() == 0


@case("P", "no memory on the device: at load one clear line and no crash loop; in a run the batch is "
      "tried again, its requests answered or refused, then the device serves on")
def r84_device_memory():
    with Device() as device:
        env = dict(device.env, RR_FAULT="load_code=%d" % ENOMEM)
        p = subprocess.run([RERANKD, "serve", "--port", "0", "--model", model(), "--device", "fault",
                            "--no-fallback"], stdin=subprocess.DEVNULL, capture_output=True,
                           env=env, timeout=60, cwd=ROOT, text=True)
        errors = [x for x in p.stderr.splitlines() if " error " in x]
        assert p.returncode in (69, 71) and len(errors) == 1 and "fault" in errors[0], p
    with serve("--no-fallback") as (s, device):
        corpus = Corpus(s, queries=2, texts=20)
        ledger = s.watch(Ledger(corpus, {OK, REFUSED, SERVER_ERROR}))
        device.set(fail_next=1, code=ENOMEM)
        assert s.post(GOOD).status in (200, 503)
        device.set(fail_next=0)
        closed_loop(s.port, ledger, clients=4, requests=20)
        ready(s)
        last = s.watch(Ledger(corpus))
        closed_loop(s.port, last, clients=4, requests=10)


@case("P", "a device error that stays: the CPU stands in within 5 s, no request lost, scores those of "
      "the CPU; the device comes back: its own scores again")
def r85_stand_in():
    with Rerankd(*FAST) as cpu:
        on_cpu = cpu.post(GOOD).json()
    with serve() as (s, device):
        on_device = s.post(GOOD).json()
        assert on_device != on_cpu
        device.set(fail=1)
        start = time.monotonic()
        answers = [s.post(GOOD) for _ in range(5)]
        assert [a.status for a in answers] == [200] * 5, answers
        took = time.monotonic() - start
        assert took < 5, took
        assert all(a.json() == on_cpu for a in answers), (answers, on_cpu)
        m = s.metrics()
        assert (m["rerank_device_fallback_active"], m["rerank_device_up"]) == (1, 0)
        assert s.ask("GET", "/health").json()["degraded"] == ["device"]
        assert s.ask("GET", "/ready").status == 200
        device.set(fail=0)
        until(lambda: s.post(GOOD).json() == on_device, "the device's own scores")
        return "5 answers in %.2f s" % took


@case("P", "a device that dies while idle: /ready 503 within 15 s, without a request")
def r86_idle_death():
    with serve("--no-fallback") as (s, device):
        device.set(fail=1)
        start = time.monotonic()
        ready(s, 503)  # 4 s without work, then a probe
        took = time.monotonic() - start
        assert took < 15, took
        device.set(fail=0)
        ready(s)
        return "noticed after %.1f s" % took


@case("P", "NaN for one document: valid JSON, an error or no number for it, never NaN; the others' "
      "requests right; counted")
def r87_not_a_number():
    with serve("--no-fallback") as (s, device):
        word, token = rare_word(s, ["q", "a", "b", PROBE])
        good = s.post(GOOD).json()
        device.set(nan_id=token)
        a = s.post({"query": "q", "texts": ["a", word, "b"], "raw_scores": True})
        assert a.status in (424, 500) or (a.status == 200 and "NaN" not in a.body), a
        a.json()
        assert total(s.metrics(), "rerank_scores_nonfinite_total") >= 1
        assert s.post(GOOD).json() == good
        device.set(nan_id=0)


@case("P", "a device that is not there, a plugin that cannot be loaded: the CPU serves, or exit 69 with "
      "the reason under --no-fallback")
def r88_no_device():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "librerank_fault.so"), "wb") as f:
            f.write(b"not a library")
        for env in (environment(), environment(LD_LIBRARY_PATH=folder)):
            words = [RERANKD, "serve", "--port", "0", "--model", model(), "--device", "fault"]
            p = subprocess.run([*words, "--no-fallback"], stdin=subprocess.DEVNULL, text=True,
                               capture_output=True, env=env, timeout=60, cwd=ROOT)
            assert p.returncode == 69 and "librerank_fault.so" in p.stderr, p
            with Rerankd("--device", "fault", env=env) as s:
                assert s.post(GOOD).headers["x-compute-type"] == "cpu"


def copied(folder):
    here = os.path.join(folder, "model")
    shutil.copytree(model(), here)
    return here, os.path.join(here, "model.safetensors")


@case("P", "the file of weights deleted or replaced while serving: the same scores")
def r95_weights_replaced():
    for replaced in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            here, weights = copied(folder)
            with Rerankd(*FAST, model_folder=here) as s:
                corpus = Corpus(s, queries=1, texts=10)
                ledger = s.watch(Ledger(corpus))
                if replaced:
                    shutil.copy(weights, weights + ".new")
                    with open(weights + ".new", "r+b") as f:
                        f.seek(-1000, 2)
                        f.write(b"\x3f" * 1000)
                    os.rename(weights + ".new", weights)
                else:
                    os.remove(weights)
                closed_loop(s.port, ledger, clients=4, requests=40)


@case("P", "the file of weights cut while serving: the process ends with 74 and a line that says why; no "
      "wrong score before")
def r95_weights_cut():
    with tempfile.TemporaryDirectory() as folder:
        here, weights = copied(folder)
        with Rerankd(*FAST, model_folder=here, ends=False) as s:
            s.exits = (74,)
            ledger = Ledger(Corpus(s, queries=1, texts=10), {OK, BROKEN})
            with open(weights, "r+b") as f:
                f.truncate(1000)
            closed_loop(s.port, ledger, clients=4, requests=10)
            ledger.check()
            assert s.wait() == 74 and any("cut" in x for x in s.lines), s.lines[-3:]
