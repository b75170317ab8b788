# SPDX-License-Identifier: Apache-2.0
"""cli_bench.py - rerankd bench and rerankd verify from outside: forms of output, turns, servers."""
import csv
import io
import json
import os
import shutil
import xml.etree.ElementTree

from cli_support import folder, model, one_line, run, terminal, write
from server_support import Server

SHAPES = ["--shapes", "2x20,3x16,ragged2", "--runs", "2"]


def bench(*words, **options):
    return run("bench", "--model", model(), "--threads", "1", *words, **options)


def check_rows(rows):
    assert [r["shape"] for r in rows] == ["2x20", "3x16", "ragged2"], rows
    assert [int(r["pairs"]) for r in rows] == [2, 3, 20], rows
    assert [int(r["tokens"]) for r in rows[:2]] == [40, 48], rows
    for r in rows:
        assert 0 < float(r["best_ms"]) <= float(r["median_ms"]) <= float(r["p95_ms"]), r
        assert int(r["runs"]) == 2, r
        assert abs(float(r["mean_ms"]) - float(r["median_ms"])) < 0.002, r  # the same of two
        # Printed numbers are rounded, so this is about, not exactly, what they say.
        rate = int(r["pairs"]) / float(r["median_ms"]) * 1e3
        assert abs(rate - float(r["pairs_per_s"])) < 0.05 * rate, r


def test_bench_forms():
    r = bench(*SHAPES)
    assert r.code == 0 and r.err == "", r
    assert "memory: resident" in r.out and "3x16 " in r.out, r
    r = bench(*SHAPES, "--format", "csv")
    check_rows(list(csv.DictReader(r.out.splitlines())))
    r = bench(*SHAPES, "--format", "jsonl")
    check_rows([json.loads(line) for line in r.out.splitlines()])
    r = bench(*SHAPES, "--format", "json")
    whole = json.loads(r.out)
    check_rows(whole["shapes"])
    assert whole["threads"] == 1 and whole["memory"]["rss_bytes"] > 1 << 20, whole


def test_bench_names():
    """A folder may have any name."""
    with folder() as d:
        name = 'mine, "v2"'
        os.symlink(model(), os.path.join(d, name))
        words = ["bench", "--model", os.path.join(d, name), "--shapes", "1x16", "--runs", "1"]
        rows = list(csv.DictReader(io.StringIO(run(*words, "--format", "csv").out)))
        assert [(r["model"], r["shape"]) for r in rows] == [(name, "1x16")], rows
        assert json.loads(run(*words, "--format", "json").out)["model"] == name


def test_bench_share_of_the_peak():
    whole = json.loads(bench(*SHAPES, "--runs", "1", "--format", "json", "--isa", "auto").out)
    if whole["peak_gop_per_s"] == 0:
        assert whole["isa"] == "ref", whole  # every other level has a loop for f32
        return
    for r in whole["shapes"]:
        # Above 100 when the clock was higher than while the peak was measured; never twice it.
        assert 0 < r["peak_percent"] < 200, r
        # Of one run, what is printed belongs together; the peak was measured again beside it.
        assert r["runs"] == 1 and r["peak_gop_per_s"] > 0, r
        share = 100 * r["gop_per_s"] / r["peak_gop_per_s"]
        assert abs(r["peak_percent"] - share) < 0.1 + 0.05 * share, r


def test_bench_turns():
    r = bench("--shapes", "-", "--format", "jsonl", stdin="2x20\n2x20\n1x30\n")
    rows = [json.loads(line) for line in r.out.splitlines()]
    assert [(x["shape"], x["runs"]) for x in rows] == [("2x20", 1)] * 2 + [("1x30", 1)], r


def test_bench_picture():
    with folder() as d:
        path = os.path.join(d, "speed.svg")
        r = bench(*SHAPES, "--svg", path)
        assert r.code == 0, r
        root = xml.etree.ElementTree.parse(path).getroot()
        texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
        assert root.tag.endswith("}svg") and {"2x20", "3x16", "ragged2"} <= set(texts), texts
        for box in root.iter("{http://www.w3.org/2000/svg}rect"):
            x, width = float(box.get("x", 0)), box.get("width")
            assert width == "100%" or x + float(width) <= float(root.get("width")), box.attrib
        r = bench(*SHAPES, "--svg", d + "/none/speed.svg")
        assert r.code == 74 and one_line(r.err) and "speed.svg" in r.err, r


