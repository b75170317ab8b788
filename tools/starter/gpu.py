#!/usr/bin/env python3
"""Train the starter model further on a GPU: python3 tools/starter/gpu.py --start A --out B

The same lists, losses and schedule as train.py from the end of its first part on, with many more
lists a step.  Processor cores make the lists, one process each; the GPU takes all pairs of a step
forwards and backwards, in bfloat16 until the weights go onto the grid.
"""
import argparse
import multiprocessing
import os
import random
import time

import numpy as np
import torch
from transformers import XLMRobertaForSequenceClassification

import corpus
import data
import encoder
import queries
import teacher
import train
from words import LIMIT

PARTS = 6  # a step's pairs are taken in so many parts of similar length
QUIET = 0.02  # weight of encoder.excess


def packed(pairs, moved):
    """([ids, positions] of each part, [pairs, tokens] of 16 bits; where each pair's logit then is)"""
    parts = []
    chunks, back = train.by_length(pairs, PARTS)
    for chunk in chunks:
        ids, _, segment, *_ = data.collate([pairs[i] for i in chunk], None)
        place = train.place_ids(ids, segment, [moved[i] for i in chunk])
        more = (0, 0), (0, -ids.shape[1] % 16)  # widths that attention has quick kernels for
        parts.append(np.stack([np.pad(v, more, constant_values=1) for v in (ids, place)]).astype(np.uint16))
    return parts, back


class Lists:
    """What a step learns from, made ahead: process k makes the steps k, k + n, ..."""

    def __init__(self, a, maker, coder):
        self.a, self.maker, self.coder = a, maker, coder
        context = multiprocessing.get_context("fork")
        self.queues = [context.Queue(2) for _ in range(a.makers)]
        for k in range(a.makers):
            context.Process(target=self.serve, args=(k,), daemon=True).start()

    def serve(self, k):
        torch.set_num_threads(1)
        for step in range(k, self.a.steps, self.a.makers):
            self.queues[k].put(self.make(step))

    def make(self, step):
        rng = random.Random("step %d %d" % (self.a.seed, step))
        pairs, gold, _, cosines, _ = train.make_batch(step, train.LISTS, self.a, 0, self.maker,
                                                      self.coder, rng, self.a.times)
        return *packed(pairs, train.moves(pairs, rng)), gold.numpy(), cosines.numpy()

    def take(self, step):
        return self.queues[step % self.a.makers].get(timeout=300)


def forward(net, parts, back, device, watched):
    """(logits of all pairs, excess of the layers' inputs in part number `watched`)"""
    out = []
    for number, part in enumerate(parts):
        net.excesses = [] if number == watched else None
        ids, place = torch.from_numpy(part.astype(np.int32)).to(device, non_blocking=True).long()
        out.append(net.logits(net.hidden(ids, (ids != 1).long(), place)[-1][:, 0]))
        if number == watched:
            excess = torch.stack(net.excesses).mean()
    net.excesses = None
    return torch.cat(out).float()[torch.from_numpy(back).to(device)], excess


def learn(a, net, lists, log):
    """All steps; the time budget, if there is one, ends them earlier with the learning rate gone down"""
    opt = train.optimizer_of(a.lr, net.model)
    begin, shown, waited, pairs, since = time.time(), torch.zeros(4, device=a.device), 0.0, 0, time.time()
    for step in range(a.steps):
        done = max(step / a.steps, (time.time() - begin) / 60 / a.minutes if a.minutes else 0.0)
        if done >= 1:
            break
        x = train.LISTS + (1 - train.LISTS) * done
        asked = time.time()
        parts, back, gold, cosines = lists.take(step)
        waited += time.time() - asked
        net.grid = x >= train.GRID
        for group in opt.param_groups:
            group["lr"] = a.lr * train.schedule(step, x, a)
        gold, cosines = (torch.from_numpy(v).to(a.device) for v in (gold, cosines))
        with torch.autocast(a.device, torch.bfloat16, enabled=not net.grid):
            logits, excess = forward(net, parts, back, a.device, step % PARTS)
        loss = train.rank_loss(logits, gold, cosines, a.teach)
        (loss + QUIET * excess).backward()
        torch.nn.utils.clip_grad_norm_(net.model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        hits = (logits.view(len(gold), -1).argmax(1) == gold).float().mean()
        shown += torch.stack([loss.detach(), hits, excess.detach(), torch.ones_like(hits)])
        pairs += len(back)
        if (step + 1) % a.show == 0:
            total, right, wide, n = shown.tolist()
            now = time.time()
            log("step %d loss %.3f top1 %.3f excess %.2f | %.1f %% done, %.0f pairs/s, waited %.0f %%, %.1f min"
                % (step + 1, total / n, right / n, wide / n, 100 * done, pairs / (now - since),
                   100 * waited / (now - since), (now - begin) / 60))
            shown.zero_()
            waited, pairs, since = 0.0, 0, now
    log("step %d in %.0f s" % (step + 1, time.time() - begin))


def run(a):
    torch.backends.cuda.matmul.allow_tf32 = True
    made = (a.work, False, a.mix, a.teach > 0, a.taught)
    if a.teach > 0 and not os.path.exists(teacher.cache(a.work)):
        # In another process: the teacher is asked on the GPU, after which none may be forked.
        first = multiprocessing.get_context("spawn").Process(target=train.prepare, args=made)
        first.start()
        first.join()
    parts, _, maker, coder, _ = train.prepare(*made)
    coder.remember(text[1][:LIMIT] for e in parts["train"] for text in e.text.values())
    train.log("texts are known")
    lists = Lists(a, maker, coder)  # before anything is on the GPU: it makes processes
    torch.manual_seed(a.seed)
    model = XLMRobertaForSequenceClassification.from_pretrained(a.start, dtype=torch.float32)
    net = encoder.Encoder(model.to(a.device))
    learn(a, net, lists, train.log)
    train.export(model.cpu(), a.work, a.out, grid=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--start", required=True, help="model to go on from")
    ap.add_argument("--out", default="models/starter")
    ap.add_argument("--work", default="starter-work", help="downloads and caches")
    ap.add_argument("--mix", choices=sorted(queries.MIXES), default="long")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--steps", type=int, default=6000)
    ap.add_argument("--minutes", type=float, help="time budget: finish by then, decay included")
    ap.add_argument("--times", type=int, default=24, help="lists a step, times train.py's 10 or 14")
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--warmup", type=int, default=150, help="steps")
    ap.add_argument("--decay", type=float, default=0.55, help="last share of the run: decay to zero")
    ap.add_argument("--teach", type=float, default=2.0, help="weight of the teacher's opinion")
    ap.add_argument("--taught", nargs="+", metavar="LANG", choices=corpus.LANGS,
                    help="the teacher sees only texts that are in one of these languages, too")
    ap.add_argument("--worn", type=float, default=0.4,
                    help="share of the lists whose documents lose some of their tokens")
    ap.add_argument("--makers", type=int, default=max(1, len(os.sched_getaffinity(0)) - 1),
                    help="processes that make lists")
    ap.add_argument("--device", default="cuda")
    ap.add_argument("--show", type=int, default=50, help="steps between two lines of the log")
    a = ap.parse_args()
    a.workers = 1  # of make_batch: one makes all lists of a step
    run(a)


if __name__ == "__main__":
    main()
