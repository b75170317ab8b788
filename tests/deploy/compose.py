#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compose.py - the compose files say what ragfab's did, and every file that they mount is there."""
import json
import os
import re
import shutil

import support
from support import DEPLOY, ROOT, read

yaml = support.yaml_module()


def load(name):
    return yaml.safe_load(read(name))


def merged():
    """Base and GPU file laid over each other, as far as the reranker is concerned."""
    base, gpu = load("docker-compose.yml"), load("docker-compose.gpu.yml")
    service = dict(base["services"]["reranker"])
    over = gpu["services"]["reranker"]
    service["environment"] = dict(service["environment"], **over["environment"])
    service["deploy"] = over["deploy"]
    return service


def promises_of_the_old_service_hold():
    service = load("docker-compose.yml")["services"]["reranker"]
    assert service["ports"] == ["${RERANKER_BIND:-127.0.0.1}:${RERANKER_PORT:-8002}:8002"]
    assert service["environment"]["RERANKER_MODEL"].endswith("BAAI/bge-reranker-v2-m3}")
    assert {"DEVICE", "LOG_LEVEL"} <= set(service["environment"])
    check = service["healthcheck"]
    assert check["test"] == ["CMD", "/usr/bin/rerankd", "healthcheck"]
    assert [check[x] for x in ("interval", "timeout", "retries", "start_period")] == \
        ["30s", "10s", 3, "120s"]
    assert service["restart"] == "unless-stopped" and service["read_only"]
    assert service["cap_drop"] == ["ALL"] and "models:/models" in service["volumes"]


def gpu_is_reserved():
    service = merged()
    device = service["deploy"]["resources"]["reservations"]["devices"][0]
    assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]
    assert service["environment"]["DEVICE"] == "${DEVICE:-cuda}"
    assert service["build"]["dockerfile"] == "Dockerfile", "merged() must not touch the base"


def variables_are_settings():
    """Each variable of the reranker is one that rerankd reads."""
    known = set(re.findall(r"`(\w+)`", read("docs", "CONFIG.md")))
    for name in merged()["environment"]:
        assert name in known or name.startswith(("NVIDIA_", "HF_")), name


def mounted_files_exist():
    services = [s for n in ("docker-compose.yml", "docker-compose.gpu.yml")
                for s in load(n)["services"].values()]
    for service in services:
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert os.path.exists(os.path.join(ROOT, source)), source


def stop_takes_long_enough():
    """The grace period covers --drain-delay and --drain-timeout."""
    config = read("docs", "CONFIG.md")
    needed = sum(int(re.search(r"`%s` \| [^|]* \| `(\d+)`" % n, config).group(1))
                 for n in ("drain-delay", "drain-timeout"))
    grace = int(load("docker-compose.yml")["services"]["reranker"]["stop_grace_period"].rstrip("s"))
    unit = int(re.search(r"TimeoutStopSec=(\d+)s", read("deploy", "systemd", "rerankd.service")).group(1))
    assert grace > needed and unit > needed, (grace, unit, needed)


def compose_reads_them():
    command = next((c for c in (["docker-compose"], ["docker", "compose"]) if shutil.which(c[0]) and
                    support.run(*c, "version", check=False)[0] == 0), None)
    if not command:
        raise support.Missing("docker-compose is not installed")
    for files in (["docker-compose.yml"], ["docker-compose.yml", "docker-compose.gpu.yml"]):
        words = [w for f in files for w in ("-f", os.path.join(ROOT, f))]
        support.run(*command, *words, "config", "--quiet",
                    env=dict(os.environ, RERANKER_GPUS="1"))


def yaml_is_tidy():
    if not shutil.which("yamllint"):
        raise support.Missing("yamllint is not installed")
    rules = {"extends": "default", "rules": {
        "line-length": "disable", "document-start": "disable", "truthy": {"check-keys": False},
        "braces": "disable", "brackets": "disable", "comments": "disable",
        "comments-indentation": "disable"}}
    files = [os.path.join(d, f) for d, _, names in os.walk(DEPLOY) for f in names
             if f.endswith((".yml", ".yaml")) and os.sep + "templates" + os.sep not in
             os.path.join(d, f)]
    files += [os.path.join(ROOT, f) for f in ("docker-compose.yml", "docker-compose.gpu.yml",
                                              ".github/workflows/ci.yml")]
    support.run("yamllint", "--strict", "-d", json.dumps(rules), *files)


support.main([promises_of_the_old_service_hold, gpu_is_reserved, variables_are_settings,
              mounted_files_exist, stop_takes_long_enough, compose_reads_them, yaml_is_tidy])
