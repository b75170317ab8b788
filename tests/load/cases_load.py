# SPDX-License-Identifier: Apache-2.0
"""cases_load.py - groups E and F, load and memory; group G, departed clients."""
import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time

from chaos import reset
from cli_support import RERANKD, environment
from ledger import (CLIENT_ERROR, LEFT, OK, REFUSED, SERVER_ERROR, Client, Corpus, Ledger, NullCorpus,
                    closed_loop, open_loop, run_threads)
from registry import case
from server import Rerankd, Skip, server_support, starter, total, until

ONE = ["--threads", "1"]


# No model: what is measured is the server.  A batch takes its time asleep, so that the capacity is
# the same on any machine that is not overloaded itself.
NULL = ["--device", "null", "--cache-size", "0"]


def resident(server):
    return server.metrics()["process_resident_memory_bytes"]


def leave(connection, rng):
    reset(connection) if rng.random() < 0.5 else connection.close()


@case("P", "20 s of mixed load with bad requests and leaving clients: I1-I8, memory flat after 5 s")
def r46_soak_short():
    seconds = 20
    with Rerankd() as s:
        corpus = Corpus(s)
        ledger, bad = s.watch(Ledger(corpus)), s.watch(Ledger(corpus, {CLIENT_ERROR}))
        end, memory = time.monotonic() + seconds, []

        def spoil(i):
            rng = random.Random(i)
            while time.monotonic() < end:
                entry = bad.open()
                answer = s.post(rng.choice([b"{", {}, {"query": "", "texts": ["a"]},
                                            {"query": "q", "texts": [5]}]))
                bad.answered(entry, answer, None, None)
                with s.connect() as c:
                    c.send("POST", "/rerank", {"query": "q", "texts": ["t %d" % rng.random()] * 30})
                    time.sleep(rng.random() / 20)
                    leave(c, rng)

        def watch(_):
            time.sleep(seconds / 4)
            while time.monotonic() < end:
                memory.append(resident(s))
                time.sleep(0.5)

        work = [lambda: closed_loop(s.port, ledger, clients=6, seconds=seconds), lambda: spoil(1),
                lambda: watch(0)]
        run_threads(len(work), lambda i: work[i]())
        grown = max(memory[len(memory) // 2:]) - max(memory[:len(memory) // 2])
        assert grown < 4 << 20, "%.1f MiB more in the second half" % (grown / 2**20)
        return "%d requests, %.1f MiB growth" % (len(ledger.entries), grown / 2**20)


@case("N", "memory after = before + cache + 32 MiB; all answered")
def r47_many_documents():
    with Rerankd("--max-documents", "5000", "--queue-tokens", "1M") as s:
        before = resident(s)
        for i in range(80):
            body = {"query": "q", "texts": ["d %d %d" % (i, k) for k in range(5000)]}
            answer = s.post(body)
            assert answer.status == 200 and len(answer.json()) == 5000, answer.status
        assert resident(s) - before < (4 + 32) << 20, (before, resident(s))


def with_retries(client, most):
    """One request, tried again at once up to three times when it is refused."""
    for _ in range(4):
        if client.run_one(most).state != REFUSED:
            break


@case("P", "arrivals at 50, 100, 150, 200 % of capacity: at 200 % at least 80 % of the work of 100 %, every "
      "answer in time, the rest refused with Retry-After within 0.5 s (median)")
def r50_overload():
    slow = ["--device", "null:base_us=20000,per_token_ns=50000", "--cache-size", "0", "--batch-tokens",
            "1024", "--queue-tokens", "16384", "--request-timeout", "10"]
    with Rerankd(*slow, probe=False) as s:
        corpus = NullCorpus()
        busy = s.watch(Ledger(corpus))
        closed_loop(s.port, busy, clients=24, seconds=4, most=16)
        capacity = busy.counts()[OK] / 4
        done, notes = {}, []
        for percent in (50, 100, 150, 200):
            ledger = s.watch(Ledger(corpus, {OK, REFUSED}))
            start = time.monotonic()
            open_loop(s.port, ledger, rate=capacity * percent / 100, seconds=4, clients=96, most=16)
            done[percent] = ledger.counts()[OK] / (time.monotonic() - start)
            notes.append("%d %%: %.0f/s" % (percent, done[percent]))
        assert done[200] >= 0.8 * done[100], done
        assert ledger.latency(0.99) < 10, ledger.latency(0.99)
        if ledger.counts()[REFUSED]:
            refusal = sorted(e.seconds for e in ledger.entries if e.state == REFUSED)
            assert refusal[len(refusal) // 2] < 0.5, refusal[len(refusal) // 2]
            notes.append("%d refused" % len(refusal))
        return "capacity %.0f/s; %s" % (capacity, ", ".join(notes))


@case("P", "clients that retry refused requests three times at once, at twice the capacity; when they stop, "
      "queue and latency are normal within 2 s")
def r51_after_overload():
    slow = ["--device", "null:base_us=20000,per_token_ns=50000", "--cache-size", "0", "--batch-tokens",
            "1024", "--queue-tokens", "8192", "--request-timeout", "10"]
    with Rerankd(*slow, probe=False) as s:
        corpus = NullCorpus()
        calm = s.watch(Ledger(corpus))
        closed_loop(s.port, calm, clients=1, requests=20, most=16)
        over = s.watch(Ledger(corpus, {OK, REFUSED}))
        end = time.monotonic() + 6

        def client(i):
            c = Client(s.port, over, i)
            while time.monotonic() < end:
                with_retries(c, 16)
            c.close()

        run_threads(48, client)
        assert over.counts()[REFUSED] and over.counts()[OK], over.counts()
        time.sleep(2)
        m = s.metrics()
        assert m["rerank_queue_requests"] == 0, m["rerank_queue_requests"]
        late = s.watch(Ledger(corpus))
        closed_loop(s.port, late, clients=1, requests=20, most=16)
        assert late.latency(0.5) < 2 * calm.latency(0.5) + 0.05, (late.latency(0.5), calm.latency(0.5))
        return "%d answered, %d refused, median before %.0f ms, after %.0f ms" % (
            over.counts()[OK], over.counts()[REFUSED], 1e3 * calm.latency(0.5), 1e3 * late.latency(0.5))


@case("P", "small requests beside 300-document ones: none refused, half of them within 1 s")
def r52_small_beside_large():
    options = [*ONE, "--cache-size", "0", "--queue-tokens", "1M"]
    with Rerankd(*options, model_folder=starter()) as s:
        corpus = Corpus(s, queries=2, texts=24, longest=20)
        stop = threading.Event()

        def large(_):
            while not stop.is_set():
                body = server_support.long_body(300)
                body["texts"] = [t[:120] for t in body["texts"]]
                assert s.post(body).status == 200

        thread = threading.Thread(target=large, args=(0,))
        thread.start()
        until(lambda: s.metrics()["rerank_queue_pairs"] > 100, "a large request in the queue")
        ledger = s.watch(Ledger(corpus))
        closed_loop(s.port, ledger, clients=1, requests=25, most=1)
        stop.set()
        thread.join()
        assert ledger.latency(0.5) < 1, ledger.latency(0.5)
        return "median %.0f ms" % (1e3 * ledger.latency(0.5))


@case("P", "counted as cancelled, at most a batch or two computed afterwards, next request at once")
def r57_clients_leave():
    options = [*ONE, "--cache-size", "0", "--queue-tokens", "4M", "--batch-tokens", "2048"]
    with Rerankd(*options, model_folder=starter()) as s:
        connections = [s.connect() for _ in range(20)]
        for c in connections:
            c.send("POST", "/rerank", server_support.long_body(200))
        until(lambda: s.metrics()["rerank_requests_in_flight"] == 20, "20 in flight")
        before = s.metrics()
        for i, c in enumerate(connections):
            reset(c) if i % 2 else c.close()
        until(lambda: s.metrics()["rerank_requests_in_flight"] == 0, "nobody in flight")
        left = s.metrics()
        start = time.monotonic()
        assert s.post({"query": "q", "texts": ["a"]}).status == 200
        took = time.monotonic() - start
        now = s.metrics()
        name = "rerank_requests_cancelled_total"
        assert total(now, name) - total(before, name) == 20
        assert now["rerank_batches_total"] - left["rerank_batches_total"] <= 3
        assert took < 2, took
        return "next request %.0f ms" % (took * 1e3)


@case("P", "1,000 good requests after bad ones: the same bits as before")
def r61_poisoned_state():
    with Rerankd("--cache-size", "0") as s:
        corpus = Corpus(s, queries=2, texts=24)
        for body in (b"", b"[", b"\xff\xfe", b'{"query":"q","texts":[1e999]}', {"texts": []},
                     {"query": "q", "texts": ["a" * 100000]}, {"query": "\u0000", "texts": ["\ud7ff"]},
                     b'{"query":"\\ud800","texts":["x"]}', {"query": "q", "texts": [""] * 1000}):
            s.post(body)
        ledger = s.watch(Ledger(corpus))
        closed_loop(s.port, ledger, clients=8, requests=125, most=8)


@case("P", "clients leave at random points, 1,500 times: I1-I8, the others' answers right")
def r64_cancel_at_random():
    with Rerankd("--queue-tokens", "4M") as s:
        corpus = Corpus(s)
        ledger = s.watch(Ledger(corpus))
        leavers = s.watch(Ledger(corpus, {LEFT}))

        def leaver(i):
            rng = random.Random(i)
            for _ in range(250):
                query, texts = corpus.pick(rng, 40)
                entry = leavers.open()
                data = server_support.request("POST", "/rerank", {"query": query, "texts": texts})
                with s.connect() as c:
                    c.socket.sendall(data[:rng.choice([len(data), rng.randrange(len(data))])])
                    time.sleep(rng.choice([0, 0, rng.random() / 50]))
                    leave(c, rng)
                leavers.close(entry, LEFT)

        def worker(i):
            leaver(i) if i < 6 else closed_loop(s.port, ledger, clients=1, requests=150, seed=i)

        run_threads(8, worker)
        return "%d left, %d answered" % (len(leavers.entries), len(ledger.entries))


@case("P", "half of the requests too late: 504 for them, right answers for the others")
def r65_deadlines():
    options = [*ONE, "--cache-size", "0", "--queue-tokens", "4M"]
    with Rerankd(*options, model_folder=starter()) as patient:
        corpus = Corpus(patient, queries=2, texts=48, longest=100)
    with Rerankd(*options, "--request-timeout", "0.15", model_folder=starter(), probe=False) as s:
        ledger = s.watch(Ledger(corpus, {OK, SERVER_ERROR, REFUSED}))
        closed_loop(s.port, ledger, clients=8, seconds=5, most=48)
        statuses = ledger.statuses()
        assert set(statuses) <= {200, 504, 429, 503} and statuses[504], statuses
        return ", ".join("%d: %d" % x for x in sorted(statuses.items()))


@case("P", "two clients ask the same, the first leaves: the second is answered, and right")
def r66_same_request_twice():
    with Rerankd(*ONE, model_folder=starter()) as s:
        for i in range(15):
            body = server_support.long_body(12)
            body["raw_scores"] = True
            first, second = s.connect(), s.connect()
            first.send("POST", "/rerank", body)
            second.send("POST", "/rerank", body)
            if i % 3:
                until(lambda: s.metrics()["rerank_requests_in_flight"] == 2, "two in flight") \
                    if i % 3 == 1 else time.sleep(0.01)
            leave(first, random.Random(i))
            answer = second.receive()
            second.close()
            assert answer.status == 200 and len(answer.json()) == len(body["texts"]), answer
            again = s.post(body)
            assert again.json() == answer.json()


# ---- the server alone -----------------------------------------------------------------------------

WRK = """wrk.method = "POST"
wrk.body = [[{"query":"quelle ville ?","texts":["Paris est une ville","le pain","une maison"]}]]
wrk.headers["Content-Type"] = "application/json"
"""


def wrk(server, connections, seconds):
    """Answers per second, and p99 in milliseconds."""
    if not shutil.which("wrk"):
        raise Skip("wrk is not installed")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as f:
        f.write(WRK)
        f.flush()
        p = subprocess.run(["wrk", "-t2", "-c%d" % connections, "-d%d" % seconds, "--latency", "-s",
                            f.name, "http://127.0.0.1:%d/rerank" % server.port], capture_output=True,
                           text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert p.returncode == 0 and "Non-2xx" not in p.stdout, p.stdout
    rate = float(re.search(r"Requests/sec: +([0-9.]+)", p.stdout).group(1))
    value, unit = re.search(r"99% +([0-9.]+)(us|ms|s)", p.stdout).groups()
    return rate, float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


@case("P", "small requests without a model, 64 connections, 5 s: no error, at least 2,000 a second (the "
      "figure is the machine's)")
def r48_small_requests():
    with Rerankd(*NULL) as s:
        rate, p99 = wrk(s, 64, 5)
        assert rate > 2000, rate
        return "%.0f/s, p99 %.1f ms" % (rate, p99)


@case("P", "2, 512 and 4,096 connections without a model: no error, at 4,096 at least 30 % of the best rate")
def r49_many_connections():
    with Rerankd(*NULL) as s:
        s.memory_budget = 512 << 20  # the heap keeps what 4,096 connections had
        rates = {n: wrk(s, n, 4)[0] for n in (2, 512, 4096)}
        assert rates[4096] >= 0.3 * max(rates.values()), rates
        return ", ".join("%d: %.0f/s" % x for x in rates.items())


@case("P", "a request larger than the queue on an idle server: answered; more documents than allowed: 422 "
      "at once; both again while others are served")
def r45_larger_than_the_queue():
    with Rerankd("--queue-tokens", "2048", "--batch-tokens", "512", "--max-documents", "400") as s:
        for _ in range(2):
            body = server_support.long_body(60)
            assert len(s.post(body).json()) == 60
            start = time.monotonic()
            a = s.post({"query": "q", "texts": ["a"] * 401})
            assert a.status == 422 and "400" in a.body, a
            assert time.monotonic() - start < 2
            ledger = s.watch(Ledger(Corpus(s, queries=1, texts=10), {OK, REFUSED}))
            closed_loop(s.port, ledger, clients=2, requests=20)


# ---- fairness -------------------------------------------------------------------------------------

def jain(shares):
    return sum(shares) ** 2 / (len(shares) * sum(x * x for x in shares))


@case("P", "two keys, one with 12 clients and requests of 1 to 200 documents, one with 12 clients and 24 to 40: "
      "documents scored for each in 8 s, Jain index >= 0.95")
def r52_fair_keys():
    slow = ["--device", "null:base_us=2000,per_token_ns=20000", "--cache-size", "0", "--batch-tokens",
            "512", "--queue-tokens", "4M"]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "keys")
        keys = [subprocess.run([RERANKD, "keys", "add", name, "--api-keys-file", path], check=True,
                               capture_output=True, text=True, env=environment()).stdout.strip()
                for name in ("big", "small")]
        with Rerankd(*slow, "--api-keys-file", path, "--open-routes",
                     "/live,/ready,/metrics,/rerank,/info", probe=False, ends=False) as s:
            done, end = [0, 0], time.monotonic() + 8
            words = ["mot" * 3 + " %d" % i for i in range(1000)]

            def client(i):
                rng, who = random.Random(i), 0 if i < 12 else 1
                with s.connect() as c:
                    while time.monotonic() < end:
                        n = rng.randint(1, 200) if who == 0 else rng.randint(24, 40)
                        body = {"query": "q%s" % rng.random(), "texts": rng.sample(words, n)}
                        a = c.ask("POST", "/rerank", body,
                                  [("Authorization", "Bearer " + keys[who])])
                        assert a.status == 200, a
                        if time.monotonic() < end:
                            done[who] += n

            run_threads(24, client)
            assert jain(done) >= 0.95, done
            return "%d and %d documents, Jain index %.3f" % (*done, jain(done))


def no_starvation(seconds):
    slow = ["--device", "null:base_us=2000,per_token_ns=5000", "--cache-size", "0", "--batch-tokens",
            "2048", "--queue-tokens", "4M"]
    with Rerankd(*slow, probe=False) as s:
        corpus = Corpus(s, queries=2, texts=48)
        ledger = s.watch(Ledger(corpus))
        closed_loop(s.port, ledger, clients=64, seconds=seconds, most=48)
        ratio = ledger.latency(1) / ledger.latency(0.5)
        assert ratio < 10, ratio
        return "%d requests, longest over median %.1f" % (len(ledger.entries), ratio)


@case("P", "64 clients, random sizes, 8 s: none refused or late, longest wait below 10 medians")
def r54_nobody_starves_short():
    return no_starvation(8)


@case("W", "64 clients, random sizes, 30 minutes: none refused or late, longest wait below 10 medians")
def r54_nobody_starves():
    return no_starvation(1800)


def steady(seconds):
    slow = ["--device", "null:base_us=5000,per_token_ns=5000", "--cache-size", "0", "--request-timeout",
            "20"]
    with Rerankd(*slow, probe=False) as s:
        corpus = Corpus(s, queries=2, texts=24)
        rates = []
        for i in range(5):
            ledger = s.watch(Ledger(corpus))
            closed_loop(s.port, ledger, clients=6, seconds=seconds / 5, seed=i)
            rates.append(len(ledger.entries) / (seconds / 5))
        assert rates[-1] >= 0.6 * max(rates[:2]), rates
        return "first fifth %.0f/s, last %.0f/s" % (rates[0], rates[-1])


@case("P", "steady load with time-outs for 10 s: the last fifth at least 60 % of the first two")
def r63_steady_short():
    return steady(10)


@case("W", "steady load with time-outs for 30 minutes: the last fifth at least 60 % of the first two")
def r63_steady():
    return steady(1800)