def test_bench_progress():
    r = terminal("bench", "--model", model(), "--shapes", "2x20", "--runs", "2")
    assert r.code == 0 and "[1/1] 2x20  2/2" in r.out, r


def test_bench_usage():
    for words, code, message in [
            (["--shapes", "20y3"], 64, "shape \"20y3\": expected ragged, or NxT"),
            (["--shapes", "1x100000"], 64, "shape \"1x100000\""),
            (["--format", "xml"], 64, "expected table, csv, json or jsonl"),
            (["--url", "localhost"], 64, "expected http://"),
            (["--url", "http://127.0.0.1:1/", "--concurrency", "0"], 64, "--concurrency"),
            (["--url", "http://127.0.0.1:1/"], 71, "no request was answered: ")]:
        r = bench(*words)
        assert r.code == code and message in r.err and one_line(r.err) and not r.out, (words, r)


def test_bench_server():
    with folder() as d, Server("--cache-size", "10M") as server:
        url = "http://127.0.0.1:%d" % server.port
        words = ["--url", url + "/rerank", "--runs", "6", "--concurrency", "2", "--format", "json"]
        r = run("bench", *words)
        rows = json.loads(r.out)["rows"]
        assert r.code == 0 and r.err == "", r
        assert [(x["documents"], x["concurrency"]) for x in rows] == \
            [("20", 1), ("50", 1), ("as given", 2)], rows
        assert all(x["requests"] == 6 and x["failed"] == 0 for x in rows), rows
        assert rows[1]["pairs_per_s"] > 0 and rows[0]["median_ms"] <= rows[0]["p95_ms"], rows
        memory = json.loads(r.out)["memory"]
        assert memory["device"] == "cpu" and memory["weights_bytes"] > 1000, memory
        assert memory["weights_bytes"] == json.loads(
            server.ask("GET", "/info").body)["memory"]["weights_bytes"], memory
        assert "memory: " in run("bench", *words[:-2]).out
        body = {"query": "q", "texts": ["a", "b"]}
        for text in (json.dumps(body, indent=1), json.dumps(body) + "\n" + json.dumps(body)):
            r = run("bench", *words, "--requests", write(os.path.join(d, "r"), text))
            assert r.code == 0 and len(json.loads(r.out)["rows"]) == 3, r
        for text, message in (("{\"query\": 1}", "body 1: expected an object"),
                              ("{", "body 1: "), ("", "no bodies"),
                              (json.dumps(body) + "\n{}", "body 2: expected an object")):
            r = run("bench", *words, "--requests", write(os.path.join(d, "r"), text))
            assert r.code == 65 and message in r.err and one_line(r.err), (text, r)
        r = run("bench", "--url", url + "/nothing", "--runs", "1", "--format", "json")
        assert r.code == 71 and "answered: 1 with status 404: " in r.err and not r.out, r


def test_bench_server_refuses_some():
    """Half of the requests fail, and all of those with 50 documents: the rows are there, what failed is
    counted by its reason, and the exit status tells a script."""
    with folder() as d, Server("--max-documents", "40") as server:
        bodies = [{"query": "q", "texts": ["a", "b"]}, {"query": "q", "texts": ["a", 5]}]
        words = ["bench", "--url", "http://127.0.0.1:%d/rerank" % server.port, "--runs", "6",
                 "--concurrency", "2", "--requests",
                 write(os.path.join(d, "r"), "\n".join(map(json.dumps, bodies)))]
        r = run(*words, "--format", "json")
        rows = json.loads(r.out)["rows"]
        assert [(x["requests"], x["failed"]) for x in rows] == [(3, 3), (0, 6), (3, 3)], rows
        assert rows[1]["median_ms"] is None and rows[2]["median_ms"] > 0, rows
        assert r.code == 1 and one_line(r.err), r
        assert "12 of 18 requests failed: 12 with status 422: {" in r.err, r
        r = run(*words)
        assert r.code == 1 and "memory: " in r.out and len(r.out.splitlines()) == 5, r


