#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_layers.py - the rules of the sources that a compiler does not know.

    tools/check_layers.py [ROOT]       checks src/ and include/, lists every break, exit status 1
    tools/check_layers.py --self-test  shows that each rule rejects a file that breaks it

Rules: who may include whom (LAYERS), which functions are called where (BANNED), at most 600 lines in
a file and 60 in a function, a licence line, 100 columns, no tabs, no notes to self.
A generated table says "Made by tools/..." in its first five lines; its size is free.
"""
import os
import re
import sys
import tempfile

MAX_FILE, MAX_FUNCTION, MAX_COLUMNS = 600, 60, 100

# Libraries that only some layers may see.  Any other <header> is the C library's or the system's.
LIBRARIES = {"jansson.h", "microhttpd.h", "gnutls/gnutls.h", "gnutls/crypto.h", "gnutls/x509.h",
             "gnutls/abstract.h", "seccomp.h", "utf8proc.h", "xxhash.h", "pcre2.h", "cmocka.h",
             "curl/curl.h", "hiredis/read.h"}

# layer: (quoted includes as regular expressions, libraries).  A layer may always include itself.
LAYERS = {
    "base": (["rerank_types.h"], []),
    "cpu": (["base/", "rerank_types.h", "rerank_backend.h"], []),
    "tok": (["base/", "rerank_types.h"], ["jansson.h", "xxhash.h", "utf8proc.h", "pcre2.h"]),
    "quant": (["base/", "cpu/", "rerank_types.h"], ["xxhash.h"]),
    "backend": (["base/", "cpu/", "quant/packed.h", "rerank_types.h", "rerank_backend.h"], []),
    "model": (["base/", "backend/registry.h", "rerank_types.h", "rerank_backend.h"],
              ["jansson.h", "xxhash.h"]),
    "cache": (["base/", "rerank_types.h"], ["xxhash.h"]),
    "engine": (["base/", "tok/tok.h", "tok/prompt.h", "model/model.h", "model/convert.h", "model/export.h", "quant/",
                "cache/", "cpu/features.h", "cpu/topology.h", "cpu/kern.h", "cpu/numa.h",
                "cpu/peak.h", "cpu/pool.h", "cpu/pressure.h", "cpu/weights.h",
                "backend/registry.h", "rerank.h", "rerank_types.h",
                "rerank_backend.h"], []),
    "hub": (["base/", "rerank_types.h"], ["jansson.h"]),
    "server": (["base/", "options.h", "options.def", "rerank.h", "rerank_types.h"], ["jansson.h"]),
    "cli": (["base/", "options.h", "options.def", "hub/hub.h", "server/serve.h", "server/keys.h",
             "server/notify.h", "rerank.h", "rerank_types.h"], ["jansson.h"]),
    "top": (["base/", "cli/", "server/serve.h", "options", "rerank.h", "rerank_types.h"], []),
    "public": (["rerank_types.h"], []),
}
# Files whose libraries differ from those of their layer.
LIBRARIES_OF = {
    r"src/base/json(_lift)?\.[ch]": ["jansson.h"],
    r"src/server/http_mhd\.c": ["jansson.h", "microhttpd.h"],
    r"src/hub/(http\.[ch]|fetch\.c|pull\.c)": ["curl/curl.h"],
    r"src/hub/digest\.c": ["gnutls/crypto.h"],
    r"src/server/otlp\.c": ["jansson.h", "curl/curl.h"],
    r"src/server/(tls|secret)\.c": ["gnutls/gnutls.h", "gnutls/crypto.h", "gnutls/x509.h",
                                   "gnutls/abstract.h"],
    r"src/server/sandbox_calls\.c": ["seccomp.h"],
    r"src/cache/replies\.c": ["hiredis/read.h"],
    r"src/cache/wire\.c": ["gnutls/gnutls.h"],
}

# Files that may include more than their layer.
INCLUDES_OF = {
    r"src/cpu/x86/.*": ["emul_"],  # the tests' emulation of instructions
}

OUTPUT = r"src/(base/log\.c|options\w*\.c|main\.c|cli/.*)"
BANNED = [  # (functions, where they are allowed, what to use)
    ("malloc calloc realloc free strdup strndup asprintf vasprintf aligned_alloc posix_memalign",
     r"src/base/mem\.c", "base/mem.h"),
    ("printf vprintf fprintf vfprintf puts fputs putchar fputc perror", OUTPUT, "base/log.h"),
    ("getenv secure_getenv setenv putenv", r"src/options\w*\.c", "options.h"),
    ("abort exit _exit quick_exit assert", r"src/(main\.c|cli/.*)", "an error code"),
    ("strcpy strcat sprintf vsprintf gets strtok alloca", r"", "a form that knows the size"),
    ("atoi atol atoll atof", r"", "strtol and its error"),
    ("system popen", r"", "nothing"),
]

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')
GENERATED = re.compile(r"(generated|made) by tools/", re.I)
NOTES = re.compile(r"\b(TODO|FIXME|XXX)\b")


def strip(text):
    """Blanks comments, strings and character constants, keeping the lines."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def layer_of(path):
    if path.startswith("include/"):
        return "public"
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else "top"


