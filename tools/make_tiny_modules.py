#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small random cross-encoders as sentence-transformers composes them, with the logits that it
computes.

    make_tiny_modules.py OUT

tiny-modules        ModernBERT, first token, Dense + GELU, LayerNorm, Dense: the ettin-reranker's form
tiny-modules-mean   BERT, mean of the tokens, Dense with residual, wider Dense, Dense

Tokenizers are those of tests/golden/models.  Weights are seeded random numbers; reference.jsonl: one
pair at a time, float32.  Needs torch, transformers and sentence-transformers.
"""
import argparse
import json
import math
import os
import shutil

import torch
import transformers
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

from make_tiny import GOLDEN, randomise

SPREAD = 1.6
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def copy_tokenizer(source, folder):
    os.makedirs(folder, exist_ok=True)
    for name in TOKENIZER:
        shutil.copy(os.path.join(GOLDEN, source, name), folder)
    with open(os.path.join(GOLDEN, source, "config.json"), encoding="utf-8") as f:
        return json.load(f)["vocab_size"]


def modernbert(vocab):
    return transformers.ModernBertModel(transformers.ModernBertConfig(
        vocab_size=vocab, hidden_size=48, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=64, max_position_embeddings=512, local_attention=32, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, num_labels=1))


def bert(vocab):
    return transformers.BertModel(transformers.BertConfig(
        vocab_size=vocab, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=72, max_position_embeddings=512))


def requests(limit):
    with open(os.path.join(GOLDEN, "tiny-bert", "reference.jsonl"), encoding="utf-8") as lines:
        for line in list(lines)[:12]:
            r = json.loads(line)
            r.update(documents=r["documents"][:6], max_length=limit)
            yield r


def write_reference(folder, logit):
    with open(os.path.join(folder, "reference.jsonl"), "w", encoding="utf-8") as f:
        for r in requests(512):
            r["logits"] = [logit(r["query"], d) for d in r["documents"]]
            r["scores"] = [round(1 / (1 + math.exp(-z)), 7) for z in r["logits"]]
            f.write(json.dumps(r, ensure_ascii=False) + "\n")


def make_modules(folder, body, source, modules):
    base = os.path.join(folder, "base")
    vocab = copy_tokenizer(source, base)
    network = body(vocab)
    randomise(network, 11, SPREAD)
    network.save_pretrained(base)
    transformer = Transformer(base, transformer_task="feature-extraction")
    model = CrossEncoder(modules=[transformer, *modules], device="cpu")
    for i, module in enumerate(modules):
        randomise(module, 20 + i, SPREAD)
    model.max_seq_length = 512
    model.eval()
    model.save_pretrained(folder)
    shutil.rmtree(base)
    copy_tokenizer(source, folder)
    os.remove(os.path.join(folder, "README.md"))

    def logit(query, document):
        z = model.predict([(query, document)], activation_fn=torch.nn.Identity())
        return round(float(z[0]), 6)
    write_reference(folder, logit)


def main():
    parser = argparse.ArgumentParser(description="Small random models with heads of modules.")
    parser.add_argument("out")
    out = parser.parse_args().out
    torch.manual_seed(1)
    identity = torch.nn.Identity()
    make_modules(os.path.join(out, "tiny-modules"), modernbert, "tiny-modernbert-cls", [
        Pooling(48, "cls"), Dense(48, 48, bias=False, activation_function=torch.nn.GELU()),
        LayerNorm(48), Dense(48, 1, activation_function=identity, module_output_name="scores")])
    make_modules(os.path.join(out, "tiny-modules-mean"), bert, "tiny-bert", [
        Pooling(32, "mean"), Dense(32, 32, use_residual=True),
        Dense(32, 40, activation_function=torch.nn.ReLU(), use_residual=True),
        Dense(40, 1, activation_function=identity, module_output_name="scores")])


if __name__ == "__main__":
    main()