def test_bench_server_with_key():
    with folder() as d, Server("--api-key", "s3cret") as server:
        words = ["bench", "--url", "http://127.0.0.1:%d/rerank" % server.port, "--runs", "2",
                 "--concurrency", "1"]
        r = run(*words)
        assert r.code == 71 and "status 401" in r.err and one_line(r.err), r
        r = run(*words, "--key-file", write(os.path.join(d, "key"), "s3cret\n"))
        assert r.code == 0 and r.err == "" and "memory: " in r.out, r
        r = run(*words, "--key-file", os.path.join(d, "none"))
        assert r.code == 66 and "none: cannot open" in r.err and one_line(r.err), r


# ---- plan ----------------------------------------------------------------------------------


def plan(*words):
    r = run("bench", "--plan", "--format", "json", *words)
    assert r.code == 0 and r.err == "", r
    return json.loads(r.out)


def test_plan():
    """Worked by hand: 60 people who ask every 30 s are 2 requests/s; 100 pairs/s are 200 ms each, two
    machines keep to 500 ms (test_cli_plan.c)."""
    p = plan("--users", "60", "--peak", "4", "--pairs-per-s", "100", "--price", "12")
    assert p["peak_requests_per_s"] == 2 and p["average_requests_per_s"] == 0.5, p
    assert p["pairs_per_month"] == 26298000 and p["guide_says"] == "gpu", p
    here = p["rows"][1]
    assert (here["machines"], here["use"], here["cost_per_month"]) == (2, 0.2, 24), here
    assert abs(here["p95_ms"] - 235.960) < 0.01, here
    assert p["advice"] == here["name"] and p["advice_gpu"] is False, p
    assert len(p["rows"]) == 7 and [r["price_per_month"] for r in p["rows"][2:]] == \
        [40, 100, 80, 120, 150], p
    # the same load, said differently
    for words in (["--requests-per-s", "0.5"], ["--pairs-per-day", str(0.5 * 20 * 86400)]):
        q = plan(*words, "--peak", "4", "--pairs-per-s", "100", "--price", "12")
        assert q["rows"] == p["rows"], (words, q)
    # a shorter goal than the processor has
    p = plan("--users", "60", "--pairs-per-s", "100", "--goal", "150", "--budget", "45")
    assert not p["rows"][1]["possible"] and p["advice"] == "Hetzner Cloud, T4", p
    p = plan("--users", "60", "--pairs-per-s", "100", "--goal", "150", "--budget", "30")
    assert p["advice"] is None and p["guide_says"] == "cpu", p
    r = run("bench", "--plan", "--users", "6", "--pairs-per-s", "500")
    assert "guide's rule  GPU" in r.out and "advice        CPU, 1 of \"rerankd" in r.out, r


def test_plan_offers():
    words = ["--users", "60", "--pairs-per-s", "100"]
    assert plan(*words, "--offers", "deploy/offers.json") == plan(*words)
    with folder() as d:
        path = write(os.path.join(d, "offers.json"), json.dumps(
            [{"name": "mine", "price_per_month": 7, "pairs_per_s": 400}]))
        p = plan(*words, "--offers", path)
        assert p["advice"] == "mine" and p["rows"][2]["alone_ms"] == 50 and len(p["rows"]) == 3, p
        for text, message in (("{}", "expected an array"), ("[1]", "offer 1: found an integer"),
                              ("[{\"name\": \"a\", \"pairs_per_s\": 1}]", "price_per_month"),
                              ("[{\"name\": 1}]", "name"), ("[", "offers.json: ")):
            r = run("bench", "--plan", *words, "--offers", write(path, text))
            assert r.code == 65 and message in r.err and one_line(r.err), (text, r)
    for bad, message in ((["--pairs-per-s", "1"], "found 0 loads, expected one of --users"),
                         (["--users", "1", "--pairs-per-day", "5"], "found 2 loads, expected one of --users"),
                         (["--users", "x"], "--users: found \"x\""),
                         (["--users", "1", "--hits", "1"], "--hits: found"),
                         (["--users", "1", "--format", "csv"], "table or json")):
        r = run("bench", "--plan", *bad)
        assert r.code == 64 and message in r.err and one_line(r.err), (bad, r)


