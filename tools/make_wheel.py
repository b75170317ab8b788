#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_wheel.py - the Python package of this build as a wheel: the modules of python/rerankd with
librerank.so and the program rerankd inside.

    tools/make_wheel.py BUILD_FOLDER VERSION

Prints the wheel's path.  No packages are needed.  The libraries that librerank.so needs stay the
system's (README.md lists them), so the wheel is for the distribution it was built on.
"""
import base64
import hashlib
import os
import sys
import sysconfig
import tomllib
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MOMENT = (1980, 1, 1, 0, 0, 0)  # the same files make the same wheel


def sources(build, version):
    """[(name in the wheel, content, executable)]."""
    folder = os.path.join(ROOT, "python", "rerankd")
    for name in sorted(os.listdir(folder)):
        if name.endswith((".py", ".typed")):
            with open(os.path.join(folder, name), "rb") as f:
                yield "rerankd/" + name, f.read().replace(b"@VERSION@", version.encode()), False
    for name, target in (("librerank.so.0", "rerankd/librerank.so.0"),
                         ("rerankd", "rerankd/bin/rerankd")):
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


def main():
    build, version = sys.argv[1:]
    with open(os.path.join(ROOT, "python", "pyproject.toml"), "rb") as f:
        project = tomllib.load(f)["project"]
    tag = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
    info = "rerankd-%s.dist-info/" % version
    files = list(sources(build, version))
    files.append((info + "METADATA", metadata(project, version).encode(), False))
    files.append((info + "WHEEL", ("Wheel-Version: 1.0\nGenerator: make_wheel.py\n"
                                   "Root-Is-Purelib: false\nTag: %s\n" % tag).encode(), False))
    record = "".join("%s,sha256=%s,%d\n" % (n, base64.urlsafe_b64encode(
        hashlib.sha256(d).digest()).rstrip(b"=").decode(), len(d)) for n, d, _ in files)
    files.append((info + "RECORD", (record + info + "RECORD,,\n").encode(), False))
    path = os.path.join(build, "rerankd-%s-%s.whl" % (version, tag))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data, executable in files:
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(entry, data)
    print(path)


if __name__ == "__main__":
    main()
