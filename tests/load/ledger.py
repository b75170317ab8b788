# SPDX-License-Identifier: Apache-2.0
"""ledger.py - load with a book: every request has one end, and every answer is its own.

    corpus = Corpus(server)                    # learns the score of each (query, text), one by one
    ledger = server.watch(Ledger(corpus))
    closed_loop(server.port, ledger, clients=8, requests=50)
    open_loop(server.port, ledger, rate=200, seconds=5)
    ledger.check()                             # nothing lost, nothing twice, nothing mixed
"""
import collections
import itertools
import json
import random
import threading
import time

from server import Connection
from server_support import run_threads

WORDS = """le la un une chat chien maison ville pain eau capitale France Paris très grand serveur
recherche document question réponse the of and server search ranking score index quick small""".split()

# How a request can end.  "wrong": an answer that is not its own or not right.
OK, REFUSED, CLIENT_ERROR, SERVER_ERROR, LEFT, BROKEN, WRONG = (
    "ok", "refused", "client error", "server error", "left", "broken", "wrong")


class Corpus:
    """Queries and texts, and the score of every pair as the server gives it alone."""

    def __init__(self, server, queries=4, texts=48, longest=60, seed=1):
        rng = random.Random(seed)
        self.queries = ["question %d " % i + " ".join(rng.choices(WORDS, k=6))
                        for i in range(queries)]
        self.texts = ["texte %d " % i + " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))
                      for i in range(texts)]
        self.scores = {}
        with server.connect() as c:
            for query in self.queries:
                for text in self.texts:
                    answer = c.ask("POST", "/rerank", {"query": query, "texts": [text],
                                                       "raw_scores": True})
                    assert answer.status == 200, answer
                    self.scores[query, text] = answer.json()[0]["score"]

    def pick(self, rng, most):
        query = rng.choice(self.queries)
        return query, rng.sample(self.texts, rng.randint(1, min(most, len(self.texts))))


class NullScores(dict):
    """What the device "null" says: docs/internals/engine.md."""

    def __missing__(self, pair):
        query, text = pair
        h = 14695981039346656037
        for i in [256, *query.encode(), 257, *text.encode(), 257]:
            h = (h ^ i) * 1099511628211 % 2**64
        return (h >> 40) / 2**20 - 8


class NullCorpus(Corpus):
    """So many pairs that hardly any two in flight are the same."""

    def __init__(self, queries=200, texts=400, words=20, seed=1):
        rng = random.Random(seed)
        self.queries = ["question %d" % i for i in range(queries)]
        self.texts = ["texte %d " % i + " ".join(rng.choices(WORDS, k=words)) for i in range(texts)]
        self.scores = NullScores()


class Entry:
    def __init__(self, serial, due):
        self.id, self.due = "load-%d" % serial, due
        self.state = self.status = self.seconds = None
        self.note = ""


class Ledger:
    serials = itertools.count()  # of all ledgers: an answer of another run is noticed, too

    def __init__(self, corpus, expect=(OK,)):
        self.corpus, self.expect = corpus, set(expect)
        self.entries, self.lock = [], threading.Lock()

    def open(self, due=None):
        entry = Entry(next(self.serials), due or time.monotonic())
        with self.lock:
            self.entries.append(entry)
        return entry

    def close(self, entry, state, status=None, note=""):
        with self.lock:
            if entry.state is not None:
                state, note = WRONG, "ended twice: %s, then %s" % (entry.state, state)
            entry.state, entry.status, entry.note = state, status, note
            entry.seconds = time.monotonic() - entry.due

    def answered(self, entry, answer, query, texts):
        """Files an answer, or None for a connection that ended without one."""
        if answer is None:
            self.close(entry, BROKEN)
        elif answer.status == 200:
            why = self.mismatch(entry, answer, query, texts)
            self.close(entry, WRONG if why else OK, 200, why)
        elif answer.status in (429, 503):
            missing = "" if "retry-after" in answer.headers else "without Retry-After"
            self.close(entry, WRONG if missing else REFUSED, answer.status, missing)
        else:
            self.close(entry, CLIENT_ERROR if answer.status < 500 else SERVER_ERROR, answer.status,
                       answer.body[:200])

    def mismatch(self, entry, answer, query, texts):
        if answer.headers.get("x-request-id") != entry.id:
            return "the answer of %s came" % answer.headers.get("x-request-id")
        try:
            got = {x["index"]: x["score"] for x in json.loads(answer.body)}
        except (ValueError, KeyError, TypeError) as e:
            return "not an answer: %s" % e
        expected = {i: self.corpus.scores[query, t] for i, t in enumerate(texts)}
        return "" if got == expected else "scores %s, expected %s" % (got, expected)

    def counts(self):
        return collections.Counter(e.state for e in self.entries)

    def statuses(self):
        return collections.Counter(e.status for e in self.entries if e.status)

    def check(self):
        bad = [e for e in self.entries if e.state not in self.expect]
        assert not bad, "I7: %d of %d requests ended badly: %s" % (
            len(bad), len(self.entries), [(e.id, e.state, e.status, e.note) for e in bad[:5]])

    def latency(self, quantile, state=OK):
        """Seconds from the due time."""
        times = sorted(e.seconds for e in self.entries if e.state == state)
        assert times, self.counts()
        return times[min(len(times) - 1, int(quantile * len(times)))]


class Client:
    """One keep-alive connection that is made again when it ended."""

    def __init__(self, port, ledger, seed):
        self.port, self.ledger, self.rng = port, ledger, random.Random(seed)
        self.connection = None

    def run_one(self, most, due=None):
        query, texts = self.ledger.corpus.pick(self.rng, most)
        entry = self.ledger.open(due)
        body = {"query": query, "texts": texts, "raw_scores": True}
        try:
            if self.connection is None:
                self.connection = Connection(self.port)
            answer = self.connection.ask("POST", "/rerank", body, [("X-Request-Id", entry.id)])
        except (OSError, ValueError) as e:  # refused, reset, cut in the middle
            self.ledger.close(entry, BROKEN, note=repr(e))
            self.close()
            return entry
        self.ledger.answered(entry, answer, query, texts)
        if answer is None or answer.headers.get("connection", "").lower() == "close":
            self.close()
        return entry

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None


def closed_loop(port, ledger, clients=8, requests=None, seconds=None, most=12, seed=0):
    """Each client sends its next request when the last was answered."""
    end = time.monotonic() + (seconds or 3600)

    def work(i):
        client = Client(port, ledger, seed * 1000 + i)
        done = 0
        while time.monotonic() < end and (requests is None or done < requests):
            client.run_one(most)
            done += 1
        client.close()

    run_threads(clients, work)


def open_loop(port, ledger, rate, seconds, clients=64, most=12, seed=0):
    """Requests at fixed times whether or not earlier ones were answered; latency counts from then.
    clients bounds how many can wait at once."""
    start, serial, lock = time.monotonic(), itertools.count(), threading.Lock()

    def work(i):
        client = Client(port, ledger, seed * 1000 + i)
        while True:
            with lock:
                k = next(serial)
            due = start + k / rate
            if due > start + seconds:
                break
            time.sleep(max(0, due - time.monotonic()))
            client.run_one(most, due)
        client.close()

    run_threads(clients, work)