def test_plan_measures():
    p = plan("--users", "1", "--model", model(), "--threads", "1", "--runs", "3")
    here = p["rows"][1]
    assert here["pairs_per_s"] > 0 and not here["gpu"] and "tiny-xlmr, f32" in p["measured"], p
    # one request alone is 20 pairs
    alone = 2e4 / here["pairs_per_s"]  # of a rate that is rounded to thousandths
    assert abs(here["alone_ms"] - alone) < 0.01 + 1e-4 * alone, here


# ---- verify --------------------------------------------------------------------------------


def test_verify_built_in():
    r = run("verify", model(), "--dtype", "bf16", "--json")
    report = json.loads(r.out)
    assert r.code == 0 and report["lists"] == 24 and report["pairs"] == 480, r
    assert 0 < report["max_logit_difference"] < report["drift"], report
    assert report["p99_logit_difference"] <= report["max_logit_difference"], report
    assert report["labelled"] == 24, report
    same = json.loads(run("verify", model(), "--dtype", "f32", "--json", "--gate").out)
    assert same["max_logit_difference"] == 0 and same["top10_equal"] == 1, same


def test_verify_gate():
    words = ["verify", model(), "--dtype", "int8", "--gate"]
    r = run(*words, "--gate-top5", "0", "--gate-tau", "-1")
    assert r.code == 0 and r.err == "", r
    r = run(*words, "--gate-top5", "0", "--gate-tau", "1")
    assert r.code == 1 and "Kendall's tau is" in r.err and one_line(r.err), r
    r = run(*words, "--gate-top5", "2")
    assert r.code == 64 and "--gate-top5: found \"2\", expected a number from 0 to 1" in r.err, r


def test_verify_data():
    lists = [{"query": "q", "documents": ["a b", "b", "c d e"], "labels": [0, 2, 1]},
             {"query": "r", "documents": ["d", "e"], "positive": [1, 0]},
             {"query": "s", "documents": ["f"], "positive": None, "labels": None}]
    with folder() as d:
        path = os.path.join(d, "lists")
        write(path, "\ufeff" + "\r\n".join(map(json.dumps, lists)))  # as some editors write it
        words = ["verify", model(), "--dtype", "bf16", "--data", path]
        report = json.loads(run(*words, "--json").out)
        assert (report["lists"], report["pairs"], report["labelled"]) == (3, 6, 2), report
        assert json.loads(run(*words, "--json", "--limit", "1").out)["lists"] == 1
        r = run(*words, "--gate")
        assert r.code == 1 and "no list has more than five documents" in r.err, r
        for text, message in (("{}", "line 1: expected an object"),
                              ("\n{\"query\": \"q\", \"documents\": [1]}", "line 2: a document"),
                              (json.dumps({**lists[0], "labels": [1]}), "\"labels\" has not"),
                              (json.dumps({**lists[0], "labels": [1, -1, 0]}), "a label is not"),
                              (json.dumps({**lists[1], "positive": "1"}), "\"positive\" is no"),
                              (json.dumps({**lists[1], "positive": 2}), "\"positive\" is no"),
                              (json.dumps({**lists[1], "positive": [0, -1]}), "\"positive\" is no"),
                              ("", "no lists")):
            write(path, text)
            r = run(*words)
            assert r.code == 65 and message in r.err and one_line(r.err), (text, r)
        r = run("verify", os.path.join(d, "none"), "--data", path)  # before a model is opened
        assert r.code == 65 and "no lists" in r.err, r


