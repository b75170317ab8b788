#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""alerts.py - the alerts fire when they must and only then; a changed rule is noticed.

Each alert has a case that fires and cases that do not (alert_cases.py).  Then every rule is changed,
one change at a time (thresholds, comparisons, durations, labels, severities, matchers, windows), and
the cases must notice each change.
"""
import json
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor

import support
from alert_cases import FIRES, INTERVAL, QUIET

yaml = support.yaml_module()
PROMTOOL = support.need("promtool")
RULES = os.path.join(support.DEPLOY, "prometheus", "rerankd.rules.yml")


def load():
    with open(RULES, encoding="utf-8") as f:
        recording, alerts = yaml.safe_load(f)["groups"]
    return recording["rules"], {r["alert"]: r for r in alerts["rules"]}


def tests_of(alert):
    """promtool's tests of one alert."""
    interval = INTERVAL.get(alert, "1m")
    series, quiet, fires, labels, summary = FIRES[alert]
    severity = load()[1][alert]["labels"]["severity"]
    expected = {"exp_labels": dict(labels, severity=severity),
                "exp_annotations": {"summary": summary,
                                    "runbook": "docs/RUNBOOK.md#" + alert.lower()}}

    def test(name, rows, checks):
        return {"name": name, "interval": interval,
                "input_series": [{"series": s, "values": v} for s, v in rows],
                "alert_rule_test": checks}
    return [test("fires", series, [
        {"eval_time": quiet, "alertname": alert},
        {"eval_time": fires, "alertname": alert, "exp_alerts": [expected]}])] + [
            test(reason, rows, [{"eval_time": when, "alertname": alert}])
            for reason, rows, when in QUIET[alert]]


def promtool(recording, rule, tests):
    """(good, output) of the tests of a rule."""
    with tempfile.TemporaryDirectory() as folder:
        names = re.findall(r"job:\w+:\w+", rule["expr"] + "".join(
            r["expr"] for r in recording if r["record"] in rule["expr"]))
        groups = {"groups": [{"name": "g", "rules": [r for r in recording if r["record"] in names] +
                              [rule]}]}
        with open(os.path.join(folder, "rules.yml"), "w", encoding="utf-8") as f:
            json.dump(groups, f)
        with open(os.path.join(folder, "tests.yml"), "w", encoding="utf-8") as f:
            json.dump({"rule_files": ["rules.yml"], "tests": tests,
                       "evaluation_interval": "5m" if rule["alert"] in INTERVAL else "15s"}, f)
        code, out = support.run(PROMTOOL, "test", "rules", os.path.join(folder, "tests.yml"),
                                check=False)
        return code == 0, out


def times(text, factor):
    number, unit = re.fullmatch(r"(\d+)([smhd])", text).groups()
    seconds = int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit] * factor
    return "%ds" % seconds


COMPARE = r" (==|>|<) (-?[\d.]+)"


def mutants_of_expr(expr):
    """(what was changed, expression) for each place of an expression."""
    def each(pattern, change):
        for m in re.finditer(pattern, expr):
            for text in change(m):
                yield ("%s -> %s" % (m.group(0).strip(), text.strip()),
                       expr[:m.start()] + text + expr[m.end():])

    def threshold(m):
        x = float(m.group(2))
        others = [x * 1.5, x / 1.5] if x > 3 or 0 < x < 1 else [x + 1, x - 1]
        return [" %s %r" % (m.group(1), y) for y in others]

    def compare(m):
        # where nothing can be below the threshold, "!=" is the same as ">"
        others = ("==", ">", "<") if m.group(0) in (" > 0", " > 1") else ("==", ">", "<", "!=")
        return [" %s %s" % (op, m.group(2)) for op in others if op != m.group(1)]

    def matcher(m):
        return ['%s%s"%s"' % (m.group(1), m.group(2), "mutant"),
                '%s%s"%s"' % (m.group(1), "!~" if "~" in m.group(2) else "!=", m.group(3))]
    if not expr.startswith("(sum"):  # its guard > 0 only turns NaN into nothing
        yield from each(COMPARE, threshold)
        yield from each(COMPARE, compare)
    yield from each(r'(\w+)(=~?)"([^"]*)"', matcher)
    yield from each(r" / ", lambda m: [" * "])
    yield from each(r" and on \([a-z, ]*\)", lambda m: [" unless on" + m.group(0)[7:], " or"])
    yield from each(r"0\.95, ", lambda m: ["0.5, ", "0.999, "])
    yield from each(r"< (0\.5) \*", lambda m: ["< 0.75 *", "< 0.35 *", "> 0.5 *"])
    yield from each(r" offset 1d", lambda m: ["", " offset 1h"])


