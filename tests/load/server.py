# SPDX-License-Identifier: Apache-2.0
"""server.py - a rerankd under test, its invariants, and the other servers that cases need.

    with Rerankd("--cache-size", "0") as s:
        ...                     # the case
    # on leaving: invariants I1-I8, then SIGTERM and exit status 0

I1 the same process; I2 no sanitizer report or alarming log line; I3 the probe's scores are the same
bits; I4 gauges are back to idle; I5 descriptors and threads are back; I6 resident memory within a
budget; I7 the ledgers close, here and in /metrics; I8 counters never fell, promtool accepts the text.
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import server_support  # noqa: E402
from cli_support import RERANKD, ROOT, Skip, model  # noqa: E402,F401
from server_support import Connection, starter, until  # noqa: E402,F401

ALARM = re.compile(r"Sanitizer|runtime error:|\bBUG\b|\balert\b|a bug:")
MEMORY_BUDGET = 48 << 20  # beyond the start, with a score cache of 4 MiB and allocator slack
IDLE = ("rerank_requests_in_flight", "rerank_queue_requests", "rerank_queue_pairs",
        "rerank_queue_tokens")
SANITIZED = any(os.environ.get(x) for x in ("ASAN_OPTIONS", "TSAN_OPTIONS"))


def total(metrics, name, **labels):
    """Sum of all series of a name whose labels have these values."""
    wanted = ['%s="%s"' % x for x in labels.items()]
    return sum(v for k, v in metrics.items()
               if k.split("{")[0] == name and all(w in k for w in wanted))


class Rerankd(server_support.Server):
    """options: flags.  probe: keep a fixed request and compare its bits in the end."""

    def __init__(self, *options, model_folder=None, probe=True, ends=True, env=None, wrapper=()):
        options = list(options)
        if "--cache-size" not in options:
            options += ["--cache-size", "4M"]
        self.options = options
        super().__init__(*options, model_folder=model_folder, env=env, wrapper=wrapper)
        self.pid = self.process.pid
        self.ends = ends  # False: the case itself ends the server
        self.ledgers = []
        self.threads_slack, self.memory_budget = 0, MEMORY_BUDGET  # a case may allow more
        self.probe = None
        if probe:
            from probe import Probe
            self.probe = Probe(self)
        self.warm_up()
        self.start = self.metrics()
        self.seen = dict(self.start)

    def warm_up(self):
        """Every thread that serves has allocated what it keeps."""
        for _ in range(8):
            self.post({"query": "warm", "texts": ["up %d" % i for i in range(40)]})
        until(lambda: all(self.metrics()[x] == 0 for x in IDLE), "idle gauges")

    def computed(self):
        """Pairs computed so far."""
        return total(self.metrics(), "rerank_documents_total", source="model")

    def watch(self, ledger):
        self.ledgers.append(ledger)
        return ledger

    def check(self):
        assert self.process.poll() is None and self.process.pid == self.pid, "I1: the process ended"
        alarms = [x for x in list(self.lines) if ALARM.search(x)]
        assert not alarms, "I2: %s" % alarms[:5]
        if self.probe:
            self.probe.check()  # I3
        self.wait_same("I4", lambda m: all(m[x] == 0 for x in IDLE))
        links = 8 if "--redis-url" in self.options else 0  # the pool of the shared cache
        for name, slack in (("process_open_fds", 1 + links), ("process_threads", self.threads_slack)):
            self.wait_same("I5 " + name, lambda m, n=name, s=slack: m[n] <= self.start[n] + s)
        now = self.metrics()
        grown = now["process_resident_memory_bytes"] - self.start["process_resident_memory_bytes"]
        assert SANITIZED or grown < self.memory_budget, "I6: %.1f MiB more" % (grown / 2**20)
        self.check_books(now)
        self.check_counters(now)

    def wait_same(self, what, holds):
        end = time.monotonic() + 20
        while not holds(self.metrics()):
            assert time.monotonic() < end, "%s: %s" % (what, self.differences())
            time.sleep(0.02)

    def differences(self):
        now = self.metrics()
        return {k: (self.start.get(k), now[k]) for k in IDLE + ("process_open_fds",
                                                                "process_threads")}

    def check_books(self, now):
        """I7: each ledger is closed; the server counted at least the answers that clients got.
        (It may have answered a client that was gone.)"""
        answered = {}
        for ledger in self.ledgers:
            ledger.check()
            for status, n in ledger.statuses().items():
                answered[status] = answered.get(status, 0) + n
        for status, n in answered.items():
            counted = total(now, "rerank_http_requests_total", status=status) - \
                total(self.start, "rerank_http_requests_total", status=status)
            assert counted >= n, "I7: %d answers with %s, %d counted" % (n, status, counted)

    def check_counters(self, now):
        for name, before in self.seen.items():
            if re.search(r"_(total|count|bucket)(\{|$)", name):
                assert now.get(name, 0) >= before, "I8: %s fell from %s to %s" % (
                    name, before, now.get(name))
        self.seen = now
        if shutil.which("promtool"):
            text = self.ask("GET", "/metrics").body
            p = subprocess.run(["promtool", "check", "metrics"], input=text.encode(),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert p.returncode == 0, "I8: %s" % p.stdout.decode()

    def __exit__(self, kind, *rest):
        if kind is None and self.ends:
            try:
                self.check()
            except BaseException:
                super().__exit__(AssertionError, *rest)
                raise
        super().__exit__(kind, *rest)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Redis:
    """A redis-server of Debian on a free port; skips the case where there is none."""

    def __init__(self, *options):
        if not shutil.which("redis-server"):
            raise Skip("redis-server is not installed")
        self.port, self.process, self.options = free_port(), None, options
        self.folder = tempfile.mkdtemp(prefix="rr_redis.")
        self.start()

    @property
    def url(self):
        return "redis://127.0.0.1:%d" % self.port

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--dir", self.folder, *self.options], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.answers, "redis-server")

    def answers(self):
        try:
            return self.command("PING")[:1] in ("+", "-")
        except OSError:
            return False

    def command(self, *words):
        """The first line of the reply."""
        return self.commands(words)[0]

    def commands(self, *commands):
        """On one connection; the replies must be of one line each."""
        data = b""
        for words in commands:
            words = [str(w).encode() for w in words]
            data += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as s, \
                s.makefile("rb") as f:
            s.sendall(data)
            return [f.readline().decode().strip() for _ in commands]

    def signal(self, how):
        self.process.send_signal(how)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.folder)
