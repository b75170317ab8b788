# SPDX-License-Identifier: Apache-2.0
"""cases_playground.py - /ui: ranking, files, comparing, copying, languages, colours, keyboard."""
import json
import os
import re
import subprocess
import sys
import tempfile

from pages import QUERY, TEXTS, expected, fill, order, page, rank, ranked, same, values

from cli_support import ROOT
from server_support import Server, starter, until

LONG = "Installer un serveur web demande un paquet. " * 120


def test_order_is_the_servers():
    with page(languages="fr-FR") as (s, b):
        fill(b, QUERY, "\n".join(TEXTS))
        assert b.text("#count") == "6 trouvés"
        rank(b)
        same(order(b), expected(s, QUERY, TEXTS))
        assert [i for i, _ in order(b, 0)] == list(range(len(TEXTS)))
        shown = b.run("return [...document.querySelectorAll('.scored .text')].map((n) => n.textContent)")
        assert shown == [TEXTS[i] for i, _ in order(b)], shown
        best = order(b)[0][0]
        assert b.text("#announce").endswith("était numéro %d." % (best + 1)), b.text("#announce")
        assert b.text(".scored .value") == "score " + ("%.4f" % float(order(b)[0][1])).replace(".", ",")
        badges = b.run("return [...document.querySelectorAll('.scored .badge:first-child')].map((n) => "
                       "n.querySelector('.visually-hidden').textContent)")
        for rank_now, ((index, _), words) in enumerate(zip(order(b), badges)):
            by = index - rank_now
            assert words == ("monte de %d" % by if by > 0 else "descend de %d" % -by if by < 0
                             else "même place"), (rank_now, index, words)
        lines = b.run("return [...document.querySelectorAll('.links path')].length")
        assert lines == len(TEXTS), lines
        b.run("document.querySelector('.scored').dispatchEvent(new PointerEvent('pointerover', { bubbles: true }))")
        on = b.run("return [...document.querySelectorAll('.on')].map((n) => [n.tagName, n.dataset.index])")
        assert sorted(on) == sorted([["LI", str(best)], ["LI", str(best)], ["path", str(best)]]), on
        stages = b.run("return [...document.querySelectorAll('.legend b')].map((n) => n.textContent)")
        assert len(stages) == 5 and all(re.fullmatch(r"[\d,\s]+ m?s", x) for x in stages), stages


def test_meters_show_scores():
    with page() as (s, b):
        fill(b, QUERY, "\n".join(TEXTS))
        rank(b)
        for (_, score), width in zip(order(b), b.run(
                "return [...document.querySelectorAll('.scored .meter')].map((n) => "
                "n.firstElementChild.getBoundingClientRect().width / n.clientWidth)")):
            assert abs(float(score) - width) < 0.01, (score, width)


def test_cut_tokens():
    with page() as (s, b):
        fill(b, "serveur web", "\n".join([TEXTS[2], LONG]))
        rank(b)
        e = s.post({"query": "serveur web", "documents": [TEXTS[2], LONG], "explain": True},
                   "/v2/rerank").json()["results"]
        long = next(r["explain"] for r in e if r["index"] == 1)
        cut = long["full_tokens"] - long["tokens"]
        assert cut > 0
        words = b.run("return [...document.querySelectorAll('.badge.cut')].map((n) => n.textContent)")
        assert words == ["%d of %s tokens cut" % (cut, format(long["full_tokens"], ","))], words
        b.write("#max-length", "20")
        rank(b)
        b.until("return document.querySelectorAll('.badge.cut').length === 2")
        same(order(b), expected(s, "serveur web", [TEXTS[2], LONG], max_length=20))
        b.click(".more:not([hidden])")
        assert b.run("return document.querySelector('.open .more').getAttribute('aria-expanded')") == "true"
        assert b.run("const t = document.querySelector('.open .text'); return t.scrollHeight <= t.clientHeight + 1")


