# SPDX-License-Identifier: Apache-2.0
"""shots.py - the screenshots of docs/images: tests/ui/run.py --shots docs/images"""
import os
import random
import threading

from pages import page, rank

import png


def shot(b, folder, name, width, height):
    b.size(width, height)
    b.run("document.documentElement.style.overflow = 'hidden'; scrollTo(0, 0)")
    b.later("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    path = os.path.join(folder, name)
    b.screenshot(path)
    with open(path, "rb") as f:
        small = png.shrink(f.read())
    with open(path, "wb") as f:
        f.write(small)


def playground(folder):
    with page("--dtype", "int8", "--rescore-dtype", "f32", still=True) as (_, b):
        b.click("#example")
        rank(b)
        shot(b, folder, "playground.png", 1200, 1010)
    with page(languages="fr", dark=True, still=True) as (_, b):
        b.click("#example")
        rank(b)
        shot(b, folder, "playground-dark-fr.png", 1200, 1010)


def charts(folder):
    with page(path="/ui/status", still=True) as (s, b):
        over, chance = threading.Event(), random.Random(1)

        def load():
            while not over.wait(0.3 * chance.random()):
                texts = ["passage %d sur le sujet %d " % (chance.randrange(400), i) * chance.randrange(1, 9)
                         for i in range(chance.randrange(5, 40))]
                s.post({"query": "un sujet", "texts": texts})

        threads = [threading.Thread(target=load, daemon=True) for _ in range(3)]
        for t in threads:
            t.start()
        b.until("return (document.querySelector('.series')?.getAttribute('d').match(/L/g) ?? []).length >= 26")
        shot(b, folder, "status.png", 1320, 700)
        over.set()
        for t in threads:
            t.join()


def take(folder):
    os.makedirs(folder, exist_ok=True)
    playground(folder)
    charts(folder)
    return 0
