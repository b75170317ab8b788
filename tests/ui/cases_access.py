# SPDX-License-Identifier: Apache-2.0
"""cases_access.py - who may see what: keys, policies, proxies; and who can use it: an audit of both
pages, by tests/ui/audit.js and by axe-core where PyPI has it."""
import base64
import contextlib
import glob
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import urllib.request

from pages import QUERY, TEXTS, UNAUTHORIZED, expected, fill, order, page, rank, same

from cases_playground import LONG, check_copies
from cli_support import ROOT, Skip
from server_support import Server, starter

HERE = os.path.dirname(os.path.abspath(__file__))
AXE = "axe-playwright-python==0.1.8"  # has axe-core in it; nothing else of it is used
KEY, ADMIN = "canary-key-1", "canary-admin-2"


def bearer(key):
    return [("Authorization", "Bearer " + key)]


def give_key(b, key):
    b.until("return !document.getElementById('key-panel').hidden")
    assert b.run("return document.activeElement.id") == "key"
    assert b.run("return document.getElementById('key').type") == "password"
    b.type(key)
    b.press("Enter")


def storage(b):
    return b.run("return [JSON.stringify({...localStorage}), JSON.stringify({...sessionStorage})]")


def test_key():
    with page("--api-key", KEY, allowed=[UNAUTHORIZED]) as (s, b):
        b.until("return !document.getElementById('key-panel').hidden")
        assert "starter" not in b.run("return document.documentElement.outerHTML"), "nothing without a key"
        assert not b.shown("#ask")
        give_key(b, "wrong")
        b.until("return !document.getElementById('key-problem').hidden")
        assert b.text("#key-problem") == "The server does not know this key."
        assert "wrong" not in "".join(storage(b)), "kept before it is known to be right"
        give_key(b, KEY)
        b.until("return document.getElementById('key-panel').hidden")
        fill(b, QUERY, "\n".join(TEXTS))
        rank(b)
        same(order(b), expected(s, QUERY, TEXTS, bearer(KEY)))
        copied = check_copies(s, b, bearer(KEY), RERANKD_API_KEY=KEY)
        assert KEY not in copied and KEY not in b.run("return document.documentElement.outerHTML")
        long_lived, of_tab = storage(b)
        assert KEY not in long_lived and KEY in of_tab
        assert b.run("return document.cookie") == ""
        assert not b.shown("#nav-docs"), "a link cannot carry the key"
        b.open("http://127.0.0.1:%d/ui/status" % s.port)
        b.until("return document.getElementById('facts').textContent.includes('starter')")
        b.click("#forget")
        b.until("return !document.getElementById('key-panel').hidden")
        assert KEY not in "".join(storage(b))
        assert not [line for line in s.lines if KEY in line]


def test_key_without_storage():
    """Where a browser keeps nothing, the key lasts as long as the page."""
    with page("--api-key", KEY, allowed=[UNAUTHORIZED]) as (s, b):
        b.cdp("Page.addScriptToEvaluateOnNewDocument", source="""
            for (const name of ["localStorage", "sessionStorage"])
              Object.defineProperty(window, name, { get() { throw new DOMException("off", "SecurityError"); } });""")
        b.open("http://127.0.0.1:%d/ui" % s.port)
        give_key(b, KEY)
        b.until("return document.getElementById('key-panel').hidden")
        fill(b, QUERY, "\n".join(TEXTS))
        rank(b)
        same(order(b), expected(s, QUERY, TEXTS, bearer(KEY)))


def test_key_that_ends():
    """A key that the server no longer takes is asked for again, and the question is still there."""
    with page("--api-key", KEY, allowed=[UNAUTHORIZED]) as (s, b):
        give_key(b, KEY)
        b.until("return document.getElementById('key-panel').hidden")
        fill(b, QUERY, "\n".join(TEXTS))
        b.run("sessionStorage.setItem('rerankd.key', 'old')")
        b.click("#rank")
        give_key(b, KEY)
        b.until("return document.getElementById('key-panel').hidden")
        rank(b)
        same(order(b), expected(s, QUERY, TEXTS, bearer(KEY)))


def test_admin_key():
    """The charts need the admin's key, the playground the API key."""
    with page("--api-key", KEY, "--admin-key", ADMIN, path="/ui/status",
              allowed=[UNAUTHORIZED, "status of 403"]) as (s, b):
        give_key(b, KEY)
        b.until("return !document.getElementById('key-problem').hidden")
        assert b.text("#key-problem") == "This key may not do that."
        assert b.text("#state-text") == "Ready", "the state needs no key"
        give_key(b, ADMIN)
        b.until("return document.querySelectorAll('.series').length > 0 || "
                "document.getElementById('facts').textContent.includes('starter')")
        b.open("http://127.0.0.1:%d/ui" % s.port)
        give_key(b, KEY)
        b.until("return document.getElementById('model').options.length === 1")


