# SPDX-License-Identifier: Apache-2.0
"""server_framing.py - raw bytes that two readers could read differently; run by run.py."""
import socket
import time

from server_support import Connection, Server, encode, request, shared

GOOD = {"query": "deux mots", "texts": ["mots", "deux"], "raw_scores": True}
BODY = encode(GOOD)
HEAD = b"POST /rerank HTTP/1.1\r\nHost: x\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
PIECES = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
FOLLOW = request("POST", "/rerank", GOOD, [("X-Request-Id", "smuggled")])


def head(extra):
    return HEAD + extra + LENGTH + b"\r\n" + BODY


def get(line, extra=b"Host: x\r\n"):
    return line + b"\r\n" + extra + b"\r\n"


# what is sent, allowed first statuses, why
REFUSED = [
    (HEAD + LENGTH + CHUNKED + b"\r\n" + PIECES, {400}, "both lengths"),
    (HEAD + CHUNKED + LENGTH + b"\r\n" + PIECES, {400}, "both lengths, the other way round"),
    (HEAD + LENGTH + b"Content-Length: 5\r\n\r\n" + BODY, {400}, "two lengths"),
    (HEAD + LENGTH + LENGTH + b"\r\n" + BODY, {400}, "the same length twice"),
    (HEAD + b"Content-Length: 5, 5\r\n\r\n" + BODY, {400}, "a list of lengths"),
    (HEAD + b"Content-Length: +5\r\n\r\n" + BODY, {400}, "a sign"),
    (HEAD + b"Content-Length: -1\r\n\r\n" + BODY, {400}, "a negative length"),
    (HEAD + b"Content-Length: 0x5\r\n\r\n" + BODY, {400}, "hexadecimal"),
    (HEAD + b"Content-Length: 5 5\r\n\r\n" + BODY, {400}, "a blank inside"),
    (HEAD + b"Content-Length: \r\n\r\n" + BODY, {400}, "no digits"),
    (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n" + BODY, {400, 413}, "20 digits"),
    (HEAD + b"Content-Length : 5\r\n\r\n" + BODY, {400}, "a blank before the colon"),
    (HEAD + b"Content-Length\t: 5\r\n\r\n" + BODY, {400}, "a tab before the colon"),
    (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + PIECES, {400, 501}, "an unknown coding"),
    (HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + PIECES, {400, 501}, "chunked twice"),
    (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + PIECES, {400, 501}, "a second coding"),
    (HEAD + b"Transfer-Encoding: chunked \r\n\r\n" + PIECES, {400, 501}, "a blank behind it"),
    (HEAD + b"Transfer-Encoding: \"chunked\"\r\n\r\n" + PIECES, {400, 501}, "quoted"),
    (HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + PIECES, {400}, "a vertical tab before it"),
    (HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + PIECES, {400}, "a blank before the colon"),
    (HEAD + CHUNKED + CHUNKED + b"\r\n" + PIECES, {400}, "two of them"),
    (b"POST /rerank HTTP/1.0\r\n" + CHUNKED + b"\r\n" + PIECES, {400}, "chunked in HTTP/1.0"),
    (HEAD + CHUNKED + b"\r\n-2\r\n" + BODY, {400}, "a negative chunk"),
    (HEAD + CHUNKED + b"\r\n\r\n" + BODY, {400}, "an empty chunk size"),
    (HEAD + CHUNKED + b"\r\n 5\r\nabcde\r\n0\r\n\r\n", {400}, "a blank before the chunk size"),
    (HEAD + CHUNKED + b"\r\n0x5\r\nabcde\r\n0\r\n\r\n", {400}, "a prefix of the chunk size"),
    (HEAD + CHUNKED + b"\r\nzz\r\n" + BODY, {400}, "no number"),
    (HEAD + CHUNKED + b"\r\n11111111111111111\r\n" + BODY, {400, 413}, "17 digits"),
    (HEAD + CHUNKED + b"\r\n5\r\nabcdeX\r\n0\r\n\r\n", {400}, "a chunk longer than it says"),
    (HEAD + LENGTH + b"Host: y\r\n\r\n" + BODY, {400}, "two hosts"),
    (b"POST /rerank HTTP/1.1\r\n" + LENGTH + b"\r\n" + BODY, {400}, "no host"),
    (b"POST /rerank HTTP/1.1\r\nHost: a/b\r\n" + LENGTH + b"\r\n" + BODY, {400}, "host with path"),
    (b"POST /rerank HTTP/1.1\r\nHost: u@b\r\n" + LENGTH + b"\r\n" + BODY, {400}, "host with user"),
    (head(b"no colon\r\n"), {400}, "no colon"),
    (head(b": empty\r\n"), {400}, "an empty name"),
    (head(b"X-A: a\r\n folded\r\n"), {400}, "a folded header"),
    (head(b"X-A: a\r\n\tfolded\r\n"), {400}, "folded with a tab"),
    (HEAD + b"X-A: a\n" + LENGTH + b"\r\n" + BODY, {400}, "a bare line feed"),
    (b"POST /rerank HTTP/1.1\nHost: x\r\n" + LENGTH + b"\r\n" + BODY, {400}, "... in line one"),
    (HEAD + LENGTH + b"\n" + BODY, {400}, "... as the empty line"),
    (HEAD + b"X-A: a\rX-B: b\r\n" + LENGTH + b"\r\n" + BODY, {400}, "a bare carriage return"),
    (head(b"X-A: a\x00b\r\n"), {400}, "a NUL in a value"),
    (head(b"X-A: a\x00\x00Content-Length: 5\r\n"), {400}, "NULs that look like a line's end"),
    (head(b"X-\x00A: a\r\n"), {400}, "a NUL in a name"),
    (head(b"X-\xc3\xa9: a\r\n"), {400}, "a name with an accent"),
    (head(b"X-A: a\x7fb\r\n"), {400}, "DEL"), (head(b"X-A: \x01\r\n"), {400}, "a control character"),
    (head(b"Expect: something\r\n"), {417}, "an unknown expectation"),
    (head(b"Expect: 100-continue\r\nExpect: other\r\n"), {417}, "a second expectation"),
    (head(b"".join(b"X-%d: a\r\n" % i for i in range(101))), {431}, "over 100 headers"),
    (head(b"X-Long: " + b"a" * 65536 + b"\r\n"), {431}, "64 KiB in one header"),
    (head(b"X-Long: " + b"a" * 16384 + b"\r\n"), {431}, "more than 16 KiB of headers"),
    (get(b"GET /" + b"a" * 8192 + b" HTTP/1.1"), {414}, "a target of more than 8 KiB"),
    (get(b"GET /?" + b"a" * 70000 + b" HTTP/1.1"), {414}, "a target of 70 kB"),
    (get(b"GET /live\xc3\xa9 HTTP/1.1"), {400}, "an accent in the target"),
    (get(b"GET /live\x00 HTTP/1.1"), {400}, "a NUL in the target"),
    (get(b"GET /live%00 HTTP/1.1"), {400}, "an encoded NUL"),
    (get(b"GET /live%zz HTTP/1.1"), {400}, "a broken encoding"),
    (get(b"GET /li ve HTTP/1.1"), {400}, "a blank in the target"),
    (get(b"GET  /live HTTP/1.1"), {400}, "two blanks"),
    (get(b"rue}GET /live HTTP/1.1"), {400}, "a method that is none, as behind a body cut short"),
    (get(b"GET /live"), {400, 505}, "HTTP/0.9"),
    (get(b"GET /live HTTP/2.0"), {400, 505}, "HTTP/2.0"),
    (get(b"GET /live HTTP/9.9"), {400, 505}, "HTTP/9.9"),
    (get(b"GET /live http/1.1"), {400, 505}, "the version in small letters"),
    (get(b"GET /live HTTP/1.1 "), {400, 505}, "a blank behind the version"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}, "the preface of HTTP/2"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n", {400}, "TLS"),
]


def first_and_rest(data):
    with Connection(shared().port) as c:
        c.socket.settimeout(5)
        c.socket.sendall(data)
        line = c.file.readline()
        return (int(line.split()[1]) if line else 0), c.file.read()


def test_refused_heads():
    """A 4xx or 5xx, or nothing at all, then the end; what follows is never looked at."""
    wrong = []
    for data, statuses, why in REFUSED:
        try:
            status, rest = first_and_rest(data + FOLLOW)
        except ConnectionError:
            status, rest = 0, b""
        except TimeoutError:
            status, rest = -1, b"the connection stays open"
        if status not in statuses | {0} or b"smuggled" in rest or b" 200 OK" in rest:
            wrong.append((why, status, rest[:300]))
    assert not wrong, wrong
    assert shared().post(GOOD).status == 200


def test_accepted_heads():
    for data, status, why in [
            (b"\r\n" + FOLLOW, 200, "an empty line before the request"),
            (get(b"GET http://x/live HTTP/1.1"), 200, "absolute form"),
            (get(b"GET http://x HTTP/1.1"), 200, "absolute form without a path"),
            (get(b"OPTIONS * HTTP/1.1"), 204, "about the server"),
            (get(b"GET /live HTTP/1.0", b""), 200, "HTTP/1.0 needs no host"),
            (get(b"GET /live?a=%41&b HTTP/1.1"), 200, "a query string"),
            (get(b"GET //live/ HTTP/1.1"), 200, "slashes"),
            (get(b"GET /live HTTP/1.1", b"Host:x\r\nX-A:\r\nX-B: \t b\xc3\xa9 \r\n"), 200, "values"),
            (get(b"GET /live HTTP/1.1", b"Host: [::1]:80\r\n"), 200, "IPv6 host"),
            (get(b"GET /live HTTP/1.1", b"Host: \r\n"), 200, "an empty host"),
            (get(b"GET /live HTTP/1.1", b"Host: x\r\nX-L: " + b"a" * 15000 + b"\r\n"), 200, "15 kB"),
            (get(b"GET /live HTTP/1.1", b"Host: x\r\n" + b"".join(
                b"X-%d: a\r\n" % i for i in range(99))), 200, "100 headers"),
            (get(b"GET /live HTTP/1.1", b"Host: x\r\nContent-Length: 3\r\n") + b"abc", 200,
             "a body on GET"),
            (HEAD + b"transfer-encoding:CHUNKED\r\n\r\n" + PIECES, 200, "any case"),
            (HEAD + CHUNKED + b"\r\n" + PIECES[:-2] + b"".join(
                b"T-%d: a\r\n" % i for i in range(64)) + b"\r\n", 200, "64 trailers"),
            (HEAD + CHUNKED + b"\r\n" + b"%x;%s\r\n%s\r\n0\r\n\r\n" % (
                len(BODY), b"e" * 4096, BODY), 200, "a long chunk extension")]:
        with shared().connect() as c:
            c.socket.sendall(data)
            a = c.receive()
            assert a is not None and a.status == status, (why, a)
            if status == 200:  # and the connection is still in step
                with_more = c.ask("GET", "/live")
                assert with_more is None or with_more.status == 200, (why, with_more)


def test_large_heads_in_pieces_on_a_used_connection():
    """The library's buffer grows while the head comes in, which must not disturb the checks."""
    extra = b"".join(b"X-%d: %s\r\n" % (i, b"v" * 300) for i in range(45))
    with shared().connect() as c:
        c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for step in (1000, 3333, 13000):
            data = head(extra)
            for i in range(0, len(data), step):
                c.socket.sendall(data[i:i + step])
            assert c.receive().status == 200, step


def test_every_cut():
    expected, data = shared().post(GOOD).body, request("POST", "/rerank", GOOD)
    for cut in range(1, len(data)):
        with shared().connect() as c:
            c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            c.socket.sendall(data[:cut])
            if cut % 16 == 0:
                time.sleep(0.002)  # so that some really come apart
            c.socket.sendall(data[cut:])
            assert c.receive().body == expected, cut


def test_thousand_pipelined():
    data = b"".join(request("GET", "/live", headers=[("X-Request-Id", "p%d" % i)]) if i != 700 else
                    b"GET /live HTTP/1.1\r\nHost: x\r\nHost: y\r\nX-Request-Id: p700\r\n\r\n"
                    for i in range(1000))
    with shared().connect() as c:
        c.socket.sendall(data)
        for i in range(700):
            a = c.receive()
            assert a.status == 200 and a.headers["x-request-id"] == "p%d" % i, (i, a)
        a = c.receive()
        assert a.status == 400 and a.headers["connection"] == "close", a
        assert c.receive() is None


def test_continue_is_not_sent_for_what_is_refused():
    with Server("--api-key", "k1") as s:
        for extra, status in [(b"Content-Length: 99999999\r\nAuthorization: Bearer k1\r\n", 413),
                              (b"Content-Length: 50\r\n", 401)]:
            with s.connect() as c:
                c.socket.sendall(HEAD + extra + b"Expect: 100-continue\r\n\r\n")
                assert c.file.readline().startswith(b"HTTP/1.1 %d " % status), status
                c.file.read()


def test_chunked_without_end():
    with Server("--max-body", "100K") as s, s.connect() as c:
        c.socket.sendall(HEAD + CHUNKED + b"\r\n")
        for _ in range(12):
            c.socket.sendall(b"4000\r\n" + b"a" * 0x4000 + b"\r\n")
        assert c.file.readline().startswith(b"HTTP/1.1 413 ")  # though there is no last chunk
        c.file.read()
        assert s.post(GOOD).status == 200


def test_after_an_unread_body():
    """Either the refused body is read to its end or the connection ends: never a second request."""
    for size in (10, 60000, 200000):
        body = b"GET /live HTTP/1.1\r\nHost: x\r\nX-Request-Id: smuggled\r\n\r\n" * (size // 50)
        with shared().connect() as c:
            try:
                c.socket.sendall(b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                                 % len(body) + body)
                a = c.receive()
                assert a.status == 404, a
                c.socket.sendall(request("GET", "/live", headers=[("X-Request-Id", "next")]))
                b = c.receive()
            except ConnectionError:
                continue
            assert b is None or b.headers["x-request-id"] == "next", (size, b)
