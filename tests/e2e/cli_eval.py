# SPDX-License-Identifier: Apache-2.0
"""cli_eval.py - tests of "rerankd eval" and "rerankd rank"; run by test_cli.py."""
import itertools
import json
import math
import os
import shutil
import stat
import subprocess
import xml.etree.ElementTree

from cli_support import RERANKD, ROOT, environment, folder, model, one_line, run, terminal, write
from eval_pytrec import GOLDEN, compare, f32

LISTS = os.path.join(ROOT, "tools", "starter", "heldout.jsonl")


def evaluate(*words, **options):
    return run("eval", "--model", model(), *words, **options)


def lists(n, documents=8):
    """Without equal texts: what orders those are their names here and their places elsewhere."""
    with open(LISTS, encoding="utf-8") as f:
        all_of = (json.loads(line) for line in f)
        cut = ({**x, "documents": x["documents"][:documents],
                "positive": x["positive"] % documents} for x in all_of)
        return list(itertools.islice((x for x in cut if len(set(x["documents"])) == documents), n))


def jsonl(records):
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


def beir(d, n=6, bad=None):
    """Lists as a folder in BEIR's layout, with a first stage that prefers short ids."""
    corpus, queries, qrels, first = [], [], ["query-id\tcorpus-id\tscore\n"], []
    for q, x in enumerate(lists(n)):
        queries.append({"_id": "q%d" % q, "text": x["query"]})
        for i, text in enumerate(x["documents"]):
            doc = "%d-%d" % (q, i)
            corpus.append({"_id": doc, "title": "T", "text": text})
            first.append("q%d Q0 %s %d %d first\n" % (q, doc, i + 1, 100 - i))
        qrels.append("q%d\t%d-%d\t%d\n" % (q, q, x["positive"], 1 + q % 2))
        qrels.append("q%d\t%d-%d\t1\n" % (q, q, (x["positive"] + 3) % 8))
        qrels.append("q%d\tnowhere-%d\t1\n" % (q, q))
    os.mkdir(os.path.join(d, "qrels"))
    write(os.path.join(d, "corpus.jsonl"), jsonl(corpus))
    write(os.path.join(d, "queries.jsonl"), jsonl(queries))
    write(os.path.join(d, "qrels", "test.tsv"), "".join(qrels))
    return write(os.path.join(d, "run.txt"), "".join(first))


def test_eval_equals_trec_eval():
    """Numbers that pytrec_eval gave for the stored run: eval_pytrec.py --write."""
    with open(os.path.join(GOLDEN, "expected.json"), encoding="utf-8") as f:
        expected = json.load(f)
    for k, want in expected.items():
        r = run("eval", "--no-rerank", "--json", "--per-query", "--k", k, "--run",
                os.path.join(GOLDEN, "run.txt"), "--qrels", os.path.join(GOLDEN, "qrels.txt"))
        assert r.code == 0, r
        compare(json.loads(r.out), want)
        assert len(want) > 20


def ndcg(labels, ideal, k):
    def dcg(values):
        return sum(v / math.log2(i + 2) for i, v in enumerate(values[:k]))
    return dcg(labels) / dcg(sorted(ideal, reverse=True))


