# SPDX-License-Identifier: Apache-2.0
"""server_gate.py - keys, limits, networks, origins, TLS, Unix sockets, sandbox; run by run.py."""
import base64
import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

from cli_support import RERANKD, Skip, environment, model
from server_support import Connection, Server, until

GOOD = {"query": "deux mots", "texts": ["mots", "deux"], "raw_scores": True}


def bearer(key):
    return [("Authorization", "Bearer " + key)]


@contextlib.contextmanager
def folder():
    path = tempfile.mkdtemp(prefix="gate")
    try:
        yield path
    finally:
        shutil.rmtree(path)


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def keys(path, *words):
    p = subprocess.run([RERANKD, "keys", *words, "--api-keys-file", path], capture_output=True,
                       text=True, env=environment())
    return p.returncode, p.stdout.strip(), p.stderr


def test_one_key():
    with Server("--api-key", "canari-k1") as s:
        for headers, status in [
                ([], 401), (bearer("canari-k1"), 200), (bearer("canari-k"), 401),
                (bearer("canari-k12"), 401), (bearer("Canari-k1"), 401), (bearer(""), 401),
                ([("authorization", "bearer  canari-k1")], 200), ([("Authorization", "canari-k1")], 200),
                ([("x-api-key", "canari-k1")], 200), ([("Api-Key", "canari-k1")], 200),
                ([("x-api-key", "canari-k2")], 401),
                ([("Authorization", "Basic " + base64.b64encode(b"any:canari-k1").decode())], 200),
                ([("Authorization", "Basic " + base64.b64encode(b"canari-k1:").decode())], 200),
                ([("Authorization", "Basic " + base64.b64encode(b"a:b").decode())], 401),
                ([("Authorization", "Basic %%%")], 401), ([("Authorization", "Bearer")], 401),
                (bearer("canari-k1") * 2, 401), (bearer("canari-k1") + [("x-api-key", "b")], 401),
                (bearer("canari-k1") + [("x-api-key", "canari-k1")], 200), (bearer("k" * 3000), 401)]:
            a = s.post(GOOD, headers=headers)
            assert a.status == status, (headers, a)
            if status == 401:
                assert a.headers["www-authenticate"].startswith("Bearer"), a
                assert a.json()["error"] and "canari" not in a.body, a
        a = s.post(GOOD, path="/nim/v1/ranking")
        assert a.status == 401
        assert s.post(GOOD, path="/rerank?api_key=canari-k1").status == 401
        for path, status in [("/live", 200), ("/ready", 200), ("/health", 200), ("/ping", 200),
                             ("/ui", 200), ("/ui/status", 200), ("/info", 401), ("/", 401),
                             ("/metrics", 401), ("/v1/models", 401)]:
            assert s.ask("GET", path).status == status, path
        for path in ("/v1/cluster/auth", "/xinference/v1/cluster/auth"):  # Xinference's client
            assert s.ask("GET", path).json() == {"auth": True}, path
        m = s.ask("GET", "/metrics", headers=bearer("canari-k1")).body
        assert 'rerank_requests_rejected_total{reason="unauthorized"}' in m
        assert not [line for line in s.lines if "canari" in line]


def test_refused_in_the_form_of_the_path():
    """What is refused before the body is read has the form that path or --dialect fix."""
    nested, flat, large = (lambda e: e["error"]["code"]), (lambda e: e["error"] and 401), b" " * 3000
    with Server("--api-key", "canari-k1", "--max-body", "2000") as s:
        for path, read in [("/score", nested), ("/v1/score", nested), ("/vllm/v2/rerank", nested),
                           ("/rerank", flat), ("/tei/rerank", flat), ("/predict", flat)]:
            a = s.post(GOOD, path)
            assert a.status == read(a.json()) == 401, (path, a)
        a = s.post(large, "/score", bearer("canari-k1"))
        assert a.status == a.json()["error"]["code"] == 413, a
    with Server("--api-key", "canari-k1", "--dialect", "vllm") as s:
        a = s.post(GOOD)
        assert a.status == a.json()["error"]["code"] == 401, a
        assert s.ask("GET", "/metrics").json()["error_type"], "no form of its own"


