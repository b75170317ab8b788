# SPDX-License-Identifier: Apache-2.0
"""cases_cache.py - group I, score cache and Redis; R132, two servers and one Redis."""
import random
import signal
import time

from chaos import LyingRedis, Proxy
from ledger import Corpus, Ledger, closed_loop
from registry import case
from server import Redis, Rerankd, Skip, model, starter, until

TIMEOUT_MS = 20  # more than the default 5: other tests use the machine at the same time
SHARED = ["--cache-size", "0", "--redis-timeout", "%dms" % TIMEOUT_MS]


def texts(word, n=20):
    return {"query": "q", "texts": ["%s %d" % (word, i) for i in range(n)], "raw_scores": True}


def is_hit(server, body):
    """The request is answered without computing."""
    before = server.computed()
    assert server.post(body).status == 200
    return server.computed() == before


def wait_hits(server, body, seconds=None):
    start = time.monotonic()
    until(lambda: is_hit(server, body), "hits from Redis")
    took = time.monotonic() - start
    assert seconds is None or took <= seconds, "hits after %.1f s, %s wanted" % (took, seconds)
    return took


def latencies(server, bodies):
    times = []
    with server.connect() as c:
        for body in bodies:
            start = time.monotonic()
            assert c.ask("POST", "/rerank", body).status == 200
            times.append(time.monotonic() - start)
    return sorted(times)


@case("P", "requests twice, shuffled, partly known: the same bits as computed")
def r83_hits_equal_misses():
    with Redis() as redis, Rerankd(*SHARED, "--redis-url", redis.url) as s:
        corpus = Corpus(s, queries=3, texts=30)
        until(lambda: redis.command("DBSIZE") != ":0", "stores")
        before = s.computed()
        ledger = s.watch(Ledger(corpus))
        closed_loop(s.port, ledger, clients=6, requests=40, most=30)
        computed = s.computed() - before
        asked = 6 * 40 * 15
        assert computed < asked / 10, "%d of about %d computed again" % (computed, asked)
        assert redis.command("FLUSHALL") == "+OK"
        closed_loop(s.port, ledger, clients=6, requests=10, most=30, seed=1)


@case("P", "0 hits across weights, precision, length limit, special tokens, truncated side")
def r78_other_fingerprint():
    with Redis() as redis:
        base = [*SHARED, "--redis-url", redis.url]
        body = texts("empreinte")
        with Rerankd(*base, model_folder=starter()) as s:
            assert not is_hit(s, body)
            wait_hits(s, body)
            assert not is_hit(s, dict(body, truncation_direction="left"))
            assert not is_hit(s, dict(body, max_length=99))
        for options, folder in ((["--dtype", "int8"], starter()), (["--dtype", "bf16"], starter()),
                                (["--max-length", "100"], starter()),
                                (["--literal-specials"], starter()), ([], model())):
            with Rerankd(*base, *options, model_folder=folder, probe=False) as s:
                before = s.computed()
                assert s.post(body).status == 200
                assert s.computed() == before + 20, (options, folder)
        with Rerankd(*base, model_folder=starter(), probe=False) as s:
            assert is_hit(s, body), "the first one's scores are gone"


def outage(server, body, what, seconds=3.0):
    """During an outage every request is answered, and after the first look-ups nothing is waited
    for; what is already known is computed again."""
    fast = latencies(server, [texts("pendant %s %d" % (what, i), 4) for i in range(30)])
    assert not is_hit(server, body), what
    return fast


