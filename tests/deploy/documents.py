#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""documents.py - the guides for operators: both languages say the same, links and options exist, what
they promise about requests holds, and the files of a release can be made."""
import json
import os
import re
import shutil

import support
from support import ROOT, read

from server_support import Server, starter  # found once support is loaded

GUIDES = ("MIGRATION.md", "MIGRATION.fr.md", "OPERATIONS.md", "SCALING.md", "RUNBOOK.md", "CPU.md")
TEXTS = [os.path.join("docs", g) for g in GUIDES] + ["SECURITY.md"]


def commands(name):
    """Lines of the code blocks, with what differs between the languages made equal."""
    text = "\n".join(re.findall(r"```sh\n(.*?)```", read("docs", name), re.S))
    for french, english in (("essai", "trial"), ("SERVEUR", "SERVER"), ("requete", "request"),
                            ("ANCIEN", "OLD"), ("ADRESSE_DU_DEPOT", "REPOSITORY")):
        text = text.replace(french, english)
    return text


def both_languages_say_the_same():
    assert commands("MIGRATION.md") == commands("MIGRATION.fr.md")
    for pattern in (r"^- \[ \]", r"^## ", r"^\|"):
        a, b = (len(re.findall(pattern, read("docs", n), re.M)) for n in GUIDES[:2])
        assert a == b > 3, (pattern, a, b)


def nothing_is_used_before_it_is_there():
    """Of the guide: the program and the repository's files, and the model that is measured."""
    text = commands("MIGRATION.md")
    assert text.index("git clone") < text.index("make &&") < text.index("rerankd bench --url")
    assert text.index("pull BAAI/") < text.index("bench --plan")


def links_lead_somewhere():
    for name in TEXTS:
        text = read(name)
        for target, anchor in re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", text):
            path = os.path.join(ROOT, os.path.dirname(name), target) if target else \
                os.path.join(ROOT, name)
            assert os.path.exists(path), "%s: %s" % (name, target)
            if anchor and path.endswith(".md"):
                with open(path, encoding="utf-8") as f:
                    titles = [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-")
                              for t in re.findall(r"^#+ (.*)$", f.read(), re.M)]
                assert anchor[1:] in titles, "%s: %s has no %s" % (name, target, anchor)


def settings_exist():
    """Every --option and RERANKD_ variable that the guides and files mention."""
    config = read("docs", "CONFIG.md")
    known = set(re.findall(r"`([\w-]+)`", config))
    program = os.environ.get("RERANKD", os.path.join(ROOT, "build", "rerankd"))
    help_of_others = {"print-config", "url", "dry-run", "check", "cacert", "user"}
    for command in ("bench", "verify", "shadow"):
        help_of_others |= set(re.findall(r"--([a-z0-9-]+)", support.run(program, command, "--help")[1]))
    for name in TEXTS:
        for word in re.findall(r"`--([a-z-]+)", read(name)):
            bare = re.sub("^no-", "", word)
            assert word in known or bare in known or word in help_of_others, (name, word)
        for word in re.findall(r"\bRERANKD_\w+", read(name)):
            assert word in known, (name, word)


def parts_of_test_deploy_exist():
    named = set(re.findall(r"`(\w+)`(?: \(|,| \||$)",
                           read("docs", "OPERATIONS.md").split("## Checklist")[1].split("##")[0]))
    there = {n[:-3] for n in os.listdir(os.path.join(ROOT, "tests", "deploy"))}
    tests = {n for n in named if n.islower() and n not in ("rerankd", "curl")}
    assert tests and tests <= there, tests - there


def old_clients_get_what_the_guide_promises():
    old = [{"chunk_id": str(i), "document_id": "d", "document_title": "t", "document_source": "s",
            "chunk_index": i, "content": "text %d" % i, "similarity": 0.5} for i in range(20)]
    with Server(model_folder=starter()) as server:
        answer = server.post({"query": "q", "documents": old, "top_k": 5})
        body = answer.json()
        assert answer.status == 200 and list(body) == ["documents", "count", "model",
                                                       "processing_time"], body
        assert body["count"] == 5 and set(old[0]) <= set(body["documents"][0])
        server.log(r"reranking 20 candidates -> 5 results")
        everything = server.post({"query": "q", "documents": old, "top_k": None})
        assert everything.status == 200 and everything.json()["count"] == 20, everything
        newer = server.post({"query": "q", "documents": [{"content": "a", "metadata": {}}]})
        assert newer.status == 200 and "score" in json.dumps(newer.json()), newer
        assert server.ask("GET", "/health").json()["status"] == "healthy"


def parts_are_listed():
    program = os.environ.get("RERANKD", os.path.join(ROOT, "build", "rerankd"))
    if not shutil.which("dpkg-query"):
        raise support.Missing("dpkg-query is not installed")
    command = ("python3", os.path.join(ROOT, "tools", "sbom.py"), program)
    env = dict(os.environ, SOURCE_DATE_EPOCH="1700000000")
    first, again = (support.run(*command, env=env)[1] for _ in range(2))
    assert first == again
    made = json.loads(first)
    parts = {p["name"]: p["versionInfo"] for p in made["packages"]}
    for name in ("rerankd", "libmicrohttpd12", "libjansson4", "libc6"):
        assert re.match(r"\d", parts.get(name, "")), (name, parts)
    assert "unknown" not in parts.values(), parts
    assert len({p["SPDXID"] for p in made["packages"]}) == len(made["packages"])
    assert len(made["relationships"]) == len(made["packages"])


def a_wrong_version_is_no_release():
    code, out = support.run(os.path.join(ROOT, "tools", "release.sh"), "--dry-run", "9.9.9",
                            check=False)
    assert code == 1 and "does not say 9.9.9" in out, out


support.main([both_languages_say_the_same, nothing_is_used_before_it_is_there, links_lead_somewhere, settings_exist,
              parts_of_test_deploy_exist, old_clients_get_what_the_guide_promises,
              parts_are_listed, a_wrong_version_is_no_release])
