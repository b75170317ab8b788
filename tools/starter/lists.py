"""Lists of a query with BM25's candidates, for evaluation and for calibration."""
import math
import random
import re

import numpy as np

from words import BM25, LIMIT

# (query language, document language)
SETS = [("fr", "fr"), ("en", "en"), ("fr", "en"), ("en", "fr"),
        ("de", "de"), ("es", "es"), ("it", "it"), ("pt", "pt"),
        ("de", "en"), ("en", "de"), ("es", "en"), ("it", "en"), ("pt", "en"), ("it", "fr")]


def candidate_lists(entries, query_lang, doc_lang, limit, seed):
    """[{id, lang, query, documents, positive, in_top20, bm25}], the protocol of eval.py; with a
    smaller limit the first ones of the same lists"""
    rng = random.Random("%d %s %s" % (seed, query_lang, doc_lang))
    pool = [e for e in entries if doc_lang in e.text]
    docs = [e.text[doc_lang][1][:LIMIT] for e in pool]
    asked = [i for i, e in enumerate(pool) if query_lang in e.text]
    asked = rng.sample(asked, len(asked))[:limit]
    bm25 = BM25(docs)
    find = [pool[i].text[doc_lang][0] for i in asked]
    real = [pool[i].text[query_lang][0] for i in asked]
    out = []
    for i, query, (ids, _) in zip(asked, real, bm25.top(find, 120)):
        rest = [j for j in ids if pool[j].source != pool[i].source and docs[j] != docs[i]]
        found = [j for j in ids if j == i or j in rest]
        chosen = found[:20] if i in found[:20] else found[:19] + [i]
        rng.shuffle(chosen)
        scores = np.asarray((bm25.query_matrix([query]) @ bm25.matrix[:, chosen]).todense())[0]
        out.append(dict(id=pool[i].name, lang=query_lang + "-" + doc_lang, query=query,
                        documents=[docs[j] for j in chosen], positive=chosen.index(i),
                        in_top20=i in found[:20], bm25=scores))
    return out


def quotes_host(row):
    return bool(re.search(r"://|\.(org|com|net|io|dev)\b|pypi", " ".join(row["documents"]), re.I))


def metrics(lists, scores):
    """(MRR@10, nDCG@10, share with the right one first); one right document per list"""
    mrr = ndcg = first = 0.0
    for row, z in zip(lists, scores):
        p = row["positive"]
        # Ties go to the others: a constant score must not look good.
        rank = 1 + sum(1 for k, s in enumerate(z) if k != p and s >= z[p])
        if rank <= 10:
            mrr += 1 / rank
            ndcg += 1 / math.log2(1 + rank)
        first += rank == 1
    n = len(lists)
    return mrr / n, ndcg / n, first / n