def test_texts_are_only_text():
    """Passages that would be markup, in every place that shows them."""
    evil = ["<img src=x onerror=\"window.hit = 1\">", "<script>window.hit = 1</script>", "</li><b>bold</b>",
            "'; window.hit = 1; '", "{n} {model} &amp; <svg onload='window.hit=1'>"]
    with page() as (s, b):
        fill(b, "<b>query</b>", "\n".join(evil))
        rank(b)
        shown = b.run("return [...document.querySelectorAll('.before .text')].map((n) => n.textContent)")
        assert shown == evil, shown
        b.click("[data-code=python]")
        b.click("[data-lang=fr]")
        assert b.run("return window.hit ?? null") is None
        assert b.run("return document.querySelectorAll('#orders img, #orders b:not(.n), #orders script').length") == 0


def drop(b, name, content):
    b.run("""const data = new DataTransfer();
             data.items.add(new File([arguments[1]], arguments[0]));
             for (const type of ["dragover", "drop"])
               document.getElementById("passages").dispatchEvent(
                 new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: data }));""", name, content)
    b.until("return !document.getElementById('file-note').hidden")


FILES = [  # name, content, passages, query or None, why
    ("a.txt", "un\ndeux\n\n", ["un", "deux"], None, "lines"),
    ("a.md", "un\ndeux\n\ntrois\n \nquatre", ["un\ndeux", "trois", "quatre"], None, "paragraphs"),
    ("a.jsonl", '"un"\n{"text": "deux"}\n\n{"content": "trois", "id": 4}\n', ["un", "deux", "trois"], None,
     "texts and objects"),
    ("a.jsonl", '{"query": "q", "documents": ["a", {"text": "b"}]}\n{"query": "r", "documents": ["c"]}',
     ["a", "b"], "q", "lists, as rerankd rank reads them"),
    ("a.jsonl", json.dumps("un\n\ndeux") + "\n" + json.dumps("trois"), ["un\n\ndeux", "trois"], None,
     "blank lines inside"),
    ("a.json", json.dumps({"query": {"text": "q"}, "texts": ["a", "b"]}, indent=1), ["a", "b"], "q", "a request"),
    ("a.json", json.dumps([{"id": "x", "body": "un"}, {"id": "y", "body": "deux"}]), ["un", "deux"], None, "records"),
    ("a.csv", 'id,text\n1,"un, ""deux"""\n2,trois\n', ['un, "deux"', "trois"], None, "quotes"),
    ("a.csv", "\ufeffid;titre;texte\r\n1;t;un\r\n2;u;deux\r\n", ["un", "deux"], None, "semicolons, as in French, and a BOM"),
    ("a.csv", 'no;what\n1;"de\nux"\n2;a longer text\n', ["de\nux", "a longer text"], None, "the longest column"),
    ("a.csv", "un\ndeux\n", ["un", "deux"], None, "no titles"),
    ("a.tsv", "text\tid\nun, deux\t1\n", ["un, deux"], None, "tabs"),
]


def test_files():
    with page() as (s, b):
        for name, content, passages, query, why in FILES:
            fill(b, "", "")
            drop(b, name, content)
            got, text, mode = values(b)
            assert got == (query or ""), (why, got)
            split = b.run("return document.getElementById('count').textContent")
            assert split == "%d found" % len(passages), (why, split, text, mode)
            fill(b, "q", text)
            rank(b)
            body = b.run("return document.getElementById('snippet').textContent")
            sent = json.loads(body[body.index("{"):body.rindex("JSON")])
            assert sent["documents"] == passages, (why, sent)
            b.run("document.getElementById('result').hidden = true")
        for name, content, words in [("b.jsonl", '"a"\n{oops', "b.jsonl, line 2: not JSON."),
                                     ("b.json", "[]", "b.json: no passages in it."),
                                     ("b.txt", " \n", "b.txt: no passages in it.")]:
            drop(b, name, content)
            assert b.text("#file-note") == words, b.text("#file-note")


