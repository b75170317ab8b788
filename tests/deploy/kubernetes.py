#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes.py - the manifests and the chart: whole, consistent, as hardened as promised."""
import os
import re
import shutil

import support
from support import DEPLOY, read

yaml = support.yaml_module()
KUBERNETES = os.path.join(DEPLOY, "kubernetes")
CHART = os.path.join(DEPLOY, "helm", "rerankd")


def manifests():
    """All manifests by kind."""
    found = {}
    for name in sorted(os.listdir(KUBERNETES)):
        for one in yaml.safe_load_all(read("deploy", "kubernetes", name)):
            assert one["kind"] not in found
            found[one["kind"]] = one
    return found


def check_deployment(one):
    pod = one["spec"]["template"]["spec"]
    box = pod["containers"][0]
    labels = one["spec"]["template"]["metadata"]["labels"]
    assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 65532
    assert box["securityContext"] == {"allowPrivilegeEscalation": False,
                                      "readOnlyRootFilesystem": True,
                                      "capabilities": {"drop": ["ALL"]}}
    assert box["livenessProbe"]["httpGet"]["path"] == "/live"
    for probe in ("startupProbe", "readinessProbe"):
        assert box[probe]["httpGet"]["path"] == "/ready"
    config = read("docs", "CONFIG.md")
    needed = sum(int(re.search(r"`%s` \| [^|]* \| `(\d+)`" % n, config).group(1))
                 for n in ("drain-delay", "drain-timeout"))
    assert pod["terminationGracePeriodSeconds"] > needed
    known = set(re.findall(r"`(\w+)`", config))
    assert {e["name"] for e in box["env"]} <= known, box["env"]
    mounted = {m["name"] for m in box["volumeMounts"]}
    assert mounted == {v["name"] for v in pod["volumes"]}


def manifests_are_consistent():
    all_of_them = manifests()
    check_deployment(all_of_them["Deployment"])
    labels = all_of_them["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (all_of_them["Service"]["spec"]["selector"],
                     all_of_them["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
                     all_of_them["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]):
        assert selector.items() <= labels.items(), selector
    name = all_of_them["Deployment"]["metadata"]["name"]
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        assert all_of_them[kind]["spec"]["scaleTargetRef"]["name"] == name
    assert all_of_them["Service"]["spec"]["ports"][0]["port"] == 8002


def kustomize_builds():
    kubectl = shutil.which("kubectl")
    if not kubectl:
        raise support.Missing("kubectl is not installed")
    _, out = support.run(kubectl, "kustomize", KUBERNETES)
    kinds = [d["kind"] for d in yaml.safe_load_all(out)]
    assert kinds.count("Deployment") == 1 and len(kinds) == 5, kinds


def versions_agree():
    version = re.search(r'RR_VERSION "(.*)"', read("include", "rerank.h")).group(1)
    chart = yaml.safe_load(read("deploy", "helm", "rerankd", "Chart.yaml"))
    tag = manifests()["Kustomization"]["images"][0]["newTag"]
    assert chart["appVersion"] == tag == version, (chart, tag, version)


def metrics_exist():
    known = set(re.findall(r"^\| `(\w+)`", read("docs", "METRICS.md"), re.M))
    for name in ("deploy/kubernetes/hpa.yaml", "deploy/kubernetes/keda.yaml",
                 "deploy/helm/rerankd/templates/autoscaling.yaml"):
        used = set(re.findall(r"rerank_\w+", read(name)))
        assert used and used <= known, (name, used - known)


def chart_uses_its_values():
    """Each value is used, each used value exists: what can be said without helm."""
    values = yaml.safe_load(read("deploy", "helm", "rerankd", "values.yaml"))
    text = "".join(read("deploy", "helm", "rerankd", "templates", n)
                   for n in os.listdir(os.path.join(CHART, "templates")))
    used = set(re.findall(r"\.Values\.([\w.]+)", text))
    for path in used:
        at = values
        for part in path.split("."):
            assert part in at, path
            at = at[part]
    for key, value in values.items():
        for path in [key + "." + k for k in value] if isinstance(value, dict) and key != "env" \
                else [key]:
            assert path in used or path.split(".")[0] in used, "%s is not used" % path
    assert text.count("{{- if") + text.count("{{- range") == text.count("{{- end }}")


def chart_renders():
    helm = shutil.which("helm")
    if not helm:
        raise support.Missing("helm is not installed")
    support.run(helm, "lint", CHART)
    for kind, count in (("none", 3), ("hpa", 4), ("keda", 4)):
        _, out = support.run(helm, "template", "r", CHART, "--set", "autoscaling.kind=" + kind,
                             "--set", "modelsClaim=m", "--set", "gpus=1")
        made = [d for d in yaml.safe_load_all(out) if d]
        assert len(made) == count, [d["kind"] for d in made]
        check_deployment(next(d for d in made if d["kind"] == "Deployment"))


support.main([manifests_are_consistent, kustomize_builds, versions_agree, metrics_exist,
              chart_uses_its_values, chart_renders])
