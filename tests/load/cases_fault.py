# SPDX-License-Identifier: Apache-2.0
"""cases_fault.py - group A, calls that fail and limits of the process; M, other people's sandboxes."""
import os
import random
import resource
import shutil
import subprocess
import tempfile
import time

from cli_support import RERANKD, environment
from failing import Failing
from ledger import BROKEN, LEFT, OK, REFUSED, SERVER_ERROR, Corpus, Ledger, closed_loop
from registry import case
from server import ROOT, Rerankd, Skip, model, server_support, starter, until

GOOD = {"query": "q", "texts": ["a", "b"], "raw_scores": True}
EXITS = {0, 1, 65, 66, 69, 70, 71, 74, 78, 127}  # documented ones; 127: the loader had no memory


def torture(words, stdin, points):
    """Runs words once for each of the points (fractions of its calls), failing one call."""
    with Failing() as f:
        def run():
            f.calls = 0
            p = subprocess.run([RERANKD, *words], input=stdin, capture_output=True, env=f.env,
                               timeout=120, cwd=ROOT)
            return p

        good = run()
        assert good.returncode == 0, good
        calls, other = f.calls, 0
        assert calls > 100, calls
        for point in points:
            f.count, f.first = 1, max(1, int(point * calls))
            p = run()
            assert p.returncode in EXITS, (f.first, p.returncode, p.stderr[-2000:])
            # Whoever ends well has found another way: same output.
            assert p.returncode != 0 or p.stdout == good.stdout, (f.first, p.stdout, good.stdout)
            other += p.returncode != 0
        f.calm()
        assert run().stdout == good.stdout
        return calls, other


@case("P", "one call of malloc, open, read, mmap, pthread_create, ... fails, at 30 random places of "
      "reranking and of checking a server's settings: a documented exit code or the right output")
def r06_torture():
    rng = random.Random(6)
    points = [rng.random() for _ in range(20)]
    a = torture(["score", "--model", model(), "--query", "q"], b"un texte\nun autre\n", points)
    b = torture(["serve", "--check", "--model", model()], b"", points[:10])
    return "%d and %d calls, %d and %d of the faults were fatal" % (a[0], b[0], a[1], b[1])


@case("P", "under load every allocation fails for 1 s, three times: the process lives, no wrong answer, "
      "serves the same scores after")
def r07_no_memory():
    with Failing() as f, Rerankd("--cache-size", "0", env=f.env) as s:
        corpus = Corpus(s, queries=2, texts=20)
        states = {OK, REFUSED, SERVER_ERROR, BROKEN}
        done = []
        for i in range(3):
            ledger = s.watch(Ledger(corpus, states))
            f.memory_ppm = 1000000
            closed_loop(s.port, ledger, clients=6, seconds=1, seed=i)
            f.calm()
            done.append(ledger.counts())
            until(lambda: quiet_ask(s), "an answer after the fault")
        last = s.watch(Ledger(corpus))
        closed_loop(s.port, last, clients=6, requests=20)
        return "%d calls failed" % f.failed


def quiet_ask(s):
    try:
        return s.post(GOOD).status == 200
    except (OSError, ValueError, IndexError):
        return False


@case("P", "15 s of load in which 0.1 % of allocations fail and 0.5 % of socket reads and writes "
      "are interrupted: I1-I8, no wrong answer, at least half answered")
def r08_random_faults():
    with Failing() as f, Rerankd("--cache-size", "0", env=f.env) as s:
        corpus = Corpus(s, queries=2, texts=20)
        ledger = s.watch(Ledger(corpus, {OK, REFUSED, SERVER_ERROR, BROKEN}))
        f.interrupt_ppm, f.memory_ppm = 5000, 1000
        closed_loop(s.port, ledger, clients=6, seconds=15)
        f.calm()
        until(lambda: quiet_ask(s), "an answer after the faults")
        counts = ledger.counts()
        assert counts[OK] > len(ledger.entries) / 2, counts
        return "%d calls failed; %s" % (f.failed, ", ".join("%s %d" % x for x in counts.items()))


@case("P", "stack of 256 KiB: serves; address space too small: one line and exit 71; no descriptors "
      "left: waits without spinning, then serves")
def r09_limits():
    small = ["sh", "-c", "ulimit -s 256; exec \"$@\"", "sh"]
    with Rerankd(wrapper=small) as s:
        assert s.post(GOOD).status == 200
    if not server_is_sanitized():
        p = subprocess.run(["sh", "-c", "ulimit -v 60000; exec \"$@\"", "sh", RERANKD, "serve",
                            "--port", "0", "--model", starter()], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, env=environment(), timeout=60, cwd=ROOT)
        errors = [x for x in p.stderr.splitlines() if " error " in x]
        assert p.returncode == 71 and len(errors) == 1, p
    with Rerankd() as s:
        used = int(s.metrics()["process_open_fds"])
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (used + 10, hard))
        some = [s.connect() for _ in range(40)]
        before = s_cpu(s.pid)
        time.sleep(2)
        spent = s_cpu(s.pid) - before
        for c in some:
            c.close()
        resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert spent < 0.4, "%.2f s of processor time in 2 s" % spent
        until(lambda: quiet_ask(s), "an answer")


def server_is_sanitized():
    from server import SANITIZED
    return SANITIZED


def s_cpu(pid):
    with open("/proc/%d/stat" % pid, encoding="utf-8") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@case("P", "read-only root, user 65532, no capabilities, empty /tmp (bwrap); its own sandbox on: load "
      "and faults of clients as everywhere else, and what the sandbox forbids is refused")
def r98_sandbox():
    if not shutil.which("bwrap"):
        raise Skip("bwrap is not installed")
    wrapper = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
               "--unshare-user", "--uid", "65532", "--gid", "65532", "--cap-drop", "ALL",
               "--die-with-parent"]
    probe = subprocess.run([*wrapper, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if probe.returncode:
        raise Skip("bwrap cannot make a sandbox here: %s" % probe.stderr.strip()[:100])
    for more in (wrapper, ()):
        with Rerankd("--sandbox", "on", wrapper=more) as s:
            corpus = Corpus(s, queries=2, texts=20)
            ledger, leavers = s.watch(Ledger(corpus)), Ledger(corpus, {LEFT})
            closed_loop(s.port, ledger, clients=6, requests=50)
            for body in (b"", b"[", b"\xff", {"texts": []}):
                assert 400 <= s.post(body).status < 500
            with s.connect() as c:
                c.send("POST", "/rerank", server_support.long_body(20))
            assert s.ask("GET", "/metrics").status == 200
            leavers.check()