def test_file_button_and_columns():
    with tempfile.TemporaryDirectory() as folder, page() as (s, b):
        path = os.path.join(folder, "deux colonnes.csv")
        with open(path, "w", encoding="utf-8") as f:
            f.write("text,title\nle premier,one\nle second,two\n")
        b.run("document.getElementById('file').hidden = false")  # the driver writes to what is shown
        b.upload("#file", path)
        b.until("return !document.getElementById('column-row').hidden")
        assert values(b)[1] == "le premier\nle second"
        b.run("""const c = document.getElementById('column'); c.value = 'title';
                 c.dispatchEvent(new Event('change'))""")
        assert values(b)[1] == "one\ntwo"


def test_separation():
    with page() as (s, b):
        fill(b, "q", "un\ndeux\n\ntrois")
        for mode, count in [("lines", "3 found"), ("blank", "2 found"), ("json", "")]:
            b.run("""const s = document.getElementById('split'); s.value = arguments[0];
                     s.dispatchEvent(new Event('change'))""", mode)
            assert b.text("#count") == count, (mode, b.text("#count"))
        assert b.text("#problem").startswith("Line 1 is not JSON"), b.text("#problem")
        b.click("#rank")
        assert b.run("return document.activeElement.id") == "passages"
        assert not b.shown("#result")


def test_what_is_missing():
    with page() as (s, b):
        for query, passages, field, words in [("", "a", "query", "Write a query first."),
                                              ("a", " \n ", "passages", "There are no passages yet.")]:
            fill(b, query, passages)
            b.click("#rank")
            assert b.text("#problem") == words and b.run("return document.activeElement.id") == field
        assert b.run("return document.getElementById('problem').getAttribute('role')") == "alert"


def test_refusals():
    with page("--max-documents", "2", allowed=["422"]) as (s, b):
        b.until("return document.getElementById('max-length').placeholder === '512'")
        fill(b, "q", "a\nb\nc")
        assert b.text("#count") == "3 found, the server takes 2"
        b.click("#rank")
        b.until("return !document.getElementById('problem').hidden")
        message = s.post({"query": "q", "documents": ["a", "b", "c"]}, "/v2/rerank").json()["message"]
        assert b.text("#problem") == "The server answered 422: " + message, b.text("#problem")
        b.cdp("Page.addScriptToEvaluateOnNewDocument",
              source="window.fetch = () => Promise.reject(new TypeError('no connection'))")
        b.open("http://127.0.0.1:%d/ui" % s.port)
        b.until("return !document.getElementById('problem').hidden")
        assert b.text("#problem") == "The server does not answer."


def test_many_passages():
    with page() as (s, b):
        texts = ["passage %d sur un serveur" % i for i in range(250)]
        fill(b, QUERY, "\n".join(texts))
        rank(b)
        assert len(order(b)) == 100
        b.click("#orders .all")
        same(order(b), expected(s, QUERY, texts))


def test_precisions_compared():
    with page("--dtype", "int8", "--rescore-dtype", "f32", "--cache-size", "0") as (s, b):
        b.until("return document.getElementById('compare').options.length === 2")
        fill(b, QUERY, "\n".join(TEXTS))
        b.run("document.getElementById('compare').value = 'exact'")
        rank(b)
        same(order(b, 0), expected(s, QUERY, TEXTS))
        same(order(b, 1), expected(s, QUERY, TEXTS, exact_top_k=len(TEXTS)))
        assert order(b, 0) != order(b, 1)
        titles = b.run("return [...document.querySelectorAll('#orders h3')].map((n) => n.textContent)")
        assert titles == ["starter · int8", "starter · f32"], titles
        a, z = ([i for i, _ in order(b, k)] for k in (0, 1))
        pairs = [(x, y) for n, x in enumerate(a) for y in a[n + 1:]]
        agree = sum(z.index(x) < z.index(y) for x, y in pairs) / len(pairs)
        assert b.text("#result-sum").endswith("%d of the first 5 are the same; order agrees for %.0f%% of the pairs" % (
            len(set(a[:5]) & set(z[:5])), 100 * agree)), (b.text("#result-sum"), a, z)
        assert b.run("return document.querySelectorAll('.stack').length") == 2


