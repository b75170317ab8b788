#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_readme.py - puts the table of models that the program prints into README.md and README.fr.md.

    tools/make_readme.py RERANKD [--check]     --check: exit status 1 if one of them is stale
"""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BEGIN = "<!-- models: `make docs` -->\n"
END = "<!-- end of models -->\n"


def main():
    for name, form in (("README.md", "support"), ("README.fr.md", "support-fr")):
        path = os.path.join(ROOT, name)
        table = subprocess.run([sys.argv[1], "--markdown=" + form], capture_output=True, text=True,
                               check=True).stdout
        with open(path, encoding="utf-8") as f:
            old = f.read()
        head, rest = old.split(BEGIN)
        new = head + BEGIN + table + END + rest.split(END)[1]
        if "--check" in sys.argv[2:]:
            if new != old:
                sys.exit(name + ": its table of models is stale: run make docs")
        elif new != old:
            with open(path, "w", encoding="utf-8") as f:
                f.write(new)


if __name__ == "__main__":
    main()