@contextlib.contextmanager
def at_port(server, port):
    """The same server, asked by another way."""
    own, server.port = server.port, port
    try:
        yield
    finally:
        server.port = own


def test_admin_address():
    with Server("--admin-listen", "127.0.0.1:0", model_folder=starter()) as s:
        with page(path="/ui/status", server=s, allowed=["status of 404"]) as (_, b):
            b.until("return !document.getElementById('problem').hidden")
            assert "--admin-listen" in b.text("#problem") and b.text("#state-text") == "Ready"
            assert not b.shown("#charts")
        with at_port(s, int(re.search(r"port (\d+)", s.log("admin address")).group(1))), \
                page(path="/ui/status", server=s) as (_, b):
            b.until("return document.querySelectorAll('.series').length > 0")


def test_another_site_has_no_use_of_the_key():
    """The key is not sent by the browser itself, so a page of another origin gets 401 from this one."""
    with page("--api-key", KEY, allowed=[UNAUTHORIZED, "CORS", "ERR_FAILED"]) as (s, b):
        give_key(b, KEY)
        b.until("return document.getElementById('key-panel').hidden")
        b.cdp("Page.setBypassCSP", enabled=True)
        b.open("http://localhost:%d/ui" % s.port)  # another origin than 127.0.0.1
        b.later("""fetch("http://127.0.0.1:" + location.port + "/v2/rerank", { method: "POST", credentials: "include",
                     mode: "no-cors", body: '{"query":"a","documents":["b"]}' }).finally(arguments[0])""")
        b.cdp("Page.setBypassCSP", enabled=False)
        metrics = s.ask("GET", "/metrics", headers=bearer(KEY)).body
        assert 'rerank_http_requests_total{handler="rerank",status="401"} 1\n' in metrics, metrics
        assert not re.search('handler="rerank",status="200"} [1-9]', metrics), metrics
        b.requests()
        b.events.clear()  # those were another origin's on purpose
        b.open("http://127.0.0.1:%d/ui" % s.port)


def test_policy_holds():
    """What the policy forbids fails in a browser: other scripts, markup from text, frames, connections."""
    with page() as (s, b):
        # Not b.run, which the policy does not apply to: the page's own button is given the work.
        b.cdp("Runtime.evaluate", expression="""
            window.tried = {};
            document.body.addEventListener("probe", () => {
              try { document.createElement("p").innerHTML = "<b>x</b>"; tried.markup = "set"; } catch { tried.markup = "refused"; }
              const script = document.createElement("script");
              try { script.text = "window.ran = 1"; document.body.append(script); } catch { tried.script = "refused"; }
              fetch("http://127.0.0.1:1/").catch(() => { tried.fetch = "refused"; });
            });
            document.body.dispatchEvent(new Event("probe"));""")
        b.until("return window.tried.fetch")
        tried = b.run("return window.tried")
        assert tried == {"markup": "refused", "script": "refused", "fetch": "refused"}, tried
        assert b.run("return window.ran ?? null") is None
        kinds = {v.split()[0] for v in b.run("return window.violations")}
        assert {"require-trusted-types-for", "connect-src"} <= kinds, kinds
        b.run("window.violations.length = 0")
        b.log("browser")
        b.requests()
        b.events.clear()


def test_pages_are_whole():
    """Their hashes are those of the policy, and nothing in them points elsewhere."""
    with Server(model_folder=starter()) as s:
        for path in ("/ui", "/ui/status"):
            a = s.ask("GET", path)
            policy = a.headers["content-security-policy"]
            for tag in ("style", "script"):
                (content,) = re.findall("<%s[^>]*>(.*?)</%s>" % (tag, tag), a.body, re.S)
                digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
                assert "%s-src 'sha256-%s'" % (tag, digest) in policy, policy
            assert "unsafe" not in policy
            outside = [u for u in re.findall(r"https?://[^'\"\s)]+", a.body) if "www.w3.org/2000/svg" not in u]
            assert not outside and "@import" not in a.body and not re.search(r"url\(", a.body), outside
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", a.body)
            assert len(a.body) < 100000


def test_browser_keeps_the_page():
    with page() as (s, b):
        b.open("http://127.0.0.1:%d/ui" % s.port)
        assert 'rerank_http_requests_total{handler="ui",status="304"} 1' in s.ask("GET", "/metrics").body


