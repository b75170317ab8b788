# SPDX-License-Identifier: Apache-2.0
"""alert_cases.py - for each alert what fires it, when, and what must not.

FIRES: alert -> (series, quiet until, fires at, labels, summary).  QUIET: alert -> rows (reason,
series, when).  Values are close to the thresholds, so that a changed rule fails (alerts.py).
Series are in promtool's notation, one value a minute; INTERVAL has the exceptions.
"""
A = '{job="rerankd",instance="a:8002"}'
AT = {"job": "rerankd", "instance": "a:8002"}
JOB = {"job": "rerankd"}
GPU = '{job="dcgm",Hostname="h",gpu="0"}'
AT_GPU = {"job": "dcgm", "Hostname": "h", "gpu": "0"}

INTERVAL = {"RerankdCacheHitsHalved": "5m", "RerankdMemoryGrowing": "5m"}


def a(name, labels, values):
    return "%s{job=\"rerankd\",instance=\"a:8002\",%s}" % (name, labels), values


def answers(ok, bad, status="500"):
    """Answers a minute by status."""
    return [a("rerank_http_requests_total", 'handler="rerank",status="200"', "0+%dx60" % ok),
            a("rerank_http_requests_total", 'handler="rerank",status="%s"' % status,
              "0+%dx60" % bad),
            a("rerank_http_requests_total", 'handler="live",status="503"', "0+500x60")]


def latency(within, rate, status="ok"):
    """Of 100 answers, how many took at most half a second; the others took up to one."""
    rows = [a("rerank_request_duration_seconds_bucket", 'status="%s",le="%s"' % (status, le),
              "0+%dx60" % n)
            for le, n in (("0.1", 0), ("0.5", within), ("1", 100), ("+Inf", 100))]
    return rows + answers(rate, 0)


