#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ray_score.py - scores any number of pairs with Ray Data, on one machine or a cluster.

    pip install 'ray[data]' rerankd-*.whl
    python3 ray_score.py --model models/starter --input 'pairs/*.jsonl' --output scores/

Input: JSONL with "query" and "document"; further columns are kept.  Output: Parquet with the column
"score".  Each actor opens the model once and scores blocks as they come, in bounded memory; pairs of
the same query are best kept together.  With --gpus 1 an actor takes a GPU.
"""
import argparse
import sys

import ray


class Scorer:
    """One model for each actor."""

    def __init__(self, model, threads, device):
        from rerankd import CrossEncoder
        self.model = CrossEncoder(model, threads=threads, device=device)

    def __call__(self, batch):
        pairs = list(zip(batch["query"].tolist(), batch["document"].tolist()))
        batch["score"] = self.model.predict(pairs)
        return batch


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--actors", type=int, default=1, help="models in the cluster")
    parser.add_argument("--threads", type=int, default=1, help="of each actor")
    parser.add_argument("--gpus", type=float, default=0, help="of each actor")
    parser.add_argument("--batch", type=int, default=1024, help="pairs handed over at once")
    args = parser.parse_args()
    ray.init()
    processors = ray.cluster_resources().get("CPU", 0)
    if args.actors * args.threads >= processors:
        sys.exit("%d actors of %d threads leave none of %d processors to read and write with" %
                 (args.actors, args.threads, processors))
    device = "cuda" if args.gpus else "cpu"
    pairs = ray.data.read_json(args.input, lines=True)
    scored = pairs.map_batches(Scorer, fn_constructor_args=(args.model, args.threads, device),
                               batch_size=args.batch, num_cpus=args.threads, num_gpus=args.gpus,
                               compute=ray.data.ActorPoolStrategy(size=args.actors))
    scored.write_parquet(args.output)


if __name__ == "__main__":
    main()
