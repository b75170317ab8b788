#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py - tests of the Python package, from its wheel.

    python/tests/run.py BUILD_FOLDER

The wheel goes into an environment of its own in build/python, with numpy, httpx and tqdm from PyPI; the
adapters run in the environments of tests/clients, where those have been made.  Where PyPI cannot be
reached, this Python's numpy will do; without one, exit status 77.  sentence-transformers takes 5 GB: with
ST=1 it is installed into build/venv-st, and from then on compared with; ST_PYTHON names a Python that
has it.
"""
import glob
import os
import re
import subprocess
import sys
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)
OUT = os.path.abspath(sys.argv[1])
HOME = os.path.join(OUT, "python")


def installed():
    """A Python with numpy, or None."""
    venv = os.path.join(HOME, "venv", "bin", "python")
    if not os.path.exists(os.path.join(HOME, "ready")):
        subprocess.run([sys.executable, "-m", "venv", os.path.join(HOME, "venv")], check=False)
        made = subprocess.run([venv, "-m", "pip", "install", "-q", "--disable-pip-version-check",
                               "--retries", "1", "numpy", "httpx", "tqdm", "mypy"], check=False,
                              timeout=300)
        if made.returncode == 0:
            with open(os.path.join(HOME, "ready"), "w", encoding="utf-8"):
                pass
    for python in (venv, sys.executable):
        if subprocess.run([python, "-c", "import numpy"], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0:
            return python
    return None


def sentence_transformers():
    """A Python that has it, or None."""
    folder = os.path.join(ROOT, "build", "venv-st")
    python, ready = os.path.join(folder, "bin", "python"), os.path.join(folder, "ready")
    if os.environ.get("ST_PYTHON"):
        return os.environ["ST_PYTHON"]
    if os.environ.get("ST") and not os.path.exists(ready):
        subprocess.run([sys.executable, "-m", "venv", folder], check=False)
        made = subprocess.run([python, "-m", "pip", "install", "-q", "--retries", "1", "--no-cache-dir",
                               "sentence-transformers"], check=False)
        if made.returncode == 0:
            with open(ready, "w", encoding="utf-8"):
                pass
    return python if os.path.exists(ready) else None


# glibc's, and the one of the others that PEP 600 counts on which we need.
SYSTEM = re.compile(r"(/lib64/)?(linux-vdso|ld-linux[a-z0-9-]*|lib(c|m|dl|rt|pthread|resolv|z))\.so(\.\d+)?")


def whole(wheel, library):
    """Nothing of a manylinux wheel needs a library that is neither in it nor everywhere."""
    if "manylinux" not in wheel:
        return 0, 0, 1
    env = {k: v for k, v in os.environ.items() if not k.startswith("LD_")}
    strangers = []
    files = os.listdir(os.path.join(library, "rerankd"))
    shared = [name for name in files if name.startswith("librerank.so")]
    assert len(shared) == 1, files
    for name in (os.path.join("bin", "rerankd"), shared[0]):
        out = subprocess.run(["ldd", os.path.join(library, "rerankd", name)], env=env, check=True,
                             stdout=subprocess.PIPE).stdout.decode()
        for line in out.splitlines():
            path = os.path.realpath(line.split("=>")[-1].split("(")[0].strip())
            inside = path.startswith(os.path.realpath(library) + os.sep)
            if not inside and not SYSTEM.fullmatch(os.path.basename(line.split()[0])):
                strangers.append("%s: %s" % (name, line.strip()))
    print("\n".join(strangers) or "the wheel has all its libraries")
    return (0, 1, 0) if strangers else (1, 0, 0)


def run(python, name, env):
    """(passed, failed, skipped) of one file."""
    p = subprocess.run([python, "-W", "ignore", os.path.join(HERE, name), "-v"], env=env, check=False,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=400)
    text = p.stdout.decode("utf-8", "replace")
    print(text, flush=True)
    ran = re.search(r"^Ran (\d+) test", text, re.M)
    count = {k: int(n) for k, n in re.findall(r"(failures|errors|skipped)=(\d+)", text)}
    failed = count.get("failures", 0) + count.get("errors", 0)
    if not ran or (p.returncode and not failed):
        return 0, 1, 0
    skipped = count.get("skipped", 0)
    return int(ran.group(1)) - failed - skipped, failed, skipped


def typed(python, library):
    """The package's types, by mypy where it is installed."""
    if subprocess.run([python, "-c", "import mypy"], check=False,
                      stderr=subprocess.DEVNULL).returncode:
        return 0, 0, 1
    names = [os.path.join(library, "rerankd", n + ".py") for n in
             ("__init__", "_native", "cross_encoder", "client", "errors", "_source", "_program", "__main__")]
    p = subprocess.run([python, "-m", "mypy", "--strict", "--ignore-missing-imports",
                        "--cache-dir", os.path.join(HOME, "mypy"), *names], check=False)
    return (1, 0, 0) if p.returncode == 0 else (0, 1, 0)


def main():
    if not glob.glob(os.path.join(OUT, "rerankd-*.whl")):
        print(f"{OUT} has no wheel: make wheel OUT={os.path.relpath(OUT, ROOT)}", file=sys.stderr)
        return 64
    os.makedirs(HOME, exist_ok=True)
    python = installed()
    if not python:
        print("SKIP: no numpy, and PyPI cannot be reached")
        return 77
    (wheel,) = glob.glob(os.path.join(OUT, "rerankd-*.whl"))
    library = os.path.join(HOME, "wheel")
    if python.startswith(HOME):
        check = subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index",
                                "--force-reinstall", "--disable-pip-version-check", wheel], check=False)
        if check.returncode:
            return 1
    with zipfile.ZipFile(wheel) as z:  # for the other environments
        z.extractall(library)
    os.chmod(os.path.join(library, "rerankd", "bin", "rerankd"), 0o755)
    env = {**os.environ, "ROOT": ROOT, "MODEL": os.path.join(ROOT, "models", "starter"),
           "RERANKD": os.path.join(OUT, "rerankd"), "HAYSTACK_TELEMETRY_ENABLED": "False"}
    borrowed = {**env, "PYTHONPATH": library}
    totals = [run(python, "test_rerankd.py", env if python.startswith(HOME) else borrowed),
              typed(python, library), whole(wheel, library)]
    for name in ("langchain", "llamaindex", "haystack"):
        home = os.path.join(ROOT, "build", "clients", name)
        other = os.path.join(home, "bin", "python")
        if os.path.exists(os.path.join(home, "installed")):
            totals.append(run(other, "test_adapters.py", borrowed))
    other = sentence_transformers()
    totals.append(run(other, "test_sentence_transformers.py", borrowed) if other else (0, 0, 1))
    passed, failed, skipped = map(sum, zip(*totals))
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
