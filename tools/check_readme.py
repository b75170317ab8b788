#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_readme.py - README.fr.md says what README.md says: the same chapters, code, tables, names and
links, in the same order.  Whether the sentences are right is for people to see.

    tools/check_readme.py [--self-test]
"""
import difflib
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CODE = re.compile(r"^```.*?^```$", re.S | re.M)


def skeleton(text):
    """Lines that have to be equal in both languages, each with what it is."""
    out, at = [], 0
    for block in [*CODE.finditer(text), None]:
        out += prose(text[at:block.start() if block else len(text)])
        if block:
            out += ["code     " + line for line in block.group().splitlines()]
            at = block.end()
    return out


def prose(text):
    out = []
    for part in re.split(r"\n\n+", text):
        if part.strip() in ("[English](README.md)", "[Français](README.fr.md)"):
            continue
        heading = re.match(r"\n*(#+) ", part)
        if heading:
            out.append("heading  " + heading.group(1))
        out += ["row      %d columns" % (line.count("|") - 1)
                for line in part.splitlines() if line.startswith("|")]
        out += ["item"] * len(re.findall(r"^- ", part, re.M))
        # Word order differs between languages, so what is named is compared by paragraph.
        names = [re.sub(r"\s+", " ", n) for n in re.findall(r"`([^`]+)`", part)]
        links = [p.replace(".fr.md", ".md") for p in re.findall(r"\]\(([^)]+)\)", part)]
        out += ["name     " + n for n in sorted(names)]
        out += ["link     " + p for p in sorted(links)]
        plain = re.sub(r"`[^`]+`|\]\([^)]*\)", "", part)
        plain = re.sub(r"(?<=\d)[, \u00a0\u202f](?=\d\d\d\b)", "", plain)  # thousands
        out += ["figure   " + n for n in sorted(re.findall(r"\d+", plain))]
    return out


def differences(english, french):
    return [d for d in difflib.unified_diff(skeleton(english), skeleton(french), "README.md",
                                            "README.fr.md", lineterm="", n=2)]


def self_test(english, french):
    """It notices a change of any kind."""
    for old, new in (("\n## API\n", "\n"), ("make run\n", "make start\n"), ("`PORT`", "`PROT`"),
                     ("docs/GPU.md)", "docs/CPU.md)"), ("| cmocka", "| | cmocka"), ("8002.", "8003.")):
        assert old in english, old
        assert differences(english.replace(old, new, 1), french), (old, new)


def main():
    texts = []
    for name in ("README.md", "README.fr.md"):
        with open(os.path.join(ROOT, name), encoding="utf-8") as f:
            texts.append(f.read())
    if sys.argv[1:] == ["--self-test"]:
        self_test(*texts)
    found = differences(*texts)
    if found:
        print("README.fr.md is not in step with README.md:\n" + "\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