@case("P", "every request answered; added latency within the timeout, then none; hits <= 3 s after")
def r79_redis_states():
    notes = []
    redis = Redis()
    redis.kill()
    with redis, Rerankd(*SHARED, "--redis-url", redis.url) as s:
        body = texts("connu")
        alone = latencies(s, [texts("seul %d" % i, 4) for i in range(30)])  # down at start

        def around(what, begin, end):
            wait_hits(s, body)
            begin()
            times = outage(s, body, what)
            assert s.metrics()["rerank_cache_backend_up"] == (what == "list values"), what
            # One look-up may wait; the median must not.
            assert times[-2] - alone[-2] < TIMEOUT_MS / 1e3 + 0.1, (what, times[-3:], alone[-3:])
            assert times[15] - alone[15] < TIMEOUT_MS / 2e3, (what, times[15], alone[15])
            end()
            notes.append("%s %.1f s" % (what, wait_hits(s, body, 3.0)))
            assert s.metrics()["rerank_cache_backend_up"] == 1, what

        redis.start()
        around("killed", redis.kill, redis.start)
        around("stopped", lambda: redis.signal(signal.SIGSTOP),
               lambda: redis.signal(signal.SIGCONT))
        around("password", lambda: change_password(redis), lambda: restart(redis))
        around("not allowed", lambda: redis.command("ACL", "SETUSER", "default", "-mget"),
               lambda: redis.command("ACL", "SETUSER", "default", "+mget"))
        around("list values", lambda: as_lists(redis), lambda: redis.command("FLUSHALL"))
        redis.command("CONFIG", "SET", "maxmemory", "1")  # reads go on
        assert is_hit(s, body)
        s.post(texts("refusé"))
        redis.command("CONFIG", "SET", "maxmemory", "0")
        redis.command("REPLICAOF", "127.0.0.1", "1")
        s.post(texts("refusé aussi"))
        wait_hits(s, body)
        redis.command("REPLICAOF", "NO", "ONE")
        wait_hits(s, texts("après"))
    return "back to hits: " + ", ".join(notes)


def change_password(redis):
    """And ends the sessions that had logged in before."""
    replies = redis.commands(["ACL", "SETUSER", "default", "resetpass", ">other"],
                             ["CLIENT", "KILL", "TYPE", "normal"])
    assert replies[0] == "+OK" and replies[1].startswith(":"), replies


def restart(redis):
    redis.kill()
    redis.start()


def as_lists(redis):
    """Every key holds a list."""
    import re
    import socket
    with socket.create_connection(("127.0.0.1", redis.port)) as c:
        c.sendall(b"KEYS rr:*\r\nPING\r\n")
        data = b""
        while b"+PONG" not in data:
            data += c.recv(65536)
    for key in set(re.findall(rb"rr:1:[0-9a-f]{32}", data)):
        redis.command("DEL", key.decode())
        redis.command("RPUSH", key.decode(), "x")


@case("P", "errors of a server that is there: requests answered, no wait, hits again after")
def r79_redis_errors():
    with LyingRedis() as redis, Rerankd(*SHARED, "--redis-url", redis.url) as s:
        body = texts("erreur")
        for error in (b"-LOADING Redis is loading the dataset in memory", b"-MOVED 1 10.0.0.1:6379",
                      b"-CLUSTERDOWN Hash slot not served", b"-NOAUTH Authentication required.",
                      b"-MASTERDOWN Link with MASTER is down", b"-BUSY Redis is busy", b"-"):
            redis.mget = redis.honest
            wait_hits(s, body)
            redis.mget = lambda keys, values, e=error: e + b"\r\n"
            assert not is_hit(s, body), error
            outage(s, body, error.decode().split()[0])
        redis.mget = redis.honest
        wait_hits(s, body, 3.0)


@case("P", "no late reply for another request, no bad value used, no wait beyond the timeout")
def r80_redis_lies():
    with LyingRedis() as redis, Rerankd(*SHARED, "--redis-url", redis.url) as s:
        corpus = Corpus(s, queries=2, texts=20)
        wait_hits(s, {"query": corpus.queries[0], "texts": corpus.texts, "raw_scores": True})
        ledger = s.watch(Ledger(corpus))

        def late(keys, values):
            time.sleep(1 if redis.asked % 3 == 0 else TIMEOUT_MS / 1e3)
            return redis.honest(keys, values)

        def cut(keys, values):
            raise OSError

        lies = {
            "late": late, "closed": cut,
            "garbage": lambda k, v: b"\x15\x03\x01\x00\x02\x02\x16",
            "huge": lambda k, v: b"*%d\r\n$2147483647\r\n" % len(k),
            "short value": lambda k, v: redis.honest(k, [x and x[:-1] for x in v]),
            "long value": lambda k, v: redis.honest(k, [b"x" * 3000 for x in v]),
            "rotated values": lambda k, v: redis.honest(k, v[1:] + v[:1]),
            "zero score": lambda k, v: redis.honest(k, [x and x[:4] + bytes(4) + x[8:] for x in v]),
            "one too few": lambda k, v: redis.honest(k[1:], v[1:]),
            "two replies": lambda k, v: redis.honest(k, v) * 2,
        }
        for name, lie in lies.items():
            redis.mget = lie
            closed_loop(s.port, ledger, clients=4, requests=8, most=20)
            ledger.check()
            assert ledger.latency(0.99) < 2, (name, ledger.latency(0.99))
        redis.mget = redis.honest
        wait_hits(s, {"query": corpus.queries[1], "texts": corpus.texts, "raw_scores": True}, 3.0)


