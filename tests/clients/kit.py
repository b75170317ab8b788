# SPDX-License-Identifier: Apache-2.0
"""kit.py - what the drivers share.  A driver runs in the environment of its clients, gets the job as a
file, and prints one line of JSON for each call it tried:

    {"client", "package", "version", "call", "ok", "why"}

The job: urls of servers (main; keys: wants the key; small: at most 2 documents and 2000 bytes; busy429
and busy503: one request at a time), key, query, texts, scores of the texts, model."""
import contextlib
import http.client
import importlib.metadata
import json
import select
import socket
import sys
import threading
import time
import traceback
import urllib.parse

with open(sys.argv[1], encoding="utf-8") as job_file:
    JOB = json.load(job_file)
QUERY, TEXTS, SCORES, KEY, MODEL = (JOB[k] for k in ("query", "texts", "scores", "key", "model"))
MAIN, KEYS, SMALL = (JOB["urls"][k] for k in ("main", "keys", "small"))
BEST = sorted(range(len(TEXTS)), key=lambda i: (-SCORES[i], i))
TOLERANCE = 1e-9  # the scores are made by the same program


def ranked(found, n=None):
    """found: [(index, score)] as the client hands it on: the n best, in order, with their scores."""
    found = [(int(i), float(s)) for i, s in found]
    expected = [(i, SCORES[i]) for i in BEST[:n]]
    assert [i for i, _ in found] == [i for i, _ in expected], (found, expected)
    assert all(abs(a[1] - b[1]) <= TOLERANCE for a, b in zip(found, expected)), (found, expected)


def texts_ranked(found, n=None):
    """The same for [(text, score)]."""
    ranked([(TEXTS.index(t), s) for t, s in found], n)


def raises(what, f, *contains):
    """f fails with the exception what, whose text contains these words."""
    try:
        value = f()
    except what as e:
        text = "%s %s" % (e, getattr(e, "body", ""))
        assert all(str(c) in text for c in contains), text
        return e
    raise AssertionError("no exception but %r" % (value,))


def long_request(url):
    """Sends a request that takes seconds; the answer comes on the socket."""
    body = json.dumps({"query": "q %r" % time.time(),
                       "texts": ["%d %r " % (i, time.time()) + "un long texte " * 400
                                 for i in range(700)]}).encode()
    s = socket.create_connection((url.hostname, url.port))
    s.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return s


def status_of_probe(url):
    c = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    c.request("POST", "/rerank", json.dumps({"query": "q", "texts": ["probe %r" % time.time()]}))
    answer = c.getresponse()
    answer.read()
    c.close()
    assert answer.status == 200 or int(answer.headers["Retry-After"]) >= 1, answer.headers
    return answer.status


@contextlib.contextmanager
def busy(status):
    """The URL of a server with one long request in flight, which refuses others with status.  What is
    yielded beside it lets that request go."""
    text = JOB["urls"]["busy%d" % status]
    url = urllib.parse.urlparse(text)
    s, end = long_request(url), time.monotonic() + 60
    while status_of_probe(url) != status or select.select([s], [], [], 0)[0]:
        assert time.monotonic() < end, "the server does not get busy"
        if select.select([s], [], [], 0)[0]:  # refused, as the one before it was not gone yet
            s.close()
            s = long_request(url)
    try:
        yield text, s.close
    finally:
        s.close()


@contextlib.contextmanager
def busy_for_a_moment(status):
    """As busy, but the long request is given up half a second later: who tries again gets through."""
    with busy(status) as (url, release):
        timer = threading.Timer(0.5, release)
        timer.start()
        yield url
        timer.cancel()


STATUSES = (401, 413, 422, 429, 503)


def found_in(e, *names):
    """The first of these attributes that the exception, or what it carries or came from, has."""
    seen = []
    while e is not None and len(seen) < 8:
        seen += [e, getattr(e, "response", None)]
        e = e.__cause__ or e.__context__
    return next((getattr(x, n) for x in seen for n in names if getattr(x, n, None) is not None), None)


def check_error(e, status):
    """Where an exception tells status and headers, they are the server's."""
    told = found_in(e, "status_code", "http_status", "status")
    assert not isinstance(told, int) or told == status, (status, told, repr(e))
    headers = found_in(e, "headers")
    if status in (429, 503) and headers:
        after = next((v for k, v in dict(headers).items() if k.lower() == "retry-after"), None)
        assert after is not None and int(after) >= 1, (status, headers)


def refused(call, status, expected):
    """One call(url, key, texts) that the server refuses with this status."""
    with contextlib.ExitStack() as stack:
        if status in (429, 503):
            url, _ = stack.enter_context(busy(status))
            given = url, "any", TEXTS[:2]
        else:
            given = {401: (KEYS, "wrong", TEXTS), 413: (SMALL, "any", ["x" * 3000]),
                     422: (SMALL, "any", TEXTS[:3])}[status]
        try:
            value = call(*given)
        except expected as e:
            check_error(e, status)
            return
    raise AssertionError("status %d gave no exception but %r" % (status, value))


def errors(call, expected=Exception):
    """call(url, key, texts) fails with expected, a class or one for each status, and works with the
    right key.  Clients that wait before they try again do not wait long here."""
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(seconds, 0.1))
    try:
        for status in STATUSES:
            refused(call, status, expected[status] if isinstance(expected, dict) else expected)
        call(KEYS, KEY, TEXTS)
    finally:
        time.sleep = sleep


ERRORS = "errors " + ", ".join(map(str, STATUSES))


def drive(calls):
    """calls: [(client, package, call, function)]."""
    for client, package, call, function in calls:
        line = {"client": client, "package": package, "call": call, "ok": True, "why": ""}
        try:
            line["version"] = importlib.metadata.version(package)
            function()
        except Exception:  # whatever a client can come up with
            line["ok"], line["why"] = False, traceback.format_exc()[-2500:]
        print(json.dumps(line), flush=True)