def check_includes(path, lines):
    layer = layer_of(path)
    if layer not in LAYERS:
        yield 1, f"folder src/{layer} is not in the table of layers"
        return
    allowed, libraries = LAYERS[layer]
    for pattern, own in LIBRARIES_OF.items():
        if re.fullmatch(pattern, path):
            libraries = own
    for pattern, more in INCLUDES_OF.items():
        if re.fullmatch(pattern, path):
            allowed = allowed + more
    for number, line in enumerate(lines, 1):
        m = INCLUDE.match(line)
        if not m:
            continue
        name = m.group(2)
        if m.group(1) == "<":
            if name in LIBRARIES and name not in libraries:
                yield number, f"{layer} may not use the library of <{name}>"
        elif not (name.startswith(layer + "/") or (layer == "top" and "/" not in name)
                  or any(name.startswith(a) for a in allowed)):
            yield number, f"{layer} may not include \"{name}\""


def check_calls(path, code):
    for functions, where, instead in BANNED:
        if where and re.fullmatch(where, path):
            continue
        pattern = re.compile(r"(?<![\w.>])(" + "|".join(functions.split()) + r")\s*\(")
        for number, line in enumerate(code.split("\n"), 1):
            for m in pattern.finditer(line):
                yield number, f"{m.group(1)}() is not called here: use {instead}"


def generated(lines):
    return any(GENERATED.search(line) for line in lines[:5])


