# SPDX-License-Identifier: Apache-2.0
"""cli_pull.py - tests of "rerankd pull" and --model ORG/NAME against a hub of our own; run by
run.py."""
import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import random
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

from cli_support import (RERANKD, ROOT, SANITIZED, TIMEOUT, Skip, environment, folder, model,
                         one_line, run, terminal, write)
from fake_hub import FakeHub, git_sha1
from server_support import Server

SMALL = {"config.json": b"{}", "tokenizer.json": b"{}\n", "model.safetensors": b"weights" * 5000}
COMMIT = "c" * 40
BIG = random.Random(7).randbytes((33 << 20) + 5)  # four parts need 8 MiB each


@contextlib.contextmanager
def hub_and_cache():
    with FakeHub() as hub, folder() as home:
        yield hub, home


def env(hub, home, **extra):
    return environment(HF_ENDPOINT=hub.url, HF_HOME=home, **extra)


def pull(hub, home, *words, name="org/name", **extra):
    return run("pull", name, "--retries", "2", *words, env=env(hub, home, **extra))


def at_once(function, items):
    """Most of these tests wait: for pauses, for a slow server."""
    with concurrent.futures.ThreadPoolExecutor(len(items)) as pool:
        for future in [pool.submit(function, item) for item in items]:
            future.result()


def repo_folder(home, name="org/name"):
    return os.path.join(home, "hub", "models--" + name.replace("/", "--"))


def snapshot(home, commit=COMMIT):
    return os.path.join(repo_folder(home), "snapshots", commit)


def blobs(home):
    return sorted(os.listdir(os.path.join(repo_folder(home), "blobs")))


def content(path):
    with open(path, "rb") as f:
        return f.read()


def complete(home, files):
    return all(content(os.path.join(snapshot(home), n)) == d for n, d in files.items())


def tiny_model():
    source = model()
    return {n: content(os.path.join(source, n)) for n in os.listdir(source) if n != "tokens.jsonl"}


def with_folders(source):
    return {os.path.relpath(os.path.join(path, n), source): content(os.path.join(path, n))
            for path, _, names in os.walk(source) for n in names}


# ---- what lands where ---------------------------------------------------------------------------

def test_pull_layout():
    files = dict(SMALL, **{"special_tokens_map.json": b"{ }", "tokenizer_config.json": b"{  }"})
    more = dict(files, **{"README.md": b"x", "pytorch_model.bin": b"y", "onnx/model.onnx": b"z",
                          "sub/config.json": b"w", ".gitattributes": b""})
    with hub_and_cache() as (hub, home):
        hub.add("org/name", more, {"model.safetensors", "pytorch_model.bin"})
        r = pull(hub, home)
        assert r.code == 0 and r.out == snapshot(home) + "\n", r
        sha256 = hashlib.sha256(SMALL["model.safetensors"]).hexdigest()
        assert blobs(home) == sorted([sha256] + [git_sha1(d) for n, d in files.items()
                                                 if n != "model.safetensors"])
        assert sorted(os.listdir(snapshot(home))) == sorted(files)
        assert os.readlink(os.path.join(snapshot(home), "model.safetensors")) == (
            "../../blobs/" + sha256)
        assert complete(home, files)
        assert content(os.path.join(repo_folder(home), "refs", "main")) == COMMIT.encode()
        assert os.listdir(os.path.join(home, "hub", ".locks", "models--org--name"))
        umask = os.umask(0)
        os.umask(umask)
        assert os.stat(os.path.join(snapshot(home), "config.json")).st_mode & 0o777 == (
            0o666 & ~umask)
        assert hub.asked("api")[0].path == "/api/models/org/name/revision/main?blobs=true"
        hub.requests.clear()
        again = pull(hub, home)
        assert again.code == 0 and again.out == r.out, again
        assert [q.kind for q in hub.requests] == ["api"], hub.requests


def test_pull_modules():
    """The folders of sentence-transformers' modules come along, and the model scores."""
    source = model("tiny-modules")
    files = with_folders(source)
    with hub_and_cache() as (hub, home):
        hub.add("org/name", dict(files, **{"onnx/config.json": b"x"}))
        r = pull(hub, home)
        assert r.code == 0 and complete(home, files), r
        assert not os.path.exists(os.path.join(snapshot(home), "onnx"))
        dense = os.path.join(snapshot(home), "2_Dense", "model.safetensors")
        assert os.readlink(dense).startswith("../../../blobs/")
        words = ("score", "--query", "x", "--model", "org/name")
        r = run(*words, stdin="a\n", env=env(hub, home))
        assert r.code == 0 and r.out == run(*words[:3], "--model", source, stdin="a\n").out, r
        with folder() as outside:
            os.unlink(dense)
            os.symlink(write(os.path.join(outside, "x"), "{}"), dense)
            r = run(*words, stdin="a\n", env=env(hub, home))
            assert r.code == 78 and "2_Dense/model.safetensors: leads out of the cache" in r.err, r
            assert pull(hub, home).code == 0 and complete(home, files)
            module = os.path.dirname(dense)
            os.rename(module, module + ".x")
            os.symlink(outside, module)
            r = run(*words, stdin="a\n", env=env(hub, home))
            assert r.code == 78 and "2_Dense: leads out of the cache" in r.err, r
            r = pull(hub, home)
            assert r.code == 78 and "expected a folder; nothing outside" in r.err, r


