#!/usr/bin/env python3
"""Train the starter model: python3 tools/starter/train.py --out models/starter

Fetches the data through apt, trains the vocabulary and the cross-encoder,
exports the best checkpoint whenever the development lists say so, and at the
end writes the evaluation and the reference file.  Runs on again after a stop
(state in --work); a given seed and step always see the same batch.
"""
import argparse
import json
import math
import os
import random
import shutil
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

import corpus
import data
import init
import queries
import vocab

VOCAB, LAYERS, FFN = 16000, 4, 448


def log(*args):
    print(time.strftime("%H:%M:%S"), *args, flush=True)


def prepare(work):
    """Everything derived from the archive, cached in the work directory."""
    entries = corpus.load_entries(work)
    parts = {"train": [], "dev": [], "test": []}
    for e in entries:
        parts[corpus.split_of(e.source)].append(e)
    log("entries:", {k: len(v) for k, v in parts.items()})
    if not os.path.exists(os.path.join(work, "tokenizer.json")):
        vocab.build(vocab.training_lines(parts["train"], random.Random(1)), VOCAB, work)
    tok = Tokenizer.from_file(os.path.join(work, "tokenizer.json"))
    idf, translation = data.cached(
        os.path.join(work, "stems.json"), lambda: data.stems_and_dictionary(parts["train"]))
    maker = queries.Maker(parts["train"], data.neighbours(parts["train"], work), idf)
    return parts, tok, maker, data.Encoder(tok, idf, translation), translation


def make_model(tok, entries, work, translation, seed):
    config = XLMRobertaConfig(
        vocab_size=tok.get_vocab_size(), hidden_size=init.HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=init.HIDDEN // init.HEAD, intermediate_size=FFN, hidden_act="gelu",
        max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, num_labels=1,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    torch.manual_seed(seed)
    model = XLMRobertaForSequenceClassification(config)
    init.start_model(model, init.embeddings(tok, entries, work, translation), seed)
    return model


class Probes(torch.nn.Module):
    """Helper outputs used while training only: per token "which side am I on" and "does
    my word occur on the other side", per pair "how much of the query is found".  They
    give every token a target, where the ranking loss has one bit per list."""

    def __init__(self):
        super().__init__()
        self.segment = torch.nn.Linear(init.HIDDEN, 1)
        self.match = torch.nn.ModuleList([torch.nn.Linear(init.HIDDEN, 1) for _ in range(2)])
        self.cover = torch.nn.Linear(init.HIDDEN, 1)

    def loss(self, hidden, match, segment, cover):
        # Found words count more: most words of most pairs have no partner.
        ok = match >= 0
        weight = torch.where(match[ok] == 1, 3.0, 1.0)
        total = F.binary_cross_entropy_with_logits(
            self.segment(hidden[1]).squeeze(-1)[segment >= 0], segment[segment >= 0].float())
        for probe, state in zip(self.match, hidden[2:4]):
            total = total + F.binary_cross_entropy_with_logits(
                probe(state).squeeze(-1)[ok], match[ok].float(), weight=weight)
        return total + F.binary_cross_entropy_with_logits(
            self.cover(hidden[-1][:, 0]).squeeze(-1), cover)


def place_ids(ids, segment, rng):
    """Positions 2.. as in XLM-R; for some pairs the document is moved further back,
    so that late positions are trained although training texts are short."""
    pos = np.where(ids == 1, 1, np.arange(ids.shape[1])[None] + 2)
    for row in range(len(ids)):
        if rng.random() < 0.15:
            pos[row] += (segment[row] == 1) * rng.randrange(0, 512 - ids.shape[1])
    return pos


def forward(model, probes, pairs, weights, rng, parts, same):
    """logits of the pairs (run in `parts` chunks of similar length) and the probes' loss"""
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]))
    logits, where, aux = [], [], 0.0
    for chunk in np.array_split(order, parts):
        ids, mask, match, segment, cover = data.collate([pairs[i] for i in chunk], weights)
        # The dictionary is full of holes, so across languages only found partners count.
        match[np.array([not same[i] for i in chunk])[:, None] & (match == 0)] = -1
        t = torch.from_numpy
        hidden = model.roberta(
            input_ids=t(ids), attention_mask=t(mask), position_ids=t(place_ids(ids, segment, rng)),
            output_hidden_states=True).hidden_states
        logits.append(model.classifier(hidden[-1]).squeeze(-1))
        aux = aux + probes.loss(hidden, t(match), t(segment), t(cover)) * len(chunk) / len(pairs)
        where.extend(chunk)
    back = np.empty(len(pairs), np.int64)
    back[where] = np.arange(len(pairs))
    return torch.cat(logits)[torch.from_numpy(back)], aux


