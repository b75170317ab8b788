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
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

import apps
import corpus
import data
import encoder
import init
import manual
import queries
import releases
import teacher
import translated
import vocab
from lists import SETS, candidate_lists, metrics

VOCAB, LAYERS, FFN = 16000, 4, 448
NEAR = (48, 4), (20, 10)  # (candidates kept, parts the texts are in) of the searches for wrong ones


def log(*args):
    print(time.strftime("%H:%M:%S"), *args, flush=True)


def prepare(work, matching=True, mix="across", teach=False, taught=None):
    """Everything derived from the archive, cached in the work directory; matching: the
    dictionary, too, which only the first part of a run needs; teach: the teacher's vectors, too,
    of the texts that are in one of the languages `taught`, or of all"""
    entries = corpus.load_entries(work)
    parts = {"train": [], "dev": [], "test": []}
    for e in entries:
        parts[corpus.split_of(e.source)].append(e)
    applications = apps.load_entries(work)
    parts["train"] += (applications + releases.load_entries(work, entries + applications)
                       + manual.load_entries(work))
    log("entries:", {k: len(v) for k, v in parts.items()})
    if not os.path.exists(os.path.join(work, "tokenizer.json")):
        vocab.build(vocab.training_lines(parts["train"], random.Random(1)), VOCAB, work)
    tok = Tokenizer.from_file(os.path.join(work, "tokenizer.json"))
    idf = data.cached(os.path.join(work, "stems.json"), lambda: data.stem_idf(parts["train"]))
    translation = data.cached(os.path.join(work, "dictionary.json"),
                              lambda: data.dictionary(parts["train"], idf)) if matching else {}
    machine = [translated.MACHINE] if queries.speaks(mix, translated.MACHINE) else []
    if machine:
        parts["train"] = translated.add(parts["train"], work)
    near = {lang: [data.neighbours(parts["train"], work, lang, *size) for size in NEAR]
            for lang in corpus.LANGS + machine}
    vectors = teacher.vectors(parts["train"], work, log, taught) if teach else None
    maker = queries.Maker(parts["train"], near, idf, mix, vectors)
    return parts, tok, maker, data.Coder(tok, idf, translation), translation


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


def moves(pairs, rng):
    """By how much the document of each pair is moved further back: some are, so that late
    positions are trained although training texts are short."""
    longest = max(len(p[0]) for p in pairs)
    return [rng.randrange(0, 512 - longest) if rng.random() < 0.15 else 0 for _ in pairs]


def place_ids(ids, segment, moved):
    """Positions 2.. as in XLM-R, the document's moved"""
    pos = np.where(ids == 1, 1, np.arange(ids.shape[1])[None] + 2)
    return pos + (segment == 1) * np.array(moved)[:, None]


def by_length(pairs, parts):
    """(numbers of the pairs in `parts` chunks of similar length, where each pair then is)"""
    order = np.array(sorted(range(len(pairs)), key=lambda i: len(pairs[i][0])))
    return np.array_split(order, parts), np.argsort(order)


def forward(net, probes, pairs, moved, weights, parts, same):
    """logits of the pairs (run in `parts` chunks of similar length) and, unless probes is None,
    the probes' loss"""
    logits, aux, t = [], 0.0, torch.from_numpy
    chunks, back = by_length(pairs, parts)
    for chunk in chunks:
        ids, mask, segment, match, cover = data.collate([pairs[i] for i in chunk],
                                                        weights if probes else None)
        hidden = net.hidden(t(ids), t(mask), t(place_ids(ids, segment, [moved[i] for i in chunk])))
        logits.append(net.logits(hidden[-1][:, 0]))
        if probes:
            # The dictionary is full of holes: across languages only found partners count.
            match[np.array([not same[i] for i in chunk])[:, None] & (match == 0)] = -1
            loss = probes.loss(hidden, t(match), t(segment), t(cover))
            aux = aux + loss * len(chunk) / len(pairs)
    return torch.cat(logits)[t(back)], aux