def test_pull_where():
    """HF_HUB_CACHE beats HUGGINGFACE_HUB_CACHE beats HF_HOME beats XDG_CACHE_HOME beats HOME."""
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL)
        order = [("HOME", "/.cache/huggingface/hub"), ("XDG_CACHE_HOME", "/huggingface/hub"),
                 ("HF_HOME", "/hub"), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HUB_CACHE", "")]
        settings = {"HF_ENDPOINT": hub.url + "/"}
        for name, tail in order:
            settings[name] = os.path.join(home, name)
            r = run("pull", "org/name", env=environment(**settings))
            assert r.code == 0 and r.out.startswith(settings[name] + tail + "/models--"), (name, r)
        for value, where in [("~/x/", "HOME/x"), ("$HOME/x", "HOME/x"),
                             ("${HF_HOME}y/z", "HF_HOMEy/z"),
                             (home + "/$NOBODY_HAS_THIS/$/${", "$NOBODY_HAS_THIS/$/${")]:
            settings.update(HF_HUB_CACHE=value)
            r = run("pull", "org/name", env=environment(**settings))
            assert r.out.startswith(os.path.join(home, where, "models--")), (value, r)
        r = run("pull", "org/name", env=environment(HF_ENDPOINT=hub.url, HOME=""))
        assert r.code == 78 and "HF_HOME" in r.err, r
        for endpoint in ("hub", "ftp://hub", "http://u@hub", "http://hub?x"):
            r = run("pull", "org/name", env=environment(HF_ENDPOINT=endpoint, HF_HOME=home))
            assert r.code == 78 and r.err.startswith("rerankd pull: HF_ENDPOINT:"), r


def test_pull_revisions():
    with hub_and_cache() as (hub, home):
        hub.revisions |= {"refs/pr/1", "v1.0"}
        hub.add("org/name", SMALL)
        for name, words in [("org/name@refs/pr/1", ()), ("org/name", ("--revision", "v1.0")),
                            ("org/name@" + COMMIT, ())]:
            r = pull(hub, home, *words, name=name)
            assert r.code == 0 and r.out == snapshot(home) + "\n", r
        assert hub.asked("api")[0].path == "/api/models/org/name/revision/refs/pr/1?blobs=true"
        refs = os.path.join(repo_folder(home), "refs")
        assert content(os.path.join(refs, "refs", "pr", "1")) == COMMIT.encode()
        assert sorted(os.listdir(refs)) == ["refs", "v1.0"], "a commit needs no ref"
        # A branch that moved: the old snapshot stays, and stays whole.
        pull(hub, home)
        hub.add("org/name", dict(SMALL, **{"config.json": b"{\"new\": 1}"}), commit="d" * 40)
        r = pull(hub, home)
        assert r.out == snapshot(home, "d" * 40) + "\n" and complete(home, SMALL), r
        assert content(os.path.join(refs, "main")) == b"d" * 40


def test_pull_shards():
    shards = {"model-00001-of-00002.safetensors": b"one", "model-00002-of-00002.safetensors": b"two"}
    index = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors",
                                       "b": "model-00002-of-00002.safetensors"}}).encode()
    base = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors.index.json": index}
    with hub_and_cache() as (hub, home):
        hub.add("org/name", dict(base, **shards), set(shards))
        assert pull(hub, home).code == 0 and complete(home, shards)
    with hub_and_cache() as (hub, home):
        hub.add("org/name", dict(base, **{"model-00001-of-00002.safetensors": b"one"}))
        r = pull(hub, home)
        assert r.code == 66 and "model-00002-of-00002.safetensors: not there" in r.err, r
        assert not os.path.exists(os.path.join(repo_folder(home), "refs", "main"))
    with hub_and_cache() as (hub, home):
        evil = json.dumps({"weight_map": {"a": "../../../x.safetensors"}}).encode()
        hub.add("org/name", dict(base, **shards, **{"model.safetensors.index.json": evil}))
        r = pull(hub, home)
        assert r.code == 78 and "no file name" in r.err, r
    with hub_and_cache() as (hub, home):
        hub.add("org/name", dict(base, **shards, **{"model.safetensors": b"all"}))
        assert pull(hub, home).code == 0 and "model.safetensors.index.json" not in os.listdir(
            snapshot(home)), "one file makes shards superfluous"


def test_pull_unsuitable():
    for missing, extra, message in [
            ("model.safetensors", "pytorch_model.bin", "PyTorch's .bin; look on the hub for a rev"),
            ("model.safetensors", "x", "no model.safetensors; look on the hub"),
            ("model.safetensors", "model-00001-of-00001.safetensors", "no model.safetensors"),
            ("tokenizer.json", "x", "no tokenizer.json; load"), ("config.json", "x", "no config")]:
        with hub_and_cache() as (hub, home):
            hub.add("org/name", dict({n: d for n, d in SMALL.items() if n != missing},
                                     **{extra: b""}))
            r = pull(hub, home)
            assert r.code == 78 and message in r.err and one_line(r.err), r
            assert not os.path.exists(repo_folder(home)), "nothing was made"


def test_pull_names():
    bad = ["../../x", "a/b/c", "%2e%2e/x", "x" * 300, "a/" + "b" * 97, "org", "/org/name", "org/",
           "/name", "a//b", "../b", "a/..", ".a/b", "a/b.", "a/b--c", "a/b..c", "a/b.git", "a b/c",
           "a/b\n", "a/b?c", "é/b", "a\\b/c", "http://a/b", ""]
    revisions = ["-rf", "../x", "a/../b", "a//b", "/a", "a/", ".a", "a/.b", "a b", "a?b", "%2e",
                 "a\nb", "x" * 201, "a..b", "a.", "é"]
    with hub_and_cache() as (hub, home):
        for name in bad:
            r = pull(hub, home, name=name)
            assert r.code == 64 and one_line(r.err) and "ORG/NAME" in r.err, (name, r)
        for revision in revisions:
            for words, name in [(("--revision=" + revision,), "a/b"), ((), "a/b@" + revision)]:
                r = pull(hub, home, *words, name=name)
                assert r.code == 64 and one_line(r.err), (revision, r)
        assert not hub.requests and not os.listdir(home)
        r = run("pull", env=env(hub, home))
        assert r.code == 64 and "ORG/NAME" in r.err, r


# ---- access -------------------------------------------------------------------------------------

