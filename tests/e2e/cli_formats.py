# SPDX-License-Identifier: Apache-2.0
"""cli_formats.py - tests of "rerankd convert" and of models in other formats; run by test_cli.py."""
import fcntl
import json
import math
import os
import shutil
import subprocess

from cli_support import (RERANKD, ROOT, TIMEOUT, Skip, environment, folder, model, one_line, run,
                         write)

TINY = ["tiny-bert", "tiny-xlmr", "tiny-modernbert-mean", "tiny-gemma"]  # test_gguf.c has more


def differences(path, name):
    r = run("score", "--model", path, "--reference", os.path.join(model(name), "reference.jsonl"),
            "--json")
    assert r.code in (0, 1), r
    return json.loads(r.out)["max_logit_difference"]


def scores(path, *words):
    r = run("score", "--model", path, *words, "--query", "a b", "--no-sort",
            stdin="a\nb c\nü 中\n")
    assert r.code == 0, r
    return [json.loads(x) for x in r.out.splitlines()]


def test_convert():
    """F32 keeps every bit of every score, other precisions nearly all, in both directions."""
    for name in TINY:
        with folder() as d:
            for dtype, most in (("f32", 2e-4), ("f16", 0.02), ("bf16", 0.1), ("q8_0", 0.5)):
                path = os.path.join(d, dtype + ".gguf")
                r = run("convert", "--model", model(name), "--to", path, "--to-dtype", dtype)
                assert r.code == 0 and r.out == "" and r.err == "", r
                worst = differences(path, name)
                assert worst <= most, (name, dtype, worst)
                assert dtype == "f32" or worst > 1e-4, (name, dtype, worst)  # it was rounded
            assert scores(d + "/f32.gguf") == scores(model(name))
            back = os.path.join(d, "back")
            r = run("convert", "--model", d + "/f32.gguf", "--to", back, "--shard-size", "200K")
            assert r.code == 0, r
            assert len([f for f in os.listdir(back) if f.endswith(".safetensors")]) > 2
            assert scores(back) == scores(model(name)) and os.path.exists(back + "/tokenizer.json")


def test_convert_folder():
    """Networks that GGUF does not have are converted between safetensors."""
    with folder() as d:
        to = os.path.join(d, "m")
        r = run("convert", "--model", model("tiny-deberta"), "--to", to, "--to-dtype", "bf16")
        assert r.code == 0, r
        assert differences(to, "tiny-deberta") < 0.1
        for words, code, message in [
                (["--to", to], 64, "is there already"),
                (["--to", d + "/x.gguf"], 78, "cannot be written as GGUF, which has no such network"),
                (["--to", d + "/y", "--to-dtype", "q8_0"], 78, "is for GGUF files"),
                ([], 64, "--to PATH is missing")]:
            r = run("convert", "--model", model("tiny-deberta"), *words)
            assert r.code == code and message in r.err and one_line(r.err), (words, r)


