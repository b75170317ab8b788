# SPDX-License-Identifier: Apache-2.0
"""cli_score.py - tests of "rerankd score"; run by test_cli.py."""
import json
import os
import re
import resource
import shutil
import subprocess

from cli_support import (RERANKD, TIMEOUT, environment, folder, model, one_line, run, terminal,
                         write)

TINY = ["tiny-xlmr", "tiny-xlmr-odd", "tiny-bert", "tiny-roberta"]
TOLERANCE = 2e-4


def score(*words, stdin=b"", **options):
    return run("score", "--model", model(), *words, stdin=stdin, **options)


def records(result):
    assert result.code == 0, result
    return [json.loads(line) for line in result.out.split("\n")[:-1]]


def references(name="tiny-xlmr"):
    with open(os.path.join(model(name), "reference.jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def example(need=3):
    """A reference whose documents can be lines of text."""
    for r in references():
        plain = [d for d in r["documents"] if d.strip() and not re.search(r"[\r\n]", d)]
        if (len(plain) == len(r["documents"]) >= need and r["max_length"] == 512
                and plain[0][0] not in '{" \t' and len(set(plain)) == len(plain)):
            return r
    raise AssertionError("no reference is fit for it")


def near(a, b):
    return abs(a - b) <= TOLERANCE


def test_score_forms_agree():
    """Every form of input gives the reference's scores."""
    r = example()
    q, docs = r["query"], r["documents"]
    with folder() as d:
        lines = "".join(t + "\n" for t in docs)
        path = write(os.path.join(d, "docs"), lines)
        forms = {
            "file": (["--query", q, path], ""),
            "stdin": (["--query", q], lines),
            "dash": (["--query", q, "-"], lines),
            "no newline at the end": (["--query", q], lines[:-1]),
            "CRLF": (["--query", q], lines.replace("\n", "\r\n")),
            "byte order mark": (["--query", q], "\ufeff" + lines),
            "strings": (["--query", q], "".join(json.dumps(t) + "\n" for t in docs)),
            "pairs": ([], "".join(json.dumps({"query": q, "text": t}) + "\n" for t in docs)),
            "own query wins": (["--query", "?"], "".join(json.dumps({"query": q, "text": t}) + "\n"
                                                         for t in docs)),
            "lines said": (["--query", q, "--format", "lines"], lines),
        }
        for key in ("text", "content", "document"):
            forms[key] = (["--query", q], "".join(
                json.dumps({"id": 1, key: t}, ensure_ascii=key == "text") + "\n" for t in docs))
        for name, (words, stdin) in forms.items():
            got = records(score("--no-sort", *words, stdin=stdin))
            assert [x["index"] for x in got] == list(range(len(docs))), (name, got)
            for x, text, logit, s in zip(got, docs, r["logits"], r["scores"]):
                assert near(x["logit"], logit) and near(x["score"], s), (name, x, logit)
                assert x["text"] == text, (name, x)


def test_score_order_and_top():
    r = example(4)
    stdin = "".join(json.dumps(t) + "\n" for t in r["documents"])
    best = sorted(range(len(r["logits"])), key=lambda i: -r["logits"][i])

    def order(*words):
        return [x["index"] for x in records(score("--query", r["query"], *words, stdin=stdin))]

    assert order() == best
    assert order("--top", "2") == best[:2]
    assert order("--top", "99") == best
    assert order("--raw-order") == order("--no-sort") == sorted(best)
    assert order("--no-sort", "--top", "2") == sorted(best[:2])
    got = records(score("--query", r["query"], "--no-text", stdin=stdin))
    assert all("text" not in x for x in got), got
    # Blank lines are skipped and counted.
    got = records(score("--query", r["query"], "--no-sort", stdin="\n \t\na\n\nb\n"))
    assert [(x["index"], x["text"]) for x in got] == [(2, "a"), (4, "b")], got
    # Equal scores: the earlier line first.
    assert [x["index"] for x in records(score("--query", "q", stdin="same\n" * 50))] == \
        list(range(50))


def test_score_many_blocks():
    """More than fit one block: scores do not depend on the company, order holds."""
    r = example()
    docs = r["documents"]
    n = 700
    stdin = "".join(json.dumps(docs[i % len(docs)]) + "\n" for i in range(n))
    got = records(score("--query", r["query"], "--no-sort", "--no-text", stdin=stdin))
    assert [x["index"] for x in got] == list(range(n))
    for x in got:
        assert x["logit"] == got[x["index"] % len(docs)]["logit"], x
    got = records(score("--query", r["query"], "--top", "3", stdin=stdin))
    best = max(range(len(docs)), key=lambda i: r["logits"][i])
    assert [x["index"] for x in got] == [best, best + len(docs), best + 2 * len(docs)], got


def test_score_pairs():
    rs = [r for r in references() if r["max_length"] == 512][:8]
    pairs = [(r["query"], t, s) for r in rs for t, s in zip(r["documents"], r["scores"])
             if r["query"].strip()]
    pairs = pairs[::2] + pairs[1::2]  # queries change from line to line
    stdin = "".join(json.dumps({"query": q, "text": t}) + "\n" for q, t, _ in pairs)
    got = records(score(stdin=stdin))
    assert [x["index"] for x in got] == list(range(len(pairs)))
    assert all(near(x["score"], s) for x, (_, _, s) in zip(got, pairs))


def test_score_pairs_later_on():
    """Queries of their own are as good as pairs in line 1 when they come after many other lines."""
    texts = ["Paris is in France.", "Bread needs flour."] * 40
    data = [{"text": t} for t in texts] + [{"text": texts[0], "query": "bread"}]
    r = score("--query", "Where is Paris?", "--json", stdin="".join(json.dumps(x) + "\n" for x in data))
    assert r.code == 0 and [x["index"] for x in records(r)] == list(range(81)), r


def test_score_truncated():
    got = records(score("--query", "q", "--max-length", "16", "--no-sort",
                        stdin="short\n" + "long " * 100 + "\n"))
    assert "truncated" not in got[0] and got[1]["truncated"] is True, got


def test_score_table():
    r = score("--query", "q", "--table", "--no-sort", stdin="a\n\nb" + "\u00e9" * 100 + "\n")
    lines = r.out.splitlines()
    assert r.code == 0 and len(lines) == 3 and lines[0].split() == ["line", "score", "text"], r
    assert [line.split()[0] for line in lines[1:]] == ["1", "3"], r  # numbers of the lines
    assert all(len(line) <= 80 for line in lines) and lines[2].endswith("\u2026"), r
    r = score("--query", "q", "--table", stdin="a\nb\n",
              env=environment(LANG="fr_FR.UTF-8"))
    assert r.out.splitlines()[0].split() == ["rang", "score", "texte"], r
    assert [line.split()[0] for line in r.out.splitlines()[1:]] == ["1", "2"], r


def test_score_terminal():
    words = ["score", "--model", model(), "--query", "q"]
    stdin = ("wide \u4e2d\u6587 " * 20 + "\n\u001b]0;title\u0007 \u009b31m control\n").encode()
    r = terminal(*words, stdin=stdin, columns=60)
    assert r.code == 0 and "\x1b[" in r.out and "rank" in r.out, r
    plain = re.sub(r"\x1b\[[0-9;]*m", "", r.out)
    assert "\x1b" not in plain and "\x07" not in plain and "\x9b" not in plain, repr(plain)
    for line in plain.splitlines():
        assert len(line) + sum("\u4e00" <= c <= "\u9fff" for c in line) <= 60, line
    r = terminal(*words, stdin=stdin, env=environment(NO_COLOR="1", TERM="xterm"))
    assert r.code == 0 and "\x1b" not in r.out, r
    r = terminal(*words, "--json", stdin=stdin)
    assert len([json.loads(line) for line in r.out.splitlines()]) == 2, r


def test_score_progress():
    stdin = "".join("line %d\n" % i for i in range(600))
    with folder() as d:
        path = write(os.path.join(d, "in"), stdin)
        r = score("--query", "q", "--progress", path)
        lines = r.err.splitlines()
        assert r.code == 0 and 2 <= len(lines) <= 11, r
        assert all(re.match(r" *\d+ %  \d+ pairs, [\d.]+/s", line) for line in lines), r
        assert lines[-1].startswith("100 %  600 pairs"), r
        assert score("--query", "q", path).err == ""  # no terminal: silent


def test_score_bad_lines():
    """What comes before the bad line is scored and printed."""
    for bad, message in [
            (b"\xff\xfe", "line 3 is not UTF-8, from byte 1 on"),
            (b"ok \xed\xa0\x80", "line 3 is not UTF-8, from byte 4 on"),
            (b"\xc3", "line 3 is not UTF-8, from byte 1 on")]:
        for words in ([], ["--no-sort"], ["--table"]):
            r = score("--query", "q", *words, stdin=b"a\nb\n" + bad + b"\nd\n")
            assert r.code == 65 and message in r.err and one_line(r.err), r
            assert len(r.out.splitlines()) == 2 + ("--table" in words), r
    for bad, message in [
            ("{\"text\":", "line 2: not JSON (if this is plain text, say --format lines)"),
            ("[1]", "found an array"), ("7", "found an integer"), ("{}", "found an object"),
            ("{\"text\":7}", "expected a string, or an object with \"text\""),
            ("{\"text\":\"a\",\"query\":7}", "line 2: query: found an integer, expected a string"),
            ("\"\\ud800\"", "line 2"), ("[" * 100000, "line 2"),
            ("{\"text\":\"a\",\"query\":\" \"}", "line 2 has no query")]:
        r = score("--query", "q", stdin="\"a\"\n" + bad + "\n\"c\"\n")
        code = 64 if "no query" in message else 65
        assert r.code == code and message in r.err and one_line(r.err), (bad[:50], r)
        assert [json.loads(x)["text"] for x in r.out.splitlines()] == ["a"], r
        assert "\"a\"" not in r.err, r


def test_score_long_line():
    got = records(score("--query", "q", stdin="w " * 2000000 + "\nx\n", env=environment()))
    assert {x["index"] for x in got} == {0, 1}, [x["index"] for x in got]
    r = score("--query", "q", "--no-sort", "--no-text", stdin="a\n" + "x" * (17 << 20) + "\nb\n")
    assert r.code == 65 and "line 2 is longer than 16 MiB" in r.err, r
    assert len(r.out.splitlines()) == 1, r


def test_score_usage():
    with folder() as d:
        text = write(os.path.join(d, "in"), "a\n")
        for words, stdin, code, message in [
                ([text], "", 64, "line 1 has no query; give --query TEXT"),
                (["--format", "lines", text], "", 64, "need a query"),
                (["--query", " ", text], "", 64, "no query"),
                (["--query", "q", "--json", "--table", text], "", 64, "exclude each other"),
                (["--query", "q", "--format", "csv", text], "", 64,
                 "expected auto, lines or jsonl"),
                (["--query", "q"], "", 65, "standard input: nothing to score, the input is empty"),
                (["--query", "q"], "\n \n", 65, "nothing to score"),
                (["--query", "q", d + "/none"], "", 66, d + "/none: No such file"),
                (["--query", "q", d], "", 66, "found a folder, expected a file"),
                (["--query", "q", "--max-length", "99999", text], "", None, "99999"),
                (["--reference", text, text], "", 64, "--reference takes its texts"),
                (["--reference", d + "/none"], "", 66, d + "/none"),
                (["--reference", text, "--tolerance", "x"], "", 64, "--tolerance: found \"x\""),
                (["--reference", text], "", 65, "line 1")]:
            r = score(*words, stdin=stdin)
            assert r.code in ([code] if code else [64, 78]), (words, r)
            assert message in r.err and one_line(r.err) and r.out == "", (words, r)


def test_score_output_errors():
    with folder() as d:
        path = write(os.path.join(d, "in"), "some text\n" * 2000)
        words = [RERANKD, "score", "--model", model(), "--query", "q", path]
        for more in ([], ["--no-sort"], ["--table"]):
            with open("/dev/full", "wb") as full:
                p = subprocess.run(words + more, stdout=full, stderr=subprocess.PIPE,
                                   env=environment())
            assert p.returncode == 74 and one_line(p.stderr.decode()), p
            p = subprocess.Popen(words + more, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=environment())
            assert p.stdout.readline()
            p.stdout.close()  # as "| head -1" does
            assert p.wait(TIMEOUT) == 0 and p.stderr.read() == b"", p
            p.stderr.close()


def test_score_streams():
    """With --no-sort a block's results come out before the input ends."""
    p = subprocess.Popen([RERANKD, "score", "--model", model(), "--query", "q", "--no-sort"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    try:
        p.stdin.write(b"line\n" * 40)  # more than the first block
        p.stdin.flush()
        assert json.loads(p.stdout.readline())["index"] == 0
        p.stdin.close()
        assert len(p.stdout.readlines()) == 39
        assert p.wait(TIMEOUT) == 0
    finally:
        p.kill()
        p.stdout.close()


def test_score_bad_models():
    good = model()
    with folder() as d:
        def copy(name, **change):
            path = os.path.join(d, name)
            shutil.copytree(good, path)
            for file, data in change.items():
                file = os.path.join(path, file.replace("__", "."))
                os.unlink(file)
                if data is not None:
                    write(file, data)
            return path

        with open(os.path.join(good, "model.safetensors"), "rb") as f:
            weights = f.read()
        with open(os.path.join(good, "config.json"), encoding="utf-8") as f:
            config = json.load(f)
        cases = [
            (d + "/none", 66, "none"),
            (write(os.path.join(d, "file"), ""), (66, 71, 78), "file"),
            (copy("no-config", config__json=None), 66, "config.json"),
            (copy("no-tokenizer", tokenizer__json=None), 66, "tokenizer.json"),
            (copy("no-weights", model__safetensors=None), 66, "safetensors"),
            (copy("bad-config", config__json="{"), 78, "config.json"),
            (copy("bad-tokenizer", tokenizer__json="{}"), 78, "tokenizer.json"),
            (copy("cut", model__safetensors=weights[:len(weights) // 2]), 78, "safetensors"),
            (copy("empty", model__safetensors=b""), 78, "safetensors"),
            (copy("other", config__json=json.dumps(
                {**config, "architectures": ["LlamaForCausalLM"], "model_type": "llama"})), 78,
             "config.json"),
        ]
        for path, code, message in cases:
            r = run("score", "--model", path, "--query", "q", stdin="a\n")
            assert r.code in (code if isinstance(code, tuple) else (code,)), (path, r)
            assert message in r.err and one_line(r.err) and r.out == "", (path, r)


def test_reference():
    for name in TINY:
        path = os.path.join(model(name), "reference.jsonl")
        r = run("score", "--model", model(name), "--reference", path, "--json")
        assert r.code == 0, (name, r)
        got = json.loads(r.out)
        assert got["ok"] is True and got["tolerance"] == 2e-4
        assert got["requests"] == len(references(name)), got
        assert got["pairs"] == sum(len(x["documents"]) for x in references(name)), got
        assert 0 < got["max_logit_difference"] <= 2e-4, (name, got)
        assert 0 < got["max_score_difference"] <= 2e-4, (name, got)
        print("       %-14s logits %.2g, scores %.2g" % (
            name, got["max_logit_difference"], got["max_score_difference"]))
        # The file has six decimals: nobody is exactly there.
        r = run("score", "--model", model(name), "--reference", path, "--tolerance", "0")
        assert r.code == 1 and "too far from the reference" in r.out, r
    r = run("score", "--model", model("tiny-bert"), "--reference", path)
    assert r.code in (1, 64, 78), r  # another model's reference


def test_reference_finds_a_difference():
    rs = references()
    with folder() as d:
        for change, line, document in [("logits", 3, 1), ("scores", 5, 0)]:
            rs = references()
            rs[line - 1][change][document] += 0.001
            path = write(os.path.join(d, "r.jsonl"), "".join(json.dumps(r) + "\n" for r in rs))
            r = run("score", "--model", model(), "--reference", path)
            assert r.code == 1, r
            assert re.search(r"max \|%s difference\| +0.001.*\(line %d, document %d\)" %
                             (change[:-1], line, document), r.out), r
            assert run("score", "--model", model(), "--reference", path, "--tolerance",
                       "1.1e-3").code == 0
        for bad, message in [
                ("{}", "no \"query\""), ('{"query":"q"}', "no \"documents\""),
                ('{"query":7}', "of the wrong kind"),
                ('{"query":"q","documents":["a"],"logits":[1],"scores":[1,2]}',
                 "a number for each"),
                ('{"query":"q","documents":[1],"logits":[1],"scores":[1]}', "no string"),
                ("x", "line 1"), ("", "holds no pairs")]:
            path = write(os.path.join(d, "r.jsonl"), bad + "\n")
            r = run("score", "--model", model(), "--reference", path)
            assert r.code == 65 and message in r.err and one_line(r.err), (bad, r)


def test_cache_folder():
    """It is made with those above it, whichever command needs it first, as doctor promises."""
    with folder() as d:
        cache = os.path.join(d, "a", "b")
        words = ["score", "--model", model(), "--query", "a", "--packed-cache", "--cache-dir"]
        first = run(*words, cache, stdin="b\n")
        assert first.code == 0 and first.err == "", first
        kept = {os.path.splitext(name)[1] for name in os.listdir(cache)}
        assert kept == {".rrtok", ".rrpk"}, kept
        r = run(*words, cache, "--log-level", "debug", stdin="b\n")
        assert r.out == first.out and "packed weights are mapped" in r.err, r
        r = run(*words, os.path.join(write(os.path.join(d, "file"), "x"), "c"), stdin="b\n")
        assert r.code == 0 and r.out == first.out, r
        assert "packed weights are not kept" in r.err and one_line(r.err), r
        r = run(*words, os.path.join(d, "limited"), stdin="b\n",  # ulimit -f, LimitFSIZE=
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
        assert r.code == 0 and r.out == first.out and one_line(r.err), r
        assert "File too large" in r.err and not os.listdir(os.path.join(d, "limited")), r