def check_lengths(path, lines, code):
    if len(lines) > MAX_FILE and not generated(lines):
        yield len(lines), f"{len(lines)} lines, at most {MAX_FILE}"
    start = None
    for number, line in enumerate(code.split("\n"), 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            if number - start - 1 > MAX_FUNCTION:
                yield start, f"function of {number - start - 1} lines, at most {MAX_FUNCTION}"
            start = None


def check_form(path, lines):
    if not lines or lines[0] != "/* SPDX-License-Identifier: Apache-2.0 */":
        yield 1, "the first line is not the licence line"
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            yield number, "tab"
        if line != line.rstrip():
            yield number, "white space at the end"
        if len(line) > MAX_COLUMNS and not path.endswith(".def") and not generated(lines):
            yield number, f"{len(line)} columns, at most {MAX_COLUMNS}"
        if NOTES.search(line):
            yield number, "a note to self: do it or write an issue"


def check_file(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        text = f.read()
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    code = strip(text)
    yield from check_includes(path, lines)
    yield from check_calls(path, code)
    yield from check_lengths(path, lines, code)
    yield from check_form(path, lines)


def check_tree(root):
    problems, count = [], 0
    for top in ("include", "src"):
        for folder, folders, files in os.walk(os.path.join(root, top)):
            folders.sort()
            for name in sorted(files):
                if not name.endswith((".c", ".h", ".def", ".cu", ".cuh")):
                    continue
                path = os.path.relpath(os.path.join(folder, name), root)
                count += 1
                problems += [f"{path}:{n}: {what}" for n, what in check_file(root, path)]
    return count, problems


HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n"
BAD = [  # path, text, part of the message that must appear (None: must be accepted)
    ("src/base/ok.c", HEAD + '#include "base/mem.h"\n#include <stdio.h>\n', None),
    ("src/base/a.c", HEAD + '#include "tok/tok.h"\n', 'base may not include "tok/tok.h"'),
    ("src/base/b.c", HEAD + "#include <jansson.h>\n", "<jansson.h>"),
    ("src/base/json.c", HEAD + "#include <jansson.h>\n", None),
    ("src/engine/c.c", HEAD + '#include "tok/unigram.h"\n', 'engine may not include'),
    ("src/server/d.c", HEAD + '#include "engine/job.h"\n', "server may not include"),
    ("src/server/e.c", HEAD + "#include <microhttpd.h>\n", "<microhttpd.h>"),
    ("src/tok/f.c", HEAD + '#include "model/model.h"\n', "tok may not include"),
    ("src/hub/e2.c", HEAD + "#include <curl/curl.h>\n", "<curl/curl.h>"),
    ("src/hub/http.c", HEAD + "#include <curl/curl.h>\n", None),
    ("src/server/e3.c", HEAD + '#include "hub/hub.h"\n', "server may not include"),
    ("src/odd/g.c", HEAD, "not in the table"),
    ("src/tok/h.c", HEAD + "void *p = malloc(3);\n", "malloc()"),
    ("src/tok/i.c", HEAD + "/* malloc(3) */\nconst char *s = \"free(p)\";\n", None),
    ("src/tok/j.c", HEAD + "int x = tok->free(1) + rr_free(2) + t.exit(3);\n", None),
    ("src/tok/k.c", HEAD + "int x = printf(\"\");\n", "printf()"),
    ("src/cli/l.c", HEAD + "int x = printf(\"\");\n", None),
    ("src/tok/m.c", HEAD + "int n = snprintf(b, 1, \"x\");\n", None),
    ("src/engine/n.c", HEAD + "char *x = getenv(\"A\");\n", "getenv()"),
    ("src/engine/o.c", HEAD + "int x = strcpy(a, b);\n", "strcpy()"),
    ("src/engine/p.c", HEAD + "int x = assert(b);\n", "assert()"),
    ("src/tok/q.c", HEAD + "int x;\n" * 600, "601 lines"),
    ("src/tok/r.c", HEAD + "/* Generated by tools/x.py */\n" + "int x;\n" * 600, None),
    ("src/tok/s.c", HEAD + "int f(void)\n{\n" + "    x;\n" * 61 + "}\n", "function of 61 lines"),
    ("src/tok/t.c", HEAD + "int f(void)\n{\n" + "    x;\n" * 60 + "}\n", None),
    ("src/tok/u.c", "int x;\n", "licence"),
    ("src/tok/v.c", HEAD + "\tint x;\n", "tab"),
    ("src/tok/w.c", HEAD + "int x; \n", "white space"),
    ("src/tok/x.c", HEAD + "/* " + "x" * 100 + " */\n", "columns"),
    ("src/tok/y.c", HEAD + "/* TO" "DO later */\n", "note to self"),
]


def self_test():
    failed = 0
    for path, text, expected in BAD:
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.dirname(os.path.join(root, path)))
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(text)
            _, problems = check_tree(root)
        if expected is None:
            good = not problems
        else:
            good = len(problems) == 1 and expected in problems[0]
        if not good:
            failed += 1
            print(f"{path}: expected {expected!r}, found {problems}")
    print(f"{len(BAD) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main():
    args = sys.argv[1:]
    if args == ["--self-test"]:
        return self_test()
    root = args[0] if args else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    count, problems = check_tree(os.path.normpath(root))
    for line in problems:
        print(line)
    print(f"{count} files, {len(problems)} breaks of the rules")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