def test_pull_token():
    """It goes to the hub and nowhere else: not to the storage that the hub redirects to."""
    def tokens(hub, kind):
        return {q.headers.get("Authorization") for q in hub.asked(kind)}

    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL, {"model.safetensors"})
        r = pull(hub, home, HF_TOKEN=" hf_secret\n")
        assert r.code == 0 and "hf_secret" not in r.out + r.err, r
        assert tokens(hub, "api") == tokens(hub, "file") == {"Bearer hf_secret"}
        assert len(hub.asked("storage")) > 0 and tokens(hub, "storage") == {None}
    for files, extra, expected in [
            ({"token": "hf_file\n"}, {}, "Bearer hf_file"),
            ({"token": "hf_file"}, {"HF_TOKEN": "hf_env"}, "Bearer hf_env"),
            ({"token": "hf_file"}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, None),
            ({}, {"HF_TOKEN": "x", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "yes"}, None),
            ({}, {}, None)]:
        with hub_and_cache() as (hub, home):
            hub.add("org/name", SMALL)
            for name, text in files.items():
                write(os.path.join(home, name), text)
            assert pull(hub, home, "--dry-run", **extra).code == 0
            assert tokens(hub, "api") == {expected}, (files, extra)
    with hub_and_cache() as (hub, home):
        r = pull(hub, home, HF_TOKEN="hf_a\r\nX: y")
        assert r.code == 78 and "hf_a" not in r.err and not hub.requests, r


def test_pull_refused():
    code = "X-Error-Code"
    for fault, exit_code, message in [
            ({"status": 401, "headers": {code: "RepoNotFound"}}, 77, "or private; check the name"),
            ({"status": 403, "headers": {code: "GatedRepo"}}, 77, "accept its conditions"),
            ({"status": 403}, 77, "answers 403"),
            ({"status": 404, "headers": {code: "RevisionNotFound"}}, 66, "no such revision"),
            ({"status": 404}, 66, "no such model"),
            ({"status": 418}, 71, "answers 418, expected 200"),
            ({"status": 302, "headers": {"Location": "file:///etc/passwd"}}, 71, "not followed"),
            ({"status": 302, "headers": {"Location": "/api/models/org/name"}}, 71, "more than 8"),
            ({"status": 200, "body": b"<html>"}, 78, "org/name: JSON"),
            ({"status": 200, "body": b"{}"}, 78, "is HF_ENDPOINT a hub?")]:
        with hub_and_cache() as (hub, home):
            hub.add("org/name", SMALL)
            hub.fault = lambda q, fault=fault: fault if q.kind == "api" else None
            r = pull(hub, home)
            assert r.code == exit_code and message in r.err and one_line(r.err), (fault, r)
            assert not os.path.exists(repo_folder(home))
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL, gated=True)
        r = pull(hub, home, HF_TOKEN="hf_bad")
        assert r.code == 77 and "the one that was sent has no access" in r.err, r
        assert pull(hub, home, HF_TOKEN="hf_good").code == 0


def test_pull_unreachable():
    with hub_and_cache() as (hub, home):
        hub.url = "http://127.0.0.1:1"
        r = pull(hub, home, "--retries", "0")
        assert r.code == 75 and "cannot connect to http://127.0.0.1:1" in r.err, r
        hub.url = "http://no-such-host.invalid"
        r = pull(hub, home, "--retries", "0")
        assert r.code == 75 and "(DNS)" in r.err and "HTTPS_PROXY" in r.err, r
        r = pull(hub, home, "--ca-file", home + "/none")
        assert r.code == 66 and "ca-file" in r.err, r
        r = pull(hub, home, HF_HUB_OFFLINE="1")
        assert r.code == 78 and "HF_HUB_OFFLINE" in r.err, r


def test_pull_silence():
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL)
        hub.fault = lambda q: {"hang": 20}
        started = time.monotonic()
        r = pull(hub, home, "--retries", "0", "--timeout", "1")
        assert r.code == 75 and "silent for too long" in r.err, r
        assert time.monotonic() - started < 10


def certificate(place):
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    path = os.path.join(place, "cert.pem")
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout",
                        path + ".key", "-out", path, "-days", "2", "-subj", "/CN=hub", "-addext",
                        "subjectAltName=IP:127.0.0.1"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        raise Skip("no openssl to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, path + ".key")
    return path, context


def test_pull_tls():
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL, {"model.safetensors"})
        path, context = certificate(home)
        hub.use_tls(context)
        r = pull(hub, home)
        assert r.code == 71 and "certificate is not accepted" in r.err and "--ca-file" in r.err, r
        r = pull(hub, home, "--ca-file", path)
        assert r.code == 71 and "from https to http" in r.err, "the storage has no TLS"
        hub.repos["org/name"].lfs.clear()
        for extra in ({"SSL_CERT_FILE": path}, {"CURL_CA_BUNDLE": path},
                      {"REQUESTS_CA_BUNDLE": path}):
            assert pull(hub, home, **extra).code == 0, extra


def test_pull_full_disk():
    """On a disk of its own, which fills up behind our back."""
    code = ("mount -t tmpfs -o size=12m hub \"$HF_HOME\" && \"$0\" pull org/name; code=$?; "
            "ls \"$HF_HOME\"/hub/models--org--name/blobs; exit $code")
    with hub_and_cache() as (hub, home):
        hub.add("org/name", dict(SMALL, **{"model.safetensors": BIG[:10 << 20]}),
                {"model.safetensors"})

        def fill(q):
            if q.kind == "storage":
                write("/proc/%d/root%s/filler" % (child(p.pid), home), b"x" * (6 << 20))

        p = subprocess.Popen(["unshare", "-rm", "sh", "-c", code, RERANKD], env=env(hub, home),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        hub.fault = fill
        out, err = p.communicate(timeout=TIMEOUT)
        if not hub.requests:
            raise Skip("no name spaces here: %s" % err.decode()[:80])
        assert p.returncode == 71, (out, err)
        said = re.search(r"%s/hub: the disk is full: (\d+) MB are missing and it has room for 0 MB; "
                         "make room and run this again" % re.escape(home), err.decode())
        assert said and 1 <= int(said.group(1)) <= 10, (out, err)
        assert b".rerankd.incomplete" in out, out


def child(pid):
    """sh runs rerankd as its child, or has become it."""
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as f:
        children = f.read().split()
    return int(children[0]) if children else pid


def test_pull_proxy():
    """http_proxy is used, and the hub's name is asked for through it."""
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL)
        proxy, hub.url = hub.url, "http://hub.invalid"
        r = pull(hub, home, "--dry-run", http_proxy=proxy)
        assert hub.requests and hub.requests[0].path.startswith("http://hub.invalid/api/"), r


