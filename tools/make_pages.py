#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_pages.py - src/server/pages.c: docs/openapi.json without blanks, a page for people made of it, and
the pages of src/server/ui, each with its style sheets and scripts in it.

A page loads nothing.  Its policy allows the one style sheet and the one script that are in it, by their
hashes, and questions to the server that it came from.

    tools/make_pages.py            writes src/server/pages.c
    tools/make_pages.py --check    exit status 1 when it is stale, or the version is not rerank.h's
"""
import base64
import hashlib
import html
import json
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCE = os.path.join(ROOT, "docs", "openapi.json")
UI = os.path.join(ROOT, "src", "server", "ui")
TARGET = os.path.join(ROOT, "src", "server", "pages.c")

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}
h2{margin:2em 0 .3em;font-size:1.05em;border-top:1px solid #ddd;padding-top:1em}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f4f4f4;padding:.7em;overflow-x:auto}
b{color:#05a}table{border-collapse:collapse}td{padding:.15em .8em .15em 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#222}b{color:#7bf}}
"""


def esc(text):
    return html.escape(str(text), quote=False)


def example(media):
    for name, e in media.get("examples", {}).items():
        text = json.dumps(e["value"], ensure_ascii=False, indent=1)
        yield "<p>%s</p><pre>%s</pre>" % (esc(name), esc(text))


def resolve(document, node):
    while "$ref" in node:
        target = document
        for part in node["$ref"].lstrip("#/").split("/"):
            target = target[part]
        node = target
    return node


def name_of(schema):
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return '<a href="#%s">%s</a>' % (name, name)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(name_of(x) for x in schema["anyOf"]))
    if schema.get("type") == "array":
        return "list of " + name_of(schema.get("items") or {})
    if "enum" in schema:
        return ", ".join("<code>%s</code>" % esc(json.dumps(x)) for x in schema["enum"])
    kind = schema.get("type", "anything")
    return esc(" or ".join(kind) if isinstance(kind, list) else kind)


def members(schema):
    for part in schema.get("allOf", [schema]):
        if "$ref" in part:
            yield "<tr><td><td>all of %s<td></tr>" % name_of(part)
        for key, value in part.get("properties", {}).items():
            if value is False:
                continue
            star = "*" if key in part.get("required", []) else ""
            yield "<tr><td><code>%s</code>%s<td>%s<td>%s</tr>" % (
                esc(key), star, name_of(value), esc(value.get("description", "")))
        for choice in part.get("anyOf", []):
            yield "<tr><td><td>%s<td></tr>" % (
                name_of(choice) if "$ref" in choice else
                ", ".join("<code>%s</code>" % esc(k) for k in choice.get("properties", {})))


def operation(document, path, method, op):
    yield "<h2><b>%s</b> <code>%s</code> %s</h2>" % (method.upper(), esc(path), esc(op["summary"]))
    if "description" in op:
        yield "<p>%s</p>" % esc(op["description"])
    for media in op.get("requestBody", {}).get("content", {}).values():
        yield "<p>Request: %s</p>" % name_of(media["schema"])
        yield from example(media)
    for code, reply in op["responses"].items():
        for media in reply.get("content", {}).values():
            if code.startswith("2") and method == "post":
                yield "<p>Reply: %s</p>" % name_of(media["schema"])
                yield from example(media)


def page(document):
    info = document["info"]
    yield '<!DOCTYPE html><html lang="en"><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width"><title>%s</title>' % esc(info["title"])
    yield "<style>%s</style><h1>%s %s</h1><p>%s</p>" % (
        STYLE, esc(info["title"]), esc(info["version"]), esc(info["description"]))
    yield '<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>'
    for path, methods in document["paths"].items():
        for method, op in methods.items():
            yield from operation(document, path, method, op)
    yield "<h2>Errors</h2><table>"
    seen = {}
    for methods in document["paths"].values():
        for op in methods.values():
            for code, reply in op["responses"].items():
                if code >= "400":
                    seen.setdefault(code, resolve(document, reply)["description"])
    for code in sorted(seen):
        yield "<tr><td>%s<td>%s</tr>" % (code, esc(seen[code]))
    yield "</table>"
    for name, schema in document["components"]["schemas"].items():
        yield '<h2 id="%s">%s</h2>' % (name, name)
        if "description" in schema:
            yield "<p>%s</p>" % esc(schema["description"])
        rows = list(members(schema))
        yield "<table>%s</table>" % "".join(rows) if rows else "<p>%s</p>" % name_of(schema)