# What the teacher's cosine is worth in logits, how much more the right document gets, and by what
# logits are divided so that the wrong ones' order counts, too.
SHARP, RIGHT, SOFT = 15.0, 3.0, 3.0


def teach_loss(logits, gold, cosines):
    """How far the softmax of a list is from the teacher's (Hinton et al. 2015, section 2): mean
    over lists; cosines: NaN in lists of which it does not know all"""
    known = ~cosines.isnan().any(1)
    want = SHARP * cosines + RIGHT * F.one_hot(gold, logits.shape[1])
    apart = F.kl_div(F.log_softmax(logits[known] / SOFT, 1), F.softmax(want[known] / SOFT, 1),
                     reduction="sum")
    return apart * SOFT ** 2 / len(gold)


def rank_loss(logits, gold, cosines, teach):
    """softmax over each list, plus a logistic term that gives the score its scale, plus `teach` times
    the teacher's"""
    logits = logits.view(len(gold), -1)
    target = F.one_hot(gold, logits.shape[1]).float()
    scale = F.binary_cross_entropy_with_logits(
        logits, target, weight=torch.where(target == 1, logits.shape[1] / 2.0, 0.6))
    return (F.cross_entropy(logits, gold) + 0.3 * scale
            + teach * teach_loss(logits, gold, cosines))


# Where in the run, 0..1, the second part begins and weights go onto the grid.
LISTS, GRID = 1 / 3, 0.85


def schedule(step, x, a):
    """warm-up, level, linear decay, so a run can be cut or extended"""
    return max(0.0, min(1.0, (step + 1) / a.warmup, (1 - x) / a.decay))


def stage(x, rng, whole):
    """(lists, negatives, share of hard ones, words per document or 0: whole, tokens per pair,
    share of short descriptions asked as they stand).  First short and easy texts; then lists like
    the evaluation's, a share of `whole`, in turn with shorter, freer ones."""
    if x < 0.6 * LISTS:
        return 24, 5, 0.25 + 0.8 * x, 24, 56, 0.0
    if x < LISTS:
        return 20, 5, 0.6, 36, 80, 0.2
    if rng.random() < whole:
        return 10, 11, 0.9, 0, 128, 0.7
    return 14, 11, 0.8, 40, 80, 0.35


BLANK = 0.15  # of a worn document's tokens so many are lost
UNKNOWN = 3  # <unk>; below it are the other special tokens


def blank(pairs, width, worn, rng):
    """A share of the lists (of `width` pairs each) with some of their documents' tokens lost, so that
    no text is known by a single one of them"""
    out = []
    for at in range(0, len(pairs), width):
        lose = rng.random() < worn
        for ids, stems, segment in pairs[at:at + width]:
            lost = lose & (segment == 1) & (ids > UNKNOWN) & (rng.random(len(ids)) < BLANK)
            out.append((np.where(lost, UNKNOWN, ids), stems, segment))
    return out


def make_batch(step, x, a, worker, maker, coder, rng, times=1):
    """This worker's share of the lists of a step, `times` as many as usual: pairs, numbers of the
    right documents, cosines, and what part of the whole it is"""
    lists, negatives, hard, words, tokens, plain = stage(x, rng, maker.mix.whole)
    lists *= times
    numbers = range(worker, lists, a.workers)
    made = queries.batch(maker, a.seed, step, numbers, negatives, hard, words, plain)
    coded = coder.encode([t for q, docs, *_ in made for t in [q] + docs], stems=x < LISTS)
    width = negatives + 2
    pairs, same = [], []
    for i, (_, _, _, same_lang, _) in enumerate(made):
        q, *ds = coded[i * width:(i + 1) * width]
        for ids, stems, segment in (data.join_pair(q, d, tokens) for d in ds):
            # Across languages a word's partner is its dictionary translation.
            pairs.append((ids, stems if same_lang else coder.to_english(stems), segment))
            same.append(same_lang)
    if a.worn and x >= LISTS:
        pairs = blank(pairs, width - 1, a.worn, np.random.default_rng([a.seed, step, worker]))
    cosines = np.array([c if c is not None else [np.nan] * (width - 1) for *_, c in made], np.float32)
    return (pairs, torch.tensor([m[2] for m in made]), same, torch.from_numpy(cosines),
            len(numbers) / lists)


