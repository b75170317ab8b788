#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_readme.py - puts the table of models that the program prints into README.md.

    tools/make_readme.py RERANKD [--check]     --check: exit status 1 if README.md is stale
"""
import os
import subprocess
import sys

README = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "README.md")
BEGIN = "<!-- models: made by `rerankd --markdown=support`; run `make docs` -->\n"
END = "<!-- end of models -->\n"


def main():
    table = subprocess.run([sys.argv[1], "--markdown=support"], capture_output=True, text=True,
                           check=True).stdout
    with open(README, encoding="utf-8") as f:
        old = f.read()
    head, rest = old.split(BEGIN)
    tail = rest.split(END)[1]
    new = head + BEGIN + table + END + tail
    if "--check" in sys.argv[2:]:
        if new != old:
            sys.exit("README.md: its table of models is stale: run make docs")
    elif new != old:
        with open(README, "w", encoding="utf-8") as f:
            f.write(new)


if __name__ == "__main__":
    main()