# ---- retries and damage -------------------------------------------------------------------------

def test_pull_retries():
    def once(status):
        with hub_and_cache() as (hub, home):
            hub.add("org/name", SMALL)
            hub.fault = lambda q: {"status": status} if q.number == 0 and q.name in (
                "main", "config.json") else None
            r = pull(hub, home)
            assert r.code == 0 and complete(home, SMALL) and "answers %d" % status in r.err, r

    at_once(once, (408, 429, 500, 502, 503, 504))
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL)
        hub.fault = lambda q: {"status": 500}
        r = pull(hub, home, "--retries", "1")
        assert r.code == 75 and len(hub.requests) == 2, r


def test_pull_retry_after():
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL)
        hub.fault = lambda q: ({"status": 429, "headers": {"Retry-After": "2"}}
                               if q.kind == "api" and not q.number else None)
        started = time.monotonic()
        assert pull(hub, home).code == 0
        assert time.monotonic() - started >= 2
        hub.fault = lambda q: {"status": 429, "headers": {"Retry-After": "4000"}}
        for _ in range(5):  # a busy machine is slow at times
            hub.requests.clear()
            started = time.monotonic()
            r = pull(hub, home)
            assert r.code == 75 and "come back in 4000 seconds" in r.err, r
            assert len(hub.requests) == 1, "not tried again"
            if time.monotonic() - started < 1.5:
                break
        else:
            raise AssertionError("waited for")


def test_pull_reset_in_the_middle():
    data = BIG[:300000]
    with hub_and_cache() as (hub, home):
        hub.add("org/name", dict(SMALL, **{"model.safetensors": data}), {"model.safetensors"})
        hub.fault = lambda q: {"cut": 100000} if q.kind == "storage" and q.number < 2 else None
        r = pull(hub, home)
        assert r.code == 0 and content(os.path.join(snapshot(home), "model.safetensors")) == data, r
        starts = [int(q.headers["Range"][6:].split("-")[0]) for q in hub.asked("storage")]
        assert starts[0] == 0 and 0 < starts[1] <= 100000 < starts[2], starts
        assert all("If-Range" in q.headers for q in hub.asked("storage")[1:])


def big_hub(hub):
    hub.add("org/name", dict(SMALL, **{"model.safetensors": BIG}), {"model.safetensors"})


def big_is_here(home):
    return content(os.path.join(snapshot(home), "model.safetensors")) == BIG


def test_pull_side_by_side():
    with hub_and_cache() as (hub, home):
        big_hub(hub)
        hub.fault = lambda q: {"pace": 0.0002} if q.kind == "storage" else None
        r = pull(hub, home)
        assert r.code == 0 and big_is_here(home), r
        ranges = sorted(int(q.headers["Range"][6:].split("-")[0]) for q in hub.asked("storage"))
        assert ranges == [len(BIG) // 4 * i for i in range(4)], ranges
        assert hub.most_active > 1
    with hub_and_cache() as (hub, home):
        big_hub(hub)
        assert pull(hub, home, "--connections", "1").code == 0 and big_is_here(home)
        assert len(hub.asked("storage")) == 1


def test_pull_without_ranges():
    with hub_and_cache() as (hub, home):
        big_hub(hub)
        hub.fault = lambda q: ({"ranges": False} if q.kind != "storage" or q.number != 4
                               else {"ranges": False, "cut": 1000000})
        r = pull(hub, home)
        assert r.code == 0 and big_is_here(home), r


def test_pull_etag_changes():
    """Part of the file under one ETag, part under another: all of it again, as one stream."""
    with hub_and_cache() as (hub, home):
        big_hub(hub)
        hub.fault = lambda q: {"etag": '"%d"' % q.number} if q.kind == "storage" else None
        r = pull(hub, home)
        assert r.code == 0 and big_is_here(home), r
        assert "Range" not in hub.asked("storage")[-1].headers


def test_pull_etag_differs_between_parts():
    """The first part that comes has another ETag than the rest, in no matter what order."""
    for odd in range(4):
        with hub_and_cache() as (hub, home):
            big_hub(hub)
            first = len(BIG) // 4 * odd
            hub.fault = lambda q, first=first: {"etag": '"odd"' if (
                q.headers.get("Range", "").startswith("bytes=%d-" % first)) else '"even"'} if (
                    q.kind == "storage") else None
            r = pull(hub, home)
            assert r.code == 0 and big_is_here(home), r


def test_pull_expired_address():
    """403 of the storage: its address is asked for once more."""
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL, {"model.safetensors"})
        hub.fault = lambda q: {"status": 403} if q.kind == "storage" and not q.number else None
        r = pull(hub, home)
        assert r.code == 0 and complete(home, SMALL), r
        assert len(hub.asked("file", "model.safetensors")) == 2
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL, {"model.safetensors"})
        hub.fault = lambda q: {"status": 403} if q.kind == "storage" else None
        r = pull(hub, home, "--retries", "1")
        assert r.code == 71 and "answers 403, expected 200" in r.err, r


def test_pull_wrong_bytes():
    wrong = b"x" * len(SMALL["model.safetensors"])
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL, {"model.safetensors"})
        hub.fault = lambda q: {"data": wrong} if q.kind == "storage" and not q.number else None
        assert pull(hub, home).code == 0 and complete(home, SMALL), "right the second time"
    for lfs, digest, message in [({"model.safetensors"}, "0" * 64, "SHA-256 differs"),
                                 ((), "0" * 40, "git's SHA-1 differs")]:
        with hub_and_cache() as (hub, home):
            hub.add("org/name", SMALL, lfs).digests["model.safetensors"] = digest
            r = pull(hub, home)
            assert r.code == 78 and message in r.err and one_line(r.err), r
            assert not any(digest in b for b in blobs(home)), "no half file stays"
            assert not os.path.exists(os.path.join(repo_folder(home), "refs", "main"))
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL, {"model.safetensors"})
        hub.fault = lambda q: {"headers": {}, "status": 302, "headers": {
            "Location": hub.storage_url, "X-Linked-ETag": '"%s"' % ("1" * 64)}} if (
                q.kind == "file" and q.name == "model.safetensors") else None
        r = pull(hub, home)
        assert r.code == 78 and "another file than it lists" in r.err, r