def test_without_keys_any_do():
    """Clients made for other servers bring what those asked for, some of them in two places."""
    with Server() as s:
        for headers in (bearer("a"), bearer("a") + [("api-key", "b")], bearer("a") + bearer("b"),
                        [("x-api-key", "a"), ("Authorization", "Basic eDp5")]):
            a = s.post(GOOD, headers=headers)
            assert a.status == 200, (headers, a)


def test_keys_are_told_of_in_french():
    with folder() as f:
        path = os.path.join(f, "keys")
        keys(path, "add", "one")
        with Server("--api-keys-file", path, "--lang", "fr") as s:
            keys(path, "add", "two")
            s.log(" clés relues$")
            write(path, "rubbish")
            s.log(" clés inchangées : .*salt")


def test_named_keys_and_their_file():
    with folder() as f:
        path = os.path.join(f, "keys")
        code, one, _ = keys(path, "add", "one")
        assert code == 0 and re.fullmatch("rk_[0-9a-f]{48}", one), one
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert one not in open(path).read()
        assert keys(path, "add", "one")[0] == 64 and keys(path, "add", "a b")[0] == 64
        for flag, word, expected in [("--rate", "many", "a number"), ("--day", "-1", "a number"),
                                     ("--priority", "top", "low, normal or high")]:
            code, _, err = keys(path, "add", "x", flag, word)
            assert code == 64 and f'{flag}: found "{word}", expected {expected}' in err, err
        with open("/dev/full", "w", encoding="utf-8") as full:  # nobody has seen that key
            p = subprocess.run([RERANKD, "keys", "add", "unseen", "--api-keys-file", path], stdout=full,
                               stderr=subprocess.PIPE, text=True, env=environment(), check=False)
        assert p.returncode == 74 and "cannot write to standard output" in p.stderr, p
        assert not os.path.exists(path) or "unseen" not in keys(path, "list")[1]
        assert keys(path, "remove", "none")[0] == 64 and keys(path)[0] == 64
        assert keys(path, "list") == (0, "one", "")
        many = [keys(path, "add", "n%d" % i)[1] for i in range(10)]
        with Server("--api-keys-file", path) as s:
            for key in [one, *many]:
                assert s.post(GOOD, headers=bearer(key)).status == 200
            two = keys(path, "add", "two", "--rate", "1000", "--priority", "low")[1]
            until(lambda: s.post(GOOD, headers=bearer(two)).status == 200, "the new key")
            assert keys(path, "remove", "one")[0] == 0
            removed = time.monotonic()
            until(lambda: s.post(GOOD, headers=bearer(one)).status == 401, "the key to be refused")
            assert time.monotonic() - removed < 3
            write(path, "rubbish")  # a bad file changes nothing
            s.log("stay as they were")
            assert s.post(GOOD, headers=bearer(two)).status == 200
            write(path, "salt " + "0" * 32 + "\n")  # no keys: nobody
            until(lambda: s.post(GOOD, headers=bearer(two)).status == 401, "nobody to be let in")


def test_limits_of_a_key():
    with folder() as f:
        path = os.path.join(f, "keys")
        slow = keys(path, "add", "slow", "--rate", "0.01")[1]
        heavy = keys(path, "add", "heavy", "--tokens", "0.5")[1]
        daily = keys(path, "add", "daily", "--day", "2")[1]
        free = keys(path, "add", "free")[1]
        with Server("--api-keys-file", path) as s:
            a = s.post(GOOD, headers=bearer(slow))
            assert a.status == 200 and a.headers["x-ratelimit-limit"] == "1", a
            assert a.headers["x-ratelimit-remaining"] == "0", a
            assert int(a.headers["x-ratelimit-reset"]) > time.time()
            a = s.post(GOOD, headers=bearer(slow))
            assert a.status == 429 and 1 <= int(a.headers["retry-after"]) <= 101, a
            assert s.ask("GET", "/info", headers=bearer(slow)).status == 200  # not counted
            answers = []

            def refused():
                answers.append(s.post(GOOD, headers=bearer(heavy)))
                return answers[-1].status == 429

            until(refused, "the tokens to be charged")  # known, and charged, after the reply only
            assert answers[0].status == 200 and int(answers[-1].headers["retry-after"]) >= 5, answers
            assert [s.post(GOOD, headers=bearer(daily)).status for _ in range(3)] == [200, 200, 429]
            keys(path, "add", "another")  # reading the file again forgives nothing
            s.log("read again")
            assert s.post(GOOD, headers=bearer(daily)).status == 429
            for _ in range(20):
                assert s.post(GOOD, headers=bearer(free)).status == 200
            m = s.ask("GET", "/metrics", headers=bearer(free)).body
            assert 'rerank_requests_rejected_total{reason="rate_limit"} 4\n' in m


