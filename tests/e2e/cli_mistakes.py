# SPDX-License-Identifier: Apache-2.0
"""cli_mistakes.py - what newcomers get wrong, and what they are told: each message says what was found,
what was expected and what to do; run by run.py."""
import json
import os
import re
import shutil
import socket
import subprocess

from cli_support import RERANKD, ROOT, Skip, environment, folder, model, run, write
from server_support import QUERY, TEXTS, Server, shared

GOOD = {"query": QUERY, "documents": TEXTS}


def told(r, code, *parts):
    """The last line of stderr has all parts: found, expected, what to do; and nothing but lines of the
    log before it."""
    lines = r.err.splitlines()
    assert r.code == code and lines, r
    for part in parts:
        assert part in lines[-1], (part, r)
    assert all(re.match(r"\d{4}-\d\d-\d\dT", x) for x in lines[:-1]), r


def check(rows, env=None):
    for code, words, *parts in rows:
        told(run(*words, env=environment(**(env or {}))), code, *parts)


def serve(*words):
    return ["serve", "--port", "0", "--host", "127.0.0.1", *words]


# ---- addresses ----------------------------------------------------------------------------------

def test_mistake_wrong_port_of_a_client():
    with socket.socket() as s:  # bound, but nobody listens
        s.bind(("127.0.0.1", 0))
        url = "http://127.0.0.1:%d" % s.getsockname()[1]
        for words in (["healthcheck", url], ["bench", "--url", url + "/rerank"]):
            r = run(*words)
            assert r.code == 1 or words[0] == "bench", r
            for part in ("Connection refused: nothing listens on port %s" % url.split(":")[2],
                         "start rerankd serve", "or give the port that it prints at start"):
                assert part in r.err, (part, r)


def test_mistake_port_is_busy():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = str(s.getsockname()[1])
        check([(69, ["serve", "--host", "127.0.0.1", "--port", port, "--model", model()],
                "cannot listen on 127.0.0.1 port " + port, "another program uses it",
                "try another --port")])


def test_mistake_port_and_address():
    check([(64, ["serve", "--port", "80002"], "--port: found \"80002\"",
            "expected a whole number from 0 to 65535"),
           (64, ["serve", "--port", "http"], "--port: found \"http\"", "expected a whole number"),
           (64, ["serve", "port=8002"], "unexpected \"port=8002\"", "did you mean --port=8002?"),
           (69, ["serve", "--port", "0", "--host", "203.0.113.9", "--model", model()],
            "203.0.113.9", "this machine does not have that address", "0.0.0.0: all its addresses"),
           (69, ["serve", "--port", "0", "--host", "no-such-host.invalid", "--model", model()],
            "no-such-host.invalid", "expected an address of this machine, such as 127.0.0.1")])


# ---- models -------------------------------------------------------------------------------------

def test_mistake_model_folder():
    with folder() as d:
        for name in ("empty", "bin", "onnx", "t5", "cut"):
            os.mkdir(os.path.join(d, name))
        for name in ("bin", "onnx", "t5", "cut"):
            for f in os.listdir(model()):
                if f != "model.safetensors" or name in ("t5", "cut"):
                    shutil.copy(os.path.join(model(), f), os.path.join(d, name))
        write(d + "/bin/pytorch_model.bin", "x")
        os.mkdir(d + "/onnx/onnx")
        write(d + "/onnx/onnx/model.onnx", "x")
        with open(d + "/t5/config.json", encoding="utf-8") as f:
            config = f.read()
        write(d + "/t5/config.json", config.replace("XLMRobertaForSequenceClassification",
                                                    "T5ForConditionalGeneration"))
        os.truncate(d + "/cut/model.safetensors", 50000)
        check([(66, serve("--model", d + "/none"), d + "/none: there is no such folder",
                "expected a model folder in Hugging Face layout", "rerankd pull ORG/NAME fetches one"),
               (66, serve("--model", d + "/empty"), d + "/empty/config.json: not found",
                "expected a model folder", "rerankd pull ORG/NAME fetches one"),
               (78, serve("--model", d + "/bin"), "has pytorch_model.bin but no model.safetensors",
                "convert it: load the model with transformers", "save_pretrained"),
               (78, serve("--model", d + "/onnx"), "has onnx/model.onnx but no model.safetensors",
                "ONNX is not read", "fetch model.safetensors"),
               (78, serve("--model", d + "/t5"), "architectures[0] is \"T5ForConditionalGeneration\"",
                "supported are XLMRobertaForSequenceClassification"),
               (78, serve("--model", d + "/cut"), "the file has 43496 bytes of data: it is cut off",
                "copy or fetch it again"),
               (78, serve("--model", os.path.join(model(), "model.safetensors")),
                "model.safetensors: give the folder that it is in")])