def test_models_compared():
    """Two models of one server; the second is loaded when it is first asked."""
    other = os.path.join(ROOT, "tests", "golden", "models", "tiny-bert")
    with Server("--model=big=" + starter(), "--model=small=" + other, model_folder=False) as s, \
            page(server=s) as (_, b):
        b.until("return document.getElementById('model').options.length === 2")

        def offered(which):
            return b.run("return [...document.getElementById(arguments[0]).options].map((o) => o.textContent)", which)

        assert offered("model") == ["big (f32)", "small"], offered("model")
        fill(b, QUERY, "\n".join(TEXTS))
        b.run("document.getElementById('compare').value = 'model:small'")
        rank(b)
        same(order(b, 0), expected(s, QUERY, TEXTS, model="big"))
        same(order(b, 1), expected(s, QUERY, TEXTS, model="small"))
        assert order(b, 0) != order(b, 1)
        assert '"model": "big"' in b.text("#snippet")
        b.until("return document.getElementById('compare').selectedOptions[0].textContent === 'small (f32)'")
        b.run("""const m = document.getElementById('model'); m.value = 'small';
                 m.dispatchEvent(new Event('change'))""")
        assert offered("compare") == ["nothing", "big (f32)"], offered("compare")
        assert b.run("return document.getElementById('compare').value") == "", "not with itself"


def test_one_model():
    with page() as (s, b):
        b.until("return document.getElementById('max-length').placeholder === '512'")
        assert not b.shown("#compare-box"), "one model, one precision: nothing to compare"


def run_snippet(b, words, **env):
    """What was copied, run: the clipboard's text."""
    b.click("#copy")
    b.until("return document.getElementById('copy').textContent === 'Copied'")
    text = b.later("navigator.clipboard.readText().then(arguments[0])")
    assert text == b.text("#snippet")
    p = subprocess.run(words, input=text, capture_output=True, text=True, timeout=60, check=False,
                       env={**os.environ, "PYTHONUTF8": "1", **env})
    assert p.returncode == 0, (p.stderr, text)
    return p.stdout, text


def check_copies(s, b, headers=(), **env):
    b.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    b.click("[data-code=curl]")
    out, text = run_snippet(b, ["sh"], **env)
    wanted = expected(s, QUERY, TEXTS, headers)
    assert [(r["index"], r["relevance_score"]) for r in json.loads(out)["results"]] == wanted, out
    b.click("[data-code=python]")
    out, more = run_snippet(b, [sys.executable, "-"], **env)
    assert out.splitlines() == ["%.6f  %s" % (score, TEXTS[i]) for i, score in wanted], out
    return text + more


def test_copies_run():
    with page() as (s, b):
        fill(b, QUERY, "\n".join(TEXTS))
        rank(b)
        check_copies(s, b)
        # As at an address without TLS, where browsers have no navigator.clipboard.
        b.run("""Object.defineProperty(navigator, "clipboard", { value: undefined });
                 document.addEventListener("copy", () => { window.copied = String(getSelection()); });""")
        b.until("return document.getElementById('copy').textContent === 'Copy'")
        b.click("#copy")
        b.until("return document.getElementById('copy').textContent === 'Copied'")
        assert b.run("return window.copied").strip() == b.text("#snippet").strip()


