"""Text of the releases of Debian before and after: packages that only they describe, or describe anew.

A third more text in Portuguese and French, a seventh in Spanish.  Fetched by apt from where the
machine gets Debian 12 (corpus.py), with the applications' metadata (apps.py).  For training only:
what says the same as a held-out package, or is another version of one, is left out.
"""
import json
import os
import re

import apps
import corpus

RELEASES = "bullseye", "trixie"


def family(source):
    """The name of a source package without its version: gcc-12 and gcc-14 are both gcc-"""
    return re.sub(r"[\d.]+", "", source)


def beginning(text):
    """What tells whether two texts are the same, but for later corrections"""
    return re.sub(r"\W+", "", text.lower())[:60]


def texts(entry):
    return [text for pair in entry.text.values() for text in pair]


def added(entries, more):
    """The entries of `more` that have a text of their own and are not held out"""
    held = [e for e in entries if corpus.split_of(e.source) != "train"]
    families = {family(e.source) for e in held}
    closed = {beginning(t) for e in held for t in texts(e)}
    known = {long for e in entries for _, long in e.text.values()}
    same = {e.text["en"][1]: e.source for e in entries}
    out = []
    for e in more:
        # A source package that was renamed describes the same thing: never a negative.
        e = e._replace(source=same.setdefault(e.text["en"][1], e.source))
        if corpus.split_of(e.source) != "train" or family(e.source) in families:
            continue
        if any(beginning(t) in closed for t in texts(e)):
            continue
        fresh = {long for _, long in e.text.values()} - known
        if fresh:
            known |= fresh
            out.append(e)
    return out


def load_entries(work, entries):
    """Training entries beside those of `entries`, Debian 12's packages and applications"""
    cache = os.path.join(work, "releases.jsonl")
    if not os.path.exists(cache):
        more = []
        for release in RELEASES:
            indices = corpus.fetch_indices(os.path.join(work, "apt-" + release), release)
            more += corpus.packages(indices)
            more += apps.read(indices["Components"], corpus.sources(indices["Packages"]))
        with open(cache, "w", encoding="utf-8") as f:
            for row in added(entries, more):
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
    return corpus.read_entries(cache)
