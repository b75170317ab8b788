#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""api_docs.py - the reference of the C and C++ API, by Doxygen, from the comments of include/.

    tools/api_docs.py FOLDER          writes FOLDER/html; exit status 77 without doxygen
    tools/api_docs.py --filter FILE   what Doxygen reads in FILE's place

Our comments are plain; the filter makes those that describe something Doxygen's.  Fails when Doxygen
complains, and when something public has no description.
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIG = """
PROJECT_NAME = librerank
PROJECT_NUMBER = "%(version)s"
PROJECT_BRIEF = "Cross-encoder reranking: the C and C++ API"
OUTPUT_DIRECTORY = "%(folder)s"
INPUT = %(inputs)s
EXAMPLE_PATH = "%(root)s/examples"
EXAMPLE_PATTERNS = *.c
STRIP_FROM_PATH = "%(root)s/include"
FULL_PATH_NAMES = NO
FILTER_PATTERNS = *.h="%(me)s --filter" *.hpp="%(me)s --filter"
EXTENSION_MAPPING = h=C hpp=C++
OPTIMIZE_OUTPUT_FOR_C = YES
JAVADOC_AUTOBRIEF = YES
MARKDOWN_SUPPORT = NO
EXTRACT_ALL = YES
AUTOLINK_SUPPORT = YES
MACRO_EXPANSION = YES
EXPAND_ONLY_PREDEF = YES
PREDEFINED = RR_PUBLIC= RR_PUBLIC_NODISCARD=
EXCLUDE_SYMBOLS = RR_PUBLIC* RERANK*_H*
GENERATE_LATEX = NO
GENERATE_XML = YES
HAVE_DOT = NO
SORT_MEMBER_DOCS = NO
QUIET = YES
WARN_IF_UNDOCUMENTED = NO
WARN_AS_ERROR = FAIL_ON_WARNINGS
"""


def literal(comment):
    """Indented lines of a comment are code; Doxygen's own signs are text."""
    out, code = [], False
    for line in comment.split("\n"):
        inside = bool(re.match(r" ?(\*|//)     ", line)) or (code and re.fullmatch(r" ?(\*|//) *", line))
        if inside != code:
            out.append(" * \\code" if inside else " * \\endcode")
            code = inside
        text = line if inside else re.sub(r"([\\@#<>&%])", r"\\\1", line)
        out.append(re.sub(r"^( ?)//", r"\1 *", text))
    if code:
        out.append(" * \\endcode")
    return "\n".join(out)


def for_doxygen(text, name):
    """/* ... */ in front of something, /* ... */ behind it, and // ... of C++."""
    text = re.sub(r"((?:^ *// ?.*\n)+)", lambda m: "/* " + "\n".join(
        line.strip()[2:].strip() if i == 0 else " *" + line.strip()[2:]
        for i, line in enumerate(m.group(1).splitlines())) + " */\n", text, flags=re.M)

    def change(match):
        before, body = match.group(1), match.group(2)
        if "SPDX" in body or re.match(r"\s*-{4}", body):
            return before + "/* */"
        if body.strip().startswith(name + " - "):
            return "%s/** @file\n * %s */" % (before, literal(body.strip()[len(name) + 3:]))
        sign = "/**<" if before.strip() else "/**"
        return "%s%s %s */" % (before, sign, literal(body.strip()))
    return re.sub(r"^([^\n]*?)/\*(.*?)\*/", change, text, flags=re.M | re.S)


def undescribed(folder):
    """Public functions and structs that have no description in what Doxygen understood."""
    with open(os.path.join(ROOT, "include", "rerank.h"), encoding="utf-8") as f:
        wanted = set(re.findall(r"RR_PUBLIC[A-Z_]* [^;(]*?\b(rr_\w+)\(", f.read()))
    described = set()
    for path in glob.glob(os.path.join(folder, "xml", "*_8h.xml")):
        for member in xml.etree.ElementTree.parse(path).iter("memberdef"):
            text = "".join(member.find("briefdescription").itertext()) + "".join(
                member.find("detaileddescription").itertext())
            if text.strip():
                described.add(member.findtext("name"))
    return len(wanted), sorted(wanted - described)


def main():
    if sys.argv[1] == "--filter":
        with open(sys.argv[2], encoding="utf-8") as f:
            sys.stdout.write(for_doxygen(f.read(), os.path.basename(sys.argv[2])))
        return 0
    if not shutil.which("doxygen"):
        print("SKIP: doxygen is not installed")
        return 77
    folder = os.path.abspath(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(ROOT, "include", "rerank.h"), encoding="utf-8") as f:
        version = re.search(r'#define RR_VERSION "(.*)"', f.read()).group(1)
    inputs = sorted(glob.glob(os.path.join(ROOT, "include", "rerank*.h*")))
    config = CONFIG % {"version": version, "folder": folder, "root": ROOT,
                       "me": os.path.abspath(__file__),
                       "inputs": " ".join('"%s"' % x for x in inputs)}
    p = subprocess.run(["doxygen", "-"], input=config.encode(), check=False, stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE)
    n, missing = undescribed(folder)
    sys.stderr.write(p.stderr.decode("utf-8", "replace"))
    for name in missing:
        print("%s has no description" % name, file=sys.stderr)
    print("%s: %d functions" % (os.path.join(sys.argv[1], "html", "index.html"), n))
    return 1 if p.returncode or missing or not n else 0


if __name__ == "__main__":
    sys.exit(main())