def test_pull_wrong_sizes():
    n = len(SMALL["model.safetensors"])
    for lfs in ((), {"model.safetensors"}):
        for size in (n - 1, n + 1, 0):
            for ranges in (True, False):
                with hub_and_cache() as (hub, home):
                    hub.add("org/name", SMALL, lfs).sizes["model.safetensors"] = size
                    hub.fault = lambda q, r=ranges: {"ranges": r} if q.kind != "api" else None
                    r = pull(hub, home)
                    assert r.code == 78 and "listing says %d" % size in r.err, (size, ranges, r)


def test_pull_disk_space():
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL).sizes["model.safetensors"] = 1 << 42
        r = pull(hub, home)
        assert r.code == 71 and "4398047 MB are missing and the disk has room for" in r.err, r
        assert not hub.asked("file")


# ---- interruptions ------------------------------------------------------------------------------

def interrupt(hub, home, number):
    """Ends a slow download with a signal when about a third is there."""
    hub.fault = lambda q: {"pace": 0.004} if q.kind == "storage" else None
    p = subprocess.Popen([RERANKD, "pull", "org/name"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env=env(hub, home))
    deadline = time.monotonic() + TIMEOUT
    while b" %  " not in p.stderr.readline():
        assert time.monotonic() < deadline and p.poll() is None
    time.sleep(0.6)  # the record of what is there is at most half a second old
    p.send_signal(number)
    p.communicate(timeout=TIMEOUT)
    return p.returncode


def test_pull_interrupted():
    def once(number):
        with hub_and_cache() as (hub, home):
            big_hub(hub)
            code = interrupt(hub, home, number)
            assert code == (-number if number == signal.SIGKILL else 128 + number), code
            assert len([b for b in blobs(home) if b.endswith(".rerankd.incomplete")]) == 1
            assert not os.path.exists(os.path.join(snapshot(home), "model.safetensors"))
            r = pull(hub, home, "--dry-run")
            assert " % in the cache" in r.out, r
            hub.fault = None
            hub.requests.clear()
            r = pull(hub, home)
            assert r.code == 0 and big_is_here(home), r
            sent = sum(int(b) - int(a) + 1 for a, b in (
                q.headers["Range"][6:].split("-") for q in hub.asked("storage")))
            assert 0 < sent < len(BIG) * 0.97, sent
            assert not [b for b in blobs(home) if "incomplete" in b]

    at_once(once, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL))


def record(size, there):
    """An unfinished file that claims to have so many of its bytes, which are all zero."""
    parts = struct.pack("<3Q", 0, size, there).ljust(16 * 24, b"\0")
    return b"\0" * size + b"RRPART1\0" + struct.pack("<2Q", size, 1) + parts + b"\0" * 160