def rank_loss(logits, gold):
    """softmax over each list, plus a logistic term that gives the score its scale"""
    logits = logits.view(len(gold), -1)
    target = F.one_hot(gold, logits.shape[1]).float()
    scale = F.binary_cross_entropy_with_logits(
        logits, target, weight=torch.where(target == 1, logits.shape[1] / 2.0, 0.6))
    return F.cross_entropy(logits, gold) + 0.3 * scale


def progress(step, a, seconds):
    """0..1 through the run, by steps or by the time budget, whichever is further"""
    return max(step / a.steps, seconds / 60 / a.minutes if a.minutes else 0.0)


def schedule(step, x, a):
    """warm-up, level, linear decay over the last part, so a run can be cut or extended"""
    return max(0.0, min(1.0, (step + 1) / 150, (1 - x) / a.decay))


def stage(x, rng):
    """(share of hard negatives, words per document, tokens per pair, share of short
    descriptions asked as they stand): easy, short and free-form first"""
    hard = min(0.85, 0.25 + 0.8 * x)
    if x < 0.25:
        return hard, 24, 56, 0.0
    if x > 0.35 and rng.random() < 0.45:
        return hard, 90, 144, 0.4
    return hard, 36, 80, 0.2


def make_batch(step, x, a, maker, encoder, rng):
    hard, words, tokens, plain = stage(x, rng)
    lists = queries.batch(maker, a.seed, step, a.lists if words < 60 else a.lists // 2,
                          a.negatives, hard, words, plain)
    texts = [t for q, docs, _, _ in lists for t in [q] + docs]
    coded = encoder.encode(texts)
    width = a.negatives + 2
    pairs, same = [], []
    for i, (_, docs, _, same_lang) in enumerate(lists):
        q, *ds = coded[i * width:(i + 1) * width]
        for ids, stems, segment in (data.join_pair(q, d, tokens) for d in ds):
            # Across languages a word's partner is its dictionary translation.
            pairs.append((ids, stems if same_lang else encoder.to_english(stems), segment))
            same.append(same_lang)
    return pairs, torch.tensor([gold for _, _, gold, _ in lists]), same


def dev_lists(parts, idf):
    """120 fixed lists with random negatives out of 10 from the development packages."""
    near = np.random.default_rng(5).integers(0, len(parts["dev"]), (len(parts["dev"]), 40))
    maker = queries.Maker(parts["dev"], near, idf)
    maker.having = {p: rows for p, rows in maker.having.items() if rows}
    lists = []
    for pair in (("fr", "fr"), ("en", "en"), ("fr", "en"), ("en", "fr")):
        old, queries.MIX = queries.MIX, {pair: 1}
        lists += queries.batch(maker, 99, 0, 30, 9, 0.0, 45)
        queries.MIX = old
    return lists


def evaluate(model, encoder, lists):
    """[mean reciprocal rank per 30 lists]"""
    model.eval()
    rr = []
    with torch.no_grad():
        for q, docs, gold, _ in lists:
            coded = encoder.encode([q] + docs)
            pairs = [data.join_pair(coded[0], d, 100) for d in coded[1:]]
            ids, mask, _, _, _ = data.collate(pairs, encoder.weight)
            z = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits[:, 0]
            rr.append(1.0 / (1 + int((z > z[gold]).sum())))
    model.train()
    return [float(np.mean(rr[i:i + 30])) for i in range(0, len(rr), 30)]