def test_mistake_layers_left_out():
    """config.json has fewer layers than the weights: it works, and the log says so"""
    for name in ("tiny-xlmr", "tiny-qwen3", "tiny-modernbert-cls"):
        with folder() as d:
            for f in os.listdir(model(name)):
                shutil.copy(os.path.join(model(name), f), d)
            words = ["score", "--model", d, "--query", QUERY]
            r = run(*words, stdin=TEXTS[0].encode())
            assert r.code == 0 and "not used" not in r.err, r
            with open(d + "/config.json", encoding="utf-8") as f:
                config = json.load(f)
            found = config["num_hidden_layers"]
            config["num_hidden_layers"] = 1
            if "layer_types" in config:
                config["layer_types"] = config["layer_types"][:1]
            write(d + "/config.json", json.dumps(config))
            r = run(*words, stdin=TEXTS[0].encode())
            assert r.code == 0, r
            assert ("has weights of %d layers, but num_hidden_layers in config.json is 1: the others are "
                    "not used" % found) in r.err, r


def test_mistake_hub_name():
    with folder() as d:
        offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": d}
        check([(66, serve("--model", "BAAI/bge-reranker-v2-m3"),
                "model BAAI/bge-reranker-v2-m3 is no folder here", "not complete in the cache " + d,
                "HF_HUB_OFFLINE forbids to fetch it", "run rerankd pull BAAI/bge-reranker-v2-m3"),
               (66, serve("--model", "bge-reranker-v2-m3"), "bge-reranker-v2-m3: there is no such",
                "rerankd pull ORG/NAME fetches one from the hub"),
               (64, ["pull", "bge-reranker-v2-m3"], "found \"bge-reranker-v2-m3\"",
                "expected ORG/NAME", "such as BAAI/bge-reranker-v2-m3")], offline)


# ---- devices ------------------------------------------------------------------------------------

def no_plugin():
    """Skips what comes after \"make cuda\": the plugin beside the program is found before any other."""
    if os.path.exists(os.path.join(os.path.dirname(RERANKD), "librerank_cuda.so")):
        raise Skip("librerank_cuda.so lies beside the program")


def test_mistake_device():
    check([(64, serve("--device", "gpu"), "--device: found \"gpu\"",
            "expected auto, cpu, cuda or cuda:N", "did you mean cuda?"),
           (64, serve("--dtype", "float16"), "--dtype: found \"float16\"",
            "expected auto, f32, f16, bf16, int8 or fp8", "did you mean f16?")])


def test_mistake_no_gpu():
    no_plugin()
    check([(69, serve("--model", model(), "--device", "cuda", "--no-fallback"),
            "backend 'cuda' is not installed: no librerank_cuda.so", "make cuda builds it",
            "--device cpu does without"),
           (69, serve("--model", model(), "--devices", "cuda:*", "--no-fallback"),
            "backend 'cuda' is not installed")])
    for devices in ("cuda:0,cpu", "cuda:*,cpu", "cuda:*"):  # left out with a warning
        r = run("doctor", "--model", model(), "--port", "0", "--devices", devices)
        assert r.code == 0 and "the CPU will serve" in r.out, (devices, r)


