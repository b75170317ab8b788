#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_man3.py - the manual page rerank.h(3) from include/rerank.h: its sections, declarations and
comments, in their order.

    tools/make_man3.py > rerank.h.3
"""
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECTION = re.compile(r"/\* -{4} (\w[\w ]*) -+ \*/")


def roff(text):
    """Text for roff: backslashes and hyphens are literal, no line begins a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", "\\\\&", text, flags=re.M)


def prose(comment):
    """A comment as paragraphs; what is indented in it stays as it is."""
    lines = [re.sub(r"^ ?\* ?", "", line) for line in comment.split("\n")]
    out, literal = [], False
    for line in lines:
        code = line.startswith("    ") or (literal and not line.strip())
        if code != literal:
            out.append(".nf" if code else ".fi\n.PP")
            literal = code
        if line.strip() or literal:
            out.append(roff(line if literal else line.strip()))
        else:
            out.append(".PP")
    return "\n".join(out + ([".fi"] if literal else []))


def items(text):
    """("section" | "comment" | "code", text) of what lies inside extern "C"."""
    for match in re.finditer(r"(/\* -{4} .*? \*/)|^/\*(.*?)\*/|((?:^(?!/\*)[^\n]+\n)+)", text,
                             re.M | re.S):
        if match.group(1):
            yield "section", SECTION.match(match.group(1)).group(1)
        elif match.group(2) is not None:
            yield "comment", match.group(2).strip()
        elif match.group(3).strip():
            yield "code", re.sub(r"^RR_PUBLIC(_NODISCARD)? ", "", match.group(3).rstrip(), flags=re.M)


def main():
    with open(os.path.join(ROOT, "include", "rerank.h"), encoding="utf-8") as f:
        text = f.read()
    version = re.search(r'#define RR_VERSION "(.*)"', text).group(1)
    intro = re.search(r"/\* rerank\.h - (.*?)\*/", text, re.S).group(1)
    title, about = intro.split("\n", 1)
    body = text[text.index("struct rr_engine;"):text.rindex("#ifdef __cplusplus")]
    print(".\\\" Made by tools/make_man3.py of include/rerank.h.")
    print('.TH RERANK.H 3 "" "rerankd %s" "rerankd"' % version)
    print(".SH NAME\nrerank.h \\- %s" % roff(title.strip().rstrip(".")))
    print(".SH SYNOPSIS\n.nf\n.B #include <rerank.h>\n.fi\n.PP\n"
          "Compile and link with the output of\n.BR \"pkg\\-config \\-\\-cflags \\-\\-libs rerank\" .")
    print(".SH DESCRIPTION\n" + prose(about.strip("\n")))
    for kind, part in items(body):
        if kind == "section":
            print(".SH " + part.upper())
        elif kind == "comment":
            print(".PP\n" + prose(part))
        else:
            print(".PP\n.RS\n.nf\n%s\n.fi\n.RE" % roff(part))
    print(".SH SEE ALSO\n.BR rerankd (1)")


if __name__ == "__main__":
    main()
