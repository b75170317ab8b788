# SPDX-License-Identifier: Apache-2.0
"""cli_healthcheck.py - tests of "rerankd healthcheck"; run by test_cli.py."""
import contextlib
import signal
import socket
import subprocess
import threading
import time

from cli_support import RERANKD, TIMEOUT, Skip, environment, model, one_line, run


@contextlib.contextmanager
def stub(answer, family=socket.AF_INET, address="127.0.0.1"):
    """A server whose answer(path, connection) sends what it likes; gives its port."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind((address, 0))
    listener.listen(8)
    connections = []

    def serve():
        while True:
            try:
                c, _ = listener.accept()
            except OSError:
                return
            connections.append(c)
            with contextlib.suppress(OSError):
                text = b""
                while b"\r\n\r\n" not in text:
                    piece = c.recv(4096)
                    if not piece:
                        break
                    text += piece
                if answer(text.split(b" ")[1].decode(), c) is not False:
                    c.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for c in connections:
            c.close()
        thread.join(5)


def says(text):
    return lambda path, c: c.sendall(text)


def status(line):
    return says(b"HTTP/1.1 " + line + b"\r\nContent-Length: 0\r\n\r\n")


def hangs(first=b""):
    def answer(path, c):
        c.sendall(first)
        return False
    return answer


def drips(path, c):
    for byte in b"HTTP/1.1 200 OK":  # never comes to an end in time
        c.sendall(bytes([byte]))
        time.sleep(0.1)


def test_healthcheck_statuses():
    for answer, code, message in [
            (status(b"200 OK"), 0, "healthy, status 200"),
            (status(b"204 No Content"), 0, "status 204"),
            (says(b"HTTP/1.0 200 OK\r\n\r\n"), 0, "status 200"),
            (status(b"503 Service Unavailable"), 1, "not healthy, status 503"),
            (status(b"500 "), 1, "status 500"),
            (status(b"301 Moved"), 1, "not healthy, status 301"),
            (status(b"404 Not Found"), 1, "not healthy, status 404"),
            (says(b"garbage\r\n\r\n"), 1, "the answer is not HTTP/1.1"),
            (says(b"HTTP/1.1 2000 OK\r\n\r\n"), 1, "not HTTP/1.1"),
            (says(b"HTTP/1.1 20"), 1, "not HTTP/1.1"),
            (says(b"\0" * 600), 1, "not HTTP/1.1"),
            (says(b"x" * 5000), 1, "not HTTP/1.1"),
            (says(b""), 1, "the connection was closed without an answer")]:
        with stub(answer) as port:
            r = run("healthcheck", "http://127.0.0.1:%d/health" % port)
        assert r.code == code and message in r.out + r.err, (message, r)
        assert one_line(r.out + r.err) and (r.out != "") == (code == 0), r


def test_healthcheck_timeouts():
    for answer in (hangs(), hangs(b"HTTP/1.1 20"), drips):
        with stub(answer) as port:
            start = time.monotonic()
            r = run("healthcheck", "--timeout", "400ms", "http://127.0.0.1:%d/" % port)
            took = time.monotonic() - start
        assert r.code == 1 and "no answer in time" in r.err, r
        assert 0.35 <= took < 5, took


def test_healthcheck_default():
    """Without a URL: /ready of the local server, /health where there is no /ready."""
    asked = []

    def old_server(path, c):
        asked.append(path)
        status(b"200 OK" if path == "/health" else b"404 Not Found")(path, c)

    with stub(old_server) as port:
        r = run("healthcheck", "--port", str(port))
        assert r.code == 0 and ":%d/health: healthy" % port in r.out, r
        r = run("healthcheck", env=environment(PORT=str(port), HOST="127.0.0.1"))
        assert r.code == 0, r
    assert asked == ["/ready", "/health"] * 2, asked
    with stub(lambda path, c: (asked.append(path), status(b"503 Loading")(path, c))) as port:
        r = run("healthcheck", "--port", str(port))
        assert r.code == 1 and "/ready: not healthy, status 503" in r.err, r
    assert asked[4:] == ["/ready"], asked


def test_healthcheck_url_without_path():
    """As without a URL: what a server that is not ready says of itself at / is no answer."""
    def loading(path, c):
        status({"/": b"200 OK", "/ready": b"503 Loading"}.get(path, b"404 Not Found"))(path, c)

    def old_server(path, c):
        status(b"503 Loading" if path == "/health" else b"404 Not Found")(path, c)

    for answer, path in ((loading, "/ready"), (old_server, "/health")):
        with stub(answer) as port:
            for url in ("http://127.0.0.1:%d" % port, "http://127.0.0.1:%d/" % port):
                r = run("healthcheck", url)
                assert r.code == 1 and ":%d%s: not healthy" % (port, path) in r.err, r


def test_healthcheck_addresses():
    with stub(status(b"200 OK")) as port:
        for host in ("127.0.0.1,127.0.0.2", "127.0.0.1, ::1", "0.0.0.0,::"):  # the first of several
            r = run("healthcheck", "--host", host, "--port", str(port))
            assert r.code == 0 and r.out.startswith("http://127.0.0.1:%d/ready" % port), r
        r = run("healthcheck", "http://localhost:%d" % port)
        assert r.code == 0 and r.out.startswith("http://localhost:%d/ready: " % port), r
        assert run("healthcheck", "HTTP://127.0.0.1:%d?x=1#y" % port).code == 0
    try:
        with stub(status(b"200 OK"), socket.AF_INET6, "::1") as port:
            assert run("healthcheck", "http://[::1]:%d/ready" % port).code == 0
            assert run("healthcheck", "--host", "::", "--port", str(port)).code == 0
    except OSError as e:
        raise Skip("no IPv6: %s" % e)


def test_healthcheck_behind_tls():
    """It speaks no TLS: a server that does is asked at its admin address."""
    with stub(status(b"200 OK")) as port:
        for address in ("127.0.0.1", "0.0.0.0"):
            r = run("healthcheck", env=environment(RERANKD_TLS_CERT="/x.pem", RERANKD_PORT="1",
                                                   RERANKD_ADMIN_LISTEN="%s:%d" % (address, port)))
            assert r.code == 0 and r.out.startswith("http://127.0.0.1:%d/ready" % port), r
        env = environment(RERANKD_TLS_CERT="/x.pem", RERANKD_PORT=str(port))
        r = run("healthcheck", env=env)
        assert r.code == 1 and "give it --admin-listen" in r.err and one_line(r.err), r
        assert run("healthcheck", "http://127.0.0.1:%d/ready" % port, env=env).code == 0


def test_healthcheck_unreachable():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # not listening: refused
        r = run("healthcheck", "http://127.0.0.1:%d/" % s.getsockname()[1])
    assert r.code == 1 and "Connection refused" in r.err and one_line(r.err), r
    r = run("healthcheck", "http://no-such-host.invalid/")
    assert r.code == 1 and "no-such-host.invalid" in r.err and one_line(r.err), r


def test_healthcheck_usage():
    for url, message in [
            ("https://localhost/", "https is not supported"),
            ("localhost:8002", "expected http://"),
            ("ftp://x/", "expected http://"), ("http://", "no host"), ("http:///x", "no host"),
            ("http://u:p@h/", "user names are not supported"), ("http://h:99999/", "port"),
            ("http://h:x/", "port"), ("http://h:/", "port"), ("http://[::1/", "[ without ]"),
            ("http://h/a b", "a space"), ("http://h/\r\nX: y", "a space or control character"),
            ("http://" + "h" * 300, "no host, or one that is too long"),
            ("http://h/" + "p" * 2000, "longer than"), ("", "expected http://")]:
        r = run("healthcheck", url)
        assert r.code == 64 and message in r.err and one_line(r.err), (url, r)
    r = run("healthcheck", "--timeout", "0")
    assert r.code == 64 and "--timeout" in r.err, r


def test_healthcheck_of_the_server():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    p = subprocess.Popen([RERANKD, "serve", "--model", model(), "--port", port,
                          "--drain-delay", "0"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    try:
        deadline = time.monotonic() + TIMEOUT
        while run("healthcheck", "--port", port).code != 0:
            assert p.poll() is None, "the server ended with %s" % p.returncode
            assert time.monotonic() < deadline, "not ready in time"
        p.send_signal(signal.SIGTERM)
        assert p.wait(TIMEOUT) == 0
    finally:
        p.kill()
        p.wait()
    assert run("healthcheck", "--port", port).code == 1
