#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""abi.py - what callers of librerank.so were compiled against: exported functions with their versions,
sizes and offsets of the structs of rerank.h, values of its enums.

    tools/abi.py --check LIBRARY      compares with tests/abi/; exit status 1 and a list of what differs
    tools/abi.py --store LIBRARY      writes tests/abi/ anew, after a deliberate change
    tools/abi.py --layout             prints the layouts only, as JSON (for bindings)

Environment: CC (gcc).  With ABI_BASE=OLD_LIBRARY and abidiff installed, --check also compares both
libraries' debug information.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STORED = os.path.join(ROOT, "tests", "abi", "librerank.%s.txt" % os.uname().machine)


def field_names(declaration):
    """Of "int a, b[3]" or of a pointer to a function."""
    function = re.search(r"\(\*(\w+)\)", declaration)
    if function:
        return [function.group(1)]
    return [re.search(r"(\w+)\s*(?:\[\w*\])?$", part.strip()).group(1)
            for part in declaration.split(",")]


def declarations():
    """({struct: [field]}, [enumerator]) of the public headers."""
    structs, constants = {}, []
    for name in ("rerank_types.h", "rerank.h"):
        with open(os.path.join(ROOT, "include", name), encoding="utf-8") as f:
            text = re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.S)
        for struct, body in re.findall(r"^struct (\w+) \{(.*?)^\};", text, re.M | re.S):
            structs[struct] = [name for line in body.split(";") if line.strip()
                               for name in field_names(line)]
        for body in re.findall(r"^enum \w+ \{(.*?)\};", text, re.M | re.S):
            constants += re.findall(r"\b(RR_\w+)", body)
    return structs, constants


def layout():
    """{"structs": {name: {"size", "align", "fields": {name: [offset, size]}}}, "constants": {}}, as the
    compiler says."""
    structs, constants = declarations()
    lines = ["#include <stdio.h>", "#include \"rerank.h\"", "int main(void) {"]
    for s, fields in structs.items():
        lines.append('printf("struct %s %%zu %%zu\\n", sizeof(struct %s), _Alignof(struct %s));'
                     % (s, s, s))
        lines += ['printf("field %s %s %%zu %%zu\\n", offsetof(struct %s, %s), '
                  'sizeof(((struct %s *)0)->%s));' % (s, f, s, f, s, f) for f in fields]
    lines += ['printf("constant %s %%d\\n", (int)%s);' % (c, c) for c in constants]
    with tempfile.TemporaryDirectory() as d:
        source, program = os.path.join(d, "layout.c"), os.path.join(d, "layout")
        with open(source, "w", encoding="utf-8") as f:
            f.write("\n".join(lines + ["return 0; }", ""]))
        subprocess.run([os.environ.get("CC", "gcc"), "-std=c11", "-I", os.path.join(ROOT, "include"),
                        "-o", program, source], check=True)
        text = subprocess.run([program], check=True, stdout=subprocess.PIPE).stdout.decode()
    found = {"structs": {}, "constants": {}}
    for kind, name, *rest in map(str.split, text.splitlines()):
        if kind == "struct":
            found["structs"][name] = {"size": int(rest[0]), "align": int(rest[1]), "fields": {}}
        elif kind == "field":
            found["structs"][name]["fields"][rest[0]] = [int(rest[1]), int(rest[2])]
        else:
            found["constants"][name] = int(rest[0])
    return found


def exported(library):
    out = subprocess.run(["nm", "-D", "--defined-only", library], check=True,
                         stdout=subprocess.PIPE).stdout.decode()
    return sorted(w[2] for w in map(str.split, out.splitlines()) if w[1] != "A")


def soname(library):
    """What the loader asks for on behalf of a program that was linked with it."""
    out = subprocess.run(["readelf", "-d", library], check=True, stdout=subprocess.PIPE,
                         env={**os.environ, "LC_ALL": "C"}).stdout.decode()
    return re.search(r"soname: \[(.*)\]", out).group(1)


def description(library):
    lines = ["soname %s" % soname(library)]
    lines += ["function %s" % f for f in exported(library)]
    found = layout()
    for name, s in sorted(found["structs"].items()):
        lines.append("struct %s size %d align %d" % (name, s["size"], s["align"]))
        lines += ["struct %s.%s at %d size %d" % (name, f, *where)
                  for f, where in s["fields"].items()]
    lines += ["constant %s %d" % c for c in sorted(found["constants"].items())]
    return lines


def check(library):
    """Lines that are gone or different break callers; new ones are only to be stored."""
    if not os.path.exists(STORED):
        print("SKIP: %s is not there; store it with --store" % os.path.relpath(STORED, ROOT))
        return 0
    with open(STORED, encoding="utf-8") as f:
        stored = f.read().splitlines()
    now = description(library)
    for line in stored:
        if line not in now:
            print("- " + line)
    for line in now:
        if line not in stored:
            print("+ " + line)
    if stored != now:
        print("librerank's binary interface has changed.  Where lines are gone, callers break: raise the\n"
              "version, so that the soname changes, too.  Then tools/abi.py --store %s." % library)
    base = os.environ.get("ABI_BASE")
    if base and shutil.which("abidiff"):
        return subprocess.run(["abidiff", base, library], check=False).returncode or stored != now
    return stored != now


def main():
    if sys.argv[1:2] == ["--layout"]:
        print(json.dumps(layout(), indent=1))
    elif len(sys.argv) == 3 and sys.argv[1] == "--store":
        with open(STORED, "w", encoding="utf-8") as f:
            f.write("\n".join(description(sys.argv[2])) + "\n")
    elif len(sys.argv) == 3 and sys.argv[1] == "--check":
        return int(check(sys.argv[2]))
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
