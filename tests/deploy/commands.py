#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""commands.py - every command in the operators' pages is run, block by block, with bash ("make test-docs").

rerankd, curl, openssl, haproxy and make are the real ones, between two live servers: rerankd and a
stand-in for the old service.  What cannot run here is run as far as it can: docker compose reads the files
and must know services, profiles and sub-commands, ufw gets --dry-run, nft -c, make -n; git, systemctl,
apt-get and kubectl are only written down.  A command that is none of these fails.  Without haproxy its
blocks are left out, and the page counts as skipped.
"""
import json
import os
import re
import shutil
import stat
import sys
import tempfile

import support
from support import ROOT, read

sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from cli_shadow import OldService, lines, old_bodies  # noqa: E402
from server_support import Server, starter  # noqa: E402

PAGES = ("MIGRATION.md", "MIGRATION.fr.md", "OPERATIONS.md", "SCALING.md", "CPU.md")
RERANKD = os.path.abspath(os.environ.get("RERANKD", os.path.join(ROOT, "build", "rerankd")))

DOCKER = r'''#!/usr/bin/env python3
import os, subprocess, sys
words = sys.argv[1:]
known = {"up", "down", "build", "run", "stop", "logs", "ps"}
if words[0] != "compose":
    sys.exit(0 if words[0] in {"tag", "stop", "start", "inspect", "build", "ps"} else "docker " + words[0])
words, files, rest = words[1:], [], []
while words:
    word = words.pop(0)
    if word in ("-f", "-p", "--profile"):
        value = words.pop(0)
        if word == "-f":
            files += ["-f", value]
        if word == "--profile" and value not in ("redis", "monitoring"):
            sys.exit("no profile " + value)
    elif not word.startswith("-"):
        rest.append(word)
if rest[0] not in known:
    sys.exit("docker compose has no " + rest[0])
if {compose!r}:
    out = subprocess.run([{compose!r}, *files, "--profile", "redis", "--profile", "monitoring", "config",
                          "--services"], stdout=subprocess.PIPE, text=True)
    if out.returncode or (rest[1:2] and rest[1] not in out.stdout.split()):
        sys.exit("docker compose: no service %s in %s" % (rest[1:2], out.stdout.split()))
'''
LOGGED = ("systemctl", "apt-get", "kubectl", "socat", "helm")


def script(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, stat.S_IRWXU)


def programs(folder):
    """The commands that pages may use, in a folder that comes first in PATH."""
    os.mkdir(folder)
    script(folder, "docker", DOCKER.replace("{compose!r}", repr(shutil.which("docker-compose") or "")))
    os.symlink(RERANKD, os.path.join(folder, "rerankd"))
    script(folder, "git", "#!/bin/sh\n[ \"$1\" = clone ] && mkdir \"$3\" && cp -P * \"$3\" 2>/dev/null; exit 0\n")
    script(folder, "make", "#!/bin/sh\nexec /usr/bin/make -n \"$@\" > /dev/null\n")
    ufw = shutil.which("ufw", path="/usr/sbin:/usr/bin")
    script(folder, "ufw", "#!/bin/sh\n[ \"$1\" = enable ] || [ \"$2\" = OpenSSH ] || " +
           ("exec unshare --net %s --dry-run \"$@\"" % ufw if ufw and not os.geteuid() else ":") +
           "\nexit 0\n")
    script(folder, "nft", "#!/bin/sh\nexec unshare --net /usr/sbin/nft -c \"$@\"\n")
    for name in LOGGED:
        # What stands before it in a pipe can write.
        script(folder, name, "#!/bin/sh\n[ -t 0 ] || cat > /dev/null\n[ $# -gt 0 ]\n")


def blocks(page):
    return re.findall(r"```sh\n(.*?)```", read("docs", page), re.S)


def run_page(page):
    found = blocks(page)
    assert found, page + " has no commands"
    with tempfile.TemporaryDirectory() as folder, Server("--port", "0", model_folder=starter()) as new, \
            OldService("http://127.0.0.1:%d/rerank" % new.port) as old:
        here = os.path.join(folder, "here")
        os.mkdir(here)
        programs(os.path.join(folder, "bin"))
        for name in os.listdir(ROOT):
            if name not in (".git", "build"):
                os.symlink(os.path.join(ROOT, name), os.path.join(here, name))
        for name in ("requests.jsonl", "requetes.jsonl"):
            with open(os.path.join(here, name), "w", encoding="utf-8") as f:
                f.write(lines(old_bodies(6)))
        new_url = "http://127.0.0.1:%d" % new.port
        env = dict(os.environ, RERANKD_MODEL=starter(), RERANKD_CONFIG="none", GRAFANA_PASSWORD="x",
                   PATH=os.path.join(folder, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin")
        if not shutil.which("haproxy", path=env["PATH"]):
            without = [text for text in found if not re.search("^haproxy ", text, re.M)]
        else:
            without = found
        for text in without:
            for pattern, to in ((r"http://(?:OLD|ANCIEN|SERVER|SERVEUR|HOST):8002/rerank", old.url),
                                (r"http://(?:OLD|ANCIEN):8002", old.url.replace("/rerank", "")),
                                (r"http://(?:127\.0\.0\.1:8012|HOST:8002|SERVER:8002|SERVEUR:8002)", new_url)):
                text = re.sub(pattern, to, text)
            # Servers are not started here, their models are somebody else's.
            text = re.sub(r"rerankd serve(?! --check)", "rerankd serve --check", text)
            text = re.sub(r"/models/[\w.-]+", starter(), text)
            text = text.replace("max-length=4096", "max-length=512")  # of the starter model
            code, out = support.run("bash", "-euo", "pipefail", "-c", text, check=False, cwd=here, env=env,
                                    timeout=200)
            assert code == 0, "%s: exit %d\n%s\n%s" % (page, code, text, out[-1500:])
    print("     %d commands of %s" % (sum(len(re.sub(r"\\\n", "", b).splitlines()) for b in without), page))
    if without != found:
        raise support.Missing("haproxy is not installed; the other commands work")


def page_case(page):
    def case():
        run_page(page)
    case.__name__ = "commands_of_" + re.sub(r"\W", "_", page)
    return case


def certificates_of_the_guide_work():
    """The openssl lines, then a server with them: trusted with the authority, and only then."""
    text = next(b for b in blocks("MIGRATION.md") if "openssl" in b).replace("SERVER", "localhost")
    lines_of = [x for x in text.splitlines() if x.startswith("openssl")]
    with tempfile.TemporaryDirectory() as folder:
        support.run("bash", "-euc", "\n".join(lines_of), cwd=folder)
        at = {n: os.path.join(folder, n) for n in ("ca.crt", "tls.crt", "tls.key")}
        with Server("--tls-cert", at["tls.crt"], "--tls-key", at["tls.key"], model_folder=starter(),
                    ready=False) as server:
            url = "https://localhost:%d/health" % server.port
            def answers():
                code, out = support.run("curl", "-sf", "--cacert", at["ca.crt"], url, check=False)
                return code == 0 and json.loads(out)["status"] == "healthy"
            support.until(answers, "an answer over TLS")
            code, _ = support.run("curl", "-sf", url, check=False)
            assert code == 60, "curl trusts an authority that nobody knows: %d" % code


support.main([page_case(p) for p in PAGES] + [certificates_of_the_guide_work])
