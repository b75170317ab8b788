#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_full.py - a reranker of full size with random weights, for tests on a GPU: XLM-R-large's layers
over the small vocabulary of tests/golden/models/tiny-xlmr, in f16.  Standard library only; the same
seed gives the same bytes.

    tools/make_full.py FOLDER [--layers 24] [--hidden 1024] [--seed 1]

600 MB at the default size.  Values are nearly normal: the high byte of each comes from a table of 256
steps of the normal distribution, the low one is random.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import struct

TINY = os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "models", "tiny-xlmr")


def shapes(layers, hidden, config):
    """[(name, shape, deviation, centre)] in the order of the file."""
    spread = 1.0 / hidden ** 0.5

    def linear(name, out, width, deviation):
        return [(name + ".weight", [out, width], deviation, 0), (name + ".bias", [out], 0.05, 0)]

    def norm(name):
        return [(name + ".weight", [hidden], 0.1, 1), (name + ".bias", [hidden], 0.05, 0)]
    out = [("roberta.embeddings.word_embeddings.weight", [config["vocab_size"], hidden], 0.1, 0),
           ("roberta.embeddings.position_embeddings.weight",
            [config["max_position_embeddings"], hidden], 0.03, 0),
           ("roberta.embeddings.token_type_embeddings.weight", [1, hidden], 0.03, 0)]
    out += norm("roberta.embeddings.LayerNorm")
    for i in range(layers):
        at = f"roberta.encoder.layer.{i}."
        for part in ("query", "key", "value"):
            out += linear(at + "attention.self." + part, hidden, hidden, spread)
        out += linear(at + "attention.output.dense", hidden, hidden, spread)
        out += norm(at + "attention.output.LayerNorm")
        out += linear(at + "intermediate.dense", 4 * hidden, hidden, spread)
        out += linear(at + "output.dense", hidden, 4 * hidden, spread / 2)
        out += norm(at + "output.LayerNorm")
    out += linear("classifier.dense", hidden, hidden, spread)
    return out + linear("classifier.out_proj", 1, hidden, 3 * spread)


def high_bytes(deviation, centre):
    """bytes.translate table: a random byte becomes the high byte of an f16 value.  Around a centre
    other than 0 the low byte makes steps of a 128th, or it would be random below that."""
    normal = statistics.NormalDist(centre, deviation)
    return bytes(struct.pack("<e", normal.inv_cdf((i + 0.5) / 256))[1] for i in range(256))


def values(rng, n, table):
    out = bytearray(2 * n)
    out[0::2] = rng.randbytes(n)
    out[1::2] = rng.randbytes(n).translate(table)
    return out


def make(folder, layers=24, hidden=1024, seed=1):
    os.makedirs(folder, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(os.path.join(TINY, name), folder)
    with open(os.path.join(TINY, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    config.update(dtype="float16", hidden_size=hidden, num_hidden_layers=layers,
                  num_attention_heads=hidden // 64, intermediate_size=4 * hidden)
    rng, header, at = random.Random(seed), {}, 0
    tensors = shapes(layers, hidden, config)
    for name, shape, _, _ in tensors:
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)
    path = os.path.join(folder, "model.safetensors")
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape, deviation, centre in tensors:
            begin, end = header[name]["data_offsets"]
            f.write(values(rng, (end - begin) // 2, high_bytes(deviation, centre)))
    os.replace(path + ".part", path)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=1)
    make(**vars(parser.parse_args()))