def hash_of(text):
    return "'sha256-%s'" % base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def policy(text):
    """Content-Security-Policy of a page with at most one style sheet and one script."""
    rules = ["default-src 'none'"]
    for kind, directive in [("style", "style-src"), ("script", "script-src")]:
        found = re.findall("<%s[^>]*>(.*?)</%s>" % (kind, kind), text, re.S)
        if len(found) > 1:
            sys.exit("a page has %d elements <%s>, expected at most one" % (len(found), kind))
        rules += ["%s %s" % (directive, hash_of(x)) for x in found]
    if "<script" in text:
        rules += ["connect-src 'self'", "img-src data:", "require-trusted-types-for 'script'",
                  "trusted-types 'none'"]
    return "; ".join(rules + ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"])


def part(name):
    with open(os.path.join(UI, name), encoding="utf-8") as f:
        return f.read()


def bundle(name):
    """A page of src/server/ui: parts put in, style sheets and scripts each made one, in their order."""
    text = re.sub("<!-- include (.*?) -->\n", lambda m: part(m.group(1)), part(name))
    for tag, pattern in [("<style>%s</style>", r'<link rel="stylesheet" href="(.*?)">\n'),
                         ('<script type="module">%s</script>', r'<script src="(.*?)"></script>\n')]:
        files = re.findall(pattern, text)
        content = "\n".join(part(x) for x in files)
        if re.search("</(script|style)|<!--", content):
            sys.exit("src/server/ui/%s: its scripts or styles hold what ends them" % name)
        before, after = text.split(re.search(pattern, text).group(0), 1)
        text = before + tag % content + "\n" + re.sub(pattern, "", after)
    return text


def c_string(text):
    line = ""
    for byte in text.encode():
        c = chr(byte)
        if c == "\n":
            piece = "\\n"
        elif c in '"\\':
            piece = "\\" + c
        elif 32 <= byte < 127 and c != "?":
            piece = c
        else:
            piece = "\\%03o" % byte
        if len(line) + len(piece) > 92:
            yield '    "%s"' % line
            line = ""
        line += piece
    yield '    "%s";' % line


def c_page(name, kind, text, csp):
    """A definition of struct rr_page."""
    yield "static const char %s_data[] =" % name
    yield from c_string(text)
    if csp:
        yield "static const char %s_csp[] =" % name
        yield from c_string(csp)
    yield "const struct rr_page rr_page_%s = {" % name
    yield "    %s_data," % name
    yield "    sizeof(%s_data) - 1," % name
    yield '    "%s",' % kind
    yield '    "\\"%s\\"",' % hashlib.sha256(text.encode()).hexdigest()[:16]
    yield "    %s," % (name + "_csp" if csp else "NULL")
    yield "};"
    yield ""


def make(document):
    compact = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    lines = ["/* SPDX-License-Identifier: Apache-2.0 */",
             "/* pages.c - see pages.h.  Made by tools/make_pages.py from docs/openapi.json and src/server/ui. */",
             '#include "server/pages.h"', ""]
    lines += c_page("openapi", "application/json", compact, None)
    for name, text in [("docs", "\n".join(page(document)) + "\n"),
                       ("playground", bundle("playground.html")), ("status", bundle("status.html"))]:
        lines += c_page(name, "text/html; charset=utf-8", text, policy(text))
    return "\n".join(lines[:-1]) + "\n"


def main():
    with open(SOURCE, encoding="utf-8") as f:
        document = json.load(f)
    with open(os.path.join(ROOT, "include", "rerank.h"), encoding="utf-8") as f:
        version = re.search(r'#define RR_VERSION "(.*)"', f.read()).group(1)
    if document["info"]["version"] != version:
        sys.exit("docs/openapi.json: version %s, but include/rerank.h has %s"
                 % (document["info"]["version"], version))
    text = make(document)
    if "--check" not in sys.argv:
        with open(TARGET, "w", encoding="utf-8") as f:
            f.write(text)
        return
    with open(TARGET, encoding="utf-8") as f:
        if f.read() != text:
            sys.exit("src/server/pages.c is stale: run make docs")


if __name__ == "__main__":
    main()
