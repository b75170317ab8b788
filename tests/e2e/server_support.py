# SPDX-License-Identifier: Apache-2.0
"""server_support.py - starts "rerankd serve" for the tests and speaks HTTP to it byte by byte."""
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from cli_support import RERANKD, ROOT, SANITIZED, Skip, environment, model

DEADLINE = 300 if SANITIZED else 60  # seconds


def starter():
    folder = os.path.join(ROOT, "models", "starter")
    if not os.path.exists(os.path.join(folder, "model.safetensors")):
        raise Skip("%s is not there" % folder)
    return folder


def run_threads(n, work):
    """work(0) to work(n - 1) at once; raises what the first one raised."""
    errors = []

    def guarded(i):
        try:
            work(i)
        except BaseException as e:  # raised again by the main thread
            errors.append(e)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "%s %s %s" % (self.status, self.headers, self.body[:1500])


class Connection:
    """One TCP connection.  Requests and answers are separate, so that they can be pipelined."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.file = self.socket.makefile("rb")

    def send(self, method, path, body=None, headers=()):
        self.socket.sendall(request(method, path, body, headers))

    def receive(self):
        """The next answer; None when the server has closed the connection before one."""
        while True:
            line = self.file.readline()
            if not line:
                return None
            status = int(line.split()[1])
            headers = {}
            while True:
                line = self.file.readline()
                if line in (b"\r\n", b""):
                    break
                name, value = line.decode().split(":", 1)
                headers[name.lower()] = value.strip()
            if status != 100:
                break
        length = int(headers.get("content-length", 0))
        body = self.file.read(length)
        return Answer(status, headers, body.decode())

    def ask(self, method, path, body=None, headers=()):
        self.send(method, path, body, headers)
        return self.receive()

    def close(self):
        with contextlib.suppress(OSError):
            self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def encode(body):
    if body is None or isinstance(body, bytes):
        return body or b""
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def request(method, path, body=None, headers=()):
    data = encode(body)
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: localhost"]
    lines += ["%s: %s" % h for h in headers]
    if data or method == "POST":
        lines.append("Content-Length: %d" % len(data))
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def until(condition, what):
    """Waits for something that will happen; the pause only spares the processor."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("timed out waiting for " + what)


class Server:
    """rerankd serve on a free port.  Its log is in lines.  model_folder False: options say which
    models.  wrapper: words of a program that runs it."""

    exits = (0, -signal.SIGKILL, -signal.SIGTERM)  # statuses that are no failure

    def __init__(self, *options, model_folder=None, env=None, ready=True, wrapper=()):
        words = [*wrapper, RERANKD, "serve", "--port", "0", "--drain-delay", "0"]
        if model_folder is not False:
            words += ["--model", model_folder or model()]
        words += options
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env=env or environment(), cwd=ROOT)
        self.lines = []
        self.port = None
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        until(lambda: self.port or self.process.poll() is not None, "the port in the log")
        if ready:
            self.wait_ready()

    def read(self):
        for line in self.process.stderr:
            text = line.decode().rstrip("\n")
            self.lines.append(text)
            found = re.search(r"https?://[^ \"]*:(\d+)", text)
            if found and not self.port:
                self.port = int(found.group(1))

    def wait_ready(self):
        until(lambda: self.ask("GET", "/ready").status == 200, "readiness: %s" % self.lines)

    def connect(self):
        return Connection(self.port)

    def ask(self, method, path, body=None, headers=()):
        with self.connect() as c:
            return c.ask(method, path, body, headers)

    def post(self, body, path="/rerank", headers=()):
        return self.ask("POST", path, body, headers)

    def log(self, pattern):
        """The first log line with the pattern; waits for it."""
        return until(lambda: next((x for x in list(self.lines) if re.search(pattern, x)), None),
                     "%s in %s" % (pattern, self.lines))

    def metrics(self):
        values = {}
        for line in self.ask("GET", "/metrics").body.splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.wait()

    def wait(self):
        code = self.process.wait(DEADLINE)
        self.reader.join(DEADLINE)
        return code

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM if kind is None else signal.SIGKILL)
        code = self.wait()
        if kind is None and code not in self.exits:
            raise AssertionError("exit status %s: %s" % (code, self.lines[-40:]))


_shared = {}


def shared():
    """A server with default settings that the tests which change nothing use together."""
    if "server" not in _shared:
        _shared["server"] = Server()
    return _shared["server"]


def stop_shared():
    server = _shared.pop("server", None)
    if server is not None:
        code = server.stop()
        assert code == 0, (code, server.lines[-40:])


def candidate(i, content):
    """What ragfab's web-api sends for one chunk."""
    return {"chunk_id": "c%d" % i, "document_id": "d%d" % i, "document_title": "Titre %d" % i,
            "document_source": "s%d.pdf" % i, "chunk_index": i, "content": content,
            "similarity": 0.85 - i / 100}


# One thread, so that long requests are long on any machine; patience, for slow builds.
SLOW = ["--threads", "1", "--request-timeout", "300", "--drain-timeout", "300"]

_serial = itertools.count()


def long_body(n):
    """n texts of 512 tokens, none of them ever seen before: no cache can help.  Under a sanitizer a
    quarter of them keeps the server busy as long."""
    serial = next(_serial)
    return {"query": "la question %d" % serial,
            "texts": ["texte %d sur %d " % (i, serial) + "et encore un peu " * 150
                      for i in range(max(3, n // 4) if SANITIZED else n)]}


QUERY = "Quelle est la capitale de la France ?"
TEXTS = ["Le pain se fait avec de la farine.", "Paris est la capitale de la France.",
         "Lyon est une grande ville.", "The capital of France is Paris."]