PLUGIN = """#include "rerank_backend.h"
static uint32_t count(const char **why) { *why = "%s"; return 0; }
static const struct rr_backend backend = { .abi = %s, .device_count = count };
const struct rr_backend *rr_backend_entry(void) { return &backend; }
"""
OLD_DRIVER = ("the NVIDIA driver is for CUDA 11.8, this plugin needs one for 13.0 or newer: update the "
              "driver")


def test_mistake_plugin():
    """A plugin of another release, and one that finds its driver too old."""
    compiler = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    if not compiler:
        raise Skip("no C compiler")
    no_plugin()
    with folder() as d:
        for abi, code, parts in [
                ("1", 78, ["librerank_cuda.so was built for backend ABI 1, this program has",
                       "use the plugin that was built with this program"]),
                ("RR_BACKEND_ABI", 69, ["has no usable device", OLD_DRIVER])]:
            source = write(os.path.join(d, "p.c"), PLUGIN % (OLD_DRIVER, abi))
            subprocess.run([compiler, "-shared", "-fPIC", "-I", os.path.join(ROOT, "include"), "-o",
                            os.path.join(d, "librerank_cuda.so"), source], check=True)
            check([(code, serve("--model", model(), "--device", "cuda", "--no-fallback"), *parts)],
                  {"LD_LIBRARY_PATH": d})


def test_mistake_memory_and_threads():
    r = run(*serve("--model", model(), "--cache-size", "900G"))
    told(r, 71, "cache of 921600 MiB: lower cache-size" if "out of memory" in r.err else
         "and the limit is", "lower ", "cache-size")  # where memory is promised freely, the plan refuses
    with Server("--threads", "900", "--max-length", "32", "--batch-tokens", "32") as s:
        line = s.log("compute threads on")
        assert "900 compute threads on %d processors" % len(os.sched_getaffinity(0)) in line, line
        assert "leave out --threads" in line, line


# ---- words, settings and files ------------------------------------------------------------------

def test_mistake_typing():
    with folder() as d:
        conf = write(d + "/a", "prot = 80\n")
        other = write(d + "/b", "port 80\n")
        twice = write(d + "/c", "port = 80\nport = 81\n")
        check([(64, ["srve"], "unknown sub-command srve", "did you mean serve?"),
               (64, ["serve", "--prot", "80"], "unknown option --prot", "did you mean --port?"),
               (64, ["--model", "m", "score"], "unexpected \"score\"", "a sub-command comes first"),
               (64, ["serve", "--model"], "--model: needs a value"),
               (78, ["serve", "--config", conf], conf + ":1: unknown setting \"prot\"",
                "did you mean port?"),
               (78, ["serve", "--config", other], other + ":1: found \"port 80\"",
                "expected \"name = value\""),
               (78, ["serve", "--config", twice], twice + ":2: port was already set in line 1"),
               (66, ["serve", "--config", d + "/none"], "configuration file", d + "/none"),
               (64, ["serve", "--config", conf, "--config", other], "--config: given twice",
                "expected once", "put all settings into one file"),
               (64, ["serve", "--request-timeout", "5 minutes"], "found \"5 minutes\"",
                "expected a duration from 0 to 3600 seconds", "such as 30, 0.5, 500ms or 2m"),
               (64, ["serve", "--max-body", "1.5M"], "found \"1.5M\"",
                "expected a whole number from 1024", "K, M and G are understood"),
               (64, ["serve", "--threads", "two"], "--threads: found \"two\"",
                "expected a whole number from 0 to 1024"),
               (64, ["serve", "--sandbox", "yes"], "--sandbox: found \"yes\"", "expected")])


