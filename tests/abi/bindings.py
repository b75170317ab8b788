#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bindings.py - librerank.so from other languages: rerank.hpp, the Go and Rust examples, each compiled
here when there is a compiler for it, and compared with "rerankd score".

    tests/abi/bindings.py BUILD_FOLDER
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build"))
MODEL = os.path.join(ROOT, "models", "starter")
QUERY = "Quelle est la capitale de la France ?"
TEXTS = ["Le pain se fait avec de la farine.", "Paris est la capitale de la France.",
         "Lyon est une grande ville."]
PC = """Name: rerank
Description: the library of this build
Version: 0
Libs: -L%s -lrerank -Wl,-rpath,%s
Cflags: -I%s -DHEADER_CRC=%d
"""


def run(*words, **options):
    p = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
                       check=False, **options)
    if p.returncode:
        raise AssertionError("%s: exit %d\n%s" % (words[0], p.returncode, p.stdout.decode()[-3000:]))
    return p.stdout.decode()


def expected():
    out = run(os.path.join(OUT, "rerankd"), "score", "--model", MODEL, "--query", QUERY, "--json",
              input="".join(t + "\n" for t in TEXTS).encode())
    rows = [json.loads(line) for line in out.splitlines()]
    return "".join("%.4f  %s\n" % (r["score"], r["text"]) for r in rows)


def cxx(folder):
    program = os.path.join(folder, "use_hpp")
    run(os.environ.get("CXX", "g++"), "-std=c++17", "-Wall", "-Wextra", "-Werror",
        "-I" + os.path.join(ROOT, "include"), "-o", program,
        os.path.join(ROOT, "tests", "header", "use_hpp.cc"), "-L" + OUT, "-lrerank",
        "-Wl,-rpath," + OUT, "-lpthread")
    run(program, MODEL)


def go(folder):
    include = os.path.join(ROOT, "include")
    with open(os.path.join(include, "rerank.h"), "rb") as f:
        version = zlib.crc32(f.read())  # go's cache looks at flags, not at headers
    with open(os.path.join(folder, "rerank.pc"), "w", encoding="utf-8") as f:
        f.write(PC % (OUT, OUT, include, version))
    env = {**os.environ, "PKG_CONFIG_PATH": folder, "GOCACHE": os.path.join(OUT, "go-cache"),
           "GOFLAGS": "-mod=mod", "GO111MODULE": "off", "CGO_LDFLAGS_ALLOW": ".*",
           "CGO_ENABLED": "1"}
    program = os.path.join(folder, "rank")
    run("go", "build", "-o", program, os.path.join(ROOT, "examples", "go", "main.go"), env=env)
    text = run(program, MODEL)
    assert text == expected(), (text, expected())


def rust(folder):
    program = os.path.join(folder, "rank")
    run("rustc", "--edition", "2021", "-D", "warnings", "-A", "dead_code", "-L", OUT, "-C",
        "link-arg=-Wl,-rpath," + OUT, "-o", program,
        os.path.join(ROOT, "examples", "rust", "rank.rs"))
    text = run(program, MODEL)
    assert text == expected(), (text, expected())


def main():
    counts = {"ok": 0, "FAIL": 0, "skip": 0}
    for name, compiler, test in [("C++", os.environ.get("CXX", "g++").split()[0], cxx),
                                 ("Go", "go", go), ("Rust", "rustc", rust)]:
        word, why = "ok", ""
        with tempfile.TemporaryDirectory() as folder:
            if not shutil.which(compiler):
                word, why = "skip", ": SKIP %s is not installed" % compiler
            else:
                try:
                    test(folder)
                except Exception as e:  # a compiler's complaint, a time-out: all are failures
                    word, why = "FAIL", ": %s" % e
        counts[word] += 1
        print("%-5s librerank from %s%s" % (word, name, why), flush=True)
    print("%d passed, %d failed, %d skipped" % (counts["ok"], counts["FAIL"], counts["skip"]))
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
