"""Text about applications: the archive's AppStream metadata.

A component's summary and description are written like a package's short and long description, and
are translated by the applications' own projects: a quarter more text in Spanish.  Fetched with the
archive's other indices (corpus.py); the split is that of the package's source.
"""
import html
import json
import os
import re

import yaml

import corpus

MARK = "apps/"
LOCALE = {"en": "C", "pt": "pt_BR"}


def clean(markup):
    """The description's paragraphs and list items as one line of prose"""
    text = re.sub(r"<li[^>]*>", " - ", markup)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", text))).strip()


def read(components, source):
    """[Entry] of the components in the index's text; source: {package: its source package}"""
    out, seen = [], set()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for c in yaml.load_all(components, loader):
        if "Package" not in c:  # the first document says what the index is
            continue
        text = {}
        for lang in corpus.LANGS:
            code = LOCALE.get(lang, lang)
            short = c.get("Summary", {}).get(code, "").strip()
            long = clean(c.get("Description", {}).get(code, ""))
            if 60 <= len(long) and 5 < len(short):
                text[lang] = (short, long)
        if "en" in text and text["en"][1] not in seen:
            seen.add(text["en"][1])
            out.append(corpus.Entry(MARK + c["ID"], source.get(c["Package"], c["Package"]), text))
    return sorted(out, key=lambda e: (e.name, e.source))


def load_entries(work):
    """The components of training packages"""
    cache = os.path.join(work, "apps.jsonl")
    if not os.path.exists(cache):
        indices = corpus.fetch_indices(os.path.join(work, "apt"))
        rows = read(indices["Components"], corpus.sources(indices["Packages"]))
        with open(cache, "w", encoding="utf-8") as f:
            for row in rows:
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
    return [e for e in corpus.read_entries(cache) if corpus.split_of(e.source) == "train"]