def test_refusals_do_not_use_up_the_day():
    """Who is told to come again must be able to."""
    with folder() as f:
        path = os.path.join(f, "keys")
        other = keys(path, "add", "other")[1]
        daily = keys(path, "add", "daily", "--day", "2")[1]
        rated = keys(path, "add", "rated", "--rate", "0.01", "--day", "2")[1]
        with Server("--api-keys-file", path, "--max-body", "1M", "--max-inflight-bytes", "1M") as s:
            with s.connect() as full:
                full.socket.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
                                    b"Authorization: Bearer %s\r\n\r\n{" % other.encode())
                until(lambda: "\nrerank_queue_bytes 1000000\n" in
                      s.ask("GET", "/metrics", headers=bearer(other)).body, "the body")
                for _ in range(5):
                    a = s.post({"query": "q", "texts": ["x" * 60000]}, headers=bearer(daily))
                    assert a.status == 503 and a.headers["retry-after"], a
                    assert a.headers["x-ratelimit-remaining"] == a.headers["x-ratelimit-limit"] == "2", a
                a = s.post({"query": "q", "texts": ["x" * 60000]}, headers=bearer(rated))
                assert a.status == 503 and a.headers["x-ratelimit-remaining"] == "0", a  # per second
            until(lambda: "\nrerank_queue_bytes 0\n" in
                  s.ask("GET", "/metrics", headers=bearer(other)).body, "room")
            answers = [s.post(GOOD, headers=bearer(daily)) for _ in range(4)]
            assert [(a.status, a.headers["x-ratelimit-remaining"]) for a in answers] == \
                [(200, "1"), (200, "0"), (429, "0"), (429, "0")], answers


def test_admin():
    with folder() as f:
        write(os.path.join(f, "admin"), "secret-a\n")
        with Server("--api-key", "k", "--admin-key-file", os.path.join(f, "admin")) as s:
            assert s.ask("GET", "/metrics").status == 401
            assert s.ask("GET", "/metrics", headers=bearer("k")).status == 403
            assert s.ask("GET", "/metrics", headers=bearer("secret-a")).status == 200
            assert s.post(GOOD, headers=bearer("secret-a")).status == 200
    with Server("--admin-listen", "127.0.0.1:0", "--api-key", "k") as s:
        port = int(re.search(r"port (\d+)", s.log("admin address")).group(1))
        assert s.ask("GET", "/metrics", headers=bearer("k")).status == 404
        with Connection(port) as c:
            assert c.ask("GET", "/metrics").status == 200
            assert c.ask("GET", "/ready").status == 200
            assert c.ask("POST", "/rerank", GOOD).status == 404


def test_operators_paths_have_one_spelling():
    """Who closes /metrics, /admin and /debug in a proxy has closed all that leads there."""
    with Server("--api-key", "k") as s:
        for method, path in (("GET", "/metrics"), ("GET", "/debug/state"), ("POST", "/admin/reload")):
            for other in ("/tei" + path, "/" + path, path + "/", "/%%%02x" % ord(path[1]) + path[2:],
                          "http://x" + path, "http://" + path, "/cohere/%2F" + path[1:],
                          path.replace("/", "//")):
                a = s.ask(method, other, headers=bearer("k"))
                assert a.status == 404, (other, a)
            assert s.ask("OPTIONS", "/tei" + path).status == 404
            assert s.ask(method, path + "?a=//%20/", headers=bearer("k")).status == 200, path