def test_eval_beir():
    """The model's ranking, its measures, and the comparison with the first stage."""
    with folder() as d:
        first = beir(d)
        out, svg = os.path.join(d, "out.txt"), os.path.join(d, "e.svg")
        r = evaluate(d, "--run", first, "--output", out, "--svg", svg, "--json", "--per-query",
                     "--k", "5")
        assert r.code == 0, r
        got = json.loads(r.out)
        assert [s["name"] for s in got["systems"]] == ["first stage", "tiny-xlmr (f32)"]
        assert got["subject"] == "tiny-xlmr (f32)" and got["pairs"] == 48
        rows = [line.split() for line in open(out, encoding="utf-8")]
        assert len(rows) == 48
        for q, x in enumerate(lists(6)):
            docs = "".join(json.dumps("T " + t) + "\n" for t in x["documents"])
            s = run("score", "--model", model(), "--query", x["query"], stdin=docs)
            order = [json.loads(line) for line in s.out.splitlines()]
            ours = [(row[2], float(row[4])) for row in rows if row[0] == "q%d" % q]
            assert [("%d-%d" % (q, o["index"]), f32(o["logit"])) for o in order] == [
                (doc, f32(x)) for doc, x in ours], (order, ours)
            label = {x["positive"]: 1 + q % 2}
            label.setdefault((x["positive"] + 3) % 8, 1)
            want = ndcg([label.get(o["index"], 0) for o in order], [*label.values(), 1], 5)
            entry = next(e for e in got["per_query"] if e["id"] == "q%d" % q)
            assert abs(entry["systems"][1]["ndcg"] - want) < 1e-9, (entry, want)
        c = got["comparisons"][0]
        diffs = [e["systems"][1]["ndcg"] - e["systems"][0]["ndcg"] for e in got["per_query"]]
        assert c["with"] == "first stage"
        assert abs(c["ndcg"]["mean"] - sum(diffs) / len(diffs)) < 1e-9
        assert c["ndcg"]["low"] <= c["ndcg"]["mean"] <= c["ndcg"]["high"]
        assert evaluate(d, "--run", first, "--json", "--per-query", "--k", "5").out == r.out
        # Measuring what was written gives the same numbers.
        again = run("eval", d, "--no-rerank", "--run", out, "--json", "--k", "5")
        assert json.loads(again.out)["systems"][0]["ndcg"] == got["systems"][1]["ndcg"], again
        tree = xml.etree.ElementTree.parse(svg).getroot()
        assert tree.tag.endswith("svg") and "%.3f" % got["systems"][1]["map"] in "".join(
            tree.itertext())


def test_eval_pools():
    with folder() as d:
        first = beir(d, 3)
        for words, pairs in [(["--candidates", "all"], 72), (["--run", first, "--depth", "3"], 9),
                             (["--run", first, "--limit", "2"], 16)]:
            r = evaluate(d, "--json", *words)
            assert r.code == 0 and json.loads(r.out)["pairs"] == pairs, (words, r)
        r = evaluate(d, "--candidates", "judged")
        assert r.code == 66 and 'no text with the id "nowhere-0"' in r.err and one_line(r.err), r


def test_eval_lists():
    """Both forms of labels; a model against another precision, and against itself."""
    with folder() as d:
        a = lists(5)
        b = [{"query": x["query"], "documents": [{"text": t} for t in x["documents"]],
              "labels": [int(i == x["positive"]) for i in range(8)]} for x in a]
        results = [json.loads(evaluate(write(os.path.join(d, "l"), jsonl(x)), "--json",
                                       "--against-dtype", "f32").out)
                   for x in ([{**x, "labels": None} for x in a], b)]
        assert results[0] == results[1]
        c = results[0]["comparisons"][0]
        assert c["kendall_tau"] == 1 and c["top5_equal"] == 1 and c["ndcg"]["p"] == 1
        assert c["ndcg"]["mean"] == 0 == c["ndcg"]["high"]
        six = write(os.path.join(d, "six"), jsonl(lists(6)))  # all found: 1, not 6 times a sixth
        assert json.loads(evaluate(six, "--json").out)["systems"][0]["recall"] == 1
        r = evaluate(os.path.join(d, "l"), "--against", model("tiny-bert"))
        assert r.code == 0 and "tiny-bert (f32)" in r.out and "Kendall's tau" in r.out, r
        r = terminal("eval", "--model", model(), os.path.join(d, "l"))
        assert r.code == 0 and "nDCG@10" in r.out, r


def test_eval_ids():
    """A list's id is its name in a run and in JSON, as rank has it: a string, a number, its line."""
    with folder() as d:
        a, b, c = lists(3)
        data = write(os.path.join(d, "l"), jsonl([{**a, "id": "x"}, {**b, "id": 17}, {**c, "id": None}]))
        r = evaluate(data, "--json", "--per-query", "--output", d + "/run")
        assert [q["id"] for q in json.loads(r.out)["per_query"]] == ["x", "17", "3"], r
        with open(d + "/run", encoding="utf-8") as f:
            assert [line.split()[0] for line in f][::8] == ["x", "17", "3"]
        for ids, bad in ((("a b", "c"), "a b"), (("", "c"), ""), (("c", "2"), "2")):
            data = write(os.path.join(d, "l"), jsonl([{**b, "id": ids[0]}, {**c, "id": None},
                                                          {**a, "id": ids[1]}]))
            assert evaluate(data).code == 0
            r = run("eval", "--model", d + "/nothing", data, "--output", d + "/no-run")
            assert r.code == 65 and 'the id "%s" cannot' % bad in r.err and one_line(r.err), r
            assert not os.path.exists(d + "/no-run")


