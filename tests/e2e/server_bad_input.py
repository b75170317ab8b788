# SPDX-License-Identifier: Apache-2.0
"""server_bad_input.py - what bad input gets; run by run.py."""
import gzip
import time

from server_support import Connection, Server, candidate, encode, request, shared

GOOD = {"query": "q", "texts": ["a", "b"]}


def healthy():
    assert shared().post(GOOD).status == 200


def check_error(a, status, *parts):
    assert a is not None and a.status == status, (status, a)
    e = a.json()
    if isinstance(e["error"], dict):
        assert e["error"]["message"] and e["error"]["code"] == status, a
        return
    assert e["error"] == e["message"] and isinstance(e["error_type"], str) and "detail" in e, a
    assert a.headers["x-request-id"], a
    for p in parts:
        assert p in e["error"], (p, a)


def test_values():
    seven = [candidate(i, "x") for i in range(3)]
    for body, status, *parts in [
            ({"query": "  \n", "documents": ["a"]}, 400, "query"),
            ({"query": "", "texts": ["a"]}, 400, "query"),
            ({"query": "\u2003\u00a0", "documents": ["a"]}, 400, "query"),
            ({"query": " ", "documents": seven}, 400, "La query ne peut pas être vide"),
            ({"query": "q", "documents": []}, 400, "documents"),
            ({"query": "q", "documents": [], "top_k": 5}, 400, "documents"),
            ({"query": "q", "texts": []}, 400, "texts"),
            ({}, 422, "query"), ({"query": "q"}, 422, "documents"),
            ({"documents": ["a"]}, 422, "query"), ({"query": "q", "texts": None}, 422, "texts"),
            ({"query": 5, "documents": ["a"]}, 422, "query", "an integer"),
            ({"query": None, "documents": ["a"]}, 422, "query"),
            ({"query": ["q"], "documents": ["a"]}, 422, "query"),
            ({"query": "q", "documents": "a" * 3 and {"0": "a"}}, 422, "documents"),
            ({"query": "q", "documents": ["a", 5]}, 422, "documents[1]"),
            ({"query": "q", "documents": ["a", {"content": "b"}, "c", {"content": 4}]}, 422,
             "documents[3].content"),
            ({"query": "q", "documents": [{"content": "a"}, {"content": None}]}, 422,
             "documents[1]"),
            ({"query": "q", "documents": [dict(seven[0], similarity="x")]}, 422,
             "documents[0].similarity"),
            ({"query": "q", "documents": ["a"], "top_n": -1}, 422, "top_n"),
            ({"query": "q", "documents": ["a"], "top_n": 1.5}, 422, "top_n"),
            ({"query": "q", "documents": ["a"], "top_n": "3"}, 422, "top_n"),
            ({"query": "q", "documents": ["a"], "max_length": 100000}, 422, "max_length"),
            ({"query": "q", "texts": ["a", None]}, 422, "texts[1]"),
            ({"query": "q", "documents": ["a"] * 10000}, 422, "10000", "1000"),
            ({"query": "q", "documents": ["a" * (1 << 20) + "b"]}, 422, "documents[0]", "1048576"),
            ({"query": "q" * 65537, "documents": ["a"]}, 422, "query", "65536"),
            ({"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, 400)]:
        check_error(shared().post(body), status, *parts)
    healthy()


def test_bytes():
    for body, status, *parts in [
            (b"", 400, "empty"), (b"{", 400), (b"nonsense", 400), (b"[1,2]", 400, "object"),
            (b'"texts"', 400), (b'{"query":"q","texts":["a"]} {}', 400),
            (b'{"query":"q","texts":["a",]}', 400), (b'{"query":"q","texts":["a\0"]}', 400),
            (b'{"query":"q","query":"r","texts":["a"]}', 400),
            (b'{"query":"q","\\u0071uery":"r","texts":["a"]}', 400),
            (b'{"query":"q","documents":["a"],"top_n":1e400}', 400),
            (b'{"query":"q","documents":["a"],"top_n":18446744073709551616}', 400),
            (b'{"query":"q","documents":[{"content":"a","id":18446744073709551615}]}', 400, "range"),
            ('{"query":"q","texts":["a"]}'.encode("utf-16"), 400, "UTF-16"),
            ('{"query":"q","texts":["a"]}'.encode("utf-16-le"), 400, "UTF-16"),
            (b"[" * 100000, 400), (b'{"a":' * 40 + b"1" + b"}" * 40, 400, "deep")]:
        check_error(shared().post(body), status, *parts)
    healthy()


NOT_UNICODE = [b'{"query":"a\xff","texts":["a"]}', b'{"query":"\xed\xa0\x80","texts":["a"]}',
               b'{"query":"\\ud83d","texts":["a"]}', b'{"query":"q","texts":["\\udc00a","\xe9"]}']


def test_not_unicode():
    before = shared().metrics()["rerank_invalid_unicode_total"]
    for body, n in zip(NOT_UNICODE, (1, 3, 1, 2)):
        a = shared().post(body)
        assert a.status == 200 and a.headers["x-rerank-replaced"] == str(n), a
    a = shared().post(b'{"query":"q","texts":["\\udc00\xe9"],"return_text":true}')
    assert a.json()[0]["text"] == "\ufffd\ufffd", a
    assert shared().metrics()["rerank_invalid_unicode_total"] == before + 9
    for path, body in (("/tokenize", b'{"inputs":"a\xff"}'), ("/rerank", b'{"query":"a\xff","texts":[1]}')):
        assert shared().post(body, path).headers["x-rerank-replaced"] == "1", path
    assert shared().post(b'\xef\xbb\xbf{"query":"q","texts":["a"]}').status == 200
    with Server("--invalid-unicode", "reject") as s:
        for body in NOT_UNICODE + [b'\xef\xbb\xbf{"query":"q","texts":["a"]}']:
            check_error(s.post(body), 400)
        assert s.post(GOOD).status == 200


def test_media_types():
    for kind, status in [(None, 200), ("application/json", 200), ("text/plain", 200),
                         ("application/json; charset=utf-8", 200), ("application/ld+json", 200),
                         ("application/x-www-form-urlencoded", 200), ("text/xml", 415),
                         ("application/json; charset=latin1", 415), ("multipart/form-data", 415)]:
        a = shared().post(GOOD, headers=[("Content-Type", kind)] if kind else [])
        assert a.status == status, (kind, a)
        if status != 200:
            check_error(a, 415, "Content-Type")
    packed = gzip.compress(encode(GOOD))
    check_error(shared().post(packed, headers=[("Content-Encoding", "gzip")]), 415)
    check_error(shared().post(packed), 400)
    assert shared().post(GOOD, headers=[("Content-Encoding", "identity")]).status == 200


def test_top_n():
    for value, status, count in [
            (b"-1", 422, 0), (b"0", 200, 3), (b"1.5", 422, 0), (b"1e400", 400, 0), (b"2.0", 200, 2),
            (b"18446744073709551616", 400, 0), (b"9223372036854775807", 200, 3), (b'"3"', 422, 0),
            (b"null", 200, 3), (b"true", 422, 0), (b"99", 200, 3), (b"1", 200, 1), (b"[]", 422, 0)]:
        a = shared().post(b'{"query":"q","documents":["a","b","c"],"top_n":' + value + b"}")
        assert a.status == status, (value, a)
        assert status != 200 or len(a.json()["results"]) == count, (value, a)
    assert len(shared().post({"query": "q", "documents": ["a", "b"]}).json()["results"]) == 2


def test_million_documents():
    a = shared().post(b'{"query":"q","documents":[' + b'"a",' * 999999 + b'"a"]}')
    check_error(a, 422, "documents: found 1000000, at most 1000")


def test_tolerated():
    for body in [
            {"query": "q\u0000r", "texts": ["a\u0000b"]}, {"query": "q", "texts": [""]},
            {"query": "q", "texts": ["\ufffe \x7f \u202e \U000e0001"]},
            {"query": "q", "texts": ["a"], "unknown": {"deep": [1, {"x": None}]}, "user": None},
            {"query": "q", "texts": ["a"], "truncate": None, "raw_scores": None,
             "return_text": None, "truncation_direction": None, "top_n": None, "max_length": None},
            {"query": "q", "documents": ["a"], "return_documents": "TRUE", "top_n": 2.0}]:
        a = shared().post(body)
        assert a.status == 200, (body, a)
    for headers in [[("Content-Type", "text/plain")], [("Content-Type", "application/json; x=y")],
                    [("Authorization", "token")], [("Api-Key", "k")]]:
        assert shared().post(GOOD, headers=headers).status == 200, headers


def test_ten_megabytes_of_arrays():
    started = time.monotonic()
    check_error(shared().post(b"[" * 10_000_000), 413, "8388608")
    check_error(shared().post(b"[" * 5_000_000 + b"]" * 3_000_000), 400)
    check_error(shared().post(b'{"query":"q","documents":[' + b"[]," * 2_600_000 + b"[]]}"), 422)
    check_error(shared().post(b'{"query":"q","other":[' + b"[]," * 2_600_000 + b"[]]}"), 400)
    assert time.monotonic() - started < 20
    healthy()


def test_large_body():
    with Server("--max-body", "4096") as s:
        def body(size):
            head, tail = '{"query":"q","texts":["', '"]}'
            return head + "a" * (size - len(head) - len(tail)) + tail

        assert s.post(body(4096)).status == 200
        check_error(s.post(body(4097)), 413, "4096")
        a = s.post(body(400000))
        check_error(a, 413)
        assert a.headers["connection"].lower() == "close", a
        with s.connect() as c:  # as soon as the sum of the chunks passes the limit
            c.socket.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(3):
                c.socket.sendall(b"800\r\n" + b"a" * 2048 + b"\r\n")
            check_error(c.receive(), 413, "4096")
        with s.connect() as c:  # without reading the body, and without 100 Continue
            c.socket.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n"
                             b"Expect: 100-continue\r\n\r\n")
            assert c.file.readline().startswith(b"HTTP/1.1 413 ")
        assert s.post(GOOD).status == 200


def test_paths_and_methods():
    for method, path, status, allow in [
            ("GET", "/none", 404, None), ("POST", "/rerank/x", 404, None),
            ("POST", "/teix/rerank", 404, None), ("GET", "/rerank", 405, "POST"),
            ("PUT", "/rerank", 405, "POST"), ("DELETE", "/", 405, "GET"),
            ("POST", "/health", 405, "GET"), ("GET", "/" + "a" * 300, 414, None)]:
        a = shared().ask(method, path, "{}" if method in ("POST", "PUT") else None)
        check_error(a, status)
        assert allow is None or allow in a.headers["allow"], a
    a = shared().ask("OPTIONS", "/rerank")
    assert a.status == 204 and a.headers["allow"] == "POST, OPTIONS", a
    with shared().connect() as c:  # small refused bodies do not cost the connection
        check_error(c.ask("POST", "/none", "{}" * 1000), 404)
        assert c.ask("POST", "/rerank", GOOD).status == 200


def refused(data):
    """True when the bytes get an error of the 4xx or 5xx kind, or none at all, and the end."""
    c = Connection(shared().port)
    with c:
        c.socket.sendall(data)
        first = c.file.readline()
        if first == b"":
            return True
        status = int(first.split()[1])
        rest = c.file.read()  # until the server closes
        return 400 <= status < 600 and b"HTTP/1.1 200" not in rest


def test_framing():
    body = encode(GOOD)
    length = b"Content-Length: %d\r\n" % len(body)
    head = b"POST /rerank HTTP/1.1\r\nHost: x\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n"
    pieces = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    follow = request("POST", "/rerank", GOOD)
    for data in [head + length + chunked + b"\r\n" + pieces,
                 head + length + b"Content-Length: 5\r\n\r\n" + body,
                 head + length + length + b"\r\n" + body,
                 head + b"Content-Length: -1\r\n\r\n" + body,
                 head + b"Content-Length: +5\r\n\r\n" + body,
                 head + b"Content-Length: 0x5\r\n\r\n" + body,
                 head + b"Content-Length: 99999999999999999999\r\n\r\n" + body,
                 head + b"Transfer-Encoding: xchunked\r\n\r\n" + pieces,
                 head + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + pieces,
                 head + chunked + chunked + b"\r\n" + pieces,
                 head + chunked + b"\r\n-2\r\n" + body, head + chunked + b"\r\nzz\r\n" + body,
                 head + chunked + b"\r\nfffffffffffffffff\r\n" + body,
                 head + b"Content-Length : 5\r\n\r\n" + body,
                 head + b"Host: y\r\n" + length + b"\r\n" + body,
                 b"POST /rerank HTTP/1.1\r\n" + length + b"\r\n" + body,
                 head + b"no colon\r\n" + length + b"\r\n" + body,
                 head + b"Expect: something\r\n" + length + b"\r\n" + body,
                 head + b"X-Long: " + b"a" * 70000 + b"\r\n" + length + b"\r\n" + body,
                 b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"]:
        assert refused(data + follow), data[:200]
    healthy()


def test_request_ids():
    for given, same in [("abc-1._", True), ("a" * 128, True), ("a" * 129, False), ("a b", False),
                        ("é", False), ("a%0d%0aX: y", False), ("", False)]:
        got = shared().ask("GET", "/live", headers=[("X-Request-Id", given)]).headers
        assert (got["x-request-id"] == given) == same and got["x-request-id"], (given, got)
    ids = {shared().ask("GET", "/live").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


def test_log_keeps_secrets():
    for body in [{"query": "canari1", "texts": ["canari2"]}, {"query": "canari3", "texts": [5]},
                 {"query": "q", "documents": ["a"], "canari4": 1}, b'{"query":"canari5',
                 {"query": "canari6", "documents": [{"canari7": "canari8"}]}]:
        a = shared().post(body, headers=[("Authorization", "Bearer canari9")])
        if a.status != 200:
            assert "canari" not in a.body, a
    shared().post(GOOD, headers=[("X-Request-Id", "after-them")])
    shared().log("after-them")
    leaks = [line for line in shared().lines if "canari" in line]
    assert not leaks, leaks