def test_settings_that_cannot_be():
    for options, part in [
            (["--allow-nets", "10.0.0.1/8"], "allow-nets"), (["--allow-nets", "x"], "allow-nets"),
            (["--trusted-proxies", "10.0.0.0/33"], "trusted-proxies"),
            (["--cors-origins", "https://a.example/path"], "cors-origins"),
            (["--cors-origins", "null"], "cors-origins"), (["--tls-key", "/dev/null"], "tls-cert"),
            (["--api-keys-file", "/none"], "/none"), (["--unix-mode", "9"], "unix-mode"),
            (["--api-key", "a", "--api-key-file", "b"], "api-key"),
            (["--admin-listen", "9102"], "admin-listen"), (["--user", "no-such-user"], "user")]:
        p = subprocess.run([RERANKD, "serve", "--port", "0", *options], capture_output=True,
                           text=True, env=environment(), timeout=30)
        assert p.returncode in (66, 78) and part in p.stderr, (options, p)


def test_secrets_are_not_printed():
    p = subprocess.run([RERANKD, "serve", "--print-config", "--api-key", "canari"],
                       capture_output=True, text=True, env=environment())
    assert p.returncode == 0 and "canari" not in p.stdout and "= ***" in p.stdout, p


def test_networks():
    with Server("--allow-nets", "192.0.2.0/24,2001:db8::/32", "--trusted-proxies",
                "127.0.0.0/8", ready=False) as s:
        def status(*values):
            return s.ask("GET", "/live", headers=[("X-Forwarded-For", v) for v in values]).status
        for values, expected in [
                (["192.0.2.9"], 200), (["10.0.0.1"], 403), ([], 403), ([""], 403), ([",,"], 403),
                (["10.0.0.1, 192.0.2.9"], 200), (["192.0.2.9, 10.0.0.1"], 403),
                (["192.0.2.9, 127.0.0.5"], 200), (["192.0.2.9", "127.0.0.5"], 200),
                (["192.0.2.9", "10.0.0.1"], 403), (["::ffff:192.0.2.9"], 200),
                (["2001:db8::1"], 200), (["[2001:db8::1]:443"], 200), (["192.0.2.9:80"], 200),
                (["192.0.2.9, rubbish"], 403), (["192.0.2.9."], 403)]:
            assert status(*values) == expected, values
    with Server("--allow-nets", "192.0.2.0/24", ready=False) as s:
        with contextlib.suppress(ConnectionError):
            assert s.connect().ask("GET", "/live", headers=[("X-Forwarded-For", "192.0.2.9")]) is None
    with Server("--allow-nets", "127.0.0.1") as s:
        assert s.post(GOOD).status == 200


def test_cors():
    def names(a):
        return [h for h in a.headers if h.startswith("access-control")]
    with Server() as s:
        assert not names(s.ask("GET", "/live", headers=[("Origin", "https://a.example")]))
    with Server("--cors-origins", "https://a.example,http://localhost:3000", "--api-key", "k") as s:
        for origin, yes in [("https://a.example", True), ("http://localhost:3000", True),
                            ("null", False), ("https://evil-a.example", False),
                            ("https://a.example.evil.com", False), ("http://a.example", False),
                            ("https://a.exampl", False), ("https://A.example", False), ("", False)]:
            for a in [s.ask("GET", "/live", headers=[("Origin", origin)]),
                      s.post(GOOD, headers=[("Origin", origin)]),
                      s.ask("OPTIONS", "/rerank", headers=[
                          ("Origin", origin), ("Access-Control-Request-Method", "POST")])]:
                got = a.headers.get("access-control-allow-origin")
                assert got == (origin if yes else None), (origin, a)
                assert "access-control-allow-credentials" not in a.headers
                assert a.headers["vary"] == "Origin"
        a = s.ask("OPTIONS", "/rerank", headers=[("Origin", "https://a.example"),
                                                 ("Access-Control-Request-Method", "POST")])
        assert a.status == 204 and "POST" in a.headers["access-control-allow-methods"]
        # SDKs in a page send headers of their own; "*" stands for all but Authorization
        assert a.headers["access-control-allow-headers"].split(", ") == ["Authorization", "*"], a
        a = s.post({**GOOD, "allow_partial": True}, headers=[
            ("Origin", "https://a.example"), ("Authorization", "Bearer k"), ("X-Request-Timeout", "9")])
        assert "x-rerank-missing" in a.headers, a  # ... which the page can read
        assert a.headers["access-control-expose-headers"] == "*", a
    with Server("--cors-origins", "*") as s:
        a = s.ask("GET", "/live", headers=[("Origin", "https://any.example")])
        assert a.headers["access-control-allow-origin"] == "*"