def test_eval_errors():
    with folder() as d:
        first = beir(d, 2)
        os.mkdir(os.path.join(d, "empty"))
        bad = write(os.path.join(d, "bad"), "q0 Q0 d 1 x t\n")
        short = write(os.path.join(d, "short"), "q0 Q0 0-1 1 2\n")
        twice = write(os.path.join(d, "twice"), "q0 Q0 0-1 1 2 t\nq0 Q0 0-1 2 1 t\n")
        labels = write(os.path.join(d, "labels"), jsonl(
            [{"query": "q", "documents": ["a"], "labels": [1, 2]}]))
        positive = write(os.path.join(d, "positive"), jsonl(
            [{"query": "q", "documents": ["a"], "positive": 1}]))
        for words, code, message in [
                ([], 64, "--run FILE"),
                ([d], 64, "--candidates judged or all"),
                (["--run", first], 64, "--qrels FILE"),
                (["--run", first, "--qrels", first], 64, "--queries FILE and --corpus FILE"),
                ([labels, "--no-rerank"], 64, "lists have no run"),
                ([d + "/empty", "--run", first], 66, "empty/corpus.jsonl"),
                ([d, "--run", bad], 65, "bad: line 1: the fifth word is no score"),
                ([d, "--run", short], 65, "short: line 1: found 5 words, expected 6"),
                ([d, "--run", twice], 65, "query q0 has document 0-1 twice"),
                ([labels], 65, "labels: line 1: expected in \"labels\" a number for each"),
                ([positive], 65, "positive: line 1: expected \"labels\""),
                ([d + "/none"], 66, "none")]:
            r = evaluate(*words)
            assert r.code == code and message in r.err and one_line(r.err), (words, r)


def test_eval_before_hours_of_work():
    """What would make the end fail shows before the model is opened; a full disk costs no numbers."""
    with folder() as d:
        first = beir(d, 2)
        gone = write(os.path.join(d, "gone"), "q0 Q0 0-1 1 2 t\nq1 Q0 9-9 1 2 t\n")
        for words, code, message in [
                (["--run", gone], 66, "query q1: %s/corpus.jsonl: has no text with the id \"9-9\"" % d),
                (["--run", first, "--output", d + "/no/run"], 74, "/no/run: cannot be written: No such"),
                (["--run", first, "--svg", d + "/no/svg"], 74, "/no/svg: cannot be written: No such"),
                (["--run", first, "--output", first], 64, "--output %s is what is read" % first),
                (["--run", first, "--svg", d + "/corpus.jsonl"], 64, "corpus.jsonl is what is read"),
                (["--run", first, "--output", d + "/run", "--svg", d + "/svg"], 66, "no such folder")]:
            r = run("eval", "--model", d + "/nothing", d, *words)
            assert r.code == code and message in r.err and one_line(r.err) and r.out == "", (words, r)
        assert not os.path.exists(d + "/run") and not os.path.exists(d + "/svg")
        r = evaluate(d, "--run", first, "--output", "/dev/full")
        assert r.code == 74 and "/dev/full: cannot be written: No space" in r.err, r
        assert "nDCG@10" in r.out, r
        r = run("rank", "--model", model(), LISTS, "--output", d + "/no/run")
        assert r.code == 74 and "/no/run: cannot be written: No such" in r.err, r
        r = run("keys", "add", "a", "--api-keys-file", d + "/no/keys")
        assert r.code == 74 and "/no/keys: No such" in r.err, r


