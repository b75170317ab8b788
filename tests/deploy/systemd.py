#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""systemd.py - the unit is valid, as closed as promised, and rerankd can live inside it.

Without systemd as process 1 the unit cannot be started; instead, what rerankd does under load is
recorded (strace) and compared with what the unit allows.
"""
import json
import os
import re
import shutil
import tempfile

import support
from support import DEPLOY

ANALYZE = support.need("systemd-analyze")
from server_support import Server, starter  # noqa: E402 - only found once support is loaded

UNIT = os.path.join(DEPLOY, "systemd", "rerankd.service")
MOST_EXPOSURE = 2.0  # of 10; systemd calls up to 2 "OK" and more than 8 "UNSAFE"


def settings(path=UNIT):
    """(name, value) of each line."""
    with open(path, encoding="utf-8") as f:
        return [line.rstrip("\n").partition("=")[::2] for line in f
                if "=" in line and not line.startswith("#")]


def place(folder, drop_in=None):
    """The unit with a program that exists, as verify insists on one."""
    path = os.path.join(folder, "rerankd.service")
    with open(UNIT, encoding="utf-8") as f, open(path, "w", encoding="utf-8") as to:
        to.write(f.read().replace("/usr/bin/rerankd", "/bin/true"))
    if drop_in:
        os.makedirs(path + ".d")
        shutil.copy(os.path.join(DEPLOY, "systemd", drop_in), path + ".d")
    shutil.copy(os.path.join(DEPLOY, "systemd", "rerankd.socket"), folder)
    return path


def exposure(path):
    # --offline reads drop-ins only of a root
    root = tempfile.mkdtemp()
    try:
        where = os.path.join(root, "etc", "systemd", "system")
        shutil.copytree(os.path.dirname(path), where)
        _, out = support.run(ANALYZE, "security", "--offline=true", "--root=" + root, "--no-pager",
                             "rerankd.service", check=False)
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", out)
        assert found, out[-2000:]
        return float(found.group(1))
    finally:
        shutil.rmtree(root)


def units_are_valid():
    for drop_in in (None, "gpu.conf", "private.conf"):
        with tempfile.TemporaryDirectory() as folder:
            path = place(folder, drop_in)
            _, out = support.run(ANALYZE, "verify", "--man=no", path,
                                 os.path.join(folder, "rerankd.socket"), check=False)
            bad = [x for x in out.splitlines() if "rerankd" in x]
            assert not bad, bad


def what_a_restart_cannot_mend_is_not_restarted():
    """As the runbook says, which names each exit status of internals/server.md once."""
    with open(os.path.join(support.ROOT, "docs", "RUNBOOK.md"), encoding="utf-8") as f:
        found = re.search(r"#the-end\)\): ([\d, ]+) need a change.*?; ([\d, and]+) were restarted", f.read(),
                          re.S)
    stay, again = (re.findall(r"\d+", x) for x in found.groups())
    assert dict(settings())["RestartPreventExitStatus"].split() == stay, stay
    with open(os.path.join(support.ROOT, "docs", "internals", "server.md"), encoding="utf-8") as f:
        named = re.findall(r"^\| (\d+) \|", f.read(), re.M)
    assert sorted(["0"] + stay + again) == sorted(named), (stay, again, named)


def verify_notices_a_mistake():
    with tempfile.TemporaryDirectory() as folder:
        path = place(folder)
        with open(path, "a", encoding="utf-8") as f:
            f.write("[Service]\nPrivateTmpp=yes\n")
        _, out = support.run(ANALYZE, "verify", "--man=no", path, check=False)
        assert "PrivateTmpp" in out, out


def exposure_is_low():
    scores = {}
    for drop_in in (None, "private.conf", "gpu.conf"):
        with tempfile.TemporaryDirectory() as folder:
            scores[drop_in or "plain"] = exposure(place(folder, drop_in))
    print("     exposure: %s" % scores)
    assert max(scores.values()) <= MOST_EXPOSURE, scores
    assert scores["private.conf"] < scores["plain"] < scores["gpu.conf"], \
        "a drop-in changes nothing: %s" % scores


def comments_stand_alone():
    """A comment after a value becomes part of it."""
    for name in os.listdir(os.path.join(DEPLOY, "systemd")):
        for key, value in settings(os.path.join(DEPLOY, "systemd", name)):
            assert "#" not in value, "%s: %s=%s" % (name, key, value)


def allowed():
    """System calls that the filter lets through."""
    _, out = support.run(ANALYZE, "syscall-filter", "--no-pager")
    groups, name = {}, None
    for line in out.splitlines():
        word = line.strip().split(" ")[0]
        if line.startswith("@"):
            name = word
            groups[name] = set()
        elif name and line.startswith("    ") and not word.startswith("#"):
            groups[name].add(word)

    def members(word):
        if not word.startswith("@"):
            return {word}
        return set().union(*[members(w) for w in groups[word]])
    calls = set(groups["@default"])
    for key, value in settings():
        if key == "SystemCallFilter":
            inside = set().union(*[members(w) for w in value.lstrip("~").split()])
            calls = calls - inside if value.startswith("~") else calls | inside
    return calls


def rerankd_stays_inside():
    strace = shutil.which("strace")
    if not strace:
        raise support.Missing("strace is not installed")
    with tempfile.TemporaryDirectory() as folder:
        trace = os.path.join(folder, "trace")
        wrapper = os.path.join(folder, "rerankd")
        with open(wrapper, "w", encoding="utf-8") as f:
            # -D: rerankd is the child that the test knows, and strace its grandchild
            f.write("#!/bin/sh\nexec %s -D -f -qq -o %s %s \"$@\"\n" %
                    (strace, trace, os.environ.get("RERANKD", "build/rerankd")))
        os.chmod(wrapper, 0o755)
        import server_support
        server_support.RERANKD = wrapper
        with Server(model_folder=starter()) as server:
            for n in range(20):
                body = json.dumps({"query": "q%d" % n, "texts": ["a b", "c " * 300]})
                assert server.ask("POST", "/rerank", body).status == 200
            for path in ("/metrics", "/info", "/docs"):
                assert server.ask("GET", path).status == 200
        with open(trace, encoding="utf-8", errors="replace") as f:
            text = f.read()
    used = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", text, re.M))
    outside = used - allowed() - {"execve"}
    assert len(used) > 30 and not outside, "the unit forbids %s" % sorted(outside)
    print("     %d system calls used, all allowed" % len(used))
    writable_code = [x for x in text.splitlines() if "PROT_WRITE|PROT_EXEC" in x and "mmap" in x]
    assert not writable_code, "MemoryDenyWriteExecute forbids %s" % writable_code[:2]
    families = set(re.findall(r"socket\((AF_\w+)", text)) - {"AF_INET", "AF_INET6", "AF_UNIX"}
    # getaddrinfo looks at the interfaces by AF_NETLINK, and does without
    assert families <= {"AF_NETLINK"}, families


support.main([units_are_valid, what_a_restart_cannot_mend_is_not_restarted,
              verify_notices_a_mistake, exposure_is_low, comments_stand_alone,
              rerankd_stays_inside])
