#!/usr/bin/env python3
"""The weighted mean of a model and one that was trained further from it, on the grid again.

    python3 tools/starter/mean.py A B --share 0.8 --out models/starter

Weights between the two ends of a run often generalize better than its last ones (Izmailov and
others 2018, Wortsman and others 2022).  The share of B is for the development lists to choose:
eval.py --part dev.
"""
import argparse
import os

import torch
from transformers import XLMRobertaForSequenceClassification

import train


def mean(a, b, share):
    """a's module with (1 - share) a + share b for weights"""
    other = b.state_dict()
    with torch.no_grad():
        for name, p in a.named_parameters():
            p.copy_((1 - share) * p + share * other[name])
    return a


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("models", nargs=2, metavar="MODEL", help="the first one's, the later one's folder")
    ap.add_argument("--share", type=float, default=0.8, help="of the later one")
    ap.add_argument("--out", default="models/starter")
    a = ap.parse_args()
    models = [XLMRobertaForSequenceClassification.from_pretrained(m, dtype=torch.float32)
              for m in a.models]
    # The tokenizer's files are the later one's.
    train.export(mean(*models, a.share), os.path.abspath(a.models[1]), a.out, grid=True)


if __name__ == "__main__":
    main()
