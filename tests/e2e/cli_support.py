# SPDX-License-Identifier: Apache-2.0
"""cli_support.py - runs the program rerankd for the tests of its command line."""
import contextlib
import fcntl
import os
import pty
import shutil
import struct
import subprocess
import tempfile
import termios
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RERANKD = os.path.abspath(os.environ.get("RERANKD", os.path.join(ROOT, "build", "rerankd")))
MODELS = os.path.join(ROOT, "tests", "golden", "models")


def sanitized(program):
    """Whether it was built with a sanitizer: twenty times as slow, and nothing can be preloaded."""
    with open(program, "rb") as f:
        text = f.read()
    return b"__asan_init" in text or b"__tsan_init" in text


SANITIZED = os.path.exists(RERANKD) and sanitized(RERANKD)
TIMEOUT = 600 if SANITIZED else 120


class Skip(Exception):
    pass


def environment(**extra):
    """Nothing of the caller's settings, no file of the machine."""
    env = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", "RERANKD_CONFIG": "none",
           "RERANKD_CACHE_DIR": "none"}
    for name in os.environ:
        if name.startswith(("ASAN_", "UBSAN_", "TSAN_", "LSAN_", "LD_LIBRARY")):
            env[name] = os.environ[name]
    env.update(extra)
    return env


class Run:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return "exit %s\nstdout: %s\nstderr: %s" % (self.code, self.out[-1500:], self.err[-1500:])


def run(*words, stdin=b"", env=None, **options):
    """Runs rerankd; stdin is bytes or text.  Every complaint is one line."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    p = subprocess.run([RERANKD, *words], input=stdin, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, env=env or environment(), timeout=TIMEOUT,
                       cwd=ROOT, **options)
    assert p.returncode >= 0, "killed by signal %d: %s" % (-p.returncode, p.stderr[-3000:])
    return Run(p.returncode, p.stdout.decode(), p.stderr.decode())


def terminal(*words, stdin=b"", env=None, columns=80):
    """Runs rerankd with stdout and stderr on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    p = subprocess.Popen([RERANKD, *words], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs,
                         env=env or environment(TERM="xterm"), cwd=ROOT)
    os.close(theirs)
    feeder = threading.Thread(target=lambda: (p.stdin.write(stdin), p.stdin.close()))
    feeder.start()
    text = b""
    with contextlib.suppress(OSError):  # a terminal's end is an error
        while True:
            piece = os.read(ours, 65536)
            if not piece:
                break
            text += piece
    os.close(ours)
    feeder.join()
    return Run(p.wait(TIMEOUT), text.decode().replace("\r\n", "\n"), "")


def model(name="tiny-xlmr"):
    folder = os.path.join(MODELS, name)
    if not os.path.exists(os.path.join(folder, "model.safetensors")):
        raise Skip("%s is not there" % folder)
    return folder


def one_line(text):
    return text.count("\n") == 1 and text.endswith("\n")


@contextlib.contextmanager
def folder():
    path = tempfile.mkdtemp(prefix="test_cli.")
    try:
        yield path
    finally:
        shutil.rmtree(path)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    return path
