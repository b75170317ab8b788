"""A starting point that already knows what "the same word" means.

A cross-encoder trained from nothing needs very long to discover token
matching.  Three things shorten that to minutes:
  * the embedding of a piece = its spelling (hashed character n-grams) + its
    meaning (latent semantic analysis over descriptions joined with their
    translations, which puts French and English in one space) + a few features;
  * positions are sinusoids in dimensions of their own;
  * some attention heads start as "look at similar spelling / meaning, rather
    far away than here", others as "previous token" and "next token".
Everything is trained further afterwards.
"""
import math
import os
import zlib

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import svds

from words import fold, stem

FORM, MEANING, FEATURES, PLACE = slice(0, 96), slice(96, 192), slice(192, 200), slice(200, 224)
HIDDEN, HEAD, FREQS = 224, 32, 12
WAVES = 2.5 * (1000 / 2.5) ** (np.arange(FREQS) / (FREQS - 1))  # wave lengths in tokens


def unit(m):
    return m / np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-9)


def piece_counts(tok, entries):
    """entry x piece counts, one row per entry with all its languages together"""
    data, indices, indptr = [], [], [0]
    for start in range(0, len(entries), 2000):
        chunk = entries[start:start + 2000]
        texts = [" ".join(s + " " + l[:500] for s, l in e.text.values()) for e in chunk]
        for enc in tok.encode_batch(texts, add_special_tokens=False):
            ids, n = np.unique(enc.ids, return_counts=True)
            indices.append(ids)
            data.append(n)
            indptr.append(indptr[-1] + len(ids))
    shape = (len(entries), tok.get_vocab_size())
    return sp.csr_matrix((np.concatenate(data).astype(np.float32), np.concatenate(indices), indptr),
                         shape=shape)


def meaning_vectors(counts, idf, size):
    m = counts.copy()
    m.data = np.log1p(m.data) * idf[m.indices]
    norm = np.sqrt(np.asarray(m.multiply(m).sum(1)).ravel())
    m = sp.diags(1 / np.maximum(norm, 1e-9)) @ m
    _, s, vt = svds(m.astype(np.float32), k=size + 1, v0=np.ones(min(m.shape), np.float32))
    order = np.argsort(-s)[1:]  # the first component is mere frequency
    return unit((vt[order] * np.sqrt(s[order])[:, None]).T)


def ngrams(piece):
    """Weighted character n-grams of the folded piece; word beginnings count more."""
    word = fold(piece.replace("\u2581", "^"))
    out = {"=" + word: 1.0}
    for n in range(1, 6):
        for i in range(len(word) - n + 1):
            gram = word[i:i + n]
            out[gram] = out.get(gram, 0) + (0.3 if n == 1 else 1.0) * (1.5 if i == 0 else 1.0)
    return out


def form_vectors(pieces, size):
    out = np.zeros((len(pieces), size), np.float32)
    known = {}
    for row, piece in enumerate(pieces):
        for gram, weight in ngrams(piece).items():
            if gram not in known:
                known[gram] = np.random.default_rng(zlib.crc32(gram.encode())).standard_normal(size)
            out[row] += weight * known[gram]
    return unit(out)


def features(pieces, idf):
    body = [p.replace("\u2581", "") for p in pieces]
    scale = (idf - idf.mean()) / idf.std()
    return np.stack([
        scale,
        [1.0 if p.startswith("\u2581") else -1.0 for p in pieces],
        [1.0 if not any(c.isalnum() for c in b) else -0.2 for b in body],
        [min(len(b), 10) / 4 - 1 for b in body],
        [1.0 if any(c.isdigit() for c in b) else -0.2 for b in body],
        [1.0 if b[:1].isupper() else -0.3 for b in body],
        np.minimum(scale, 0), np.maximum(scale, 0)], axis=1).astype(np.float32)


def align(meaning, pieces, translation):
    """Move the meaning of foreign words most of the way to that of their translation."""
    by_stem = {}
    for i, p in enumerate(pieces):
        if p.startswith("\u2581") and stem(p[1:]):
            by_stem.setdefault(stem(p[1:]), []).append(i)
    out = meaning.copy()
    for word, other in translation.items():
        if word in by_stem and other in by_stem:
            out[by_stem[word]] = 0.35 * meaning[by_stem[word]] + 0.65 * meaning[by_stem[other]].mean(0)
    return unit(out)