def test_mistake_files():
    with folder() as d:
        os.symlink("nowhere", d + "/link")
        write(d + "/empty.txt", "")
        lines = write(d + "/a.jsonl", '{"query":"a","documents":["b"]}\n{"query":"a","documents":[}\n')
        score = ["score", "--model", model(), "--query", "q"]
        check([(66, [*score, d + "/none"], d + "/none: No such file"),
               (66, [*score, d + "/link"], d + "/link: No such file"),
               (66, [*score, d], "found a folder, expected a file"),
               (65, [*score, d + "/empty.txt"], "empty.txt: nothing to score, the input is empty"),
               (65, [*score, lines], "a.jsonl: line 1: found an object",
                "expected a string, or an object with \"text\"", "rerankd rank takes lists"),
               (65, ["rank", lines, "--model", model()], "a.jsonl: line 2: JSON has a syntax error",
                "column 27"),
               (66, serve("--model", model(), "--api-keys-file", d + "/keys"), d + "/keys: not found",
                "rerankd keys add NAME --api-keys-file", "makes it"),
               (66, serve("--model", model(), "--api-key-file", d + "/key"), "api-key-file: ",
                d + "/key")])
        r = run("score", "--model", model(), stdin="a\n")
        told(r, 64, "line 1 has no query", "give --query TEXT, or JSONL objects with a \"query\"")
        if os.geteuid() != 0:
            os.chmod(lines, 0)
            check([(66, [*score, lines], lines + ": Permission denied")])


def test_mistake_tls():
    if not shutil.which("openssl"):
        raise Skip("no openssl")
    with folder() as d:
        for name in ("a", "b"):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a",
                            "-keyout", "%s/%s.key" % (d, name), "-out", "%s/%s.pem" % (d, name)],
                           check=True, stderr=subprocess.DEVNULL)
        check([(78, serve("--model", model(), "--tls-cert", d + "/a.pem", "--tls-key", d + "/b.key"),
                "b.key does not belong to tls-cert %s/a.pem" % d,
                "expected the private key of the first certificate in that file"),
               (78, serve("--model", model(), "--tls-cert", d + "/a.key", "--tls-key", d + "/a.pem"),
                "No certificate was found", "Expected a chain of certificates in PEM for tls-cert"),
               (66, serve("--model", model(), "--tls-cert", d + "/c.pem", "--tls-key", d + "/a.key"),
                "tls-cert: " + d + "/c.pem"),
               (78, serve("--model", model(), "--tls-cert", d + "/a.pem"),
                "tls-cert is given without tls-key: both are needed")])


def test_mistake_redis_url():
    check([(64, serve("--model", model(), "--redis-url", "localhost:6379"),
            "redis-url: found \"localhost:6379\", not a Redis URL", "expected redis://")])
    r = run(*serve("--model", model(), "--redis-url", "redis//:canari@localhost"))
    told(r, 64, "redis-url: not a Redis URL", "expected redis://")
    assert "canari" not in r.err, r  # it may hold a password


def test_mistake_found_by_check():
    """--check refuses what serve would refuse, with the same words and exit status."""
    with folder() as d:
        none, junk = d + "/none", write(d + "/junk", "no PEM, no key\n")
        for code, part, *words in [
                (78, "allow-nets: found \"10.0.0/8\"", "--allow-nets", "10.0.0/8"),
                (78, "trusted-proxies: found \"proxy\"", "--trusted-proxies", "proxy"),
                (78, "cors-origins: found \"app.example.com\"", "--cors-origins", "app.example.com"),
                (78, "open-routes: found \"health\", expected paths such as /health",
                 "--open-routes", "/live,health"),
                (78, "admin-listen: found \"9102\"", "--admin-listen", "9102"),
                (78, "unix-mode: found \"999\"", "--unix-mode", "999"),
                (78, "listen-unix: found 200 bytes", "--listen-unix", "/" + 199 * "x"),
                (78, "user: there is no user \"no-such\"", "--user", "no-such"),
                (78, "host: no address to listen on", "--host", ","),
                (69, "cannot listen on 300.1.1.1", "--host", "300.1.1.1"),
                (66, "api-key-file: " + none, "--api-key-file", none),
                (78, junk + ": expected one line with one key", "--api-key-file", junk),
                (66, "rerankd keys add NAME --api-keys-file", "--api-keys-file", none),
                (66, "admin-key-file: " + none, "--admin-key-file", none),
                (66, "tls-cert: " + none, "--tls-cert", none, "--tls-key", junk),
                (78, "No certificate was found", "--tls-cert", junk, "--tls-key", junk),
                (78, "tls-key and tls-client-ca need tls-cert", "--tls-client-ca", junk),
                (64, "redis-url: found \"localhost\"", "--redis-url", "localhost"),
                (66, "redis-password-file: " + none, "--redis-url", "redis://127.0.0.1:1",
                 "--redis-password-file", none),
                (64, "redis-ca: " + junk, "--redis-url", "rediss://127.0.0.1:1", "--redis-ca", junk),
                (78, "otlp-endpoint: found grpc://..., expected the URL of a collector's port for OTLP "
                 "over HTTP", "--otlp-endpoint", "grpc://me:canari@collector:4317")]:
            asked = serve("--model", model(), *words)
            told(run(*asked), code, part)
            r = run(*asked, "--check")
            assert r.code == code and part in r.err and r.err.count("\n") == 1, (words, r)
            assert "canari" not in r.err + r.out, r
        with Server() as s:  # in use, and so is the port of one that is checked
            r = run("serve", "--check", "--model", model(), "--host", "127.0.0.1", "--port", str(s.port))
            assert r.code == 0 and r.err == "", r