def export(model, work, out):
    """config.json, model.safetensors (f16) and the tokenizer's files"""
    os.makedirs(out, exist_ok=True)
    skip = ("position_ids", "token_type_ids")  # buffers, not weights
    tensors = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()
               if not k.endswith(skip)}
    tmp = os.path.join(out, "model.safetensors.tmp")
    save_file(tensors, tmp, metadata={"format": "pt"})
    os.chmod(tmp, 0o644)
    os.replace(tmp, os.path.join(out, "model.safetensors"))
    config = json.loads(model.config.to_json_string(use_diff=False))
    keep = ("attention_probs_dropout_prob bos_token_id classifier_dropout eos_token_id hidden_act "
            "hidden_dropout_prob hidden_size id2label initializer_range intermediate_size label2id "
            "layer_norm_eps max_position_embeddings model_type num_attention_heads "
            "num_hidden_layers pad_token_id type_vocab_size vocab_size").split()
    config = {k: config[k] for k in keep if k in config}
    config.update(architectures=["XLMRobertaForSequenceClassification"], torch_dtype="float16",
                  dtype="float16", position_embedding_type="absolute")
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(config, f, indent=2, sort_keys=True)
        f.write("\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(os.path.join(work, name), os.path.join(out, name))


def optimizer_of(model, probes, lr):
    named = list(model.named_parameters()) + list(probes.named_parameters())
    plain = [p for n, p in named if p.dim() < 2 or "embeddings" in n]
    decayed = [p for n, p in named if not (p.dim() < 2 or "embeddings" in n)]
    return torch.optim.AdamW([dict(params=decayed, weight_decay=0.02),
                              dict(params=plain, weight_decay=0.0)],
                             lr=lr, betas=(0.9, 0.98), fused=True)


class Threads:
    """Chooses between one thread and all by measured speed, again and again: at low
    priority on a busy machine two threads mostly wait for the one that got no core."""

    def __init__(self, most):
        self.most, self.now, self.cost, self.steps = most, most, {}, 0

    def after_step(self, seconds, tokens):
        cost = seconds / tokens
        self.cost[self.now] = 0.7 * self.cost.get(self.now, cost) + 0.3 * cost
        self.steps += 1
        best = min(self.cost, key=self.cost.get)
        probe = self.steps % 16 < 2  # two steps of the other kind now and then
        self.now = (1 if best == self.most else self.most) if probe else best
        torch.set_num_threads(self.now)


def train(a):
    parts, tok, maker, encoder, translation = prepare(a.work)
    model, probes = make_model(tok, parts["train"], a.work, translation, a.seed), Probes()
    opt = optimizer_of(model, probes, a.lr)
    state_path, first, best, spent = os.path.join(a.work, "state.pt"), 0, 0.0, 0.0
    if os.path.exists(state_path):
        s = torch.load(state_path, weights_only=False)
        model.load_state_dict(s["model"]), probes.load_state_dict(s["probes"])
        opt.load_state_dict(s["opt"])
        first, best, spent = s["step"], s["best"], s["spent"]
    held, threads = dev_lists(parts, maker.idf), Threads(a.threads)
    model.train()
    begin, count, shown = time.time(), 0, [0.0, 0.0, 0.0, 0]

    def checkpoint(step, last=False):
        nonlocal best
        mrr = evaluate(model, encoder, held)
        log("dev MRR fr-fr %.3f en-en %.3f fr-en %.3f en-fr %.3f" % tuple(mrr))
        if np.mean(mrr) >= best or last:  # the decayed weights are the ones to ship
            best = float(np.mean(mrr))
            export(model, a.work, a.out)
        torch.save(dict(model=model.state_dict(), probes=probes.state_dict(), best=best,
                        opt=opt.state_dict(), step=step, spent=spent + time.time() - begin),
                   state_path + ".tmp")
        os.replace(state_path + ".tmp", state_path)

    step = first - 1
    for step in range(first, a.steps):
        rng, started = random.Random("step %d %d" % (a.seed, step)), time.time()
        x = progress(step, a, spent + time.time() - begin)
        if x >= 1:
            step -= 1
            break
        pairs, gold, same = make_batch(step, x, a, maker, encoder, rng)
        for group in opt.param_groups:
            group["lr"] = a.lr * schedule(step, x, a)
        logits, aux = forward(model, probes, pairs, encoder.weight, rng, 3, same)
        rank = rank_loss(logits, gold)
        opt.zero_grad(set_to_none=True)
        (rank + a.aux * max(0.1, 1 - 1.5 * x) * aux).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        threads.after_step(time.time() - started, sum(len(p[0]) for p in pairs))
        count += len(pairs)
        hit = (logits.view(len(gold), -1).argmax(1) == gold).float().mean().item()
        shown = [shown[0] + rank.item(), shown[1] + aux.item(), shown[2] + hit, shown[3] + 1]
        if (step + 1) % 25 == 0:
            took = time.time() - begin
            left = took / (step + 1 - first) * (a.steps - step - 1) / 60
            if a.minutes:
                left = min(left, a.minutes - (spent + took) / 60)
            log("step %d/%d rank %.3f aux %.3f top1 %.3f | %.0f %% done, %.0f pairs/s, %.0f min left"
                % (step + 1, a.steps, *(v / shown[3] for v in shown[:3]), 100 * x, count / took, left))
            shown = [0.0, 0.0, 0.0, 0]
        if (step + 1) % a.every == 0:
            checkpoint(step + 1)
    checkpoint(step + 1, last=True)
    log("trained %d steps in %.0f min" % (step + 1, (spent + time.time() - begin) / 60))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", default="models/starter")
    ap.add_argument("--work", default="starter-work", help="downloads, caches, resume state")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--steps", type=int, default=2200)
    ap.add_argument("--minutes", type=float, help="time budget: finish by then, decay included")
    ap.add_argument("--lists", type=int, default=24, help="lists per step")
    ap.add_argument("--negatives", type=int, default=5)
    ap.add_argument("--lr", type=float, default=6e-4)
    ap.add_argument("--decay", type=float, default=0.4, help="last share of steps: decay to zero")
    ap.add_argument("--aux", type=float, default=0.5, help="weight of the helper targets")
    ap.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--no-eval", action="store_true")
    a = ap.parse_args()
    os.makedirs(a.work, exist_ok=True)
    torch.set_num_threads(a.threads)
    train(a)
    if not a.no_eval:
        import eval as evaluation
        evaluation.run(a.work, a.out)


if __name__ == "__main__":
    main()
