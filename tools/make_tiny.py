#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small random models of further families, with the logits that transformers computes.

    make_tiny.py OUT [NAME ...]      tiny-electra, tiny-qwen2, tiny-gemma

Tokenizers are those of tests/golden/models (tiny-bert; tiny-qwen3, for Gemma with a <bos>).  Weights are
seeded random numbers; the head is scaled so that logits spread.  reference.jsonl: one pair at a time,
float32, eager attention.  Needs torch, transformers and tokenizers.
"""
import argparse
import json
import math
import os
import shutil

import torch
import transformers
from tokenizers import Tokenizer

GOLDEN = os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "models")
QWEN2 = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n",
    "query: ", "document: ",
    "You are a search relevance expert who evaluates how well documents match search queries. For each "
    "query-document pair, carefully analyze the semantic relationship between them, then provide your "
    "binary relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:",
    "<|im_end|>\n<|im_start|>assistant\n")
GEMMA = (
    "<bos>", "A: ", "B: ",
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by "
    "providing a prediction of either 'Yes' or 'No'.", "")


def electra(folder):
    with open(os.path.join(GOLDEN, "tiny-bert", "config.json"), encoding="utf-8") as f:
        vocab = json.load(f)["vocab_size"]
    return transformers.ElectraForSequenceClassification(transformers.ElectraConfig(
        vocab_size=vocab, embedding_size=40, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=96, max_position_embeddings=512, num_labels=1))


def decoder(kind, vocab, **more):
    config = getattr(transformers, kind + "Config")(
        vocab_size=vocab, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=112, max_position_embeddings=4096, rms_norm_eps=1e-6,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, pad_token_id=0, **more)
    return getattr(transformers, kind + "ForCausalLM")(config)


def tokenizer_of(name, folder):
    source = os.path.join(GOLDEN, "tiny-bert" if name == "tiny-electra" else "tiny-qwen3")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(source, file), folder)
    path = os.path.join(folder, "tokenizer.json")
    if name == "tiny-gemma":
        tokenizer = Tokenizer.from_file(path)
        tokenizer.add_special_tokens(["<bos>"])
        tokenizer.save(path)
    return Tokenizer.from_file(path)


def randomise(model, seed, spread=1.3):
    """Seeded weights; matrices of [n, k] have a deviation of spread / sqrt(k)."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            x = torch.randn(p.shape, generator=g)
            if p.dim() == 1:
                one = 0.0 if "gemma" in type(model).__name__.lower() else 1.0
                p.copy_(one + 0.25 * x if "norm" in name.lower() and name.endswith("weight")
                        else 0.15 * x)
            elif "embed" in name:
                p.copy_(x * 0.5)
            else:
                p.copy_(x * spread / math.sqrt(p.shape[1]))


def first(tokenizer, word):
    return tokenizer.encode(word, add_special_tokens=False).ids[0]


def pair_ids(tokenizer, form, query, document, limit):
    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False).ids
    start, before_query, before_document, task, end = form
    fixed = ids(start) + ids("\n") + ids("\n") + ids(task) + (ids(end) if end else [])
    room = limit - len(fixed)
    q = ids(before_query + query)[:room * 3 // 4]
    d = ids(before_document + document)[:room - len(q)]
    return ids(start) + q + ids("\n") + d + ids("\n") + ids(task) + (ids(end) if end else [])


def logit(model, tokenizer, name, query, document, limit):
    with torch.no_grad():
        if name == "tiny-electra":
            tokenizer.enable_truncation(max_length=limit, strategy="longest_first")
            e = tokenizer.encode(query, document)
            return model(input_ids=torch.tensor([e.ids]),
                         token_type_ids=torch.tensor([e.type_ids])).logits[0, 0].item()
        form = QWEN2 if name == "tiny-qwen2" else GEMMA
        hidden = model.model(torch.tensor([pair_ids(tokenizer, form, query, document, limit)]))
        row = hidden.last_hidden_state[0, -1]
        if name == "tiny-gemma":
            return (row @ model.lm_head.weight[first(tokenizer, "Yes")]).item()
        w = model.lm_head.weight
        return (row @ (w[first(tokenizer, "1")] - w[first(tokenizer, "0")])).item()


def make(name, out):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    tokenizer = tokenizer_of(name, folder)
    vocab = tokenizer.get_vocab_size()
    model = {"tiny-electra": lambda: electra(folder),
             "tiny-qwen2": lambda: decoder("Qwen2", vocab),
             "tiny-gemma": lambda: decoder("Gemma", vocab, head_dim=24)}[name]()
    model.set_attn_implementation("eager")
    model.eval()
    randomise(model, 7)
    model.save_pretrained(folder)
    with open(os.path.join(GOLDEN, "tiny-bert", "reference.jsonl"), encoding="utf-8") as lines, \
            open(os.path.join(folder, "reference.jsonl"), "w", encoding="utf-8") as f:
        for line in list(lines)[:12]:
            r = json.loads(line)
            limit = 512 if name == "tiny-electra" else 320
            r.update(documents=r["documents"][:6], max_length=limit)
            r["logits"] = [round(logit(model, tokenizer, name, r["query"], d, limit), 6)
                           for d in r["documents"]]
            r["scores"] = [round(1 / (1 + math.exp(-z)), 7) for z in r["logits"]]
            f.write(json.dumps(r, ensure_ascii=False) + "\n")
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)


def main():
    parser = argparse.ArgumentParser(description="Small random models with reference logits.")
    parser.add_argument("out")
    parser.add_argument("names", nargs="*", default=["tiny-electra", "tiny-qwen2", "tiny-gemma"])
    args = parser.parse_args()
    for name in args.names:
        make(name, args.out)


if __name__ == "__main__":
    main()