def test_pull_damaged_record():
    """A record that is none, or of another size, is not believed; the digest is the judge."""
    data = SMALL["model.safetensors"]
    name = hashlib.sha256(data).hexdigest() + ".rerankd.incomplete"
    for text in (b"", b"junk", data[:1000], b"\0" * len(data),
                 b"\0" * len(data) + b"RRPART1\0" + b"\xff" * 560, record(len(data), len(data)),
                 record(len(data), len(data) // 2), record(len(data), len(data) + 1)):
        with hub_and_cache() as (hub, home):
            hub.add("org/name", SMALL, {"model.safetensors"})
            os.makedirs(os.path.join(repo_folder(home), "blobs"))
            write(os.path.join(repo_folder(home), "blobs", name), text)
            assert pull(hub, home).code == 0 and complete(home, SMALL)
            # Another program finished the file: what we had begun is of no use.
            write(os.path.join(repo_folder(home), "blobs", name), text)
            assert pull(hub, home).code == 0 and name not in blobs(home)


def test_pull_two_at_once():
    with hub_and_cache() as (hub, home):
        big_hub(hub)
        hub.fault = lambda q: {"pace": 0.001} if q.kind == "storage" else None
        results = []
        threads = [threading.Thread(target=lambda: results.append(pull(hub, home)))
                   for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert [r.code for r in results] == [0, 0, 0], results
        assert big_is_here(home) and len(hub.asked("storage")) == 4, "fetched once"
        assert any("another download" in r.err for r in results), results


def test_pull_locked_by_another_program():
    digest = hashlib.sha256(SMALL["model.safetensors"]).hexdigest()
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL, {"model.safetensors"})
        locks = os.path.join(home, "hub", ".locks", "models--org--name")
        os.makedirs(locks)
        with open(os.path.join(locks, digest + ".lock"), "w", encoding="ascii") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            p = subprocess.Popen([RERANKD, "pull", "org/name"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, env=env(hub, home))
            time.sleep(0.7)
            assert p.poll() is None and not hub.asked("storage"), "it waits"
        out, _ = p.communicate(timeout=TIMEOUT)
        assert p.returncode == 0 and out.decode() == snapshot(home) + "\n"


def test_pull_links():
    """Nothing is written through a link out of the cache, and nothing is read through one."""
    for part in (("models--org--name",), ("models--org--name", "blobs"), (".locks",),
                 ("models--org--name", "snapshots"), ("models--org--name", "refs")):
        with hub_and_cache() as (hub, home), folder() as outside:
            hub.add("org/name", SMALL)
            path = os.path.join(home, "hub", *part)
            os.makedirs(os.path.dirname(path))
            os.symlink(outside, path)
            r = pull(hub, home)
            assert r.code == 78 and "expected a folder; nothing outside" in r.err, (part, r)
            assert not os.listdir(outside)
    with hub_and_cache() as (hub, home), folder() as outside:
        hub.add("org/name", SMALL)
        assert pull(hub, home).code == 0
        target = os.path.join(snapshot(home), "config.json")
        os.unlink(target)
        os.symlink(write(os.path.join(outside, "config.json"), "{}"), target)
        r = run("score", "--query", "x", "--model", "org/name", stdin="a\n", env=env(hub, home))
        assert r.code == 78 and "leads out of the cache" in r.err, r
        assert pull(hub, home).code == 0 and os.readlink(target).startswith("../../blobs/")
        os.symlink(os.path.join(outside, "config.json"), os.path.join(snapshot(home), "other"))
        r = run("score", "--query", "x", "--model", "org/name", stdin="a\n", env=env(hub, home))
        assert r.code == 78 and "other: leads out of the cache" in r.err, "not needed, refused too"
    with hub_and_cache() as (hub, home), folder() as outside:  # the cache itself may be one
        hub.add("org/name", SMALL)
        os.symlink(outside, os.path.join(home, "hub"))
        assert pull(hub, home).code == 0 and complete(home, SMALL)


def test_pull_without_links():
    """A file system such as SMB's or FAT has no links: the files lie in the snapshot themselves."""
    if SANITIZED:
        raise Skip("a sanitizer has the place of the library")
    with hub_and_cache() as (hub, home):
        source = write(os.path.join(home, "no.c"), "#include <errno.h>\nint symlink(const char *a, "
                       "const char *b) { (void)a, (void)b; errno = EPERM; return -1; }\n")
        library = os.path.join(home, "no.so")
        try:
            subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        except (OSError, subprocess.SubprocessError):
            raise Skip("no compiler")
        hub.add("org/name", SMALL, {"model.safetensors"})
        r = pull(hub, home, LD_PRELOAD=library)
        assert r.code == 0 and complete(home, SMALL) and not blobs(home), r
        assert not any(os.path.islink(os.path.join(snapshot(home), n)) for n in SMALL)
        hub.requests.clear()
        for extra in ({}, {"LD_PRELOAD": library}):  # what huggingface_hub has made so, too
            r = pull(hub, home, **extra)
            assert r.code == 0 and complete(home, SMALL), r
            assert [q.kind for q in hub.requests] == ["api"], hub.requests
            hub.requests.clear()
        write(os.path.join(snapshot(home), "config.json"), "{ }")  # another size: not the file
        r = pull(hub, home, LD_PRELOAD=library)
        assert r.code == 0 and complete(home, SMALL), r
        assert [q.name for q in hub.asked("file")] == ["config.json"]


# ---- people -------------------------------------------------------------------------------------

def test_pull_dry_run():
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL)
        r = pull(hub, home, "--dry-run")
        assert r.code == 0 and r.out.splitlines()[0] == "org/name " + COMMIT, r
        assert "35.0 kB  model.safetensors" in r.out and r.out.count("to fetch") == 4, r
        assert r.out.splitlines()[-1].split(", ") == ["   35.0 kB  in all", "35.0 kB to fetch"], r
        assert not os.listdir(home) and not hub.asked("file"), "it only looks"
        pull(hub, home)
        r = pull(hub, home, "--dry-run", "--lang", "fr")
        assert r.out.count("dans le cache") == 3 and "0 B à télécharger" in r.out, r


# Pauses between pieces of 16 kB: four parts at once take 4 s at least, however fast the machine.
PACE = 4.0 * 4 * 16384 / len(BIG)


def test_pull_progress():
    with hub_and_cache() as (hub, home):
        big_hub(hub)
        hub.fault = lambda q: {"pace": PACE} if q.kind == "storage" else None
        r = terminal("pull", "org/name", env=env(hub, home, TERM="xterm"))
        assert r.code == 0 and "\r[#" in r.out and "MB/s" in r.out and "left" in r.out, r
        assert r.out.endswith(snapshot(home) + "\n"), r
    with hub_and_cache() as (hub, home):
        big_hub(hub)
        hub.fault = lambda q: {"pace": PACE} if q.kind == "storage" else None
        r = pull(hub, home, "--lang=fr")
        lines = r.err.splitlines()
        assert r.code == 0 and 3 < len(lines) <= 12 and "\r" not in r.err, r
        assert "restant" in r.err and all(line.startswith("org/name: ") for line in lines), r


# ---- scores -------------------------------------------------------------------------------------

def test_modules_are_fetched():
    """Of what other programs have fetched, the modules may be missing: transformers reads none."""
    source = model("tiny-modules")
    files = with_folders(source)
    words = ("score", "--query", "x", "--model")
    expected = run(*words, source, stdin="a\n").out
    with hub_and_cache() as (hub, home):
        hub.add("org/name", files)
        assert pull(hub, home).code == 0
        for name in ("modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"):
            os.unlink(os.path.join(snapshot(home), name))
            r = run(*words, "org/name", stdin="a\n", env=env(hub, home, HF_HUB_OFFLINE="1"))
            assert r.code == 66 and "not complete in the cache" in r.err, (name, r)
            r = run(*words, "org/name", stdin="a\n", env=env(hub, home))
            assert r.code == 0 and r.out == expected != "", (name, r)
        hub.requests.clear()
        assert run(*words, "org/name", stdin="a\n", env=env(hub, home)).out == expected
        assert not hub.requests


def test_pull_checks_scores():
    files = tiny_model()
    with hub_and_cache() as (hub, home):
        hub.add("org/name", files, {"model.safetensors"})
        r = pull(hub, home)
        assert r.code == 0 and "checked: " in r.err and r.out == snapshot(home) + "\n", r
        rows = [json.loads(line) for line in files["reference.jsonl"].splitlines()]
        rows[0]["logits"][0] += 0.01
        wrong = write(os.path.join(home, "wrong.jsonl"), "\n".join(map(json.dumps, rows)))
        r = pull(hub, home, "--reference", wrong)
        assert r.code == 1 and "scores differ by up to" in r.err and r.out == "", r
        assert pull(hub, home, "--reference", wrong, "--no-check").code == 0
        assert pull(hub, home, "--reference", home + "/none").code == 66


def test_reference_with_a_longer_window():
    """Lines that were made with more tokens than rerankd takes of itself, 512, are no mistake."""
    files = {n: content(os.path.join(model("tiny-qwen3"), n)) for n in
             ("config.json", "tokenizer.json", "model.safetensors", "reference.jsonl")}
    assert b'"max_length": 1024' in files["reference.jsonl"]
    with hub_and_cache() as (hub, home):
        hub.add("org/name", files, {"model.safetensors"})
        r = pull(hub, home)
        assert r.code == 0 and "checked: 92 pairs" in r.err and r.out == snapshot(home) + "\n", r
        reference = snapshot(home) + "/reference.jsonl"
        for words in (("verify", "--golden"), ("score", "--reference", reference)):
            r = run(*words, "--model", snapshot(home), "--json")
            assert r.code == 0 and '"pairs":92' in r.out and '"ok":true' in r.out, r
        rows = [json.loads(line) for line in files["reference.jsonl"].splitlines()]
        for n in (1, 3, 1000):  # lists, as of --data
            r = run("verify", "--golden", "--limit", str(n), "--model", snapshot(home), "--json")
            pairs = sum(len(row["documents"]) for row in rows[:n])
            assert r.code == 0 and json.loads(r.out)["pairs"] == pairs, (n, r)
        rows[0]["max_length"] = 100000
        wrong = write(os.path.join(home, "wrong.jsonl"), "\n".join(map(json.dumps, rows)))
        r = pull(hub, home, "--reference", wrong)
        assert r.code == 64 and "wrong.jsonl: max_length is 100000, this model allows" in r.err, r


def test_pull_known_scores():
    """Without a reference.jsonl, what the program knows of a model by its name is checked."""
    tiny = {n: content(os.path.join(model("tiny-bert"), n)) for n in
            ("config.json", "tokenizer.json", "model.safetensors")}
    other = {n: v for n, v in tiny_model().items() if n in tiny}
    name = "rerankd/tiny-bert"
    with hub_and_cache() as (hub, home):
        hub.add(name, tiny, {"model.safetensors"})
        r = pull(hub, home, name=name)
        assert r.code == 0 and "checked: 2 pairs (rerankd's tests/golden" in r.err, r
        for words, code, text in [((), 0, '"pairs":2,"ok":true'),
                                  (("--limit", "1"), 0, '"pairs":1,"ok":true'),
                                  (("--dtype", "bf16"), 1, ""),  # rounds more than the row allows
                                  (("--dtype", "bf16", "--tolerance", "0.5"), 0, '"ok":true')]:
            r = run("verify", "--golden", "--json", "--model", name, *words, env=env(hub, home))
            assert r.code == code and text in r.out and (r.err == "" or code), (words, r)
        assert "known pair 1 has the logit" in run(
            "verify", "--golden", "--model", name, "--dtype", "bf16", env=env(hub, home)).err
    for name, text in [("BAAI/bge-reranker-v2-m3", "expected -5.65234 within 0.05 (the model's card"),
                       ("cross-encoder/ms-marco-MiniLM-L6-v2", "expected 0.999817 within 2e-05")]:
        with hub_and_cache() as (hub, home):  # a name with other weights behind it
            hub.add(name, other, {"model.safetensors"})
            r = pull(hub, home, name=name)
            assert r.code == 1 and r.out == "" and text in r.err and "other weights" in r.err, r
            assert pull(hub, home, "--no-check", name=name).code == 0
    with hub_and_cache() as (hub, home):  # nothing is known of it
        hub.add("org/name", other, {"model.safetensors"})
        assert "checked" not in pull(hub, home).err


def test_model_by_name():
    words = ("score", "--query", "x", "--json", "--model", "org/name")
    files = tiny_model()
    with hub_and_cache() as (hub, home):
        hub.add("org/name", files, {"model.safetensors"})
        r = run(*words, stdin="a\nb\n", env=env(hub, home, HF_HUB_OFFLINE="1"))
        assert r.code == 66 and "HF_HUB_OFFLINE" in r.err and not hub.requests, r
        r = run("doctor", "--model", "org/name", env=env(hub, home))
        assert r.code == 1 and "rerankd pull" in r.out and not hub.requests, r
        expected = run("score", "--query", "x", "--json", "--model", model(), stdin="a\nb\n")
        r = run(*words, stdin="a\nb\n", env=env(hub, home))
        assert r.code == 0 and r.out == expected.out != "", r
        hub.requests.clear()
        hub.fault = lambda q: {"status": 504}  # a hub in trouble does not matter now
        for extra in ({}, {"HF_HUB_OFFLINE": "1"}):
            started = time.monotonic()
            r = run(*words, stdin="a\nb\n", env=env(hub, home, **extra))
            assert r.code == 0 and r.out == expected.out and not hub.requests, r
            assert time.monotonic() - started < 5
        r = run("doctor", "--model", "org/name@" + COMMIT, env=env(hub, home))
        assert r.code == 0 and snapshot(home) in r.out, r
        r = run("serve", "--check", env=env(hub, home, RERANKER_MODEL="org/name"))
        assert r.code == 0 and re.search(r"^model += org/name ", r.out, re.M), r
        os.unlink(os.path.join(snapshot(home), "tokenizer.json"))
        r = run(*words, stdin="a\n", env=env(hub, home, HF_HUB_OFFLINE="1"))
        assert r.code == 66 and "not complete in the cache" in r.err, r
        r = run(*words[:-1], "org/other", stdin="a\n", env=env(hub, home, HF_HUB_OFFLINE="1"))
        assert r.code == 66 and "model org/other is no folder here" in r.err, r


def test_model_by_name_elsewhere():
    """Where a command takes a model in another place than --model."""
    bert = {n: content(os.path.join(model("tiny-bert"), n)) for n in
            ("config.json", "tokenizer.json", "model.safetensors")}
    with hub_and_cache() as (hub, home):
        hub.add("org/name", tiny_model(), {"model.safetensors"})
        hub.add("org/bert", bert, {"model.safetensors"})
        lists = write(home + "/lists", json.dumps({"query": "q", "documents": ["a", "b"],
                                                   "positive": 1}) + "\n")
        r = run("verify", "org/name", "--against", "org/bert", "--data", lists,
                env=env(hub, home))
        assert r.code == 0 and "models--org--bert" in r.out, r
        hub.requests.clear()
        r = run("eval", "--model", model(), "--against", "org/bert", lists, env=env(hub, home))
        assert r.code == 0 and "org/bert (f32)" in r.out, r
        r = run("quantize", "org/name", home + "/q", "--calibration", "none", env=env(hub, home))
        assert r.code == 0 and os.path.exists(home + "/q/tokenizer.json"), r
        assert not hub.requests
        for words in (["verify", "org/none"], ["eval", lists, "--against", "org/none"],
                      ["quantize", "org/none", home + "/r"]):
            r = run(*words, env=env(hub, home, HF_HUB_OFFLINE="1"))
            assert r.code == 66 and "run rerankd pull org/none" in r.err and one_line(r.err), r
        r = run("bench", "--model", "models/none.gguf", env=env(hub, home))
        assert r.code == 66 and "models/none.gguf" in r.err and one_line(r.err), r
        assert not hub.requests  # a file that is not there is no name


def test_model_by_name_served():
    """In the sandbox, whose files are those of the snapshot and of the blobs; SIGHUP changes
    nothing about the model."""
    with hub_and_cache() as (hub, home):
        hub.add("org/name", tiny_model(), {"model.safetensors"})
        assert pull(hub, home, "--no-check").code == 0
        hub.requests.clear()
        conf = write(os.path.join(home, "conf"), "max-documents = 5\n")
        with Server("--config", conf, model_folder="org/name", env=env(hub, home)) as s:
            assert s.ask("GET", "/info").json()["model_id"] == "org/name"
            write(conf, "max-documents = 6\n")
            s.process.send_signal(signal.SIGHUP)
            s.log("configuration reloaded")
            body = {"query": "x", "documents": ["a"] * 6}
            assert s.post(body, path="/v1/rerank").status == 200
            assert not [line for line in s.lines if "restart" in line], s.lines
        assert not hub.requests


def test_model_by_name_under_systemd():
    """Its first start lasts as long as the download does, which may be longer than is allowed."""
    with hub_and_cache() as (hub, home), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as n:
        path = os.path.join(home, "notify")
        n.bind(path)
        n.settimeout(TIMEOUT)
        files = tiny_model()
        pieces = len(files["model.safetensors"]) // 16384 + 1
        hub.add("org/name", files, {"model.safetensors"})
        hub.fault = lambda q: {"pace": 3 / pieces} if q.kind == "storage" else None
        said = []
        with Server(model_folder="org/name", env=env(hub, home, NOTIFY_SOCKET=path)):
            while not said or "READY=1" not in said[-1]:
                said.append(n.recv(4096).decode())
        extended = [x for x in said if "fetching org/name" in x]
        assert extended == said[:len(extended)] and 2 <= len(extended) <= 9, said
        assert all(x.startswith("EXTEND_TIMEOUT_USEC=300000000\n") for x in extended), said
        shares = [int(x.split()[-2]) for x in extended]
        assert shares == sorted(shares) and shares[0] < shares[-1] <= 100, said


# ---- huggingface_hub ----------------------------------------------------------------------------

def hugging_face():
    """A Python with huggingface_hub, in a folder that is kept between runs."""
    place = os.path.join(os.path.dirname(RERANKD), "venv-hub")
    python = os.path.join(place, "bin", "python")
    try:
        if not os.path.exists(os.path.join(place, "ready")):
            subprocess.run([sys.executable, "-m", "venv", place], check=True, timeout=TIMEOUT,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            subprocess.run([python, "-m", "pip", "install", "-q", "--retries", "0", "--timeout",
                            "5", "huggingface_hub"], check=True, timeout=TIMEOUT,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            write(os.path.join(place, "ready"), "")
    except (OSError, subprocess.SubprocessError) as e:
        raise Skip("huggingface_hub cannot be installed: %s" % type(e).__name__)
    return python


def download(python, hub, home, **extra):
    """snapshot_download; gives the folder."""
    code = ("import huggingface_hub as h; print(h.snapshot_download('org/name', allow_patterns="
            "['*.json', '*.safetensors']))")
    p = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       env=env(hub, home, HF_HUB_DISABLE_TELEMETRY="1",
                               HF_HUB_DISABLE_PROGRESS_BARS="1", **extra), timeout=TIMEOUT)
    assert p.returncode == 0, p.stderr.decode()[-2000:]
    return p.stdout.decode().strip()


def test_pull_for_hugging_face():
    """huggingface_hub takes over what we fetched: it asks for no file again."""
    python = hugging_face()
    with hub_and_cache() as (hub, home):
        hub.add("org/name", SMALL, {"model.safetensors"})
        assert pull(hub, home).code == 0
        hub.requests.clear()
        assert download(python, hub, home) == snapshot(home)
        assert not hub.asked("storage") and not hub.asked("file"), [
            q.path for q in hub.requests]
        assert len(blobs(home)) == 3 and complete(home, SMALL)


def test_pull_after_hugging_face():
    python = hugging_face()
    files = tiny_model()
    with hub_and_cache() as (hub, home):
        hub.add("org/name", files, {"model.safetensors"})
        assert download(python, hub, home) == snapshot(home)
        hub.requests.clear()
        r = run("score", "--query", "x", "--model", "org/name", stdin="a\n",
                env=env(hub, home, HF_HUB_OFFLINE="1"))
        assert r.code == 0 and not hub.requests, r
        r = pull(hub, home)
        assert r.code == 0 and [q.name for q in hub.asked("file")] == ["reference.jsonl"], r
    with hub_and_cache() as (hub, home):  # files in the snapshot, not links
        hub.add("org/name", SMALL, {"model.safetensors"})
        assert download(python, hub, home, HF_HUB_DISABLE_SYMLINKS="1") == snapshot(home)
        hub.requests.clear()
        r = pull(hub, home)
        assert r.code == 0 and [q.kind for q in hub.requests] == ["api"], r
