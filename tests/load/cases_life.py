# SPDX-License-Identifier: Apache-2.0
"""cases_life.py - group H, start and stop."""
import os
import signal
import socket
import subprocess
import threading
import time

from cli_support import RERANKD, ROOT, environment, folder, write
from ledger import OK, REFUSED, BROKEN, Corpus, Ledger, open_loop
from registry import case
from server import Rerankd, free_port, model, server_support, starter, until

SLOW = ["--threads", "1", "--cache-size", "0", "--queue-tokens", "8M", "--request-timeout", "300",
        "--drain-timeout", "300"]  # as long as a busy machine takes


@case("P", "SIGTERM with 40 requests in flight or queued and 200 idle connections: all answered, "
      "idle ones closed, exit 0")
def r67_drain():
    with Rerankd(*SLOW, model_folder=starter(), ends=False) as s:
        idle = [s.connect() for _ in range(200)]
        busy = [s.connect() for _ in range(40)]
        for c in busy:
            c.send("POST", "/rerank", server_support.long_body(2))
        until(lambda: s.metrics()["rerank_queue_requests"] == 40, "40 accepted")
        s.process.send_signal(signal.SIGTERM)
        answers = [c.receive() for c in busy]
        assert [a and a.status for a in answers] == [200] * 40, answers
        assert all(len(a.json()) == 2 for a in answers)
        for c in idle:
            assert c.file.read() == b""
        assert s.wait() == 0, s.lines[-5:]
        for c in busy + idle:
            c.close()


@case("P", "requests on old connections while draining: answered or refused, never lost")
def r68_requests_while_draining():
    with Rerankd(*SLOW, model_folder=starter(), ends=False) as s:
        holder = s.connect()
        holder.send("POST", "/rerank", server_support.long_body(60))
        until(lambda: s.metrics()["rerank_queue_requests"] == 1, "one accepted")
        old = [s.connect() for _ in range(8)]
        for c in old:
            assert c.ask("GET", "/live").status == 200
        s.process.send_signal(signal.SIGTERM)
        s.log("signal TERM: finishing")
        for c in old:
            try:
                answer = c.ask("POST", "/rerank", {"query": "q", "texts": ["a"]})
            except OSError:
                answer = None
            assert answer is None or answer.status in (200, 503), answer
            if answer is not None and answer.status == 503:
                assert "retry-after" in answer.headers, answer
        assert holder.receive().status == 200
        assert s.wait() == 0
        for c in old + [holder]:
            c.close()


@case("P", "a second SIGTERM ends at once; SIGKILL and start again: same scores")
def r69_second_signal_and_kill():
    with Rerankd(*SLOW, model_folder=starter(), ends=False) as s:
        first = s.probe.first
        c = s.connect()
        c.send("POST", "/rerank", server_support.long_body(400))
        until(lambda: s.metrics()["rerank_queue_requests"] == 1, "one accepted")
        s.process.send_signal(signal.SIGTERM)
        s.log("signal TERM: finishing")
        start = time.monotonic()
        s.process.send_signal(signal.SIGTERM)
        s.wait()
        assert time.monotonic() - start < 10, time.monotonic() - start
        c.close()
    with Rerankd(model_folder=starter(), ends=False) as s:
        s.process.kill()
        s.wait()
    with Rerankd(*SLOW, model_folder=starter()) as s:
        assert s.probe.first == first


@case("P", "exit codes 69, 78, 78, 64 with one line within 1 s and without a trace")
def r73_bad_start():
    port = free_port()

    def start(*words):
        begin = time.monotonic()
        p = subprocess.run([RERANKD, "serve", *words], stdin=subprocess.DEVNULL, cwd=ROOT,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
                           timeout=60)
        lines = [x for x in p.stderr.decode().splitlines() if " info " not in x]
        assert len(lines) == 1, lines
        assert time.monotonic() - begin < 5  # 1 s on an idle machine
        return p.returncode, lines[0]

    with socket.create_server(("127.0.0.1", port)):
        code, line = start("--host", "127.0.0.1", "--port", str(port), "--model", model())
        assert code == 69 and str(port) in line, (code, line)
    with folder() as f:
        write(os.path.join(f, "config.json"), "{")
        assert start("--port", "0", "--model", f)[0] == 78
        secret = write(os.path.join(f, "empty"), "")
        for words in (["--redis-url", "redis://"], ["--redis-url", "http://x"],
                      ["--redis-url", "redis://x", "--redis-password-file", secret],
                      ["--redis-url", "rediss://x", "--redis-ca", secret]):
            code, line = start("--port", "0", "--model", model(), *words)
            assert code not in (0, 70) and code > 0, (words, code, line)
    assert start("--port", "0", "--max-length", "x")[0] == 64
    assert start("--port", "0", "--model", "/nowhere")[0] in (66, 78)


@case("P", "load, SIGTERM and a new server on the same port, 3 times: no wrong answer")
def r70_restart_under_load():
    port = free_port()
    options = ["--port", str(port)]
    with Rerankd(*options, ends=False) as s:
        corpus = Corpus(s, queries=2, texts=16)
        ledger = Ledger(corpus, {OK, REFUSED, BROKEN})
        loader = threading.Thread(target=open_loop, args=(port, ledger, 60, 8), daemon=True)
        loader.start()
        time.sleep(1)
        assert s.stop() == 0
    for _ in range(2):
        with Rerankd(*options, ends=False) as s:
            time.sleep(1)
            assert s.stop() == 0
    with Rerankd(*options) as s:
        loader.join()
        ledger.check()
        counts = ledger.counts()
        assert counts[OK] > len(ledger.entries) / 4, counts
        return "%d answered, %d refused or without a server" % (
            counts[OK], counts[REFUSED] + counts[BROKEN])


@case("N", "100 restarts: each serves the same scores")
def r75_restarts():
    first = None
    for _ in range(100):
        with Rerankd(model_folder=starter()) as s:
            first = first or s.probe.first
            assert s.probe.first == first