@contextlib.contextmanager
def proxy(port, prefix):
    """The server below a path of another one, which has nothing else."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def forward(self):
            if not self.path.startswith(prefix + "/"):
                return self.send_error(404)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
            target = "http://127.0.0.1:%d%s" % (port, self.path.removeprefix(prefix))
            headers = {k: v for k, v in self.headers.items() if k.lower() in ("content-type", "authorization")}
            request = urllib.request.Request(target, body, headers, method=self.command)
            with urllib.request.urlopen(request) as reply:
                data = reply.read()
                self.send_response(reply.status)
                for name in ("Content-Type", "Content-Security-Policy"):
                    if reply.headers[name]:
                        self.send_header(name, reply.headers[name])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        do_GET = do_POST = forward

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def test_below_a_path():
    """Behind a proxy that serves it at /rr/: every address follows from where the page is."""
    with Server(model_folder=starter()) as s, proxy(s.port, "/rr") as port, at_port(s, port), \
            page(path="/rr/ui/", server=s) as (_, b):
        fill(b, QUERY, "\n".join(TEXTS))
        rank(b)
        assert b.text("#snippet").startswith("curl -sS 'http://127.0.0.1:%d/rr/v2/rerank'" % port)
        b.click("[data-path='ui/status']")
        b.until("return location.pathname === '/rr/ui/status'")
        b.until("return document.getElementById('facts').textContent.includes('starter')")
        assert b.run("return document.querySelector('[aria-current]').textContent") == "Status"


# ---- audit ------------------------------------------------------------------------------------

def axe():
    """Path of axe.min.js, fetched once into build/ui; None when PyPI cannot be reached."""
    home = os.path.join(ROOT, "build", "ui")
    pattern = os.path.join(home, "lib", "python*", "site-packages", "axe_playwright_python", "axe.min.js")
    if not glob.glob(pattern):
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            subprocess.run([sys.executable, "-m", "venv", home], check=True, timeout=120)
            subprocess.run([os.path.join(home, "bin", "pip"), "install", "-q", "--no-deps", "--retries", "1",
                            "--disable-pip-version-check", AXE], check=True, timeout=120)
    return next(iter(glob.glob(pattern)), None)


def views(s, b):
    """Each state of both pages that a user meets; yields its name when it is there."""
    address = "http://127.0.0.1:%d/ui" % s.port
    b.open(address)
    b.until("return document.getElementById('max-length').placeholder === '512'")
    yield "empty"
    b.click("#rank")
    yield "complaint"
    fill(b, QUERY, "\n".join([*TEXTS, LONG]))
    rank(b)
    yield "result"
    b.run("document.getElementById('compare').value = 'exact'")
    rank(b)
    b.until("return document.querySelectorAll('.stack').length === 2")
    b.click(".more:not([hidden])")
    yield "compared"
    b.open(address + "/status")
    for _ in range(3):
        s.post({"query": QUERY, "texts": TEXTS})
    b.until("return document.querySelectorAll('.series').length > 3")
    b.click("details summary")
    yield "status"


def everywhere(check, allowed=()):
    """Both pages in every state, both colours and languages, wide and as narrow as WCAG asks (320)."""
    problems = []
    with Server("--dtype", "int8", "--rescore-dtype", "f32", model_folder=starter()) as s:
        for dark, language, width in [(False, "fr", 1280), (True, "en", 1280), (False, "en", 700), (True, "fr", 320)]:
            with page(server=s, languages=language, dark=dark, still=True, allowed=allowed) as (_, b):
                b.size(width, 900)
                for view in views(s, b):
                    problems += ["%s, dark=%s, %d px: %s" % (view, dark, width, x) for x in check(b)]
    assert not problems, "\n" + "\n".join(sorted(set(problems)))


def test_audit():
    with open(os.path.join(HERE, "audit.js"), encoding="utf-8") as f:
        script = f.read()
    everywhere(lambda b: b.run(script))


def test_audit_of_the_key():
    with open(os.path.join(HERE, "audit.js"), encoding="utf-8") as f:
        script = f.read()
    for dark in (False, True):
        with page("--api-key", KEY, dark=dark, still=True, allowed=[UNAUTHORIZED]) as (_, b):
            give_key(b, "wrong")
            b.until("return !document.getElementById('key-problem').hidden")
            assert b.run(script) == []


def test_axe():
    path = axe()
    if not path:
        raise Skip("axe-core cannot be had from PyPI")
    with open(path, encoding="utf-8") as f:
        source = f.read()

    def check(b):
        # Evaluated as from the console, and the page's policy is not applied to that.
        b.cdp("Runtime.evaluate", expression=source)
        found = b.cdp("Runtime.evaluate", awaitPromise=True, returnByValue=True, expression="""
            axe.run({ resultTypes: ["violations"] }).then((r) => r.violations.flatMap((v) =>
                v.nodes.map((n) => `${v.id}: ${v.help}: ${n.html.slice(0, 120)} ${n.failureSummary ?? ""}`)))""")
        assert "exceptionDetails" not in found, found
        return found["result"]["value"]

    everywhere(check)


def test_motion():
    """Nothing moves by itself for those who asked for stillness."""
    with page(still=True) as (_, b):
        moving = b.run("""return [...document.querySelectorAll('*')].filter((n) => {
            const s = getComputedStyle(n);
            return parseFloat(s.transitionDuration) > 0 || s.animationName !== 'none' || s.scrollBehavior !== 'auto';
        }).map((n) => n.tagName)""")
        assert moving == [], moving
