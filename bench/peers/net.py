# SPDX-License-Identifier: Apache-2.0
"""net.py - an XLM-R-large shaped cross-encoder with random weights: the model folder that all engines
load, and the network as plain torch modules for those that need an export.

    python3 bench/peers/net.py FOLDER --layers 24 [--vocab 16384]

Speed does not depend on what the weights are, quality cannot be judged by it.  The tokenizer is the
starter model's: its ids are a part of the vocabulary, which may be smaller than XLM-R's where disk or
time is short: words are looked up, not multiplied.
"""
import argparse
import json
import os
import shutil

import torch
from torch import nn
from torch.nn import functional

HIDDEN, HEADS, BETWEEN, VOCAB, POSITIONS, PAD = 1024, 16, 4096, 250002, 514, 1
STARTER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "models", "starter")


def write(folder, layers, vocab=VOCAB):
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    torch.manual_seed(1)
    config = XLMRobertaConfig(
        vocab_size=vocab, hidden_size=HIDDEN, num_hidden_layers=layers, num_attention_heads=HEADS,
        intermediate_size=BETWEEN, max_position_embeddings=POSITIONS, type_vocab_size=1,
        num_labels=1, layer_norm_eps=1e-5, bos_token_id=0, pad_token_id=PAD, eos_token_id=2)
    XLMRobertaForSequenceClassification(config).eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(os.path.join(STARTER, name), os.path.join(folder, name))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))
        self.up, self.down = nn.Linear(HIDDEN, BETWEEN), nn.Linear(BETWEEN, HIDDEN)
        self.norm1, self.norm2 = (nn.LayerNorm(HIDDEN, 1e-5) for _ in range(2))

    def forward(self, x, bias):
        def split(y):
            return y.unflatten(2, (HEADS, HIDDEN // HEADS)).transpose(1, 2)

        a = functional.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x)), bias)
        x = self.norm1(x + self.out(a.transpose(1, 2).flatten(2)))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


class Net(nn.Module):
    """Same function as transformers' class, without what exporters stumble over."""

    NAMES = {"attention.self.query": "query", "attention.self.key": "key",
             "attention.self.value": "value", "attention.output.dense": "out",
             "attention.output.LayerNorm": "norm1", "intermediate.dense": "up",
             "output.dense": "down", "output.LayerNorm": "norm2"}

    def __init__(self, layers, vocab):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocab, HIDDEN), nn.Embedding(POSITIONS, HIDDEN)
        self.kinds, self.norm = nn.Embedding(1, HIDDEN), nn.LayerNorm(HIDDEN, 1e-5)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.dense, self.score = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 1)

    def forward(self, input_ids, attention_mask):
        at = torch.cumsum(attention_mask, 1) * attention_mask + PAD
        x = self.norm(self.words(input_ids) + self.positions(at) + self.kinds.weight[0])
        bias = ((1.0 - attention_mask.to(x.dtype)) * -3e38)[:, None, None, :]
        for block in self.blocks:
            x = block(x, bias)
        return self.score(torch.tanh(self.dense(x[:, 0])))


def config(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        return json.load(f)


def load(folder):
    from safetensors.torch import load_file

    layers = config(folder)["num_hidden_layers"]
    names = {"roberta.embeddings.word_embeddings": "words",
             "roberta.embeddings.position_embeddings": "positions",
             "roberta.embeddings.token_type_embeddings": "kinds",
             "roberta.embeddings.LayerNorm": "norm",
             "classifier.dense": "dense", "classifier.out_proj": "score"}
    for i in range(layers):
        for theirs, ours in Net.NAMES.items():
            names["roberta.encoder.layer.%d.%s" % (i, theirs)] = "blocks.%d.%s" % (i, ours)
    net = Net(layers, config(folder)["vocab_size"])
    weights = load_file(os.path.join(folder, "model.safetensors"))
    net.load_state_dict({names[k.rpartition(".")[0]] + "." + k.rpartition(".")[2]: v
                         for k, v in weights.items()})
    return net.eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--vocab", type=int, default=VOCAB)
    write(**vars(parser.parse_args()))