def dev_lists(entries, each):
    """{set: lists as in the evaluation, but of the development packages}"""
    return {s: candidate_lists(entries, *s, each, 99) for s in SETS}


def evaluate(net, coder, sets):
    """{set: (nDCG@10, BM25's)}"""
    out = {}
    with torch.no_grad():
        for key, lists in sets.items():
            scores = []
            for row in lists:
                q, *docs = coder.encode([row["query"]] + row["documents"], stems=False)
                pairs = [data.join_pair(q, d, 160) for d in docs]
                ids, mask, *_ = data.collate(pairs, None)
                scores.append(net.score(torch.from_numpy(ids), torch.from_numpy(mask)).tolist())
            out[key] = (metrics(lists, scores)[1], metrics(lists, [r["bm25"] for r in lists])[1])
    return out


def export(model, work, out, grid):
    """config.json, model.safetensors (f16) and the tokenizer's files"""
    os.makedirs(out, exist_ok=True)
    skip = ("position_ids", "token_type_ids")  # buffers, not weights
    names = encoder.gridded(model) if grid else ()
    tensors = {k: (encoder.on_grid(v) if k in names else v).detach().half().contiguous()
               for k, v in model.state_dict().items() if not k.endswith(skip)}
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


def optimizer_of(lr, *modules):
    named = [pair for m in modules for pair in m.named_parameters()]
    plain = [p for n, p in named if p.dim() < 2 or "embeddings" in n]
    decayed = [p for n, p in named if not (p.dim() < 2 or "embeddings" in n)]
    return torch.optim.AdamW([dict(params=decayed, weight_decay=0.02),
                              dict(params=plain, weight_decay=0.0)],
                             lr=lr, betas=(0.9, 0.98), fused=True)


def add_up(parameters, extra):
    """Gradients of all workers added up, and the numbers in extra with them"""
    flat = torch.cat([p.grad.view(-1) if p.grad is not None else torch.zeros(p.numel())
                      for p in parameters] + [torch.tensor(extra)])
    dist.all_reduce(flat)
    at = 0
    for p in parameters:
        p.grad = flat[at:at + p.numel()].view_as(p)
        at += p.numel()
    return flat[at:].tolist()


def sample(size, count, rng):
    """(numbers of `count` elements, their weights): the larger, the likelier; the weighted sum of
    those taken is on average the sum of all"""
    size = size.double() + 1e-12
    chance = size * (count / size.sum())
    while (over := chance > 1).any():  # taken for certain; the others share what is left
        chance = torch.where(over, 1.0, chance)
        free = chance < 1
        chance[free] *= (count - (~free).sum()) / chance[free].sum()
    edges = torch.floor(torch.cumsum(chance, 0) + rng.random())
    kept = torch.nonzero(torch.diff(edges, prepend=torch.zeros(1)) > 0)[:, 0]
    return kept, (1 / chance[kept]).float()