@case("P", "network between server and Redis spoiled: right answers all the time")
def r80_redis_network():
    with Redis() as redis, Proxy(redis.port) as proxy, \
            Rerankd(*SHARED, "--redis-url", "redis://127.0.0.1:%d" % proxy.port) as s:
        corpus = Corpus(s, queries=2, texts=20)
        ledger = s.watch(Ledger(corpus))
        spoil = {"delay": 0.1, "rate": 2000, "cut_after": 100, "reset_after": 150, "corrupt": True,
                 "black_hole": True, "half_close": True}
        for name, value in spoil.items():
            proxy.calm()
            setattr(proxy, name, value)
            closed_loop(s.port, ledger, clients=4, requests=8, most=20)
            ledger.check()
        proxy.calm()
        wait_hits(s, {"query": corpus.queries[0], "texts": corpus.texts, "raw_scores": True}, 3.0)


@case("P", "requests that end by cancellation or time-out leave no wrong score behind")
def r81_cancelled_not_stored():
    with Redis() as redis, Rerankd(*SHARED, "--redis-url", redis.url) as s:
        corpus = Corpus(s, queries=2, texts=20)
        redis.command("FLUSHALL")
        for i in range(40):
            with s.connect() as c:
                c.send("POST", "/rerank", {"query": corpus.queries[i % 2], "texts": corpus.texts})
                if i % 3:
                    time.sleep(0.001 * (i % 5))
        ledger = s.watch(Ledger(corpus))
        closed_loop(s.port, ledger, clients=4, requests=10, most=20)


@case("P", "the second server hits; one with another fingerprint does not")
def r132_two_servers_one_redis():
    with Redis() as redis:
        options = [*SHARED, "--redis-url", redis.url]
        with Rerankd(*options) as a, Rerankd(*options) as b, \
                Rerankd(*options, "--dtype", "int8") as other:
            body = texts("partagé", 64)
            assert not is_hit(a, body)
            wait_hits(b, body)
            assert not is_hit(other, body)
            assert a.post(body).json() == b.post(body).json()


@case("P", "values in Redis changed at random 600 times while mixed traffic reads and stores them: no wrong "
      "score, no wait")
def r22_changed_entries():
    with LyingRedis() as redis, Rerankd(*SHARED, "--redis-url", redis.url) as s:
        corpus = Corpus(s, queries=3, texts=20)
        ledger = s.watch(Ledger(corpus))
        rng = random.Random(22)

        def spoil(keys, values):
            for k in keys:
                v = redis.values.get(k)
                if v and rng.random() < 0.5:
                    v = bytearray(v)
                    for _ in range(rng.choice([1, 1, 2, 8])):
                        v[rng.randrange(len(v))] ^= 1 << rng.randrange(8)
                    cut = rng.choice([len(v), len(v), rng.randrange(len(v))])
                    redis.values[k] = bytes(v[:cut]) + bytes(rng.choice([0, 0, 3]))
                    spoilt.append(k)
            return redis.honest(keys, [redis.values.get(k) for k in keys])

        spoilt = []
        redis.mget = spoil
        end = time.monotonic() + 300  # 20 s of it on an idle machine
        while len(spoilt) < 600 and time.monotonic() < end:
            closed_loop(s.port, ledger, clients=4, requests=10, most=20, seed=len(spoilt))
        assert len(spoilt) >= 600, len(spoilt)
        return "%d values spoilt, %d requests" % (len(spoilt), len(ledger.entries))
