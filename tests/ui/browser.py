# SPDX-License-Identifier: Apache-2.0
"""browser.py - a headless Chromium, driven through chromedriver's W3C WebDriver interface with nothing
but the standard library.  What a page asks for and complains about is kept for the tests to judge."""
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

DEADLINE = 60  # seconds for whatever is waited for; the machine may be busy
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Control": "\ue009", "Shift": "\ue008",
        "Space": "\ue00d", "Down": "\ue015", "Delete": "\ue017"}


def programs():
    """Chromium and its driver, or None for what is not installed."""
    return (shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Browser:
    """One window.  languages: as a user has set them; dark, still: what the system prefers."""

    def __init__(self, languages="en-US", dark=False, still=False, width=1280, height=900):
        self.folder = tempfile.mkdtemp(prefix="rerankd-ui")
        self.events = []
        self.driver = self.session = None
        try:
            self.start(languages, width, height)
        except BaseException:
            self.close()
            raise
        self.media(dark, still)

    def start(self, languages, width, height):
        chromium, driver = programs()
        port = free_port()
        self.address = "http://127.0.0.1:%d" % port
        env = {**os.environ, "HOME": self.folder, "LANGUAGE": languages.replace("-", "_")}
        self.driver = subprocess.Popen([driver, "--port=%d" % port], env=env, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, start_new_session=True)
        wait(lambda: self.call("GET", "/status")["ready"], "chromedriver")
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--no-first-run", "--disable-background-networking", "--disable-component-update",
                 "--user-data-dir=" + os.path.join(self.folder, "profile"),
                 "--window-size=%d,%d" % (width, height), "--accept-lang=" + languages]
        capabilities = {"browserName": "chrome", "unhandledPromptBehavior": "ignore",
                        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                        "goog:chromeOptions": {"binary": chromium, "args": words,
                                               "prefs": {"intl.accept_languages": languages}}}
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = made["sessionId"]
        # Violations of a page's policy, from its first line on.
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source="""
            window.violations = [];
            document.addEventListener("securitypolicyviolation", (e) =>
                window.violations.push(e.violatedDirective + " " + e.blockedURI));""")

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, method=method,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError("%s %s: %s" % (method, path, error.read().decode()[:600])) from None

    def ask(self, method, path, body=None):
        return self.call(method, "/session/%s%s" % (self.session, path), body)

    def cdp(self, command, **parameters):
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, url):
        self.ask("POST", "/url", {"url": url})

    def media(self, dark=False, still=False):
        self.cdp("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}])

    def size(self, width, height):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=width < 600)

    def run(self, script, *args):
        """The value of a function's body in the page; its arguments are arguments[0], ..."""
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(args)})

    def later(self, script, *args):
        """The same for a body that hands its value to the function that is its last argument."""
        return self.ask("POST", "/execute/async", {"script": script, "args": list(args)})

    def find(self, selector):
        return self.ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.ask("POST", "/element/%s/click" % self.find(selector), {})

    def write(self, selector, text):
        element = self.find(selector)
        self.ask("POST", "/element/%s/clear" % element, {})
        self.ask("POST", "/element/%s/value" % element, {"text": text})

    def upload(self, selector, path):
        self.ask("POST", "/element/%s/value" % self.find(selector), {"text": path})

    def press(self, *keys):
        """One key with others held down: press("Control", "Enter")."""
        names = [KEYS.get(k, k) for k in keys]
        actions = [{"type": "keyDown", "value": k} for k in names]
        actions += [{"type": "keyUp", "value": k} for k in reversed(names)]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "k", "actions": actions}]})

    def type(self, text):
        for c in text:
            self.press(c)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def shown(self, selector):
        return self.run("const n = document.querySelector(arguments[0]);"
                        "return !!n && n.checkVisibility()", selector)

    def until(self, script, *args):
        return wait(lambda: self.run(script, *args), script)

    def screenshot(self, path, full=False):
        if full:
            height = self.run("return document.documentElement.scrollHeight")
            width = self.run("return innerWidth")
            self.size(width, height)
        data = self.cdp("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def log(self, kind):
        return self.ask("POST", "/se/log", {"type": kind})

    def requests(self):
        """Addresses of all requests so far."""
        for entry in self.log("performance"):
            self.events.append(json.loads(entry["message"])["message"])
        return [e["params"]["request"]["url"] for e in self.events
                if e["method"] == "Network.requestWillBeSent"]

    def close(self):
        if self.session:
            try:
                self.ask("DELETE", "")
            except (AssertionError, OSError):
                pass  # killed below
        if self.driver:
            try:
                os.killpg(self.driver.pid, signal.SIGTERM)
                self.driver.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def wait(condition, what):
    end = time.monotonic() + DEADLINE
    while True:
        try:
            value = condition()
        except OSError:
            value = None  # the driver does not listen yet
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("timed out waiting for " + what)
        time.sleep(0.02)