def test_verify_against():
    """A folder in int8 beside its own weights looks perfect; beside the original it does not."""
    with folder() as d:
        int8, words = os.path.join(d, "int8"), ("--limit", "4", "--json")
        assert run("quantize", model(), int8, "--calibration", "none").code == 0
        own = json.loads(run("verify", int8, "--dtype", "f32", *words).out)
        assert own["max_logit_difference"] == 0 and own["reference"] == "own weights", own
        assert own["reference_weights"] == "int8", own
        assert own["reference_fingerprint"] == own["fingerprint"], own
        r = run("verify", int8, "--dtype", "f32", "--against", model(), *words)
        report = json.loads(r.out)
        assert r.code == 0 and report["max_logit_difference"] > 1e-4, r
        assert report["reference"].endswith(os.path.basename(model())), report
        assert report["reference_weights"] != "int8", report
        assert report["fingerprint"] == own["fingerprint"] != report["reference_fingerprint"]
        text = run("verify", int8, "--limit", "1").out
        assert "own weights, in int8" in text and "--against DIR" in text, text
        text = run("verify", model(), "--limit", "1").out
        assert "own weights, in " in text and "--against" not in text, text
        text = run("verify", int8, "--limit", "1", "--against", model()).out
        assert model() + ", weights in " in text and "own weights" not in text, text
        r = run("verify", model(), "--against", os.path.join(d, "none"))
        assert r.code == 66 and "--against: " in r.err and one_line(r.err), r
        for words, names in (
                ("--against . --golden", "--golden compares with scores in a file: it and --against "),
                ("--against . --write", "the model's own weights: it and --against "),
                ("--golden --data x", " and --data "), ("--golden --write", " and --write "),
                ("--golden --exact-top-k 2", " and --exact-top-k "), ("--golden --choose", " and --choose "),
                ("--choose --write", "--choose compares many precisions: it and --write "),
                ("--choose --exact-top-k 2", "alone: it and --exact-top-k ")):
            r = run("verify", int8, *words.split(), "--cache-dir", d)
            assert r.code == 64 and names in r.err and one_line(r.err) and r.out == "", (words, r)
        for judge in ("--gate", "--choose"):  # they would be content with anything
            r = run("verify", int8, judge, "--cache-dir", d)
            assert r.code == 64 and one_line(r.err) and r.out == "", r
            assert judge + " needs --against DIR" in r.err, r
        r = run("verify", int8, "--gate", "--gate-top5", "1", "--against", model(), "--limit", "4")
        assert r.code == 1 and "the five best are equal in" in r.err and one_line(r.err), r


def test_verify_choose_against():
    """Beside the original even f32 of rounded weights has to show what it is worth."""
    with folder() as d:
        int8, cache = os.path.join(d, "int8"), os.path.join(d, "cache")
        assert run("quantize", model(), int8, "--calibration", "none").code == 0
        words = ["verify", int8, "--choose", "--against", model(), "--limit", "2", "--cache-dir", cache]
        r = run(*words, "--gate-tau", "1", "--json")
        report = json.loads(r.out)
        assert r.code == 1 and report["chosen"] is None and report["reference"] == model(), r
        assert "nothing was kept" in r.err and one_line(r.err), r
        assert not any(name.startswith("dtype-") for name in os.listdir(cache)), os.listdir(cache)
        rows = {row["dtype"]: row for row in report["precisions"]}
        assert not rows["f32"]["good_enough"] and rows["f32"]["max_logit_difference"] > 1e-4, rows
        r = run(*words, "--gate-tau", "1")
        assert "against %s in f32" % model() in r.out and "none is good enough" in r.out, r
        r = run(*words, "--gate-tau", "-1", "--gate-top5", "0", "--json")
        report = json.loads(r.out)
        assert r.code == 0 and all(row["good_enough"] for row in report["precisions"] if row["ran"]), r
        r = run("score", "--model", int8, "--query", "a", "--cache-dir", cache, "--log-level", "debug",
                stdin="b\n")  # it is the folder's choice, not the original's
        assert report["chosen"] + ": chosen by verify on " in r.err, (r, report)
        r = run("score", "--model", model(), "--query", "a", "--cache-dir", cache,
                "--log-level", "debug", stdin="b\n")
        assert r.code == 0 and "chosen by verify" not in r.err, r
        # a choice that does not work leaves the folder in the precision it was made for
        path = os.path.join(cache, next(f for f in os.listdir(cache) if f.startswith("dtype-")))
        write(path, json.dumps({"dtype": "fp8", "why": "for this test"}))
        words = ["score", "--model", int8, "--query", "a"]
        own = run(*words, stdin="b\n")
        r = run(*words, "--cache-dir", cache, "--log-level", "debug", stdin="b\n")
        assert r.out == own.out and "fp8 cannot be used after all" in r.err, (r, own)


