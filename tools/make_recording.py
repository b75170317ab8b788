#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_recording.py - docs/images/first-steps.svg: a terminal in which the real program does what is
typed, as a small animated picture (without animation it shows the end).

    tools/make_recording.py RERANKD            writes the picture
    tools/make_recording.py RERANKD --check    runs everything; fails when other words come out than are
                                               in the picture (numbers may differ); 77 without curl
"""
import contextlib
import html
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PICTURE = os.path.join(ROOT, "docs", "images", "first-steps.svg")
COLUMNS, CELL, LINE, MARGIN = 92, 8.4, 19, 16
TYPING, READING = 0.9, 1.6  # seconds for a command, and for what it says
COLOURS = {"": "#d8dee9", "1": "#ffffff", "2": "#8f99a8", "31": "#f07178", "32": "#7fd88f",
           "33": "#f0c674", "36": "#7fc8d8", "$": "#7fc8d8"}
PASSAGES = """Apache est un serveur HTTP libre, facile à installer et à configurer.
La recette du gâteau au chocolat demande trois œufs et du beurre.
Nginx s'installe avec le gestionnaire de paquets.
Le serveur du restaurant apporte la carte.
GIMP retouche des photos et dessine des images.
"""
QUERY = "Comment installer un serveur web ?"
REQUEST = {"query": QUERY, "documents": PASSAGES.splitlines()[:3], "top_n": 2}


def environment():
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "RERANKD_CONFIG": "none", "TERM": "xterm",
            "RERANKD_CACHE_DIR": "none", "LANG": "C.UTF-8", "COLUMNS": str(COLUMNS)}


def on_terminal(words, folder):
    """What the program shows on a terminal, in lines."""
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "cols", str(COLUMNS), "rows", "40"], stdin=theirs, check=True)
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                               env=environment(), cwd=folder)
    os.close(theirs)
    text = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(ours, 65536):
            text += piece
    os.close(ours)
    process.wait()
    return text.decode().replace("\r", "").rstrip("\n").split("\n")


@contextlib.contextmanager
def serving(rerankd):
    process = subprocess.Popen([rerankd, "serve", "--host", "127.0.0.1", "--port", "0", "--model",
                                os.path.join(ROOT, "models", "starter"), "--drain-delay", "0"],
                               stderr=subprocess.PIPE, env=environment())
    try:
        for line in process.stderr:
            ready = re.search(rb"ready after .* at (http://[0-9.:]+)", line)
            if ready:
                break
        else:
            sys.exit("the server did not get ready")
        yield ready.group(1).decode()
    finally:
        process.terminate()
        process.stderr.close()
        process.wait()


def shown(lines, url):
    """The port is any free one, and shown as the usual one."""
    return [x.replace(url, "http://127.0.0.1:8002") for x in lines]


def play(rerankd):
    """[(what is typed, [lines that come])]: each is done for real."""
    model = ["--model", os.path.join(ROOT, "models", "starter")]
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "passages.txt"), "w", encoding="utf-8") as f:
            f.write(PASSAGES)
        score = ["score", "--query", QUERY, "passages.txt"]
        typed = "rerankd " + " ".join(shlex.quote(w) if " " in w else w for w in score)
        with open(os.path.join(folder, "request.json"), "w", encoding="utf-8") as f:
            json.dump(REQUEST, f)
        scenes = [(typed.replace("'", '"'), on_terminal([rerankd, *score, *model], folder))]
        scenes.append(("rerankd srve", on_terminal([rerankd, "srve"], folder)))
        with serving(rerankd) as url:
            scenes.append(("rerankd serve --host 127.0.0.1 --log-level warn &", []))
            path = url + "/v1/rerank"
            scenes.append(("curl -s http://127.0.0.1:8002/v1/rerank --json @request.json", shown(
                on_terminal(["curl", "-s", path, "--json", "@request.json"], folder), url)))
            scenes.append(("rerankd healthcheck", shown(
                on_terminal([rerankd, "healthcheck", url + "/ready"], folder), url)))
    return scenes


def spans(line):
    """[(colour, text)] of a line with escape sequences."""
    colour, out = "", []
    for i, part in enumerate(re.split(r"\x1b\[([0-9;]*)m", line)):
        if i % 2:
            colour = part if part in COLOURS and part != "0" else ""
        elif part:
            out.append((colour, part))
    return out


def wrapped(line):
    """What does not fit goes on in the next line, as on a terminal; only plain lines do."""
    if "\x1b" in line or len(line) <= COLUMNS:
        return [line]
    return [line[i:i + COLUMNS] for i in range(0, len(line), COLUMNS)]


def draw(scenes):
    rows, at, clock = [], 0, 0.4
    for typed, lines in scenes:
        rows.append((clock, [("$", "$ "), ("1", typed)]))
        clock += TYPING
        rows += [(clock, spans(x)) for line in lines for x in wrapped(line)]
        rows.append((clock, []))
        clock += READING
    width, height = MARGIN * 2 + COLUMNS * CELL, MARGIN * 2 + len(rows) * LINE
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" '
           'role="img" font-family="DejaVu Sans Mono,Menlo,Consolas,monospace" font-size="14">'
           % (width, height, width, height),
           "<title>rerankd: first steps in a terminal</title>",
           "<style>@keyframes s{from{opacity:0}to{opacity:1}}"
           "text{animation:s .01s linear both;white-space:pre}"
           "@media(prefers-reduced-motion:reduce){text{animation:none}}</style>",
           '<rect width="100%" height="100%" rx="8" fill="#1d2430"/>']
    for at, (moment, parts) in enumerate(rows):
        if not parts:
            continue
        column, pieces = 0, []
        for colour, text in parts:
            pieces.append('<tspan x="%.1f" fill="%s">%s</tspan>' % (
                MARGIN + column * CELL, COLOURS[colour], html.escape(text)))
            column += len(text)
        out.append('<text xml:space="preserve" y="%d" style="animation-delay:%.1fs">%s</text>' % (
            MARGIN + at * LINE + 14, moment, "".join(pieces)))
    return "\n".join(out) + "\n</svg>\n"


def words(picture):
    """The text of a picture, without numbers and without the bars that are drawn of them."""
    text = re.sub(r"<style>.*?</style>", "", picture, flags=re.S)
    lines = ["".join(re.findall(r"<tspan[^>]*>([^<]*)</tspan>", x)) for x in text.splitlines()]
    text = html.unescape("".join(lines))  # joined: where lines wrap depends on numbers
    text = re.sub(r"[█▉▊▋▌▍▎▏]+ *", "", text)
    return re.sub(r"[0-9.]+", "0", re.sub(r'"id":"[^"]*"', "", text))


def main():
    rerankd = os.path.abspath(sys.argv[1])
    if not shutil.which("curl"):
        print("SKIP: no curl")
        return 77
    picture = draw(play(rerankd))
    if sys.argv[2:] == ["--check"]:
        with open(PICTURE, encoding="utf-8") as f:
            stored = f.read()
        if words(stored) == words(picture):
            return 0
        print("%s shows other words than the program says now: run tools/make_recording.py %s"
              % (os.path.relpath(PICTURE, ROOT), sys.argv[1]), file=sys.stderr)
        return 1
    os.makedirs(os.path.dirname(PICTURE), exist_ok=True)
    with open(PICTURE, "w", encoding="utf-8") as f:
        f.write(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