def rejected(per_hour, reason="queue_full"):
    values = " ".join(str(i * per_hour // 60) for i in range(61))
    return [a("rerank_requests_rejected_total", 'reason="%s"' % reason, values)]


def hits(first, then, tier="local"):
    """Hits of 100 look-ups in five minutes, for a day, then for three hours."""
    return [a("rerank_cache_requests_total", 'tier="%s",result="%s"' % (tier, kind),
              "0+%dx288 %d+%dx36" % (x, 289 * x, y))
            for kind, x, y in (("hit", first, then), ("miss", 100 - first, 100 - then))]


def cut(of_100):
    return [("rerank_documents_truncated_total" + A, "0+%dx80" % of_100),
            a("rerank_documents_total", 'source="model"', "0+60x80"),
            a("rerank_documents_total", 'source="cache_local"', "0+40x80")]


def grows(bytes_in_five_minutes, start=0):
    return [("process_resident_memory_bytes" + A, "1000000000+%dx150" % bytes_in_five_minutes),
            ("process_start_time_seconds" + A, "%dx150" % start)]


def models(*fingerprints):
    return [('rerank_model_info{job="rerankd",instance="%d",fingerprint="%s"}' % (i, f), "1x80")
            for i, f in enumerate(fingerprints)]


def memory(used):
    return [("DCGM_FI_DEV_FB_USED" + GPU, "%dx80" % used),
            ("DCGM_FI_DEV_FB_FREE" + GPU, "%dx80" % (1000 - used))]


def one(name, values, labels=A):
    return [(name + labels, values)]


def ready(ready_is, start):
    return one("rerank_ready", "%dx60" % ready_is) + one("process_start_time_seconds",
                                                         "%dx60" % start)


def stalled(waiting, last):
    return one("rerank_queue_requests", "%dx60" % waiting) + \
        one("rerank_last_batch_timestamp_seconds", last)


FIRES = {
    "RerankdDown": (one("up", "1x4 0x20"), "5m30s", "6m15s", AT,
                    "a:8002 does not answer scrapes"),
    "RerankdAbsent": (one("up", "1x20", '{job="other"}'), "4m45s", "6m", JOB,
                      "Prometheus knows no rerankd target"),
    "RerankdNotReady": (ready(0, 0), "16m45s", "18m", AT,
                        "a:8002 has not been ready, and started over 15 minutes ago"),
    "RerankdRestarting": (one("process_start_time_seconds", "1x5 2x1 3x1 4x1 5x60"), "9m", "13m", AT,
                          "a:8002 started 4 times within 30 minutes"),
    "RerankdLatencyHigh": (latency(92, 8), "4m", "10m", JOB, "p95 of rerankd is 687.5ms"),
    "RerankdErrors": (answers(988, 12), "4m45s", "10m", JOB,
                      "1.2% of the answers of rerankd are 5xx"),
    "RerankdRejecting": (rejected(216), "8m", "11m", {"job": "rerankd", "reason": "queue_full"},
                         "rerankd refuses requests (queue_full)"),
    "RerankdQueueFull": (one("rerank_queue_tokens", "900x20") +
                         one("rerank_queue_tokens_limit", "1000x20"), "1m45s", "3m", AT,
                         "the queue of a:8002 is 90% full"),
    "RerankdStalled": (stalled(1, "0x20"), "1m45s", "2m30s", AT,
                       "a:8002 has 1 requests waiting and computes nothing"),
    "RerankdSupervisorStuck": (one("rerank_heartbeat_timestamp_seconds", "60x20"), "2m30s",
                               "2m45s", AT,
                               "the supervisor of a:8002 has not moved for 1m 45s"),
    "RerankdNonFiniteScores": (one("rerank_scores_nonfinite_total", "0x10 1x60"), "10m30s",
                               "13m", AT, "a:8002 computed scores that are not numbers"),
    "RerankdDeviceDown": (one("rerank_device_up", "1x4 0x20"), "5m30s", "6m15s", AT,
                          "the device of a:8002 does not answer"),
    "RerankdDeviceErrors": (one("rerank_device_errors_total", "0x10 1x60"), "10m30s", "13m", AT,
                            "batches failed on the device of a:8002"),
    "RerankdOnFallback": (one("rerank_device_fallback_active", "1x20"), "4m45s", "6m", AT,
                          "a:8002 was to use a GPU and serves from the CPU"),
    "RerankdCacheBackendDown": (one("rerank_cache_backend_up", "0x20"), "1m45s", "3m", AT,
                                "a:8002 does not reach the shared cache; it serves without"),
    "RerankdCacheStoresDropped": (one("rerank_cache_stores_dropped_total", "0+72x40"), "9m", "15m",
                                  AT, "a:8002 drops 1.2 scores a second instead of storing them"),
    "RerankdCacheHitsHalved": (hits(80, 36), "24h30m", "25h10m", JOB,
                               "rerankd hits its cache half as often as yesterday: 36%"),
    "RerankdTruncating": (cut(36), "29m", "40m", JOB, "36% of the pairs of rerankd are cut"),
    "RerankdMixedModels": (models("aa", "bb"), "29m45s", "31m", JOB,
                           "rerankd serves 2 different models"),
    "RerankdReloadFailed": (one("rerank_config_last_reload_successful", "1x4 0x20"), "5m30s",
                            "6m15s", AT,
                            "a:8002 refused its last configuration and keeps the one before"),
    "RerankdLogLost": ([a("rerank_log_dropped_total", 'level="warning"', "0+1x30")], "4m", "9m", AT,
                       "a:8002 loses warnings or errors of its log"),
    "RerankdMemoryGrowing": (grows(2236963), "6h50m", "7h30m", AT,
                             "a:8002 grows by 614.4MiB a day"),
    "RerankdDescriptorsHigh": (one("process_open_fds", "900x20") + one("process_max_fds", "1000x20"),
                               "4m45s", "6m", AT, "a:8002 uses 90% of its file descriptors"),
    "RerankdGpuMemoryHigh": (memory(970), "9m45s", "12m", AT_GPU,
                             "memory of GPU 0 of h is 97% full"),
    "RerankdGpuHot": (one("DCGM_FI_DEV_GPU_TEMP", "90x20", GPU), "4m45s", "6m", AT_GPU,
                      "GPU 0 of h has 90 °C"),
    "RerankdGpuXid": (one("DCGM_FI_DEV_XID_ERRORS", "0x10 79x20", GPU), "10m30s", "12m", AT_GPU,
                      "the driver reported an error (XID) of GPU 0 of h"),
}

QUIET = {
    "RerankdDown": [("it answers", one("up", "1x20"), "10m"),
                    ("another job is down", one("up", "0x20", '{job="node"}'), "10m"),
                    ("one scrape was lost", one("up", "1x4 0 1x20"), "6m")],
    "RerankdAbsent": [("a target that is down is a target", one("up", "0x20"), "15m")],
    "RerankdNotReady": [("it is ready", ready(1, 0), "40m"),
                        ("a large model still loads", ready(0, 1200), "31m")],
    "RerankdRestarting": [
        ("three starts", one("process_start_time_seconds", "1x5 2x1 3x1 4x60"), "20m"),
        ("Prometheus restarts", one("process_start_time_seconds", "1 2 3 4 5 6 7 8x9",
                                    '{job="prometheus"}'), "8m")],
    "RerankdLatencyHigh": [
        ("p95 is 400 ms", latency(100, 100), "20m"),
        ("four of a hundred above half a second", latency(96, 100), "20m"),
        ("one request in a quarter of an hour is nobody's pain", latency(50, 5), "20m"),
        ("slow errors are counted as errors", latency(50, 100, "error"), "20m")],
    "RerankdErrors": [("8 of 1000", answers(992, 8), "20m"),
                      ("nobody asks", answers(0, 0), "20m"),
                      ("a client's errors are the client's", answers(900, 100, "422"), "20m")],
    "RerankdRejecting": [("two an hour short of it", rejected(144), "20m"),
                         ("too large is the client's", rejected(6000, "too_large"), "20m")],
    "RerankdQueueFull": [("70 %", one("rerank_queue_tokens", "700x20") +
                          one("rerank_queue_tokens_limit", "1000x20"), "10m")],
    "RerankdStalled": [("nobody asks since an hour", stalled(0, "0x60"), "50m"),
                       ("work waits and is done", stalled(5, "0+60x60"), "50m"),
                       ("a batch of 50 s", stalled(5, "10+60x60"), "20m45s")],
    "RerankdSupervisorStuck": [("it moves", one("rerank_heartbeat_timestamp_seconds", "0+60x40"),
                                "20m15s"),
                               ("a clock that is ahead",
                                one("rerank_heartbeat_timestamp_seconds", "50+60x40"), "20m")],
    "RerankdNonFiniteScores": [("none", one("rerank_scores_nonfinite_total", "0x60"), "20m"),
                               ("one, half an hour ago",
                                one("rerank_scores_nonfinite_total", "0 1x60"), "30m")],
    "RerankdDeviceDown": [("up", one("rerank_device_up", "1x20"), "10m")],
    "RerankdDeviceErrors": [("none", one("rerank_device_errors_total", "0x60"), "20m"),
                            ("one, half an hour ago",
                             one("rerank_device_errors_total", "0 1x60"), "30m")],
    "RerankdOnFallback": [("the GPU serves", one("rerank_device_fallback_active", "0x20"), "15m")],
    "RerankdCacheBackendDown": [("it answers", one("rerank_cache_backend_up", "1x20"), "10m")],
    "RerankdCacheStoresDropped": [
        ("eight in ten seconds", one("rerank_cache_stores_dropped_total", "0+48x60"), "30m")],
    "RerankdCacheHitsHalved": [("44 % after 80 %", hits(80, 44), "26m"),
                               ("44 % after 80 %, next day", hits(80, 44), "26h"),
                               ("the other tier", hits(80, 10, "shared"), "26h")],
    "RerankdTruncating": [("a quarter", cut(25), "60m")],
    "RerankdMixedModels": [("all the same", models("aa", "aa", "aa"), "60m")],
    "RerankdReloadFailed": [("all is well", one("rerank_config_last_reload_successful", "1x20"),
                             "10m")],
    "RerankdLogLost": [("lost information is no alarm",
                        [a("rerank_log_dropped_total", 'level="info"', "0+100x40")], "30m"),
                       ("nothing lost",
                        [a("rerank_log_dropped_total", 'level="error"', "5x40")], "30m")],
    "RerankdMemoryGrowing": [("400 MiB a day", grows(1456355), "10h"),
                             ("a service that is young fills its caches",
                              grows(5000000, 20000), "11h20m"),
                             ("another program",
                              [(s.replace("rerankd", "db"), v) for s, v in grows(9000000)], "10h")],
    "RerankdDescriptorsHigh": [("70 %", one("process_open_fds", "700x20") +
                                one("process_max_fds", "1000x20"), "15m"),
                               ("another program", [(n + '{job="db"}', v) for n, v in
                                                    (("process_open_fds", "9x20"),
                                                     ("process_max_fds", "10x20"))], "15m")],
    "RerankdGpuMemoryHigh": [("93 %", memory(930), "30m")],
    "RerankdGpuHot": [("80 degrees", one("DCGM_FI_DEV_GPU_TEMP", "80x20", GPU), "15m")],
    "RerankdGpuXid": [("none", one("DCGM_FI_DEV_XID_ERRORS", "0x20", GPU), "15m"),
                      ("one, before", one("DCGM_FI_DEV_XID_ERRORS", "79x20", GPU), "15m")],
}