def test_broken_model():
    """A list that is malformed is 65, a model 78, whatever the command."""
    with folder() as d:
        lists_file = write(d + "/lists", jsonl(lists(1)))
        broken = d + "/broken"
        shutil.copytree(model(), broken)
        write(broken + "/config.json", "{")
        for words in (["rank", lists_file, "--model", broken], ["eval", lists_file, "--model", broken],
                      ["eval", lists_file, "--model", model(), "--against", broken],
                      ["verify", "--data", lists_file, "--model", broken],
                      ["score", "--query", "q", ROOT + "/LICENSE", "--model", broken]):
            r = run(*words)
            assert r.code == 78 and "config.json" in r.err and one_line(r.err), (words, r)


def test_eval_svg_to_a_pipe():
    """What is no file is written to, not replaced: as root a device would be gone."""
    with folder() as d:
        first = beir(d, 2)
        pipe, link = d + "/pipe", d + "/link"
        os.mkfifo(pipe)
        os.symlink("pipe", link)
        for path in (pipe, link):
            p = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
            try:
                r = evaluate(d, "--run", first, "--svg", path)
                assert r.code == 0 and stat.S_ISFIFO(os.stat(path).st_mode), (path, r)
                assert p.communicate(timeout=20)[0].endswith(b"</svg>\n"), path
            finally:
                p.kill()
                p.wait()
        assert os.path.islink(link)


# ---- rank ----------------------------------------------------------------------------------


def rank(*words, **options):
    return run("rank", "--model", model(), *words, **options)


def test_rank_forms():
    """JSONL and a TREC run of the same texts give the scores of "score"."""
    with folder() as d:
        first = beir(d, 3)
        texts = ["--queries", d + "/queries.jsonl", "--corpus", d + "/corpus.jsonl", "--no-title"]
        trec = rank(first, *texts)
        plain = [{"id": "q%d" % q, "query": x["query"], "documents": x["documents"],
                  "ids": ["%d-%d" % (q, i) for i in range(8)]} for q, x in enumerate(lists(3))]
        again = rank("--format", "trec", stdin=jsonl(plain))
        assert trec.code == 0 and trec.out == again.out and len(trec.out.splitlines()) == 24, trec
        records = [json.loads(x) for x in rank(first, *texts, "--format", "jsonl").out.splitlines()]
        assert [r["id"] for r in records] == ["q0", "q1", "q2"]
        flat = ["%s Q0 %s %d %.9g rerankd" % (r["id"], x["id"], i + 1, x["logit"])
                for r in records for i, x in enumerate(r["results"])]
        assert flat == trec.out.splitlines()
        x = lists(3)[1]
        s = run("score", "--model", model(), "--query", x["query"],
                stdin="".join(json.dumps(t) + "\n" for t in x["documents"]))
        want = [json.loads(line) for line in s.out.splitlines()]
        assert [(r["index"], f32(r["logit"])) for r in records[1]["results"]] == [
            (w["index"], f32(w["logit"])) for w in want]
        top = rank(first, *texts, "--top", "2", "--depth", "5", "--tag", "mine")
        assert len(top.out.splitlines()) == 6 and top.out.endswith(" mine\n"), top


def both_forms(d, n):
    """What rank takes for n lists: as a TREC run with its texts, and as JSONL."""
    first = beir(d, n)
    return ([first, "--queries", d + "/queries.jsonl", "--corpus", d + "/corpus.jsonl"],
            [write(os.path.join(d, "lists"), jsonl(lists(n)))])