def mutants(recording, alerts):
    for name, rule in alerts.items():
        for what, expr in mutants_of_expr(rule["expr"]):
            yield name, what, recording, dict(rule, expr=expr)
        if "for" in rule:
            yield name, "no for", recording, {k: v for k, v in rule.items() if k != "for"}
            yield name, "for doubled", recording, dict(rule, **{"for": times(rule["for"], 2)})
        severity = "ticket" if rule["labels"]["severity"] == "page" else "page"
        yield name, "severity", recording, dict(rule, labels={"severity": severity})
        yield name, "summary", recording, dict(rule, annotations=dict(rule["annotations"],
                                                                      summary="mutant"))
        for i, r in enumerate(recording):
            if r["record"] in rule["expr"]:
                for what, expr in mutants_of_expr(r["expr"]):
                    changed = recording[:i] + [dict(r, expr=expr)] + recording[i + 1:]
                    yield name, r["record"] + ": " + what, changed, rule




def rules_are_valid():
    _, out = support.run(PROMTOOL, "check", "rules", RULES)
    assert "SUCCESS" in out, out
    for name in ("prometheus.yml", "gpu/prometheus.yml"):
        support.run(PROMTOOL, "check", "config", "--syntax-only",
                    os.path.join(support.DEPLOY, "prometheus", name))
    assert "job_name: dcgm" in support.read("deploy", "prometheus", "gpu", "prometheus.yml")


def every_alert_has_cases():
    _, alerts = load()
    assert set(alerts) == set(FIRES) == set(QUIET), \
        set(alerts) ^ set(FIRES) | set(alerts) ^ set(QUIET)


def every_alert_is_in_the_runbook():
    _, alerts = load()
    headings = re.findall(r"^## (\w+)$", support.read("docs", "RUNBOOK.md"), re.M)
    assert headings == list(alerts), set(headings) ^ set(alerts)


def every_metric_is_documented():
    known = set(re.findall(r"^\| `(\w+)`", support.read("docs", "METRICS.md"), re.M))
    known |= {"rerank_model_info", "rerank_build_info", "rerank_device_info", "up"}
    recording, alerts = load()
    for rule in recording + list(alerts.values()):
        for name in re.findall(r"\b(?:rerank|process)_\w+(?=[{\[ )]|$)", rule["expr"]):
            base = re.sub("_(bucket|sum|count)$", "", name)
            assert name in known or base in known, "%s is not in docs/METRICS.md" % name


def alerts_fire_when_they_must():
    recording, alerts = load()
    for name, rule in alerts.items():
        good, out = promtool(recording, rule, tests_of(name))
        assert good, "%s\n%s" % (name, out)


def changed_rules_are_noticed():
    recording, alerts = load()
    todo = list(mutants(recording, alerts))
    tests = {name: tests_of(name) for name in alerts}

    def survives(mutant):
        name, what, records, rule = mutant
        return promtool(records, rule, tests[name])[0] and "%s: %s" % (name, what)
    with ThreadPoolExecutor(2) as pool:
        left = [s for s in pool.map(survives, todo) if s]
    print("     %d changed rules, %d noticed" % (len(todo), len(todo) - len(left)))
    assert not left, "not noticed:\n  " + "\n  ".join(left)


def scaling_query_is_one_number():
    """KEDA's: one number whatever the instances do, and none, which KEDA takes for an error, when
    no instance is left; 0 would mean that there is nothing to do."""
    keda = yaml.safe_load(support.read("deploy", "kubernetes", "keda.yaml"))
    trigger = keda["spec"]["triggers"][0]["metadata"]
    assert trigger["ignoreNullValues"] == "false", trigger

    def instance(name, tokens, limit="1000x30", job="rerankd"):
        labels = '{job="%s",instance="%s"}' % (job, name)
        return [{"series": "rerank_queue_tokens" + labels, "values": tokens},
                {"series": "rerank_queue_tokens_limit" + labels, "values": limit}]

    def test(name, series, when, value):
        samples = [] if value is None else [{"labels": "{}", "value": value}]
        return {"name": name, "interval": "1m", "input_series": series, "promql_expr_test": [
            {"expr": trigger["query"], "eval_time": when, "exp_samples": samples}]}

    gone = ("300x5 stale", "1000x5 stale")
    tests = [
        test("two", instance("a", "100x30") + instance("b", "300x30"), "10m", 0.2),
        test("a scrape was missed", instance("a", "100x9 _ 100x9", "1000x9 _ 1000x9") +
             instance("b", "300x30"), "10m", 0.2),
        test("one is gone", instance("a", "100x30") + instance("b", *gone), "10m", 0.1),
        test("all are gone", instance("b", *gone), "10m", None),
        test("none was ever there", instance("a", "100x30", job="other"), "10m", None),
        test("another job", instance("a", "100x30") + instance("b", "900x30", job="other"), "10m",
             0.1)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tests.yml")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"tests": tests, "evaluation_interval": "1m"}, f)
        support.run(PROMTOOL, "test", "rules", path)


support.main([rules_are_valid, every_alert_has_cases, every_alert_is_in_the_runbook,
              every_metric_is_documented, alerts_fire_when_they_must, changed_rules_are_noticed,
              scaling_query_is_one_number])