def test_pages_can_read_refusals():
    """A page sees nothing of a reply without these headers, so no message either."""
    origin, chunk = [("Origin", "https://a.example")], b"%x\r\n%s\r\n" % (3000, b" " * 3000)

    def may_read(a, status):
        assert a.status == status and a.json()["error"], (status, a)
        assert a.headers.get("access-control-allow-origin") == "https://a.example", (status, a)
        assert a.headers["access-control-expose-headers"] == "*" and a.headers["vary"] == "Origin", a

    with Server("--cors-origins", "https://a.example", "--max-body", "2000", "--trusted-proxies",
                "127.0.0.1", "--allow-nets", "127.0.0.1") as s:
        for status, method, path, body, more in [
                (404, "GET", "/none", None, []), (404, "POST", "/none", GOOD, []),
                (405, "GET", "/rerank", None, []), (405, "POST", "/health", GOOD, []),
                (405, "DELETE", "/rerank", None, []), (414, "GET", "/" + "a" * 300, None, []),
                (414, "GET", "/" + "a" * 9000, None, []), (400, "GET", "/%00", None, []),
                (400, "GET", "/live", None, [("Host", "b")]), (400, "POST", "/rerank", "{", []),
                (417, "POST", "/rerank", GOOD, [("Expect", "x")]),
                (431, "GET", "/live", None, [("X-A", "b")] * 101),
                (413, "POST", "/rerank", b" " * 3000, []), (413, "POST", "/rerank", b" " * 300000, []),
                (403, "GET", "/live", None, [("X-Forwarded-For", "192.0.2.1")])]:
            may_read(s.ask(method, path, body, origin + more), status)
            a = s.ask(method, path, body, [("Origin", "https://b.example"), *more])
            assert a.status == status and "access-control-allow-origin" not in a.headers, a
            assert a.headers["vary"] == "Origin", a
        with s.connect() as c:  # refused in the middle of a body
            c.socket.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n"
                             b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
            may_read(c.receive(), 413)
        # what comes after it is refused in its own way, which a refused question would hide
        ask = [*origin, ("Access-Control-Request-Method", "POST")]
        for path in ("/none", "/" + "a" * 300):
            a = s.ask("OPTIONS", path, headers=ask)
            assert a.status == 204 and "POST" in a.headers["access-control-allow-methods"], a
        assert s.ask("OPTIONS", "/none", headers=origin).status == 404


def test_unix_socket():
    with folder() as f:
        path = os.path.join(f, "socket")
        for how in ("first", "after a crash"):
            with Server("--listen-unix", path, "--unix-mode", "600") as s:
                assert os.stat(path).st_mode & 0o777 == 0o600, how
                c = Connection.__new__(Connection)
                c.socket = socket.socket(socket.AF_UNIX)
                c.socket.connect(path)
                c.file = c.socket.makefile("rb")
                assert c.ask("POST", "/rerank", GOOD).status == 200
                c.close()
                p = subprocess.run([RERANKD, "serve", "--port", "0", "--listen-unix", path],
                                   capture_output=True, text=True, env=environment(), timeout=30)
                assert p.returncode == 69 and path in p.stderr, p  # somebody uses it
                assert "another program listens there" in p.stderr, p
                s.process.kill()
        plain = os.path.join(f, "notes")
        with open(plain, "w", encoding="utf-8") as file:
            file.write("mine")
        p = subprocess.run([RERANKD, "serve", "--port", "0", "--listen-unix", plain],
                           capture_output=True, text=True, env=environment(), timeout=30, check=False)
        assert p.returncode == 69 and "a file is there that is no socket" in p.stderr, p
        assert open(plain, encoding="utf-8").read() == "mine"


