# SPDX-License-Identifier: Apache-2.0
"""cli_doctor.py - tests of "rerankd doctor"; run by test_cli.py."""
import json
import os
import re
import resource
import shutil
import socket

from cli_support import ROOT, environment, folder, model, run, write


def doctor(*words, **options):
    return run("doctor", "--port", "0", *words, **options)


def test_doctor():
    r = doctor("--model", model())
    assert r.code == 0 and r.out.endswith("ready to serve\n") and r.err == "", r
    for text in ("Processor", "Instruction set", "Memory", "XLMRoberta", "model.safetensors",
                 "Memory plan", "(free)"):
        assert text in r.out, (text, r)
    r = doctor("--model", model(), env=environment(LANG="fr_FR.UTF-8"))
    assert r.code == 0 and r.out.endswith("prêt à servir\n") and "Mémoire" in r.out, r


def test_doctor_json():
    r = doctor("--model", model(), "--json")
    got = json.loads(r.out)
    assert r.code == 0 and got["ready"] is True and got["problems"] == [], r
    assert got["machine"]["threads"] >= 1 and got["machine"]["memory_total"] > 1 << 20, got
    assert got["machine"]["isa"] in got["machine"]["isas"].split(), got
    assert got["model"]["usable"] and got["model"]["layers"] >= 1, got
    size = os.path.getsize(os.path.join(model(), "model.safetensors"))
    assert got["model"]["files"]["model.safetensors"] == size, got
    with open(os.path.join(model(), "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    assert got["model"]["hidden"] == config["hidden_size"], got
    assert got["model"]["vocab"] == config["vocab_size"], got


def test_doctor_problems():
    with folder() as d:
        shutil.copytree(model(), d + "/m")
        write(d + "/m/config.json", "{")
        pickled = d + "/pickled"
        os.mkdir(pickled)
        for name in ("config.json", "tokenizer.json"):
            shutil.copy(os.path.join(model(), name), pickled)
        write(pickled + "/pytorch_model.bin", "x")
        without = [d + "/" + x for x in ("no_tokenizer", "vocab.txt", "spiece.model")]
        for path in without:
            shutil.copytree(model(), path)
            os.remove(path + "/tokenizer.json")
            if path != without[0]:
                write(os.path.join(path, os.path.basename(path)), "x")
        for words, what, remedy in [
                (["--model", without[0]], "no tokenizer.json", "get the model's tokenizer.json"),
                (["--model", without[1]], "has vocab.txt but", "convert the tokenizer"),
                (["--model", without[2]], "has spiece.model but", "convert the tokenizer"),
                (["--model", d + "/none"], d + "/none", "set --model to a folder"),
                (["--model", "BAAI/bge-reranker-v2-m3"], "bge-reranker-v2-m3",
                 "rerankd pull"),
                (["--model", d + "/m"], "config.json", "fetch it again"),
                (["--model", "redis-none"], "redis-none", "set --model to a folder"),
                (["--model", model(), "--redis-url", "http://x"], "redis-url: ", "change the setting"),
                (["--model", model(), "--redis-url", "redis://x", "--redis-password-file", d + "/none"],
                 "redis-password-file: ", "change the setting"),
                (["--model", pickled], "safetensors", "save them as model.safetensors"),
                (["--model", model(), "--isa", "nonsense"], "nonsense",
                 "change the setting"),
                (["--model", model(), "--host", "127.0.0.1,203.0.113.7"], "203.0.113.7", "--host")]:
            r = doctor(*words)
            assert r.code == 1 and "not ready to serve:\n- " in r.out, (words, r)
            assert what in r.out and re.search(r"\n  remedy: .*" + re.escape(remedy), r.out), r
            got = json.loads(doctor(*words, "--json").out)
            assert got["ready"] is False and len(got["problems"]) == 1, got
            assert what in got["problems"][0]["what"] and remedy in got["problems"][0]["remedy"]
    got = json.loads(doctor("--model", model(), "--redis-url", "http://x", "--json").out)
    assert got["model"]["usable"], "nothing is wrong with the model"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = str(s.getsockname()[1])
        r = run("doctor", "--model", model(), "--port", port, "--host", "127.0.0.2,127.0.0.3")
        assert r.code == 0 and "127.0.0.2,127.0.0.3:%s  (free)" % port in r.out, r
        r = run("doctor", "--model", model(), "--port", port, "--host", "127.0.0.2,127.0.0.1")
    assert r.code == 1 and "port %s is in use" % port in r.out, r
    assert "(not free)" in r.out and "choose another --port" in r.out, r


def test_doctor_warnings():
    r = doctor("--model", model(), "--cache-dir", os.path.join(ROOT, "Makefile", "x"))
    assert r.code == 0 and "warning: cache folder" in r.out, r
    assert r.out.endswith("ready to serve\n"), r
    with folder() as d:
        r = doctor("--model", model(), "--cache-dir", d + "/a/b")
        assert r.code == 0 and "(will be made)" in r.out and "warning: cache" not in r.out, r
        assert not os.path.exists(d + "/a")  # looking changes nothing
    r = doctor("--model", model(), "--threads", "1000")
    assert r.code == 0 and "1000 threads are asked for" in r.out, r
    few = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1070, 1070))}
    words = ["--model", model(), "--max-connections", "1000"]
    r = doctor(*words, **few)
    assert r.code == 0 and "files may be open" not in r.out, r
    r = doctor(*words, "--admin-listen", "127.0.0.1:0", **few)  # connections of its own
    assert r.code == 0 and "at most 1070 files may be open, 1000 connections need 1080" in r.out, r