def test_rank_resume():
    """Whatever an interrupted run has left, going on ends with the same file."""
    with folder() as d:
        for words in both_forms(d, 4):
            out = os.path.join(d, "out%d" % len(words))
            r = rank(*words, "--output", out)
            assert r.code == 0 and r.out == "", r
            whole = open(out, "rb").read()
            ends = [i + 1 for i, c in enumerate(whole) if c == 10]
            cuts = [0, 1, ends[0] - 1, ends[0], ends[0] + 3, ends[len(ends) // 2],
                    ends[-1] - 1, ends[-1]]
            for cut in cuts:
                write(out, whole[:cut])
                r = rank(*words, "--output", out, "--resume")
                assert r.code == 0 and open(out, "rb").read() == whole, (cut, r)
            r = rank(*words, "--output", out)
            assert r.code == 64 and "--resume to go on" in r.err and one_line(r.err), r
            assert open(out, "rb").read() == whole
        other = write(os.path.join(d, "other"), jsonl([{**x, "id": "x"} for x in lists(4)]))
        r = rank(other, "--output", out, "--resume")
        assert r.code == 64 and "output of another input" in r.err and one_line(r.err), r


def test_rank_resume_with_another_top():
    """Lists of two lengths in one file would be nobody's ranking."""
    with folder() as d:
        for words in both_forms(d, 4):
            out = os.path.join(d, "out%d" % len(words))
            r = rank(*words, "--output", out, "--top", "2")
            assert r.code == 0, r
            whole = open(out, "rb").read()
            ends = [i + 1 for i, c in enumerate(whole) if c == 10]
            half = write(out, whole[:ends[len(ends) // 2]])
            for other in (["--top", "3"], ["--top", "1"], [], ["--top", "2", "--depth", "1"]):
                r = rank(*words, "--output", half, "--resume", *other)
                assert r.code == 64 and "has 2 results of query" in r.err and one_line(r.err), r
                assert "another --top or --depth" in r.err, r
            r = rank(*words, "--output", half, "--resume", "--top", "2")
            assert r.code == 0 and open(out, "rb").read() == whole, r


def test_rank_resume_with_a_wrong_file():
    """A file that is no output of this run is refused, and stays as it is."""
    with folder() as d:
        trec, plain = both_forms(d, 3)
        with open(trec[0], encoding="utf-8") as f:
            run_of_bm25 = f.read()
        for words, text, code, message in [
                (trec, "my notes\nand more of them\n", 65, "line 1: found 2 words"),
                (trec, "my notes\nmy ideas\n", 65, "line 1: found 2 words"),
                (trec, "q0 Q0 0-1 1 2 rerankd\nand so on", 65, "start of a result"),
                (trec, run_of_bm25, 65, "found another tag, expected rerankd"),
                (plain, "my notes\nwithout an end", 65, "not an output of this run"),
                (plain, "my notes without an end", 65, "start of a result"),
                (plain, "{\"id\":\"x\"}\n{\"id\":", 64, "output of another input"),
                (plain, "{\"query\":\"x\"}\n{", 65, "found no \"id\"")]:
            out = write(os.path.join(d, "out"), text)
            r = rank(*words, "--output", out, "--resume")
            assert r.code == code and message in r.err and one_line(r.err), (text, r)
            with open(out, encoding="utf-8") as f:
                assert f.read() == text
        for words in (trec, plain):
            for path in [x for x in words if x.startswith(d)]:
                with open(path, "rb") as f:
                    before = f.read()
                r = rank(*words, "--output", path, "--resume")
                assert r.code == 64 and "is what is read" in r.err and one_line(r.err), r
                with open(path, "rb") as f:
                    assert f.read() == before


def test_queue_limits_are_a_servers():
    """What the environment of a server says about its queue stops no work on files."""
    env = environment(RERANKD_QUEUE_REQUESTS="1", RERANKD_QUEUE_BYTES="65536", RERANKD_QUEUE_TOKENS="512")
    data = jsonl({**x, "documents": [t + " more" * 700 for t in x["documents"]]} for x in lists(4))
    with folder() as d:
        r = rank("--max-length", "16", stdin=data, env=env)
        assert r.code == 0 and len(r.out.splitlines()) == 4, r
        r = evaluate(write(os.path.join(d, "l"), data), "--max-length", "16", env=env)
        assert r.code == 0, r
        pairs = jsonl({"query": x["query"], "text": t + " more" * 700}
                      for x in lists(4) for t in x["documents"])
        r = run("score", "--model", model(), "--max-length", "16", stdin=pairs, env=env)
        assert r.code == 0 and len(r.out.splitlines()) == 32, r


def test_large_lists():
    """A list is a line, however long: what fits in memory is ranked and measured."""
    text = "mot " * (1 << 18)
    one = {"id": "q", "query": "le pain", "documents": ["%d %s" % (i, text) for i in range(18)],
           "positive": 3}
    data = jsonl([one])
    assert len(data) > 17 << 20
    with folder() as d:
        r = rank("--max-length", "16", stdin=data)
        assert r.code == 0 and len(json.loads(r.out)["results"]) == 18, r
        r = evaluate(write(os.path.join(d, "l"), data), "--max-length", "16", "--json")
        assert r.code == 0, r


def test_rank_output_errors():
    """What "score" does: quiet where the reader has left, one line where the disk is full."""
    with folder() as d:
        many = write(os.path.join(d, "many"), jsonl([{**x, "id": i} for i, x in enumerate(lists(8) * 8)]))
        words = [RERANKD, "rank", "--model", model(), many]
        for more in ([], ["--format", "trec", "--depth", "2"]):
            with open("/dev/full", "wb") as full:
                p = subprocess.run(words + more, stdout=full, stderr=subprocess.PIPE, env=environment())
            assert p.returncode == 74 and one_line(p.stderr.decode()), p
            assert b"cannot write to standard output: No space left" in p.stderr, p
            ours, theirs = os.pipe()
            os.close(ours)  # a reader that has left
            p = subprocess.run(words + more, stdout=theirs, stderr=subprocess.PIPE, env=environment())
            os.close(theirs)
            assert p.returncode == 0 and p.stderr == b"", p


def test_rank_odd_inputs():
    with folder() as d:
        first = write(os.path.join(d, "run"), "\ufeffq Q0 a 1 2 t\r\n\r\nq Q0 b 2 1 t")
        texts = ["--queries", write(os.path.join(d, "q"), "\ufeff\r\nq\tbread"), "--corpus",
                 write(os.path.join(d, "c"), "\n \r\n{\"_id\": \"a\", \"text\": \"x\"}\r\n"
                       "\n{\"_id\": \"b\", \"text\": \"bread\"}")]
        r = rank(first, *texts)  # blank lines, byte order marks, no last newline
        assert r.code == 0 and len(r.out.splitlines()) == 2, r
        a, b = ({"query": "q", "documents": ["x", "y"], **ids} for ids in ({}, {"ids": None}))
        assert rank(stdin=jsonl([b])).out == rank(stdin=jsonl([a])).out != ""


def test_rank_errors():
    with folder() as d:
        first = beir(d, 2)
        mixed = write(os.path.join(d, "mixed"), "q0 Q0 0-1 1 2 t\nq1 Q0 1-1 1 2 t\n"
                      "q0 Q0 0-2 2 1 t\n")
        texts = ["--queries", d + "/queries.jsonl", "--corpus", d + "/corpus.jsonl"]
        twice = write(os.path.join(d, "twice"), "a\tx\na\ty\n")
        r = rank(mixed, *texts)
        assert r.code == 65 and "line 3: query q0 was there before" in r.err, r
        assert len(r.out.splitlines()) == 2, r  # what came before is ranked
        good = jsonl(lists(1))
        for words, stdin, code, message in [
                (["--queries", "x"], "", 64, "belong together"),
                (["--resume"], "", 64, "give --output FILE"),
                (["--tag", "a b"], "", 64, "expected one word"),
                ([], good + "{\"query\": \"q\"}\n", 65, "line 2: expected an object"),
                ([], good + "x\n", 65, "line 2"),
                (["--format", "trec"], good + jsonl([{**lists(1)[0], "id": "a b"}]), 65,
                 "line 2: the id \"a b\" cannot be written in TREC form"),
                (["--format", "trec"], good + good, 65,
                 "line 2: query %s was there before, and in TREC form" % lists(1)[0]["id"]),
                (["--format", "trec"], jsonl([{"query": "q", "documents": ["a", "b"],
                                               "ids": ["x", ""]}]), 65, "the id \"\" cannot"),
                (["--format", "trec"], good + jsonl([{"query": "q", "documents": ["a", "b", "c"],
                                                      "ids": ["x", "y", "x"]}]), 65,
                 "line 2: query 2 has document x twice"),
                ([], jsonl([{"query": "q", "documents": ["a"], "ids": []}]), 65, "\"ids\""),
                ([first, "--queries", twice, "--corpus", twice], "", 65,
                 "twice: line 2: this id was there before"),
                ([first, "--queries", d + "/none", "--corpus", twice], "", 66, "none")]:
            r = rank(*words, stdin=stdin)
            assert r.code == code and message in r.err and one_line(r.err), (words, r)