# ---- requests -----------------------------------------------------------------------------------

def refused(a, status, *parts):
    assert a.status == status, (parts, a)
    e = a.json()["error"]
    message = e["message"] if isinstance(e, dict) else e
    assert all(p in message for p in parts), (parts, a)


def test_mistake_requests():
    s = shared()
    for body, status, *parts in [
            ({"query": "", "documents": TEXTS}, 400, "query"),
            ({"query": QUERY, "documents": []}, 400, "documents"),
            ({"query": QUERY}, 422, "documents"),
            ({"querry": QUERY, "documents": TEXTS}, 422, "query"),
            ({"query": QUERY, "documents": [1]}, 422, "documents[0]", "an integer"),
            (dict(GOOD, top_n="3"), 422, "top_n", "a string"),
            (dict(GOOD, priority="urgent"), 422, "priority: must be \"high\", \"normal\" or \"low\""),
            (dict(GOOD, top_n=-1), 422, "top_n: found -1, must be at least"),
            ('{"query": "q", "documents": ["a",]}', 400, "JSON has a syntax error at column")]:
        refused(s.post(body), status, *parts)
    refused(s.ask("GET", "/rerank"), 405, "takes POST, with a JSON body", "GET /docs has examples")
    refused(s.ask("POST", "/health", GOOD), 405, "takes GET")
    refused(s.post(GOOD, "/v1/rerankk"), 404, "nothing at this path", "POST /rerank ranks")


def test_mistake_keys():
    with Server("--api-key", "canari-k1") as s:
        refused(s.post(GOOD), 401, "a key is needed: Authorization: Bearer KEY")
        refused(s.post(GOOD, headers=[("Authorization", "Bearer canari-k2")]), 401,
                "the key is not known here", "mistyped, or removed")


# ---- open to everybody --------------------------------------------------------------------------

def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
            return True
    except OSError:
        return False


def test_mistake_open_to_everybody():
    """One warning when other machines reach a server that asks for no key, with the ways out; none when
    one of them was taken."""
    word = "everybody who reaches port"
    with folder() as d:
        for options, warned in [
                (["--host", "0.0.0.0"], True), (["--host", "::"], True),
                (["--host", "::1,0.0.0.0"], True), (["--host", "127.0.0.1"], False),
                (["--host", "127.0.0.5"], False), (["--host", "::1"], False),
                (["--host", "0.0.0.0", "--api-key", "canari-k1"], False),
                (["--host", "0.0.0.0", "--allow-nets", "10.0.0.0/8,127.0.0.0/8"], False),
                (["--host", "127.0.0.1", "--listen-unix", d + "/s"], False)]:
            if ":" in options[1] and not has_ipv6():
                continue
            with Server(*options, ready=False) as s:
                s.log("ready after")
            found = [x for x in s.lines if word in x]
            assert len(found) == warned, (options, s.lines)
            for way in ("warning", "rerankd keys add NAME", "--allow-nets", "--host 127.0.0.1"):
                assert not warned or way in found[0], (way, found)
