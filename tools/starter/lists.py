"""Lists of a query with BM25's candidates, for evaluation and for calibration."""
import re

import numpy as np

from words import BM25

LIMIT = 400  # characters of a document
SETS = [("fr", "fr"), ("en", "en"), ("fr", "en"), ("en", "fr")]


def candidate_lists(entries, query_lang, doc_lang, limit, rng):
    """[{id, lang, query, documents, positive, bm25}]; see the protocol above"""
    pool = [e for e in entries if doc_lang in e.text]
    docs = [e.text[doc_lang][1][:LIMIT] for e in pool]
    asked = [i for i, e in enumerate(pool) if query_lang in e.text]
    asked = rng.sample(asked, min(limit, len(asked)))
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
