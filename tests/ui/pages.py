# SPDX-License-Identifier: Apache-2.0
"""pages.py - what the cases share: a server, its pages in a browser, and what no page may do."""
import contextlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))

from server_support import Server, starter  # noqa: E402

from browser import Browser  # noqa: E402

QUERY = "Comment installer un serveur web ?"
TEXTS = ["La recette du gâteau au chocolat demande trois œufs et du beurre.",
         "Le serveur du restaurant apporte la carte et prend la commande.",
         "L'installation d'un serveur web comme nginx se fait avec le gestionnaire de paquets.",
         "Les horaires d'ouverture de la bibliothèque changent en été.",
         "Apache est un serveur HTTP libre, facile à installer et à configurer.",
         "« L'été », dit-elle : \"50 % d'œufs\" \\ $HOME `id` 😀"]
UNAUTHORIZED = "status of 401"


@contextlib.contextmanager
def page(*options, path="/ui", allowed=(), server=None, **browser):
    """A server and one of its pages.  At the end: nothing was asked of anybody else, no policy was
    violated, and the console has no line but those with a text of allowed."""
    with contextlib.ExitStack() as stack:
        s = server or stack.enter_context(Server(*options, model_folder=starter()))
        b = stack.enter_context(Browser(**browser))
        origin = "http://127.0.0.1:%d/" % s.port
        b.log("browser")
        b.open(origin.rstrip("/") + path)
        yield s, b
        assert b.run("return window.violations") == []
        strangers = [u for u in b.requests() if not u.startswith((origin, "chrome:", "data:"))]
        assert not strangers, strangers
        lines = [e["message"] for e in b.log("browser")]
        assert not [x for x in lines if not any(a in x for a in allowed)], lines


def fill(b, query, passages):
    """As pasting does it: the field has its text at once, and hears of it."""
    b.run("""for (const [id, text] of [["query", arguments[0]], ["passages", arguments[1]]]) {
               const field = document.getElementById(id);
               field.value = text;
               field.dispatchEvent(new Event("input", { bubbles: true }));
             }""", query, passages)


def rank(b):
    b.click("#rank")
    ranked(b)


def ranked(b):
    """Waits for the answer, or fails with what the page complains about."""
    b.until("return document.getElementById('rank').dataset.i18n === 'ask.rank' && "
            "(!document.getElementById('result').hidden || !document.getElementById('problem').hidden)")
    assert not b.shown("#problem"), b.text("#problem")


def order(b, which=-1):
    """[(index in the input, score shown)] of a list; -1: the one on the right."""
    return [(int(i), score) for i, score in b.run("""
        return [...[...document.querySelectorAll('#orders .list')].at(arguments[0]).children].map((item) =>
            [item.dataset.index, item.querySelector('.value')?.title ?? null])""", which)]


def expected(server, query, passages, headers=(), **more):
    """The same from the server's own reply."""
    reply = server.post({"query": query, "texts": passages, **more}, "/tei/rerank", headers).json()
    return [(r["index"], r["score"]) for r in reply]


def same(shown, wanted):
    assert [i for i, _ in shown] == [i for i, _ in wanted], (shown, wanted)
    for (_, a), (_, b) in zip(shown, wanted):
        assert float(a) == b, (shown, wanted)


def values(b):
    return b.run("return [document.getElementById('query').value, document.getElementById('passages').value,"
                 "document.getElementById('split').value]")
