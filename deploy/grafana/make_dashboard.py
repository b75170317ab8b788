#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_dashboard.py - writes rerankd.json, the Grafana dashboard, from the table below.

  make_dashboard.py [FILE]    default: rerankd.json beside this file
"""
import json
import os
import sys

S = '{job=~"$job",instance=~"$instance"}'
SPAN = "[$__rate_interval]"


def s(more):
    return S[:-1] + "," + more + "}"


def rate(metric, more="", by=""):
    inner = "rate(%s%s%s)" % (metric, s(more) if more else S, SPAN)
    return "sum%s (%s)" % (" by (%s)" % by if by else "", inner)


def quantile(q, metric, more="", by="le"):
    return "histogram_quantile(%s, %s)" % (q, rate(metric + "_bucket", more, by))


def share(part, whole):
    return "%s / %s" % (part, whole)


REQUESTS = "rerank_http_requests_total"
DURATION = "rerank_request_duration_seconds"
DCGM = '{Hostname=~".*"}'

# (row, [(title, kind, unit, [(expression, legend)])]); three panels fill a line.
ROWS = [
    ("Users", [
        ("Requests a second", "timeseries", "reqps",
         [(rate(REQUESTS, 'handler="rerank"', "status"), "{{status}}")]),
        ("Latency", "timeseries", "s",
         [(quantile(q, DURATION, 'status="ok"'), n)
          for q, n in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))]),
        ("Latency, all of it", "heatmap", "s",
         [(rate(DURATION + "_bucket", 'status="ok"', "le"), "{{le}}")]),
        ("Errors (5xx)", "timeseries", "percentunit",
         [("(%s or %s * 0) / %s" % (rate(REQUESTS, 'handler="rerank",status=~"5.."'),
                                    rate(REQUESTS, 'handler="rerank"'),
                                    rate(REQUESTS, 'handler="rerank"')), "5xx")]),
        ("Refused and left", "timeseries", "reqps",
         [(rate("rerank_requests_rejected_total", by="reason"), "{{reason}}"),
          (rate("rerank_requests_cancelled_total", by="stage"), "client left: {{stage}}")]),
        ("Requests by dialect", "timeseries", "reqps",
         [(rate("rerank_requests_total", by="dialect") + " > 0", "{{dialect}}")]),
    ]),
    ("Where the time goes", [
        ("Stages, p95", "timeseries", "s",
         [(quantile(0.95, "rerank_stage_duration_seconds", by="le, stage"), "{{stage}}")]),
        ("Documents of a request", "heatmap", "none",
         [(rate("rerank_request_documents_bucket", by="le"), "{{le}}")]),
        ("Tokens of a pair", "heatmap", "none",
         [(rate("rerank_pair_tokens_bucket", by="le"), "{{le}}")]),
        ("Pairs cut to the length limit", "timeseries", "percentunit",
         [(share(rate("rerank_documents_truncated_total"), rate("rerank_documents_total")), "cut")]),
        ("Bodies", "timeseries", "Bps",
         [(rate("rerank_http_request_size_bytes_sum"), "in"),
          (rate("rerank_http_response_size_bytes_sum"), "out")]),
        ("In flight", "timeseries", "none",
         [("sum by (instance) (rerank_requests_in_flight%s)" % S, "{{instance}}")]),
    ]),
    ("Queue and batches", [
        ("Queue, tokens", "timeseries", "none",
         [("sum by (instance) (rerank_queue_tokens%s)" % S, "{{instance}}"),
          ("max(rerank_queue_tokens_limit%s)" % S, "limit")]),
        ("Age of the oldest request", "timeseries", "s",
         [("(time() - rerank_queue_oldest_timestamp_seconds%s) * "
           "(rerank_queue_oldest_timestamp_seconds%s > bool 0)" % (S, S), "{{instance}}")]),
        ("Tokens a second", "timeseries", "none",
         [(rate("rerank_tokens_total", by="instance"), "{{instance}}")]),
        ("Pairs and tokens of a batch", "timeseries", "none",
         [(share(rate("rerank_documents_total", 'source="model"'), rate("rerank_batches_total")),
           "pairs"),
          (share(rate("rerank_tokens_total"), rate("rerank_batches_total")), "tokens")]),
        ("Device busy", "timeseries", "percentunit",
         [(rate("rerank_worker_busy_seconds_total", by="instance"), "{{instance}}")]),
        ("Pairs computed by others' requests", "timeseries", "none",
         [(rate("rerank_pairs_coalesced_total"), "coalesced"),
          (rate("rerank_requests_partial_total"), "answered in part")]),
    ]),
    ("Cache", [
        ("Hits", "timeseries", "percentunit",
         [(share(rate("rerank_cache_requests_total", 'result="hit"', "tier"),
                 "(" + rate("rerank_cache_requests_total", by="tier") + " > 0)"), "{{tier}}")]),
        ("Scores, by where they come from", "timeseries", "none",
         [(rate("rerank_documents_total", by="source"), "{{source}}")]),
        ("Memory and evictions", "timeseries", "bytes",
         [("sum by (instance) (rerank_cache_bytes%s)" % S, "{{instance}}"),
          ("sum(rerank_cache_limit_bytes%s)" % S, "limit"),
          (rate("rerank_cache_evictions_total"), "evictions/s")]),
        ("Shared cache up", "timeseries", "none",
         [("min by (instance) (rerank_cache_backend_up%s)" % S, "{{instance}}")]),
        ("Shared cache: not stored, errors", "timeseries", "none",
         [(rate("rerank_cache_stores_dropped_total"), "dropped"),
          (rate("rerank_cache_requests_total", 'result="error"'), "errors")]),
    ]),
    ("Drift and quality", [
        ("Best score of a request", "heatmap", "none",
         [(rate("rerank_top_score_bucket", by="le"), "{{le}}")]),
        ("Best score, drift", "timeseries", "percentunit",
         [(quantile(q, "rerank_top_score"), n)
          for q, n in ((0.1, "p10"), (0.5, "p50"), (0.9, "p90"))]),
        ("Pairs computed again in the second precision", "timeseries", "percentunit",
         [(share(rate("rerank_pairs_rescored_total"),
                 "(" + rate("rerank_documents_total", 'source="model"') + " > 0)"), "rescored")]),
        ("Scores that are not numbers", "timeseries", "none",
         [("sum(increase(rerank_scores_nonfinite_total%s%s))" % (S, SPAN), "NaN or infinite")]),
        ("Characters that are not Unicode", "timeseries", "none",
         [(rate("rerank_invalid_unicode_total"), "replaced")]),
        ("Models in service", "table", "none",
         [("sum by (instance, model, dtype, fingerprint) (rerank_model_info%s)" % S, "")]),
        ("Programs in service", "table", "none",
         [("sum by (instance, version, isa, compiler) (rerank_build_info%s)" % S, "")]),
        ("Reloads of the model", "timeseries", "none",
         [("sum by (result) (increase(rerank_model_reloads_total%s%s))" % (S, SPAN),
           "{{result}}")]),
    ]),
    ("Device", [
        ("Device up, fallback", "timeseries", "none",
         [("min by (instance) (rerank_device_up%s)" % S, "{{instance}} up"),
          ("max by (instance) (rerank_device_fallback_active%s)" % S, "{{instance}} fallback")]),
        ("Device errors", "timeseries", "none",
         [("sum(increase(rerank_device_errors_total%s%s))" % (S, SPAN), "failed batches"),
          ("sum(increase(rerank_device_retries_total%s%s))" % (S, SPAN), "pairs again")]),
        ("GPU use", "timeseries", "percent", [("DCGM_FI_DEV_GPU_UTIL" + DCGM, "{{gpu}}")]),
        ("GPU memory", "timeseries", "decmbytes", [("DCGM_FI_DEV_FB_USED" + DCGM, "{{gpu}} used"),
                                                   ("DCGM_FI_DEV_FB_FREE" + DCGM, "{{gpu}} free")]),
        ("GPU temperature", "timeseries", "celsius", [("DCGM_FI_DEV_GPU_TEMP" + DCGM, "{{gpu}}")]),
        ("GPU power", "timeseries", "watt", [("DCGM_FI_DEV_POWER_USAGE" + DCGM, "{{gpu}}")]),
    ]),
    ("Process", [
        ("Ready, draining", "timeseries", "none",
         [("min by (instance) (rerank_ready%s)" % S, "{{instance}} ready"),
          ("max by (instance) (rerank_draining%s)" % S, "{{instance}} draining")]),
        ("Memory", "timeseries", "bytes",
         [("sum by (instance) (process_resident_memory_bytes%s)" % S, "{{instance}} resident"),
          ("sum by (use) (rerank_memory_bytes%s)" % S, "{{use}}")]),
        ("Processors", "timeseries", "none",
         [(rate("process_cpu_seconds_total", by="instance"), "{{instance}}")]),
        ("Connections, descriptors", "timeseries", "none",
         [("sum by (instance) (rerank_http_connections%s)" % S, "{{instance}} connections"),
          ("sum by (instance) (process_open_fds%s)" % S, "{{instance}} descriptors")]),
        ("Log lines", "timeseries", "none",
         [(rate("rerank_log_messages_total", by="level"), "{{level}}"),
          (rate("rerank_log_dropped_total"), "lost")]),
        ("Up since", "timeseries", "s",
         [("time() - process_start_time_seconds%s" % S, "{{instance}}")]),
    ]),
]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panel(number, place, title, kind, unit, targets):
    made = {
        "id": number, "title": title, "type": kind, "datasource": SOURCE,
        "gridPos": {"x": place % 3 * 8, "y": place // 3 * 8, "w": 8, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [{"refId": chr(65 + i), "datasource": SOURCE, "expr": expr, "legendFormat": name,
                     "format": {"heatmap": "heatmap", "table": "table"}.get(kind, "time_series"),
                     "instant": kind == "table"} for i, (expr, name) in enumerate(targets)]}
    if kind == "heatmap":
        made["options"] = {"calculate": False, "yAxis": {"unit": unit}}
    return made


def variable(name, query):
    return {"name": name, "type": "query", "datasource": SOURCE, "query": query, "definition": query,
            "refresh": 2, "includeAll": True, "multi": True, "sort": 1,
            "current": {"text": "All", "value": "$__all"}, "allValue": ".*"}


def dashboard():
    panels, number, y = [], 1, 0
    for title, row in ROWS:
        panels.append({"id": number, "type": "row", "title": title, "collapsed": False,
                       "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []})
        number, y = number + 1, y + 1
        for place, one in enumerate(row):
            made = panel(number, place, *one)
            made["gridPos"]["y"] += y
            panels.append(made)
            number += 1
        y += (len(row) + 2) // 3 * 8
    return {
        "title": "rerankd", "uid": "rerankd", "tags": ["rerank"], "schemaVersion": 38, "version": 1,
        "editable": True, "refresh": "30s", "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser", "panels": panels,
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            variable("job", "label_values(rerank_build_info, job)"),
            variable("instance", 'label_values(rerank_build_info{job=~"$job"}, instance)')]},
        "annotations": {"list": [
            {"name": "Restarts", "datasource": SOURCE, "enable": True, "iconColor": "red",
             "expr": "changes(process_start_time_seconds%s[1m]) > 0" % S},
            {"name": "Models replaced", "datasource": SOURCE, "enable": True, "iconColor": "blue",
             "expr": "increase(rerank_model_reloads_total%s[1m]) > 0" % s('result="ok"')}]}}


def main():
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rerankd.json")
    with open(sys.argv[1] if len(sys.argv) > 1 else beside, "w", encoding="utf-8") as f:
        json.dump(dashboard(), f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