def test_convert_full_disk():
    """Nothing half-written is left, whatever file the disk is full at."""
    code = ("mount -t tmpfs -o size=%dk disk \"$1\" || exit 99; \"$0\" convert --model \"$2\" --to "
            "\"$1/m\" --shard-size %s; code=$?; ls -A \"$1\"; exit $code")
    weights = os.path.getsize(os.path.join(model(), "model.safetensors")) // 1024
    with folder() as d:
        for kilobytes, shards in [(weights // 2, 0), (weights // 2, "1M"), (weights + 200, 0)]:
            p = subprocess.run(["unshare", "-rm", "sh", "-c", code % (kilobytes, shards), RERANKD, d,
                                model()], env=environment(), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
            if p.returncode in (1, 99):
                raise Skip("no name spaces here: %s" % p.stderr.decode()[:80])
            assert p.returncode == 74 and b"No space left on device" in p.stderr, p
            assert p.stdout == b"", p
        write(d + "/mine", "x")
        r = run("convert", "--model", model(), "--to", d)
        assert r.code == 64 and "is there already: remove it or name another" in r.err, r
        assert os.listdir(d) == ["mine"]


def test_killed_before():
    """What a killed run has left is cleared away, unless that run is still at it."""
    with folder() as d:
        left = d + "/.m.rerankd-part"
        for words in (["quantize", model("tiny-bert"), d + "/m", "--calibration", "none"],
                      ["convert", "--model", model("tiny-bert"), "--to", d + "/m/"]):
            os.makedirs(left + "/1_Dense")
            write(left + "/1_Dense/model.safetensors", "x")
            held = os.open(left, os.O_RDONLY)
            fcntl.flock(held, fcntl.LOCK_EX)
            r = run(*words)
            assert r.code == 69 and "another run is writing it" in r.err and one_line(r.err), r
            assert os.listdir(d) == [".m.rerankd-part"]
            os.close(held)
            r = run(*words)
            assert r.code == 0 and os.listdir(d) == ["m"], r
            assert not os.path.exists(d + "/m/1_Dense")
            shutil.rmtree(d + "/m")


def test_folder_that_cannot_be_replaced():
    """An empty folder as OUT is replaced at the end; where that cannot work it is said at the start."""
    code = "mount -t tmpfs disk \"$1\" || exit 99; shift; exec \"$0\" \"$@\""
    with folder() as d:
        os.mkdir(d + "/empty")
        os.symlink(d + "/empty", d + "/link")
        os.symlink(d + "/nowhere", d + "/dangling")
        for words in (["quantize", model("tiny-bert")], ["convert", "--model", model("tiny-bert"), "--to"]):
            for name in ("link", "link/", "dangling"):
                r = run(*words, d + "/" + name)
                assert r.code == 64 and "is a symbolic link" in r.err and one_line(r.err), r
            p = subprocess.run(["unshare", "-rm", "sh", "-c", code, RERANKD, d + "/empty", *words,
                                d + "/empty"], env=environment(), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
            assert sorted(os.listdir(d)) == ["dangling", "empty", "link"]
            if p.returncode in (1, 99):
                raise Skip("no name spaces here: %s" % p.stderr.decode()[:80])
            assert p.returncode == 64 and b"is a mount point" in p.stderr, p


def test_read_only_folder():
    """Where nothing can be written shows before the work, which may take hours."""
    code = "mount -t tmpfs -o ro disk \"$1\" || exit 99; shift; exec \"$0\" \"$@\""
    with folder() as d:
        for words in (["quantize", model(), d + "/m"], ["convert", "--model", model(), "--to", d + "/m"]):
            p = subprocess.run(["unshare", "-rm", "sh", "-c", code, RERANKD, d, *words],
                               env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               timeout=TIMEOUT, check=False)
            if p.returncode in (1, 99):
                raise Skip("no name spaces here: %s" % p.stderr.decode()[:80])
            assert p.returncode == 74 and p.stderr == (
                b"rerankd %s: %s: cannot write there: Read-only file system\n"
                % (words[0].encode(), os.path.realpath(d).encode())), p


def test_convert_int8():
    """A folder of rerankd quantize is multiplied out: what --dtype f32 computes of it, to the bit."""
    for name in ("tiny-xlmr", "tiny-modernbert-cls"):
        with folder() as d:
            int8, f32, gguf, q8 = (os.path.join(d, x) for x in ("int8", "f32", "a.gguf", "b.gguf"))
            assert run("quantize", model(name), int8, "--limit", "4").code == 0
            want = [x["logit"] for x in scores(int8, "--dtype", "f32")]
            assert want != [x["logit"] for x in scores(model(name))]  # it was rounded
            for to, words in ((f32, ()), (gguf, ()), (q8, ("--to-dtype", "q8_0"))):
                r = run("convert", "--model", int8, "--to", to, *words)
                assert r.code == 0 and r.err == "", r
            for path in (f32, gguf):
                assert [x["logit"] for x in scores(path)] == want, path
            again = [x["logit"] for x in scores(q8)]  # in other blocks: rounded once more
            assert again != want and max(abs(a - b) for a, b in zip(again, want)) < 0.5, again
            r = run("convert", "--model", f32, "--to", d + "/x", "--to-dtype", "int8")
            assert r.code == 64 and "expected f32, f16, bf16 or q8_0" in r.err, r


def test_quantize_built_in_lists():
    """They come with rerankd, whatever model the settings name."""
    with folder() as d:
        env = environment(RERANKD_MODEL=model("tiny-bert"))
        r = run("quantize", model(), d + "/int8", "--limit", "4", env=env)
        assert r.code == 0 and "9 of 9 layers" in r.out, r


def test_quantize_file():
    """A GGUF file has no folder that the tokenizer could be copied from."""
    with folder() as d:
        assert run("convert", "--model", model("tiny-bert"), "--to", d + "/m.gguf").code == 0
        r = run("quantize", d + "/m.gguf", d + "/q", "--calibration", "none")
        assert r.code == 78 and "rerankd convert makes one" in r.err and one_line(r.err), r
        assert os.listdir(d) == ["m.gguf"]


def test_quantize_keep():
    """Layers that are to stay in bf16; a pattern that fits none is a mistyped one."""
    with folder() as d:
        lists = write(d + "/lists", "\ufeff" + json.dumps({"query": "q", "documents": ["a", "b"]}))
        words = ["quantize", model(), d + "/m", "--calibration", lists, "--keep-bf16"]
        r = run(*words, "*layers.0.*")
        assert r.code == 64 and one_line(r.err) and not os.path.exists(d + "/m"), r
        assert "name fits \"*layers.0.*\"; one is roberta.encoder.layer.0." in r.err, r
        r = run(*words, "*layer.0.*")
        assert r.code == 0 and "5 of 9 layers" in r.out, r


def test_other_formats():
    """Each names the file and the way out."""
    with folder() as d:
        for name, message in [("lfs.gguf", "lfs.gguf: found a pointer of Git LFS"),
                              ("pytorch_model.bin", "safe_serialization=True"),
                              ("model.pt", "safe_serialization=True"),
                              ("model.onnx", "ONNX is not read"),
                              ("model.safetensors", "give the folder"),
                              ("x.txt", "expected a model folder, or a GGUF file"),
                              ("cut.gguf", "not a GGUF file")]:
            path = write(os.path.join(d, name), "x" if name != "lfs.gguf" else
                         "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
            r = run("score", "--model", path, "--query", "q", stdin="t\n")
            assert r.code == 78 and path in r.err and message in r.err and one_line(r.err), r
        r = run("score", "--model", d, "--query", "q", stdin="t\n")
        assert r.code != 0 and "there is cut.gguf: give that file" in r.err, r


def test_file_of_llamacpp():
    """What llama.cpp's own converter writes, against transformers; and where --golden looks."""
    for name in ("gemma", "xlmr", "roberta", "modernbert", "qwen3-reranker"):
        path = os.path.join(ROOT, "tests", "golden", "gguf", "llama.cpp-%s.gguf" % name)
        r = run("verify", "--golden", "--model", path, "--dtype", "f32")
        assert r.code == 0 and "ok" in r.out, r
    r = run("score", "--model", path.replace("qwen3-reranker", "bert"), "--query", "q", stdin="t\n")
    assert r.code == 78 and "tensor cls.weight is missing, expected the pooler" in r.err, r
    assert "with rerankd convert" in r.err and one_line(r.err), r
    with folder() as d:
        copy = shutil.copy(path, os.path.join(d, "m.gguf"))
        r = run("verify", "--golden", "--model", copy)
        assert r.code != 0 and "m.gguf: there are no reference scores: expected " in r.err, r
        assert os.path.join(d, "m.reference.jsonl") in r.err and one_line(r.err), r
        r = run("verify", "--write", "--limit", "1", "--model", copy)
        assert r.code == 78 and "m.gguf: --write stores verify.json" in r.err, r
        with open(path[:-len("gguf")] + "reference.jsonl", encoding="utf-8") as f:
            reference = f.read()
        other = write(os.path.join(d, "m.reference.jsonl"),
                      reference.replace('"logits": [-4', '"logits": [-3'))
        r = run("verify", "--golden", "--model", copy, "--dtype", "f32")
        assert r.code != 0 and "too far from the reference" in r.out + r.err, (other, r)


def test_no_max_length():
    """transformers writes 1e30 with all its digits for a tokenizer without a limit."""
    with folder() as d:
        m = os.path.join(d, "m")
        shutil.copytree(model(), m)
        path = os.path.join(m, "tokenizer_config.json")
        with open(path, encoding="utf-8") as f:
            config = json.load(f)
        write(path, json.dumps(dict(config, model_max_length=int(1e30))))
        assert scores(m) == scores(model())
        write(path, json.dumps(dict(config, model_max_length=9)))
        r = json.loads(run("doctor", "--model", m, "--json").out)["model"]
        assert r["max_length"] == 9, r


def test_hostile_folders():
    """What a folder from anywhere may have in it: refused with file and field, without waiting."""
    def text(name, content):
        return lambda m: write(os.path.join(m, name), content)

    def config(**fields):
        def change(m):
            path = os.path.join(m, "config.json")
            with open(path, encoding="utf-8") as f:
                c = json.load(f)
            write(path, json.dumps(dict(c, **fields)))
        return change

    def link(name, to):
        def change(m):
            os.unlink(os.path.join(m, name))
            os.symlink(to, os.path.join(m, name))
        return change

    def pipe(name):
        def change(m):
            path = os.path.join(m, name)
            if os.path.exists(path):
                os.unlink(path)
            os.mkfifo(path)
        return change

    def index(shard):
        def change(m):
            os.rename(os.path.join(m, "model.safetensors"), os.path.join(m, "x.safetensors"))
            write(os.path.join(m, "model.safetensors.index.json"),
                  json.dumps({"weight_map": {"a": shard}}))
        return change

    def rename(name, to):
        return lambda m: os.rename(os.path.join(m, name), os.path.join(m, to))

    regular = "expected a regular file"
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 12345678\n" % ("a" * 64)
    for change, message in [
            (text("model.safetensors", pointer), "model.safetensors: found a pointer of Git LFS"),
            (text("tokenizer.json", pointer), "tokenizer.json: found a pointer of Git LFS"),
            (rename("tokenizer.json", "vocab.txt"), "has vocab.txt but no tokenizer.json; convert"),
            (rename("tokenizer.json", "x"), "no tokenizer.json; copy it here"),
            (text("config.json", "[" * 100000), "config.json: JSON is nested deeper than"),
            (text("config.json", '{"a":"' + "x" * (5 << 20) + '"}'), "config.json: larger than"),
            (text("sentence_bert_config.json", "[" * 100000), "sentence_bert_config.json: JSON is"),
            (text("tokenizer.json", '{"model":' + "[" * 100000), "tokenizer.json"),
            (config(vocab_size=1 << 32), "config.json: vocab_size: found 4294967296, expected 1 to"),
            (config(hidden_size=1 << 64), "config.json: JSON has a number that is out of range"),
            (config(num_hidden_layers=-1), "config.json: num_hidden_layers: found -1, expected 1"),
            (config(vocab_size=1 << 24, hidden_size=1 << 16, num_attention_heads=1 << 16,
                    intermediate_size=1 << 16, num_hidden_layers=1024),
             "word_embeddings.weight: shape is [3000, 128], expected [16777216, 65536]"),
            (pipe("config.json"), "config.json: found a pipe, " + regular),
            (pipe("sentence_bert_config.json"), "sentence_bert_config.json: found a pipe"),
            (pipe("tokenizer.json"), "tokenizer.json: found a pipe, " + regular),
            (pipe("tokenizer_config.json"), "tokenizer_config.json: found a pipe, " + regular),
            (pipe("model.safetensors"), "model.safetensors: found a pipe, " + regular),
            (link("config.json", "/dev/zero"), "config.json: found a device, " + regular),
            (link("tokenizer.json", "tokenizer.json"), "tokenizer.json: cannot open"),
            (index("../x.safetensors"), 'names the file "../x.safetensors", expected a plain'),
            (index("/etc/passwd"), 'names the file "/etc/passwd", expected a plain file name'),
            (index("a\0.safetensors"), "expected a plain file name"),
            (index("x.safetensors"), "says that x.safetensors has tensor a, but it has not")]:
        with folder() as d:
            m = os.path.join(d, "m")
            shutil.copytree(model("tiny-bert"), m)
            change(m)
            r = run("score", "--model", m, "--query", "q", stdin="t\n")
            assert r.code in (66, 71, 78) and message in r.err and one_line(r.err), (message, r)


def test_activation():
    """A CrossEncoder with Identity scores with logits and cuts pairs where it says, here and after
    a way through GGUF."""
    with folder() as d:
        m, gguf, back, f32 = (os.path.join(d, x) for x in ("m", "m.gguf", "back", "f32"))
        shutil.copytree(model(), m)
        want = scores(m)
        assert all(abs(x["score"] - 1 / (1 + math.exp(-x["logit"]))) < 1e-6 for x in want)
        write(os.path.join(m, "config_sentence_transformers.json"), json.dumps(
            {"activation_fn": "torch.nn.modules.linear.Identity", "model_type": "CrossEncoder"}))
        write(os.path.join(m, "sentence_bert_config.json"), json.dumps({"max_seq_length": 77}))
        assert run("convert", "--model", m, "--to", gguf).code == 0
        assert run("convert", "--model", gguf, "--to", back).code == 0
        assert run("quantize", m, f32, "--dtype", "f32", "--limit", "4").code == 0
        for path in (m, gguf, back, f32):
            got = scores(path)
            assert [x["logit"] for x in got] == [x["logit"] for x in want], path
            assert all(abs(x["score"] - x["logit"]) < 1e-6 for x in got), (path, got)
        for path in (m, gguf, back, f32):
            r = json.loads(run("doctor", "--model", path, "--json").out)["model"]
            assert r["activation"] == "identity" and r["max_length"] == 77, (path, r)
        write(os.path.join(m, "tokenizer_config.json"), json.dumps({"model_max_length": 55}))
        again = os.path.join(d, "again.gguf")
        assert run("convert", "--model", m, "--to", again).code == 0
        r = json.loads(run("doctor", "--model", again, "--json").out)["model"]
        assert r["max_length"] == 55, r


def test_lower_case():
    """What sentence-transformers makes lower case is made so here, and after every way of writing
    it; a truncation_side of tokenizer_config.json is not lost in a GGUF file either."""
    def logits(path, text, *words):
        r = run("score", "--model", path, "--query", "a b", *words, stdin=text + "\n")
        assert r.code == 0, r
        return json.loads(r.out)["logit"]

    with folder() as d:
        m, gguf, back, f32 = (os.path.join(d, x) for x in ("m", "m.gguf", "back", "f32"))
        shutil.copytree(model("tiny-xlmr"), m)
        upper, lower = logits(m, "Le PAIN"), logits(m, "le pain")
        assert upper != lower
        write(os.path.join(m, "sentence_bert_config.json"), json.dumps({"do_lower_case": True}))
        assert logits(m, "Le PAIN") == upper  # read by nobody without a modules.json
        write(os.path.join(m, "modules.json"), json.dumps([{"path": "", "type": "a.Transformer"}]))
        assert logits(m, "Le PAIN") == upper  # nor for an embedding model
        write(os.path.join(m, "config_sentence_transformers.json"),
              json.dumps({"model_type": "CrossEncoder"}))
        for words in (("convert", "--model", m, "--to", gguf),
                      ("convert", "--model", m, "--to", back),
                      ("quantize", m, f32, "--dtype", "f32", "--limit", "4")):
            r = run(*words)
            assert r.code == 0, (words, r)
        for path in (m, gguf, back, f32):
            assert logits(path, "Le PAIN") == logits(path, "le pain") == lower, path
        long = " ".join(["mot"] * 40) + " le pain"
        right = logits(m, long, "--max-length", "16")
        write(os.path.join(m, "tokenizer_config.json"), json.dumps({"truncation_side": "left"}))
        left, again = logits(m, long, "--max-length", "16"), os.path.join(d, "again.gguf")
        assert run("convert", "--model", m, "--to", again).code == 0
        assert left != right and logits(again, long, "--max-length", "16") == left


def test_modules():
    """A head of modules is scored, and what is wrong in one is named."""
    with folder() as d:
        m = model("tiny-modules")
        r = run("score", "--model", m, "--reference", os.path.join(m, "reference.jsonl"))
        assert r.code == 0, r
        r = run("convert", "--model", m, "--to", os.path.join(d, "x.gguf"))
        assert r.code == 78 and "modules.json" in r.err and one_line(r.err), r
        assert os.listdir(d) == [], os.listdir(d)
        bare = os.path.join(d, "m")
        shutil.copytree(m, bare)
        write(os.path.join(bare, "2_Dense", "config.json"), json.dumps(
            {"in_features": 48, "out_features": 48, "bias": True}))
        r = run("score", "--model", bare, "--query", "q", stdin="t\n")
        assert r.code == 78 and "module 2_Dense: " in r.err and "linear.bias is missing" in r.err, r
        os.unlink(os.path.join(bare, "modules.json"))
        r = run("score", "--model", bare, "--query", "q", stdin="t\n")
        assert r.code == 78 and "this is an embedding model" in r.err and one_line(r.err), r
        write(os.path.join(bare, "modules.json"), json.dumps([
            {"path": "", "type": "a.Transformer"}, {"path": "../m", "type": "a.Dense"}]))
        r = run("score", "--model", bare, "--query", "q", stdin="t\n")
        assert r.code == 78 and '[1].path is "../m"' in r.err and one_line(r.err), r


def files_of(path):
    out = {}
    for where, _, names in os.walk(path):
        for name in names:
            with open(os.path.join(where, name), "rb") as f:
                out[os.path.relpath(os.path.join(where, name), path)] = f.read()
    return out


def test_modules_written():
    """convert and quantize write the transformer anew; the modules come along as they are."""
    for name in ("tiny-modules", "tiny-modules-mean"):
        with folder() as d:
            source, want = files_of(model(name)), scores(model(name))
            made = {x: os.path.join(d, x) for x in ("f32", "bf16", "q32", "q8", "again")}
            runs = [("convert", "--model", model(name), "--to", made["f32"]),
                    ("convert", "--model", model(name), "--to", made["bf16"], "--to-dtype", "bf16"),
                    ("quantize", model(name), made["q32"], "--dtype", "f32"),
                    ("quantize", model(name), made["q8"], "--limit", "4"),
                    ("convert", "--model", made["q8"], "--to", made["again"])]
            for words in runs:
                r = run(*words)
                assert r.code == 0, (words, r)
            for x, path in made.items():
                files = files_of(path)
                for file, data in source.items():
                    if os.path.dirname(file) or file == "modules.json":
                        assert files.get(file) == data, (x, file)
            assert scores(made["f32"]) == scores(made["q32"]) == want
            bf16, q8 = scores(made["bf16"]), scores(made["q8"], "--dtype", "f32")
            assert bf16 != want and q8 != want and q8 == scores(made["again"])
            for got in (bf16, q8):
                worst = max(abs(a["logit"] - b["logit"]) for a, b in zip(got, want))
                assert 1e-5 < worst < 0.2, (name, worst)


def test_logit_score():
    """A LogitScore chooses the tokens of a causal network, through every way of writing it."""
    def tokens(path, **ids):
        os.makedirs(os.path.join(path, "1_LogitScore"), exist_ok=True)
        write(os.path.join(path, "1_LogitScore", "config.json"), json.dumps(ids))
        write(os.path.join(path, "modules.json"), json.dumps([
            {"path": "", "type": "a.Transformer"}, {"path": "1_LogitScore", "type": "a.LogitScore"}]))

    def logits(path, *words):
        return [x["logit"] for x in scores(path, *words)]

    with folder() as d:
        m, gguf, back, f32 = (os.path.join(d, x) for x in ("m", "m.gguf", "back", "f32"))
        shutil.copytree(model("tiny-qwen2"), m)
        plain = logits(m)
        tokens(m, true_token_id=40, false_token_id=50)
        a = logits(m)
        tokens(m, true_token_id=50, false_token_id=40)
        b = logits(m)
        assert all(abs(x + y) < 1e-5 for x, y in zip(a, b)) and a != b and plain not in (a, b)
        tokens(m, true_token_id=50)
        alone = logits(m)
        tokens(m, true_token_id=40)
        assert all(abs(x - (y - z)) < 1e-4 for x, y, z in zip(b, alone, logits(m)))
        tokens(m, true_token_id=50, false_token_id=40)
        for words in (("convert", "--model", m, "--to", gguf),
                      ("convert", "--model", gguf, "--to", back),
                      ("quantize", m, f32, "--dtype", "f32")):
            r = run(*words)
            assert r.code == 0, (words, r)
        for path in (gguf, back, f32):
            assert logits(path) == b, path
        for no in (None, 40):  # what a file says of its tokens, in the words of a folder
            one, two = os.path.join(d, "%s.gguf" % no), os.path.join(d, "from-%s" % no)
            tokens(m, true_token_id=50, false_token_id=no)
            for words in (("--model", m, "--to", one), ("--model", one, "--to", two)):
                assert run("convert", *words).code == 0
            with open(os.path.join(two, "1_LogitScore", "config.json"), encoding="utf-8") as f:
                assert json.load(f) == {"true_token_id": 50, "false_token_id": no}
            with open(os.path.join(two, "modules.json"), encoding="utf-8") as f:
                modules = json.load(f)
            assert [(x["idx"], x["name"], x["path"], x["type"].rpartition(".")[2]) for x in modules
                    ] == [(0, "0", "", "Transformer"), (1, "1", "1_LogitScore", "LogitScore")], modules
        write(os.path.join(m, "chat_template.jinja"), "{{ messages }}")
        for words in (("convert", "--model", m, "--to", os.path.join(d, "c")),
                      ("quantize", m, os.path.join(d, "q"), "--dtype", "f32")):
            assert run(*words).code == 0
        for path in (os.path.join(d, "c"), os.path.join(d, "q")):
            r = run("score", "--model", path, "--query", "q", stdin="t\n")
            assert r.code == 0 and "its chat template is not used" in r.err, r
        tokens(m, true_token_id=10 ** 6)
        r = run("score", "--model", m, "--query", "q", stdin="t\n")
        assert r.code == 78 and "1_LogitScore/config.json: true_token_id: found 1000000" in r.err, r


def test_default_prompt():
    """sentence-transformers puts the default prompt before the first text of each pair."""
    def logits(path, query, *words):
        r = run("score", "--model", path, "--query", query, "--no-sort", *words, stdin="a\nb c\n")
        assert r.code == 0, r
        return [json.loads(x)["logit"] for x in r.out.splitlines()]

    with folder() as d:
        m = os.path.join(d, "m")
        shutil.copytree(model(), m)
        write(os.path.join(m, "config_sentence_transformers.json"), json.dumps(
            {"prompts": {"q": "query: ", "p": "passage: "}, "default_prompt_name": "q"}))
        assert logits(m, "a b") == logits(model(), "query: a b") != logits(model(), "a b")
        r = run("convert", "--model", m, "--to", os.path.join(d, "x.gguf"))
        assert r.code == 78 and "which GGUF cannot say" in r.err and one_line(r.err), r
        back = os.path.join(d, "back")
        assert run("convert", "--model", m, "--to", back).code == 0
        assert logits(back, "a b") == logits(m, "a b")
        write(os.path.join(m, "config_sentence_transformers.json"), json.dumps(
            {"prompts": {"q": "query: "}, "default_prompt_name": "x"}))
        r = run("score", "--model", m, "--query", "q", stdin="t\n")
        assert r.code == 78 and "default_prompt_name names no string of prompts" in r.err, r
