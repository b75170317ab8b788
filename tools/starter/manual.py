"""Text of a manual that is translated page by page: the help of LibreOffice.

2,561 pages that say the same in every language here, cut into sections; a section's heading is its
short text.  Spanish and Portuguese, in which few packages are described, gain most.  Fetched as
packages by apt, with the private configuration of corpus.py, and unpacked into the work directory.
"""
import glob
import json
import os
import re
import subprocess
from html.parser import HTMLParser

import corpus

PACKAGE = {"en": "en-us", "fr": "fr", "it": "it", "de": "de", "pt": "pt-br", "es": "es"}
FOLDER = {"en": "en-US", "pt": "pt-BR"}
HEADINGS = ("h1", "h2", "h3", "h4")
MARK = "manual/"
BLOCKS = HEADINGS + ("p", "li", "td", "th", "pre", "div")


class Sections(HTMLParser):
    """{id of a heading: [heading, text up to the next one]} of a page, in its order"""

    def __init__(self):
        super().__init__()
        self.found, self.now, self.part = {}, None, 0

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in HEADINGS:  # one without an id ends the page: what follows is not translated
            self.now = self.found.setdefault(attrs["id"], ["", ""]) if "id" in attrs else None
            self.part = 0
        elif tag in ("script", "style", "pre") or attrs.get("class") == "code":
            self.part = 2  # program text, up to the next heading or paragraph
        elif tag == "p":
            self.part = 1
        if tag in BLOCKS and self.now:
            self.now[min(self.part, 1)] += " "

    def handle_endtag(self, tag):
        if tag in HEADINGS:
            self.part = 1

    def handle_data(self, text):
        if self.now and self.part < 2:
            self.now[self.part] += text


def sections(path):
    parser = Sections()
    with open(path, encoding="utf-8") as f:
        parser.feed(f.read())
    return {k: tuple(re.sub(r"\s+", " ", t).strip() for t in v) for k, v in parser.found.items()}


def fetch(work):
    """The folder below which each language has its own"""
    root = os.path.join(work, "manual")
    env = dict(os.environ, APT_CONFIG=corpus.write_apt_config(os.path.join(work, "apt")))
    os.makedirs(root, exist_ok=True)
    for name in PACKAGE.values():
        subprocess.run(["apt-get", "-q", "download", "libreoffice-help-" + name], cwd=root, env=env,
                       check=True, stdout=subprocess.DEVNULL)
        for deb in glob.glob(os.path.join(root, "libreoffice-help-%s_*.deb" % name)):
            subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
            os.remove(deb)
    return os.path.join(root, "usr/share/libreoffice/help")


def is_section(entry):
    return entry.source.startswith(MARK)


def usable(text):
    return len(text[1]) >= 60 and 5 < len(text[0]) < 120


def titled(found):
    """Sections below the first one have the page's heading before their own."""
    title = next(iter(found.values()))[0] if found else ""
    return {k: (s if s == title else title + ": " + s, l) for k, (s, l) in found.items()}


def read(top):
    """[Entry], a section each; the page stands for the source package"""
    out, seen = [], set()
    base = os.path.join(top, "en-US")
    for path in sorted(glob.glob(os.path.join(base, "**/*.html"), recursive=True)):
        page = os.path.relpath(path, base)
        text = {lang: titled(sections(os.path.join(top, FOLDER.get(lang, lang), page)))
                for lang in PACKAGE}
        for number, english in text["en"].items():
            if not usable(english) or english[1] in seen:
                continue
            seen.add(english[1])
            # What nobody translated yet stands there in English.
            rows = {lang: t for lang, t in ((lang, text[lang].get(number, ("", ""))) for lang in PACKAGE)
                    if usable(t) and (lang == "en" or t[1] != english[1])}
            out.append(corpus.Entry("%s#%s" % (page, number), MARK + page, rows))
    return out


def load_entries(work):
    cache = os.path.join(work, "manual.jsonl")
    if not os.path.exists(cache):
        rows = read(fetch(work))
        with open(cache, "w", encoding="utf-8") as f:
            for row in rows:
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
    return corpus.read_entries(cache)