def embeddings(tok, entries, work, translation):
    """word embedding table, float32 [vocabulary, HIDDEN]"""
    cache = os.path.join(work, "embeddings.npy")
    if os.path.exists(cache):
        return np.load(cache)
    pieces = [tok.id_to_token(i) for i in range(tok.get_vocab_size())]
    counts = piece_counts(tok, entries)
    df = np.bincount(counts.indices, minlength=len(pieces))
    idf = np.log((1 + len(entries)) / (1 + df)).astype(np.float32)
    rng = np.random.default_rng(7)
    out = np.zeros((len(pieces), HIDDEN), np.float32)
    # Frequent pieces match everything and nothing: shorter content vectors.
    strength = (0.4 + 0.5 * np.clip(idf / 7, 0, 1))[:, None] * math.sqrt(96)
    turn = np.linalg.qr(rng.standard_normal((96, 96)))[0]  # spread meaning over its dimensions
    out[:, FORM] = form_vectors(pieces, 96) * strength
    meaning = align(meaning_vectors(counts, idf, 96), pieces, translation)
    out[:, MEANING] = meaning @ turn * strength
    out[:, FEATURES] = features(pieces, idf)
    out[:5] = rng.standard_normal((5, HIDDEN)) * 0.8
    out[[0, 1, 2, 3, -1], PLACE] = 0
    np.save(cache, out)
    return out


def positions(count):
    angle = np.arange(count)[:, None] * (2 * math.pi / WAVES)
    out = np.zeros((count, HIDDEN), np.float32)
    out[:, PLACE] = np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(count, -1)
    return out


def match_head(block, part, rng_turn, gain=2.0, far=2.0):
    """(W_q, W_k) of a head that looks for similar content away from itself"""
    q = torch.zeros(HEAD, HIDDEN)
    q[:HEAD - 2, block] = rng_turn[part * 32:part * 32 + HEAD - 2] * math.sqrt(gain)
    k = q.clone()
    wave = int(np.argmin(abs(WAVES - 150)))
    for i in (0, 1):
        q[HEAD - 2 + i, PLACE.start + 2 * wave + i] = -math.sqrt(far * math.sqrt(HEAD))
        k[HEAD - 2 + i, PLACE.start + 2 * wave + i] = math.sqrt(far * math.sqrt(HEAD))
    return q, k


def shift_head(offset, gain=6.0):
    """(W_q, W_k) of a head that looks at the token `offset` places further on"""
    q, k = torch.zeros(HEAD, HIDDEN), torch.zeros(HEAD, HIDDEN)
    for f, wave in enumerate(WAVES):
        a, c = 2 * math.pi * offset / wave, PLACE.start + 2 * f
        q[2 * f, c], q[2 * f, c + 1] = math.cos(a), -math.sin(a)
        q[2 * f + 1, c], q[2 * f + 1, c + 1] = math.sin(a), math.cos(a)
        k[2 * f, c] = k[2 * f + 1, c + 1] = 1.0
    return q * math.sqrt(gain), k * math.sqrt(gain)


# Heads by layer: F/M = spelling/meaning, thirds 0-2 of their dimensions;
# + and - = next and previous token; . = random.
PLAN = [["-", "+", "F0", "F1", "M0", "M1", "."],
        ["F0", "F1", "F2", "M0", "M1", "M2", "."],
        ["F0", "M2", "-", "+", ".", ".", "."],
        [".", ".", ".", ".", ".", ".", "."]]


def start_model(model, table, seed):
    """Write the starting point into an XLMRobertaForSequenceClassification."""
    g = torch.Generator().manual_seed(seed)

    def noise(p, gain):
        p.copy_(torch.randn(p.shape, generator=g) * gain / math.sqrt(p.shape[-1]))

    with torch.no_grad():
        emb = model.roberta.embeddings
        emb.word_embeddings.weight.copy_(torch.from_numpy(table))
        emb.position_embeddings.weight.copy_(
            torch.from_numpy(positions(emb.position_embeddings.weight.shape[0])))
        emb.token_type_embeddings.weight.zero_()
        turn = torch.linalg.qr(torch.randn(96, 96, generator=g))[0]
        for layer, plan in zip(model.roberta.encoder.layer, PLAN):
            att = layer.attention.self
            for p, gain in ((att.query.weight, 0.7), (att.key.weight, 0.7), (att.value.weight, 1.0),
                            (layer.attention.output.dense.weight, 0.5),
                            (layer.intermediate.dense.weight, 1.0), (layer.output.dense.weight, 0.5)):
                noise(p, gain)
            for h, kind in enumerate(plan):
                rows = slice(h * HEAD, h * HEAD + HEAD)
                if kind in "+-":
                    pair = shift_head(1 if kind == "+" else -1)
                elif kind != ".":
                    pair = match_head(FORM if kind[0] == "F" else MEANING, int(kind[1]), turn)
                else:
                    continue
                att.query.weight[rows], att.key.weight[rows] = pair
        noise(model.classifier.dense.weight, 1.0)
        noise(model.classifier.out_proj.weight, 0.5)
