#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tarball.py - the archive: most libraries inside, installed, upgraded, run and removed by its script."""
import glob
import os
import re
import tempfile

import support
from support import ROOT, run

support.need("tar", "ldd")
import server_support  # noqa: E402 - only found once support is loaded

EPOCH = "1700000000"


def unpacked(folder):
    run("make", "-C", ROOT, "tarball", timeout=800, env=dict(os.environ, SOURCE_DATE_EPOCH=EPOCH))
    archive = glob.glob(os.path.join(ROOT, "build", "tarball", "rerankd-*.tar.gz"))[0]
    run("tar", "-C", folder, "-xzf", archive)
    return os.path.join(folder, os.path.basename(archive)[:-len(".tar.gz")]), archive


def installs_runs_and_goes():
    with tempfile.TemporaryDirectory() as folder:
        tree, archive = unpacked(folder)
        _, needs = run("ldd", os.path.join(tree, "bin", "rerankd"))
        for inside in ("jansson", "microhttpd", "utf8proc", "xxhash", "pcre2", "hiredis", "seccomp"):
            assert "lib%s" % inside not in needs, inside + " is not inside: " + needs
        root = os.path.join(folder, "root")
        env = dict(os.environ, DESTDIR=root, PREFIX="/opt/rerankd")
        script = os.path.join(tree, "install.sh")
        run(script, env=env)
        conf = os.path.join(root, "etc", "rerankd", "rerankd.conf")
        with open(conf, "a", encoding="utf-8") as f:
            f.write("port = 8012\n")
        run(script, env=env)
        with open(conf, encoding="utf-8") as f:
            assert "8012" in f.read(), "an upgrade overwrote the settings"
        with open(os.path.join(root, "etc", "systemd", "system", "rerankd.service"),
                  encoding="utf-8") as f:
            assert "ExecStart=/opt/rerankd/bin/rerankd serve" in f.read()
        program = os.path.join(root, "opt", "rerankd", "bin", "rerankd")
        old, server_support.RERANKD = server_support.RERANKD, program
        try:
            model = os.path.join(root, "opt", "rerankd", "share", "rerankd", "models", "starter")
            with server_support.Server(model_folder=model) as server:
                answer = server.post({"query": "q", "documents": [{"content": "a"}]})
                assert answer.status == 200 and answer.json()["count"] == 1, answer
        finally:
            server_support.RERANKD = old
        code, out = run(script, "--purge", env=env, check=False)
        assert code == 64 and "expected nothing or --uninstall" in out, out
        run(script, "--uninstall", env=env)
        left = [os.path.relpath(os.path.join(d, n), root) for d, _, names in os.walk(root) for n in names]
        assert left == ["etc/rerankd/rerankd.conf"], left
        size = os.path.getsize(archive)
        print("     %.1f MB, the starter model included; needs %d libraries of the system" %
              (size / 1e6, len(re.findall(r"=> /", needs))))


support.main([installs_runs_and_goes])
