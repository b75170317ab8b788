#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lint.py - Dockerfiles, compose files and workflows by the linters and schemas that others use
(hadolint and check-jsonschema, from PyPI)."""
import glob
import os
import tempfile

import support
from support import ROOT, read


def linter(name):
    return os.path.join(support.tools("lint", *support.LINTERS), name)


def changed(folder, name, old, new):
    """A copy of a file with a mistake in it."""
    text = read(name)
    assert old in text, old
    path = os.path.join(folder, os.path.basename(name))
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new))
    return path


def dockerfiles_are_clean():
    hadolint = linter("hadolint")
    for name in ("Dockerfile", "Dockerfile.gpu"):
        support.run(hadolint, os.path.join(ROOT, name))
    with tempfile.TemporaryDirectory() as folder:
        bad = changed(folder, "Dockerfile", "WORKDIR /src", "WORKDIR src")
        code, _ = support.run(hadolint, bad, check=False)
        assert code, "a relative WORKDIR was not noticed: linting proves nothing"


def schemas_accept(schema, names, old, new):
    check = (linter("check-jsonschema"), "--builtin-schema", schema)
    support.run(*check, *[os.path.join(ROOT, n) for n in names])
    with tempfile.TemporaryDirectory() as folder:
        code, _ = support.run(*check, changed(folder, names[0], old, new), check=False)
        assert code, "%s was not noticed: validation proves nothing" % new


def compose_files_follow_the_schema():
    schemas_accept("vendor.compose-spec", ["docker-compose.yml", "docker-compose.gpu.yml"],
                   "restart: unless-stopped", "restarts: unless-stopped")


def workflows_follow_the_schema():
    names = [os.path.relpath(p, ROOT) for p in
             sorted(glob.glob(os.path.join(ROOT, ".github", "workflows", "*.yml")))]
    schemas_accept("vendor.github-workflows", names, "runs-on:", "run-on:")


support.main([dockerfiles_are_clean, compose_files_follow_the_schema, workflows_follow_the_schema])
