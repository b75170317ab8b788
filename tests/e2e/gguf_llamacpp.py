#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gguf_llamacpp.py - files of "rerankd convert" ranked by llama.cpp: its tokenizer and its way to put a
pair together beside the ids of tokenizer.json, its logits beside the reference's.  By hand (make
test-llamacpp): needs llama-cpp-python, which bench/peers has; exit status 77 without it."""
import ctypes
import json
import os
import subprocess
import sys
import tempfile

from cli_support import MODELS, RERANKD, ROOT

sys.path.append(os.path.join(ROOT, "bench", "peers"))
try:
    import llama_cpp as api
    import llamacpp
    from tokenizers import Tokenizer
except ImportError as missing:
    print("SKIP: %s" % missing)
    sys.exit(77)

STARTER = os.path.join(ROOT, "models", "starter")
LISTS = 20
MOST = {"f32": 0.02, "f16": 0.04}  # its GELU is the tanh form with inputs and results in f16


def tokens(vocab, text):
    """Special tokens written in a text are text to llama.cpp's server."""
    text = text.encode()
    ids = (ctypes.c_int32 * (len(text) + 16))()
    return list(ids[:api.llama_tokenize(vocab, text, len(text), ids, len(ids), False, False)])


def pair_ids(vocab, query, document):
    """format_prompt_rerank() of llama.cpp's server."""
    bos = [api.llama_vocab_bos(vocab)] if api.llama_vocab_get_add_bos(vocab) else []
    eos = [api.llama_vocab_eos(vocab)] if api.llama_vocab_get_add_eos(vocab) else []
    sep = [api.llama_vocab_sep(vocab)] if api.llama_vocab_get_add_sep(vocab) else []
    return bos + tokens(vocab, query) + eos + sep + tokens(vocab, document) + eos


def check(folder, dtype, same_ids, scratch):
    path = os.path.join(scratch, "%s.%s.gguf" % (os.path.basename(folder), dtype))
    subprocess.run([RERANKD, "convert", "--model", folder, "--to", path, "--to-dtype", dtype, "--config",
                    "none"], check=True)
    ranker = llamacpp.Ranker(path, 1)
    vocab = api.llama_model_get_vocab(ranker.model)
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with open(os.path.join(folder, "reference.jsonl"), encoding="utf-8") as f:
        lists = [json.loads(line) for line in f][:LISTS]
    most, same, n = 0, 0, 0
    for r in lists:
        rows, logits = [], []
        for document, logit in zip(r["documents"], r["logits"]):
            ids = tokenizer.encode(r["query"], document).ids
            if len(ids) > r.get("max_length", 512):  # the reference is of a shorter one
                continue
            n += 1
            if ids == pair_ids(vocab, r["query"], document):
                same += 1
                rows.append(ids)
                logits.append(logit)
        for call in (False, True):
            cut = llamacpp.take(rows, sys.maxsize if call else 0)
            if not cut:
                continue
            form = llamacpp.Form(ranker.model, cut, call, 1)
            most = max([most] + [abs(a - b) for a, b in zip(form.run(), logits)])
            form.close()
    print("%s: %d of %d pairs have the same ids, largest difference of their logits %.2g"
          % (os.path.basename(path), same, n, most))
    return same >= same_ids * n and most <= MOST[dtype]


def main():
    # Of the texts of tests/golden some spell special tokens, or are a trap that llama.cpp falls into.
    cases = [(STARTER, 1), ("tiny-xlmr", 0.95), ("tiny-roberta", 0.95), ("tiny-modernbert-cls", 0.95),
             ("tiny-modernbert-mean", 0.95)]
    with tempfile.TemporaryDirectory() as scratch:
        good = [check(os.path.join(MODELS, name), dtype, same_ids, scratch)
                for name, same_ids in cases for dtype in MOST]
    print("%d passed, %d failed" % (good.count(True), good.count(False)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