def test_languages():
    for languages, lang, words in [("fr-CA,en", "fr", "Classer"), ("en-GB", "en", "Rank"), ("de,fr", "fr", "Classer"),
                                   ("ja", "en", "Rank")]:
        with page(languages=languages) as (s, b):
            assert b.run("return document.documentElement.lang") == lang, languages
            assert b.text("#rank") == words, languages
    with page() as (s, b):
        fill(b, QUERY, "\n".join(TEXTS))
        rank(b)
        b.click("[data-lang=fr]")
        assert b.text("#rank") == "Classer" and b.text("#orders h3") == "Avant"
        assert b.run("return document.title") == "rerankd\u00a0: essais"
        assert not b.run("""return [...document.querySelectorAll('[data-i18n]')].some((n) =>
            /^(Query|Passages found|Try an example|Copy)$/.test(n.textContent))""")
        b.open("http://127.0.0.1:%d/ui/status" % s.port)
        assert b.run("return document.documentElement.lang") == "fr", "the choice is remembered"


def test_both_languages_say_the_same():
    """Each text has both languages, with the same values filled in and the same forms."""
    with page() as (s, b):
        source = s.ask("GET", "/ui").body
        texts = source[source.index("const TEXTS = {"):source.index("const EXAMPLES")]
        b.cdp("Runtime.evaluate", expression=texts.replace("const TEXTS", "window.texts"))
        for key, pair in b.run("return window.texts").items():
            assert len(pair) == 2 and all(pair), key
            filled = [(sorted(set(re.findall(r"{\w+}", x))), x.count("|")) for x in pair]
            assert filled[0] == filled[1], (key, filled)


def background(b):
    return b.run("return getComputedStyle(document.body).backgroundColor")


def test_colours():
    with page(dark=True) as (s, b):
        dark = background(b)
        b.media(dark=False)
        light = background(b)
        assert light != dark
        b.click("[data-set-theme=dark]")
        assert background(b) == dark
        b.open("http://127.0.0.1:%d/ui" % s.port)
        assert background(b) == dark, "the choice is remembered"
        b.click("[data-set-theme=auto]")
        assert background(b) == light
        b.media(dark=True)
        assert background(b) == dark


def test_keyboard_only():
    with page() as (s, b):
        b.press("Tab")
        assert b.run("return document.activeElement.className") == "skip"
        assert b.run("return document.activeElement.getBoundingClientRect().top") >= 0, "seen while focused"
        b.press("Enter")
        assert b.run("return document.activeElement.id") == "main"

        def tab_to(ident):
            for _ in range(40):
                b.press("Tab")
                seen = b.run("""const n = document.activeElement, s = getComputedStyle(n);
                                return [n.id, n.dataset.code ?? "", s.outlineStyle, parseFloat(s.outlineWidth)]""")
                assert seen[2] != "none" and seen[3] >= 2, ("no focus ring", seen)
                if ident in seen[:2]:
                    return
            raise AssertionError("Tab does not reach " + ident)

        tab_to("query")
        b.type("serveur web")
        tab_to("passages")
        b.type("le restaurant")
        b.press("Enter")
        b.type("installer nginx")
        b.press("Control", "Enter")
        ranked(b)
        same(order(b), expected(s, "serveur web", ["le restaurant", "installer nginx"]))
        tab_to("python")
        b.press("Space")
        assert b.text("#snippet").startswith("import json")
        assert b.run("return document.activeElement.dataset.code") == "python", "the focus stays"
        tab_to("copy")


def test_stop():
    with page("--threads", "1", "--request-timeout", "300", "--cache-size", "0") as (s, b):
        fill(b, QUERY, "\n".join("%d %s" % (i, LONG) for i in range(900)))
        b.click("#rank")
        b.until("return document.getElementById('rank').textContent === 'Stop'")
        b.press("Escape")
        b.until("return document.getElementById('rank').textContent === 'Rank'")
        assert not b.shown("#problem") and not b.shown("#result")
        until(lambda: s.metrics()["rerank_requests_in_flight"] == 0, "the request to be dropped")
