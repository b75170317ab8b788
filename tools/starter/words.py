"""Words, accent folding, crude stems, BM25."""
import functools
import re
import unicodedata

import numpy as np
import scipy.sparse as sp

WORD = re.compile(r"\w+")
LIMIT = 400  # characters of a document among candidates
STOP = set("""
the and for with that this from are you can your not has have which will other use
used uses also its into using all any but was what how who where when does why about
is it in of to on as at by an or be we do if
les des une est dans pour par sur avec qui que dont aux ces ses ils elle elles sont
pas plus ainsi cette ceci comme peut mais nous vous quel quelle quels quelles quoi
comment pourquoi quand ou où fait faire entre sans sous leur leurs son être ete été
le la un de du et en au ce se sa il on je tu ne
der die das und ist mit von den dem des ein eine einer eines für auf nicht auch wird
sich oder als zum zur bei wie was im
che per con del della dei delle degli una uno non sono nel nella alla come più questo
questa gli di il lo da si al
para com uma dos das por como mais los las una con que el al se su sus es son este esta estos
estas lo le unos unas sin sobre entre muy ser está están pero también cómo qué dónde cuál puede
o a um ao na no nos nas os as não foi são seu sua seus suas este esta isso isto pelo pela pode
também mas ou quando onde qual ser está
""".split())


def fold(word):
    """lower case without accents"""
    return "".join(c for c in unicodedata.normalize("NFD", word.lower())
                   if not unicodedata.combining(c))


STOP |= {fold(w) for w in STOP}


@functools.lru_cache(1 << 18)
def stem(word):
    """A crude stem shared by inflected forms; '' for stop words and scraps."""
    w = fold(word)
    if w in STOP or (len(w) < 3 and not w.isdigit()):
        return ""
    if len(w) > 6:
        return w[:6]
    return w.rstrip("sxe") if len(w) > 4 else w.rstrip("s")


def terms(text):
    return [fold(w) for w in WORD.findall(text)]


class BM25:
    """Okapi BM25 over lower-cased, accent-folded words, no stemming."""

    def __init__(self, docs, k1=1.2, b=0.75):
        self.vocab = {}
        rows, cols, lens = [], [], []
        for i, doc in enumerate(docs):
            ids = [self.vocab.setdefault(t, len(self.vocab)) for t in terms(doc)]
            rows += [i] * len(ids)
            cols += ids
            lens.append(len(ids))
        shape = (len(docs), max(1, len(self.vocab)))
        m = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, cols)), shape=shape)
        m.sum_duplicates()
        df = np.bincount(m.indices, minlength=shape[1])
        idf = np.log(1 + (len(docs) - df + 0.5) / (df + 0.5)).astype(np.float32)
        norm = k1 * (1 - b + b * np.array(lens) / max(1.0, np.mean(lens)))
        per = np.repeat(norm, np.diff(m.indptr)).astype(np.float32)
        m.data = m.data * (k1 + 1) / (m.data + per) * idf[m.indices]
        self.matrix = m.T.tocsr()  # term x document

    def query_matrix(self, queries):
        rows, cols = [], []
        for i, q in enumerate(queries):
            ids = {self.vocab[t] for t in terms(q) if t in self.vocab}
            rows += [i] * len(ids)
            cols += ids
        shape = (len(queries), self.matrix.shape[0])
        return sp.csr_matrix((np.ones(len(rows), np.float32), (rows, cols)), shape=shape)

    def top(self, queries, k, block=256):
        """(ids, scores) of the k best documents of each query, best first"""
        for start in range(0, len(queries), block):
            dense = (self.query_matrix(queries[start:start + block]) @ self.matrix).toarray()
            part = np.argpartition(-dense, k, axis=1)[:, :k] if dense.shape[1] > k else \
                np.tile(np.arange(dense.shape[1]), (len(dense), 1))
            for row, ids in zip(dense, part):
                ids = ids[np.argsort(-row[ids], kind="stable")]
                yield ids, row[ids]
