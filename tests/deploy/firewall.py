#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""firewall.py - deploy/nftables.conf in a network of its own: the clients' network reaches port 8002,
another does not; and ufw takes the guide's commands."""
import os
import re
import shutil
import tempfile

import support
from support import DEPLOY, ROOT

NFT = support.need("nft")
if os.geteuid():
    support.skip("only root can make networks")
FILE = os.path.join(DEPLOY, "nftables.conf")

# Two networks in one script: the server's, and its peer's, joined by a pair of interfaces.  The
# client binds to an address that is asked to be let in, or not.
SCRIPT = r"""
ip link set lo up
ip link add va type veth peer name vb || exit 77
unshare --net sh -c 'echo $$ > {0}/pid; exec sleep 60' &
while [ ! -s {0}/pid ]; do sleep 0.05; done
peer=$(cat {0}/pid)
ip link set vb netns $peer
ip addr add 10.0.0.1/24 dev va; ip addr add 10.9.9.1/24 dev va; ip link set va up
inside() {{ nsenter --net=/proc/$peer/ns/net "$@"; }}
inside ip link set lo up
inside ip addr add 10.0.0.2/24 dev vb; inside ip addr add 10.9.9.2/24 dev vb; inside ip link set vb up
python3 -m http.server --bind 0.0.0.0 --directory {0} 8002 > /dev/null 2>&1 &
server=$!
ask() {{ inside curl -s -o /dev/null -m 2 --interface $1 http://$2:8002/ && echo "$1 in" || echo "$1 out"; }}
until curl -s -o /dev/null http://127.0.0.1:8002/; do sleep 0.1; done
echo before; ask 10.0.0.2 10.0.0.1; ask 10.9.9.2 10.9.9.1
{1} -f {2} || exit 1
{1} -f {2} || exit 1
echo after; ask 10.0.0.2 10.0.0.1; ask 10.9.9.2 10.9.9.1
curl -s -o /dev/null -m 2 http://127.0.0.1:8002/ && echo "lo in"
{1} list table inet rerankd | grep -c 'counter packets [1-9]'
kill $server $peer
"""


def only_clients_get_in():
    for program in ("ip", "unshare", "nsenter", "curl"):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            raise support.Missing(program + " is not installed")
    with tempfile.TemporaryDirectory() as folder:
        code, out = support.run("unshare", "--net", "sh", "-c", SCRIPT.format(folder, NFT, FILE),
                                check=False, timeout=60)
        if code == 77 or "Operation not permitted" in out:
            raise support.Missing("networks cannot be made here: " + out[-200:])
        before, after = out.split("before")[1].split("after")
        assert before.split() == ["10.0.0.2", "in", "10.9.9.2", "in"], out
        assert after.split()[:6] == ["10.0.0.2", "in", "10.9.9.2", "out", "lo", "in"], out
        assert int(after.split()[6]) >= 1, "nothing was counted as dropped: " + out


def file_is_valid():
    code, out = support.run("unshare", "--net", NFT, "-c", "-f", FILE, check=False)
    if "Operation not permitted" in out:
        raise support.Missing("not allowed here: " + out)
    assert code == 0, out


def ufw_takes_the_commands():
    ufw = shutil.which("ufw", path=os.environ["PATH"] + ":/usr/sbin")
    if not ufw:
        raise support.Missing("ufw is not installed")
    for page in ("MIGRATION.md", "OPERATIONS.md"):
        lines = re.findall(r"^(?:&& )?ufw (allow|deny|default)(.*)$", support.read("docs", page), re.M)
        assert lines, page
        for verb, rest in lines:
            words = [verb] + rest.split("&&")[0].split()
            if "OpenSSH" not in words:  # a profile of the ssh server's package
                _, out = support.run("unshare", "--net", ufw, "--dry-run", *words)
                assert "8002" in out or verb == "default", out


support.main([file_is_valid, only_clients_get_in, ufw_takes_the_commands])