def test_verify_choose():
    with folder() as d:
        words = ["verify", model(), "--choose", "--json", "--limit", "2"]
        r = run(*words)
        assert r.code == 64 and "--cache-dir" in r.err and one_line(r.err), r
        bad = write(os.path.join(d, "bad"), "{")
        r = run(*words, "--cache-dir", d, "--data", bad)
        assert r.code == 65 and "bad: line 1: " in r.err and one_line(r.err), r
        os.mkdir(os.path.join(d, "m"))
        write(os.path.join(d, "m", "config.json"), "{")
        r = run("verify", os.path.join(d, "m"), *words[2:], "--cache-dir", d)
        assert r.code == 78 and "config.json: " in r.err and one_line(r.err), r
        r = run(*words, "--gate-top5", "1", "--cache-dir", d)  # too much for int8 and this model
        report = json.loads(r.out)
        rows = {row["dtype"]: row for row in report["precisions"]}
        assert r.code == 0 and report["chosen"] in ("f32", "bf16"), r
        assert not rows["f16"]["ran"] and "f16" in rows["f16"]["why"], rows
        assert rows["int8"]["ran"] and not rows["int8"]["good_enough"], rows
        path = os.path.join(d, next(f for f in os.listdir(d) if f.startswith("dtype-")))
        with open(path, encoding="utf-8") as f:
            stored = json.load(f)
        assert stored["dtype"] == report["chosen"], (stored, r)
        assert stored["why"].startswith("chosen by verify on 20"), stored

        def logits(*more):
            r = run("score", "--model", model(), "--query", "a b", "--format", "lines",
                    "--log-level", "debug", *more, "-", stdin=b"c d\ne\n")
            assert r.code == 0, r
            rows = [json.loads(line) for line in r.out.splitlines()]
            return [row["logit"] for row in sorted(rows, key=lambda row: row["index"])], r.err

        write(path, json.dumps({**stored, "dtype": "int8", "why": "chosen for this test"}))
        chosen, err = logits("--cache-dir", d)
        assert "int8: chosen for this test" in err, err
        int8, err = logits("--dtype", "int8", "--cache-dir", d)
        assert chosen == int8 and "chosen" not in err, (chosen, int8, err)
        f32, _ = logits()
        for text, message in (("{", "cannot be read"), ('{"dtype": "f32"}', "\"why\" is no line"),
                              (json.dumps({"dtype": "fp8", "why": "x"}), "cannot be used after all"),
                              (json.dumps({"dtype": "a\nb", "why": "x"}), "\"dtype\" is no line")):
            write(path, text)
            got, err = logits("--cache-dir", d)
            assert got == f32 and message in err, (text, got, f32, err)


def test_verify_write_and_golden():
    with folder() as d:
        copy = os.path.join(d, "m")
        shutil.copytree(model(), copy)
        r = run("verify", copy, "--dtype", "int8", "--write", "--json")
        assert r.code == 0, r
        with open(os.path.join(copy, "verify.json"), encoding="utf-8") as f:
            assert json.load(f) == json.loads(r.out)
        r = run("verify", copy, "--golden")
        if os.path.exists(os.path.join(copy, "reference.jsonl")):
            assert r.code == 0 and r.out.endswith("ok\n"), r
        else:
            assert r.code == 66 and "reference.jsonl" in r.err and one_line(r.err), r
