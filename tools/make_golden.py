#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reference scores of a cross-encoder, computed with transformers.

    make_golden.py MODEL                      compare MODEL/reference.jsonl with a fresh computation
    make_golden.py MODEL --out FILE           write FILE, requests taken from MODEL/reference.jsonl
    make_golden.py MODEL --requests R --out F requests taken from R instead
    make_golden.py MODEL --ids FILE           write what the model is fed, one pair a line

A request is one line of JSON: {"query": text, "documents": [text, ...], "max_length": n}; other keys
are kept.  The answer adds "logits" (the head's output) and "scores" (its sigmoid), one each per
document.

How: float32, eager attention, one pair at a time, so that nothing is padded and no pair can
influence another.  Tokens come from the folder's tokenizer.json with longest_first truncation; token
types are passed only if the folder's tokenizer class says that the model takes them, as the
reference services do.  Two float32 implementations that are both right differ by about 1e-5 in a
logit of size 5; --double computes in float64 to show where the reference itself stands.

Needs torch, transformers and tokenizers (see tools/starter/requirements.txt).
"""
import argparse
import json
import math
import os
import sys

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def sigmoid(z):
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


class Reference:
    def __init__(self, folder, dtype):
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.no_padding()
        names = AutoTokenizer.from_pretrained(folder).model_input_names
        self.takes_types = "token_type_ids" in names
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager").eval()
        if self.model.config.num_labels != 1:
            raise SystemExit(f"{folder}: {self.model.config.num_labels} labels, expected 1")

    def encode(self, query, document, max_length):
        self.tokenizer.enable_truncation(max_length=max_length, strategy="longest_first")
        encoding = self.tokenizer.encode(query, document)
        return encoding.ids, encoding.type_ids

    def logit(self, query, document, max_length):
        ids, types = self.encode(query, document, max_length)
        inputs = {"input_ids": torch.tensor([ids]),
                  "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        if self.takes_types:
            inputs["token_type_ids"] = torch.tensor([types])
        with torch.no_grad():
            return self.model(**inputs).logits[0, 0].item()

    def answer(self, request):
        limit = request.get("max_length", 512)
        logits = [self.logit(request["query"], d, limit) for d in request["documents"]]
        return logits, [sigmoid(z) for z in logits]


def compare(reference, requests):
    pairs, worst_logit, worst_score = 0, 0.0, 0.0
    for request in requests:
        logits, scores = reference.answer(request)
        for i, (logit, score) in enumerate(zip(logits, scores, strict=True)):
            worst_logit = max(worst_logit, abs(logit - request["logits"][i]))
            worst_score = max(worst_score, abs(score - request["scores"][i]))
            pairs += 1
    print(f"{len(requests)} requests, {pairs} pairs: largest difference "
          f"{worst_logit:.2e} in a logit, {worst_score:.2e} in a score")
    return worst_logit <= 1e-4 and worst_score <= 2.5e-5


def write_answers(reference, requests, path):
    with open(path, "w", encoding="utf-8") as out:
        for request in requests:
            logits, scores = reference.answer(request)
            request["logits"] = [round(z, 6) for z in logits]
            request["scores"] = [round(s, 7) for s in scores]
            out.write(json.dumps(request, ensure_ascii=False) + "\n")


def write_ids(reference, requests, path):
    with open(path, "w", encoding="utf-8") as out:
        for request in requests:
            for document in request["documents"]:
                ids, types = reference.encode(request["query"], document,
                                              request.get("max_length", 512))
                out.write(json.dumps({"ids": ids, "types": types}) + "\n")


def main():
    parser = argparse.ArgumentParser(description="Reference scores of a cross-encoder.")
    parser.add_argument("model", help="folder in Hugging Face layout")
    parser.add_argument("--requests", metavar="FILE", help="default: MODEL/reference.jsonl")
    parser.add_argument("--out", metavar="FILE", help="write the answers here")
    parser.add_argument("--ids", metavar="FILE", help="write token ids and types here")
    parser.add_argument("--double", action="store_true", help="compute in float64")
    args = parser.parse_args()

    path = args.requests or os.path.join(args.model, "reference.jsonl")
    with open(path, encoding="utf-8") as lines:
        requests = [json.loads(line) for line in lines]
    reference = Reference(args.model, torch.float64 if args.double else torch.float32)
    if args.out:
        write_answers(reference, requests, args.out)
    if args.ids:
        write_ids(reference, requests, args.ids)
    if not args.out and not args.ids:
        sys.exit(0 if compare(reference, requests) else 1)


if __name__ == "__main__":
    main()
