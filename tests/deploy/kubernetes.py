#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes.py - the manifests and the chart: whole, consistent, as hardened as promised."""
import json
import os
import re
import shutil
import tempfile

import support
from support import DEPLOY, read

yaml = support.yaml_module()
KUBERNETES = os.path.join(DEPLOY, "kubernetes")
CHART = os.path.join(DEPLOY, "helm", "rerankd")


def manifests():
    """All manifests by kind."""
    found = {}
    for name in sorted(n for n in os.listdir(KUBERNETES) if n.endswith(".yaml")):
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
    _, out = support.run(kubectl, "kustomize", KUBERNETES + "-gpu")
    pools = {d["metadata"]["name"]: d for d in yaml.safe_load_all(out) if d["kind"] == "Deployment"}
    assert set(pools) == {"rerankd", "rerankd-gpu"}, pools
    for one in pools.values():
        check_deployment(one)
    box = pools["rerankd-gpu"]["spec"]["template"]["spec"]["containers"][0]
    assert box["resources"]["limits"]["nvidia.com/gpu"] == 1 and box["image"].endswith("-gpu"), box


def schemas_accept_them():
    """Kubernetes' own schemas; of KEDA and the Prometheus operator there are none in the package."""
    check = os.path.join(support.tools("lint", *support.LINTERS), "kubernetes-validate")
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(KUBERNETES, n) for n in os.listdir(KUBERNETES)
                 if n.endswith(".yaml") and n not in ("kustomization.yaml", "keda.yaml")]
        files.append(os.path.join(KUBERNETES + "-gpu", "gpu.yaml"))
        for one in files:
            support.run(check, "--strict", one)
        bad = os.path.join(folder, "bad.yaml")
        with open(bad, "w", encoding="utf-8") as f:
            f.write(read("deploy", "kubernetes", "deployment.yaml").replace("replicas: 2",
                                                                           "replica: 2"))
        code, _ = support.run(check, "--strict", bad, check=False)
        assert code, "a misspelt field was not noticed: validation proves nothing"


RENDER = """
import json, sys, helm_python
with helm_python.Chart.load(sys.argv[1]) as chart:
    print(json.dumps([helm_python.lint(sys.argv[1]),
                      [chart.render(v, name="r", namespace="n") for v in json.loads(sys.argv[2])]]))
"""


def chart_renders_without_helm():
    """Helm's own library renders the chart; what comes out is checked as the manifests are."""
    folder = support.tools("lint", *support.LINTERS)
    kinds = ("none", "hpa", "keda")
    values = [{"autoscaling": {"kind": k}, "modelsClaim": "m", "gpus": 1, "serviceMonitor": k == "hpa",
               "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]} for k in kinds]
    _, out = support.run(os.path.join(folder, "python"), "-c", RENDER, CHART, json.dumps(values))
    findings, made = json.loads(out)
    assert findings["total_charts_linted"] == 1 and not findings["errors"], findings
    for kind, files in zip(kinds, made):
        every = [d for text in files.values() for d in yaml.safe_load_all(text) if d]
        assert len(every) == {"none": 3, "hpa": 5, "keda": 4}[kind], [d["kind"] for d in every]
        deployment = next(d for d in every if d["kind"] == "Deployment")
        check_deployment(deployment)
        pod = deployment["spec"]["template"]["spec"]
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert pod["tolerations"] and pod["topologySpreadConstraints"]
        with tempfile.TemporaryDirectory() as where:
            for i, one in enumerate(d for d in every if "." not in d["apiVersion"].split("/")[0]
                                    or d["apiVersion"].endswith("k8s.io/v1")):
                path = os.path.join(where, "%d.yaml" % i)
                with open(path, "w", encoding="utf-8") as f:
                    yaml.safe_dump(one, f)
                support.run(os.path.join(folder, "kubernetes-validate"), "--strict", path)


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
    assert len(re.findall("{{- (?:if|range|with)", text)) == text.count("{{- end }}")


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


support.main([manifests_are_consistent, kustomize_builds, schemas_accept_them, versions_agree,
              metrics_exist, chart_uses_its_values, chart_renders, chart_renders_without_helm])
