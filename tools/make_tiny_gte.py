#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small random GTE cross-encoder with its logits, computed here.

    make_tiny_gte.py OUT

The network is not in transformers (its code lives beside the models), so it is written down below as
the paper (Zhang et al. 2024, arXiv:2407.19669) and the configuration say: a post-norm encoder, rotary
positions with NTK scaling, gated units, first token, tanh.  Float64 on float32 weights.  Tokenizer and
texts are those of tests/golden/models/tiny-bert.  Needs numpy and tokenizers.
"""
import json
import math
import os
import shutil
import struct
import sys

import numpy as np
from tokenizers import Tokenizer

SOURCE = os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "models", "tiny-bert")
HIDDEN, LAYERS, HEADS, INNER, FACTOR, THETA = 64, 3, 4, 80, 8.0, 20000
CONFIG = {
    "architectures": ["NewForSequenceClassification"], "model_type": "new", "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER,
    "max_position_embeddings": 1024, "type_vocab_size": 1, "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm", "position_embedding_type": "rope", "rope_theta": THETA,
    "rope_scaling": {"type": "ntk", "factor": FACTOR}, "hidden_act": "gelu", "pack_qkv": True,
    "logn_attention_scale": False, "pad_token_id": 0, "id2label": {"0": "LABEL_0"}}


def shapes(vocab):
    s = {"new.embeddings.word_embeddings.weight": (vocab, HIDDEN),
         "new.embeddings.token_type_embeddings.weight": (1, HIDDEN),
         "new.pooler.dense.weight": (HIDDEN, HIDDEN), "new.pooler.dense.bias": (HIDDEN,),
         "classifier.weight": (1, HIDDEN), "classifier.bias": (1,)}
    norms = ["new.embeddings.LayerNorm"]
    for i in range(LAYERS):
        p = f"new.encoder.layer.{i}."
        s.update({p + "attention.qkv_proj.weight": (3 * HIDDEN, HIDDEN),
                  p + "attention.qkv_proj.bias": (3 * HIDDEN,),
                  p + "attention.o_proj.weight": (HIDDEN, HIDDEN),
                  p + "attention.o_proj.bias": (HIDDEN,),
                  p + "mlp.up_gate_proj.weight": (2 * INNER, HIDDEN),
                  p + "mlp.down_proj.weight": (HIDDEN, INNER), p + "mlp.down_proj.bias": (HIDDEN,)})
        norms += [p + "attn_ln", p + "mlp_ln"]
    for n in norms:
        s.update({n + ".weight": (HIDDEN,), n + ".bias": (HIDDEN,)})
    return s


def make_weights(vocab):
    rng = np.random.default_rng(7)
    weights = {}
    for name, shape in shapes(vocab).items():
        x = rng.standard_normal(shape)
        if len(shape) == 1:
            x = 1 + 0.25 * x if name.endswith("weight") else 0.15 * x
        elif "embeddings" not in name:
            x *= 1.3 / math.sqrt(shape[1])
        weights[name] = x.astype(np.float32)
    return weights


def save(weights, path):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, w in weights.items():
        header[name] = {"dtype": "F32", "shape": list(w.shape), "data_offsets": [at, at + w.nbytes]}
        at += w.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for w in weights.values():
            f.write(w.tobytes())


class Network:
    def __init__(self, weights):
        self.w = {k: v.astype(np.float64) for k, v in weights.items()}

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T + self.w.get(name + ".bias", 0)

    def norm(self, x, name):
        d = x - x.mean(-1, keepdims=True)
        d /= np.sqrt((d * d).mean(-1, keepdims=True) + CONFIG["layer_norm_eps"])
        return d * self.w[name + ".weight"] + self.w[name + ".bias"]

    @staticmethod
    def turn(x):
        n, d = x.shape[0], HIDDEN // HEADS
        f = (THETA * FACTOR) ** (-np.arange(0, d, 2) / d) / FACTOR ** (2 / d)
        angle = np.arange(n)[:, None, None] * f
        a, b = np.split(x.reshape(n, HEADS, d), 2, axis=-1)
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle),
                               b * np.cos(angle) + a * np.sin(angle)], axis=-1)

    def layer(self, x, p):
        n = x.shape[0]
        q, k, v = np.split(self.linear(x, p + "attention.qkv_proj"), 3, axis=-1)
        s = np.einsum("ihd,jhd->hij", self.turn(q), self.turn(k)) / math.sqrt(HIDDEN // HEADS)
        e = np.exp(s - s.max(-1, keepdims=True))
        context = np.einsum("hij,jhd->ihd", e / e.sum(-1, keepdims=True), v.reshape(n, HEADS, -1))
        x = self.norm(x + self.linear(context.reshape(n, HIDDEN), p + "attention.o_proj"),
                      p + "attn_ln")
        up, gate = np.split(self.linear(x, p + "mlp.up_gate_proj"), 2, axis=-1)
        gelu = gate * 0.5 * (1 + np.vectorize(math.erf)(gate / math.sqrt(2)))
        return self.norm(x + self.linear(up * gelu, p + "mlp.down_proj"), p + "mlp_ln")

    def logit(self, ids):
        x = self.w["new.embeddings.word_embeddings.weight"][ids]
        x = self.norm(x + self.w["new.embeddings.token_type_embeddings.weight"][0],
                      "new.embeddings.LayerNorm")
        for i in range(LAYERS):
            x = self.layer(x, f"new.encoder.layer.{i}.")
        return self.linear(np.tanh(self.linear(x[0], "new.pooler.dense")), "classifier").item()


def main():
    folder = os.path.join(sys.argv[1], "tiny-gte")
    os.makedirs(folder, exist_ok=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(SOURCE, file), folder)
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    CONFIG["vocab_size"] = tokenizer.get_vocab_size()
    weights = make_weights(CONFIG["vocab_size"])
    save(weights, os.path.join(folder, "model.safetensors"))
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(CONFIG, indent=2) + "\n")
    network = Network(weights)
    tokenizer.enable_truncation(max_length=512, strategy="longest_first")
    with open(os.path.join(SOURCE, "reference.jsonl"), encoding="utf-8") as lines, \
            open(os.path.join(folder, "reference.jsonl"), "w", encoding="utf-8") as f:
        for line in list(lines)[:12]:
            r = json.loads(line)
            r.update(documents=r["documents"][:6], max_length=512)
            z = [network.logit(tokenizer.encode(r["query"], d).ids) for d in r["documents"]]
            r.update(logits=[round(v, 6) for v in z],
                     scores=[round(1 / (1 + math.exp(-v)), 7) for v in z])
            f.write(json.dumps(r, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
