"""Text of the Debian archive: package descriptions and their translations.

Everything is fetched by apt itself into a private directory, so the system's
own apt configuration and state stay untouched and no mirror is named here:
the sources configured on the machine (any Debian 12) are used.
"""
import json
import os
import re
import subprocess
import zlib
from collections import namedtuple

LANGS = ["en", "fr", "it", "de", "pt", "es"]
APT_LANG = {"pt": "pt_BR"}
RELEASE = "bookworm"  # the machine's

# source: source package (the unit of the train/held-out split)
# text: {language: (short description, long description)}
Entry = namedtuple("Entry", "name source text")

SPLITS = (("test", 10), ("dev", 12))  # below 10 % of sources: test; 10-12 %: dev


def split_of(source):
    """Stable split by source package; packages of one source share text."""
    slot = zlib.crc32(source.encode()) % 100
    for name, upper in SPLITS:
        if slot < upper:
            return name
    return "train"


def write_apt_config(root, mirror=None, release=None):
    for sub in ("lists/partial", "cache/archives/partial"):
        os.makedirs(os.path.join(root, sub), exist_ok=True)
    langs = "".join('"%s";' % APT_LANG.get(l, l) for l in LANGS)
    path = os.path.join(root, "apt.conf")
    with open(path, "w") as f:
        # An image may switch translations off in apt.conf.d; parts are skipped.
        f.write('Dir::Etc::parts "/dev/null";\n')
        f.write('Dir::State "%s";\nDir::State::lists "%s/lists";\n' % (root, root))
        f.write('Dir::Cache "%s/cache";\n' % root)
        if release:
            sources = os.path.join(root, "sources.list")
            f.write('Dir::Etc::sourcelist "%s";\nDir::Etc::sourceparts "/dev/null";\n' % sources)
            with open(sources, "w") as out:
                out.write("deb %s %s main\n" % (mirror, release))
        f.write("Acquire::Languages {%s};\n" % langs)
        f.write('Acquire::IndexTargets::deb::Components { MetaKey '
                '"$(COMPONENT)/dep11/Components-$(NATIVE_ARCHITECTURE).yml"; };\n')
    return path


def mirror_of(env):
    """Where apt gets Debian 12"""
    uris = subprocess.run(["apt-get", "update", "--print-uris"], env=env, check=True,
                          capture_output=True, text=True).stdout
    return re.search(r"^'(\S+)/dists/%s/InRelease'" % RELEASE, uris, re.M).group(1)


def fetch_indices(root, release=RELEASE):
    """{"Packages", "Components" or language: text of that index of the release's main component}"""
    env = dict(os.environ, APT_CONFIG=write_apt_config(root))
    if release != RELEASE:
        write_apt_config(root, mirror_of(env), release)
    subprocess.run(["apt-get", "-q", "update"], env=env, check=True, stdout=subprocess.DEVNULL)
    rows = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CREATED_BY)|$(LANGUAGE)|$(FILENAME)",
         "Codename: " + release, "Component: main"],
        env=env, check=True, capture_output=True, text=True).stdout.split("\n")
    out = {}
    for row in filter(None, rows):
        kind, lang, path = row.split("|")
        key = lang.split("_")[0] if kind == "Translations" else kind
        if kind in ("Packages", "Components", "Translations") and os.path.exists(path):
            # apt-helper undoes whatever compression apt keeps the list in.
            raw = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path],
                                 check=True, capture_output=True).stdout
            out[key] = raw.decode("utf-8", "replace")
    return out


def stanzas(text):
    for block in text.split("\n\n"):
        fields, key = {}, None
        for line in block.split("\n"):
            if line[:1] == " " and key:
                fields[key] += "\n" + line
            elif ":" in line:
                key, value = line.split(":", 1)
                fields[key] = value.strip()
        if fields:
            yield fields


def clean_long(lines):
    """Folded description lines -> one line of prose, list marks unified to '- '."""
    out = []
    for line in lines:
        line = line.strip()
        if line and line != ".":
            out.append(re.sub(r"^[-*+o•–—·]+\s+", "- ", line))
    return re.sub(r"\s+", " ", " ".join(out)).strip()


def describe(value):
    short, *rest = value.split("\n")
    return short.strip(), clean_long(rest)


def load_entries(work):
    """All packages that have a long description, sorted by name."""
    cache = os.path.join(work, "entries.jsonl")
    if not os.path.exists(cache):
        rows = packages(fetch_indices(os.path.join(work, "apt")))
        with open(cache, "w", encoding="utf-8") as f:
            for row in rows:
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
    return read_entries(cache)


def read_entries(cache):
    with open(cache, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    return [Entry(n, s, {k: tuple(v) for k, v in t.items()}) for n, s, t in rows]


def sources(packages):
    """{package: its source package}"""
    return {f["Package"]: f.get("Source", f["Package"]).split(" ")[0] for f in stanzas(packages)}


def packages(indices):
    """[Entry] of the packages in the indices, sorted by name"""
    source = sources(indices["Packages"])
    by_md5 = {}
    for lang in LANGS:
        for f in stanzas(indices.get(lang, "")):
            key = "Description-" + APT_LANG.get(lang, lang)
            if key in f:
                short, long = describe(f[key])
                item = by_md5.setdefault(f["Description-md5"], (f["Package"], {}))
                if 60 <= len(long) and len(short) > 5:
                    item[1][lang] = (short, long)
    seen, rows = set(), []
    for name, text in by_md5.values():
        # The same long text under two names would be a false negative.
        if "en" in text and text["en"][1] not in seen:
            seen.add(text["en"][1])
            rows.append(Entry(name, source.get(name, name), text))
    return sorted(rows, key=lambda e: (e.name, e.text["en"]))