class Run:
    """One worker's half of a training run: all have the same weights and take the same steps with
    the sum of their gradients; the first one also writes files."""

    def __init__(self, worker, a):
        self.a, self.worker = a, worker
        parts, self.tok, self.maker, self.coder, translation = prepare(a.work, not a.start, a.mix,
                                                                       a.teach > 0, a.taught)
        self.first, self.x0, self.best, self.spent = 0, 0.0, 0.0, 0.0
        if a.start:
            self.model = XLMRobertaForSequenceClassification.from_pretrained(a.start,
                                                                            dtype=torch.float32)
            self.x0, self.first = LISTS, math.ceil(LISTS * a.steps)
        else:
            self.model = make_model(self.tok, parts["train"], a.work, translation, a.seed)
        torch.manual_seed(a.seed)
        self.probes = Probes()
        self.begin_step = self.first
        self.net = encoder.Encoder(self.model)
        self.net.kept = {}
        self.opt = optimizer_of(a.lr, self.model, self.probes)
        self.state = os.path.join(a.work, "state.pt")
        self.restore()
        self.held = dev_lists(parts["dev"], a.dev) if worker == 0 else None
        self.begin = time.time()

    def restore(self):
        if os.path.exists(self.state):
            s = torch.load(self.state, weights_only=False)
            self.model.load_state_dict(s["model"]), self.probes.load_state_dict(s["probes"])
            self.opt.load_state_dict(s["opt"])
            self.first, self.best, self.spent = s["step"], s["best"], s["spent"]
            self.begin_step = s["begin"]  # the same one if --steps is another now

    def seconds(self):
        return self.spent + time.time() - self.begin

    def progress(self, step):
        """0..1 through the run, by steps or by the time budget, whichever is further; the first
        worker's clock counts"""
        x = self.x0 + (1 - self.x0) * max(
            (step - self.begin_step) / max(1, self.a.steps - self.begin_step),
            self.seconds() / 60 / self.a.minutes if self.a.minutes else 0.0)
        x = torch.tensor(x)
        dist.broadcast(x, 0)
        return x.item()

    def checkpoint(self, step, last=False):
        """Development figures; exports the best weights so far, at the end those of the end: they
        are the ones on the grid, with the learning rate gone down."""
        found = evaluate(self.net, self.coder, self.held)
        log("dev nDCG " + " ".join("%s-%s %.3f(%+.3f)" % (*k, n, n - b)
                                   for k, (n, b) in found.items()))
        mean = float(np.mean([n for n, _ in found.values()]))
        log("dev mean %.4f, BM25 %.4f" % (mean, np.mean([b for _, b in found.values()])))
        if mean >= self.best or last:
            self.best = mean
            export(self.model, self.a.work, self.a.out, self.net.grid)
        self.save(step)

    def save(self, step):
        torch.save(dict(model=self.model.state_dict(), probes=self.probes.state_dict(),
                        best=self.best, opt=self.opt.state_dict(), step=step,
                        begin=self.begin_step, spent=self.seconds()), self.state + ".tmp")
        os.replace(self.state + ".tmp", self.state)

    def take(self, step, x):
        """One step: loss, lists with the right one first, lists, pairs; of all workers"""
        a, rng = self.a, random.Random("step %d %d" % (self.a.seed, step))
        pairs, gold, same, cosines, share = make_batch(step, x, a, self.worker, self.maker,
                                                       self.coder, rng)
        self.net.grid = x >= GRID
        for group in self.opt.param_groups:
            group["lr"] = a.lr * schedule(step - self.begin_step, x, a)
        self.opt.zero_grad(set_to_none=True)
        moved, used = moves(pairs, rng), list(self.model.parameters())
        if x < LISTS:
            logits, aux = forward(self.net, self.probes, pairs, moved, self.coder.weight,
                                  max(1, 8 // a.workers), same)
            rank = rank_loss(logits, gold, cosines, a.teach)
            ((rank + a.aux * (1 - 1.5 * x) * aux) * share).backward()
            used += list(self.probes.parameters())
        else:
            logits, rank = self.pull(pairs, moved, gold, cosines, share, rng)
        hits = (logits.view(len(gold), -1).argmax(1) == gold).float().sum().item()
        sums = add_up(used, [rank.item() * share, hits, len(gold), len(pairs)])
        torch.nn.utils.clip_grad_norm_(used, 1.0)
        self.opt.step()
        self.net.kept.clear()
        return sums

    def pull(self, pairs, moved, gold, cosines, share, rng):
        """Gradients of the ranking loss by a sample of the pairs, a quarter: most pull little, and
        backwards costs twice what forwards does.  (logits of all pairs, loss)"""
        parts = max(1, 4 // self.a.workers)
        with torch.no_grad():
            logits, _ = forward(self.net, None, pairs, moved, None, 2 * parts, None)
        logits.requires_grad_()
        rank = rank_loss(logits, gold, cosines, self.a.teach)
        pulls, = torch.autograd.grad(rank * share, logits)
        kept, weight = sample(pulls.abs(), len(pairs) // 4, rng)
        again, _ = forward(self.net, None, [pairs[i] for i in kept], [moved[i] for i in kept], None,
                           parts, None)
        again.backward(pulls[kept] * weight)
        return logits.detach(), rank

    def go(self):
        a, shown, counted = self.a, np.zeros(5), 0
        step = self.first
        while (x := self.progress(step)) < 1:
            shown += [*self.take(step, x), 1]
            step += 1
            if self.worker == 0 and step % 10 == 0:
                loss, hits, lists, pairs, n = shown
                counted += pairs
                log("step %d loss %.3f top1 %.3f | %.1f %% done, %.1f pairs/s, %.1f min"
                    % (step, loss / n, hits / lists, 100 * x,
                       counted / (time.time() - self.begin), self.seconds() / 60))
                shown[:] = 0
            if self.worker == 0 and step % a.every == 0:
                self.checkpoint(step)
            elif self.worker == 0 and step % 50 == 0:
                self.save(step)
        if self.worker == 0:
            self.checkpoint(step, last=True)
            log("step %d in %.0f min" % (step, self.seconds() / 60))


def work(worker, a):
    torch.set_num_threads(1)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    dist.init_process_group("gloo", init_method="file://" + os.path.abspath(a.rendezvous),
                            rank=worker, world_size=a.workers)
    Run(worker, a).go()
    dist.destroy_process_group()


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", default="models/starter")
    ap.add_argument("--work", default="starter-work", help="downloads, caches, resume state")
    ap.add_argument("--start", help="model to go on from: the first third of the run is left out")
    ap.add_argument("--mix", choices=sorted(queries.MIXES), default="across",
                    help="what lists ask more: across languages, or within one (to end with)")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--steps", type=int, default=5000)
    ap.add_argument("--minutes", type=float, help="time budget: finish by then, decay included")
    ap.add_argument("--lr", type=float, default=6e-4)
    ap.add_argument("--warmup", type=int, default=100, help="steps")
    ap.add_argument("--decay", type=float, default=0.55, help="last share of the run: decay to zero")
    ap.add_argument("--aux", type=float, default=0.5, help="weight of the helper targets")
    ap.add_argument("--teach", type=float, default=0.0, help="weight of the teacher's opinion")
    ap.add_argument("--taught", nargs="+", metavar="LANG", choices=corpus.LANGS,
                    help="the teacher sees only texts that are in one of these languages, too")
    ap.add_argument("--worn", type=float, default=0.0,
                    help="share of the lists whose documents lose some of their tokens")
    ap.add_argument("--every", type=int, default=250, help="steps between checkpoints")
    ap.add_argument("--dev", type=int, default=12, help="development lists per set")
    ap.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    ap.add_argument("--no-eval", action="store_true")
    a = ap.parse_args()
    os.makedirs(a.work, exist_ok=True)
    prepare(a.work, not a.start, a.mix, a.teach > 0, a.taught)  # once, before workers look for its files
    a.rendezvous = os.path.join(a.work, "workers-%d" % os.getpid())
    torch.multiprocessing.spawn(work, (a,), a.workers)
    if not a.no_eval:
        import eval as evaluation
        evaluation.run(a.work, a.out)


if __name__ == "__main__":
    main()