def test_two_addresses():
    with Server("--host", "127.0.0.1,127.0.0.2") as s:
        for host in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection((host, s.port)) as c:
                c.sendall(b"GET /live HTTP/1.0\r\n\r\n")
                assert c.recv(100).startswith(b"HTTP/1.1 200"), host


def test_all_addresses_of_a_name():
    """localhost is 127.0.0.1 and ::1 in many /etc/hosts, and clients try either first."""
    with folder() as f, socket.socket(socket.AF_INET6) as six:
        write(f + "/hosts", "127.0.0.1 localhost\n127.0.0.1 localhost\n::1 localhost\n")
        wrapper = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"',
                   f + "/hosts")
        try:
            six.bind(("::1", 0))
            subprocess.run([*wrapper, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as e:
            raise Skip("another /etc/hosts or IPv6: %s" % e) from e
        with Server("--host", "localhost", wrapper=wrapper) as s:
            for host in ("127.0.0.1", "::1"):
                with socket.create_connection((host, s.port)) as c:
                    c.sendall(b"GET /live HTTP/1.0\r\n\r\n")
                    assert c.recv(100).startswith(b"HTTP/1.1 200"), host


# ---- TLS ----------------------------------------------------------------------------------------

def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def make_ca(f, name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", "/CN=" + name, "-keyout", f + "/%s.key" % name, "-out",
            f + "/%s.pem" % name)


def make_cert(f, ca, name, days="2"):
    ext = f + "/ext"
    write(ext, "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            "/CN=" + name, "-keyout", f + "/%s.key" % name, "-out", f + "/csr")
    openssl("x509", "-req", "-in", f + "/csr", "-CA", f + "/%s.pem" % ca, "-CAkey",
            f + "/%s.key" % ca, "-CAcreateserial", "-days", days, "-extfile", ext, "-out",
            f + "/%s.pem" % name)


class Tls(Connection):
    def __init__(self, port, ca, cert=None, version=None):
        context = ssl.create_default_context(cafile=ca)
        if cert:
            context.load_cert_chain(cert + ".pem", cert + ".key")
        if version:
            context.minimum_version = context.maximum_version = version
        raw = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        self.file = self.socket.makefile("rb")


def need_openssl():
    if not shutil.which("openssl"):
        raise Skip("openssl is not installed")


def serve_tls(f, *options):
    return Server("--tls-cert", f + "/server.pem", "--tls-key", f + "/server.key", *options,
                  ready=False)


def test_tls():
    need_openssl()
    with folder() as f:
        make_ca(f, "ca")
        make_cert(f, "ca", "server")
        with serve_tls(f, "--header-timeout", "2") as s:
            halves = [s.connect() for _ in range(200)]  # handshakes that do not go on
            for c in halves:
                c.socket.sendall(b"\x16\x03\x01")
            until(lambda: Tls(s.port, f + "/ca.pem").ask("GET", "/ready").status == 200, "ready")
            old = Tls(s.port, f + "/ca.pem")
            assert old.ask("POST", "/rerank", GOOD).status == 200
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                assert Tls(s.port, f + "/ca.pem", version=version).ask("GET", "/live").status == 200
            with contextlib.suppress(ssl.SSLError, ConnectionError, ValueError):
                Tls(s.port, f + "/ca.pem", version=ssl.TLSVersion.TLSv1_1)
                raise AssertionError("TLS 1.1 is spoken")
            with s.connect() as plain, contextlib.suppress(ConnectionError):
                plain.socket.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200" not in plain.file.read()
            first = old.socket.getpeercert()["serialNumber"]
            make_cert(f, "ca", "server")  # another one: taken up, connections stay
            until(lambda: Tls(s.port, f + "/ca.pem").socket.getpeercert()["serialNumber"] != first,
                  "the new certificate")
            assert old.ask("POST", "/rerank", GOOD).status == 200
            write(f + "/server.pem", "rubbish")
            s.log("stay as they were")
            assert Tls(s.port, f + "/ca.pem").ask("GET", "/live").status == 200
            for c in halves:  # their time is up
                with contextlib.suppress(ConnectionError):
                    c.socket.settimeout(20)
                    while c.socket.recv(100):
                        pass
                c.close()


def test_chunked_body_over_the_limit():
    """The library answers after a body only; that must not cost clients the answer."""
    need_openssl()
    head = b"POST /rerank HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with folder() as f:
        make_ca(f, "ca")
        make_cert(f, "ca", "server")
        with serve_tls(f, "--max-body", "100K") as s:
            until(lambda: Tls(s.port, f + "/ca.pem").ask("GET", "/ready").status == 200, "ready")
            c = Tls(s.port, f + "/ca.pem")
            c.socket.sendall(head + b"5000\r\n%s\r\n" % (b"a" * 0x5000) * 6 + b"0\r\n\r\n")
            a = c.receive()
            assert a.status == 413 and a.headers["connection"] == "close", a
            assert c.receive() is None
            c = Tls(s.port, f + "/ca.pem")
            with contextlib.suppress(OSError):  # it is not read for ever
                c.socket.sendall(head + b"500000\r\n" + b"a" * 0x500000)
                assert c.receive() is None
            m = Tls(s.port, f + "/ca.pem").ask("GET", "/metrics").body
            assert 'rerank_http_requests_total{handler="rerank",status="413"} 2\n' in m


def test_client_certificates():
    need_openssl()
    with folder() as f:
        make_ca(f, "ca")
        make_ca(f, "other")
        for ca, name in [("ca", "server"), ("ca", "friend"), ("other", "stranger")]:
            make_cert(f, ca, name)
        with serve_tls(f, "--tls-client-ca", f + "/ca.pem") as s:
            c = Tls(s.port, f + "/ca.pem", f + "/friend")
            assert c.ask("GET", "/live").status == 200
            for cert in (None, f + "/stranger"):
                try:
                    a = Tls(s.port, f + "/ca.pem", cert).ask("GET", "/live")
                    assert a is None, a
                except OSError:
                    pass
            assert c.ask("GET", "/live").status == 200


# ---- sandbox ------------------------------------------------------------------------------------

def test_sandbox():
    # A sanitizer's search for leaks at the end would need ptrace.
    env = environment(ASAN_OPTIONS="detect_leaks=0")
    if os.geteuid() == 0:
        with folder() as f:
            os.chmod(f, 0o755)
            own = os.path.join(f, "m")  # the working copy may be in a home that is closed to others
            shutil.copytree(model(), own)
            with Server("--user", "nobody", "--sandbox", "on", model_folder=own, env=env) as s:
                with open("/proc/%d/status" % s.process.pid) as status:
                    text = status.read()
                assert "Uid:\t65534\t65534\t65534\t65534" in text, text
                assert "NoNewPrivs:\t1" in text and "Seccomp:\t2" in text, text
                assert s.post(GOOD).status == 200
    with folder() as f:
        key = [("Authorization", "Bearer k")]
        with Server("--sandbox", "on", "--admin-key", "k", env=env) as s:
            assert s.post(GOOD).status == 200
            shutil.copytree(model(), os.path.join(f, "m"))
            a = s.ask("POST", "/admin/reload", {"model": os.path.join(f, "m")}, headers=key)
            assert a.status == 422 and "sandbox keeps it closed" in a.body and "--sandbox-read" in a.body, a
        with Server("--sandbox", "on", "--admin-key", "k", "--sandbox-read", "/none:" + f,
                    env=env) as s:
            a = s.ask("POST", "/admin/reload", {"model": os.path.join(f, "m")}, headers=key)
            assert a.status == 200, a
