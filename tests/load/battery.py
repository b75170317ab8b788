# SPDX-License-Identifier: Apache-2.0
"""battery.py - the reliability battery: 134 cases in 16 groups, and where else than in tests/load each
is tested.  tools/gen_reliability.py makes docs/RELIABILITY.md of it."""

GROUPS = {"A": (1, 12, "Memory and code correctness"), "B": (13, 22, "Fuzzing"),
          "C": (23, 40, "HTTP framing and connections"), "D": (41, 45, "Sizes and codes"),
          "E": (46, 51, "Load and memory"), "F": (52, 56, "Overload, fairness, deadlines"),
          "G": (57, 66, "Dead workers and departed clients"), "H": (67, 76, "Start, reload, stop"),
          "I": (77, 83, "Score cache and Redis"), "K": (84, 90, "Devices"),
          "L": (91, 97, "Model files and download"), "M": (98, 100, "Platform and sandbox"),
          "N": (101, 108, "Observability"), "O": (109, 120, "JSON and text"),
          "P": (121, 128, "Security"), "Q": (129, 134, "Scale-out")}

TITLES = {}
WHERE = {}  # number: [(kind, place)], kind one of unit, e2e, fuzz, check, partly, missing


def group_of(number):
    return next(g for g, (first, last, _) in GROUPS.items() if first <= number <= last)


def row(number, title, *where):
    TITLES[number] = title
    WHERE[number] = [tuple(w.split(": ", 1)) for w in where]


row(1, "Both compilers, O0 to O3, no warnings", "check: .ci/run (gcc, clang; -O2 and -O0)")
row(2, "Whole suite under ASan, UBSan, LSan", "check: make test-san")
row(3, "Threaded parts under TSan", "check: make test-san (unit tests of engine, server, caches, "
    "pool, log)")
row(4, "MSan on parsers and loaders", "missing: needs the libraries built with MSan, too")
row(5, "Functional suite under valgrind", "check: make test-valgrind", "partly: unit tests of parsers, loaders and options; "
    "no server")
row(6, "Torture: each allocation or call fails once", "unit: tests/support/fault.h in test_engine, test_json, "
    "test_model, test_tok_errors, test_server_http, test_shared and others: every allocation")
row(7, "All allocations fail from k on, then heal", "unit: test_server_http/test_no_memory")
row(8, "Random faults of malloc, recv, send under load")
row(9, "Limits on memory, descriptors, stack; full disk",
    "e2e: server_slow/test_no_descriptors_left, server_ops/test_log_that_cannot_be_written")
row(10, "Coverage", "check: make coverage (unit tests and stored fuzz inputs alone: 78 % of "
    "lines, 69 % of branches; fails below 75 % of lines)")
row(11, "Static analysis", "check: make check-static (cppcheck, shellcheck)")
row(12, "Instruction set matrix", "unit: tests/backend/test_ops.c, tests/kern/checkkern.c")
row(13, "Fuzz: HTTP bytes", "fuzz: tests/fuzz/fuzz_http.c, fuzz_gate.c")
row(14, "Differential framing against HAProxy and h11")
row(15, "Fuzz: JSON body to request", "fuzz: tests/fuzz/fuzz_body.c")
row(16, "Fuzz: text to token ids", "fuzz: tests/fuzz/fuzz_text.c; time: R118")
row(17, "Fuzz: tokenizer.json, config.json", "fuzz: tests/fuzz/fuzz_tokenizer.c, fuzz_config.c")
row(18, "Fuzz: safetensors", "fuzz: tests/fuzz/fuzz_safetensors.c")
row(19, "Fuzz: GGUF", "fuzz: tests/fuzz/fuzz_gguf.c")
row(20, "Fuzz: Redis replies", "fuzz: tests/fuzz/fuzz_redis.c")
row(21, "Fuzz: options and configuration file", "fuzz: tests/fuzz/fuzz_options.c",
    "unit: test_options/test_refusals, test_file_errors")
row(22, "Stored cache entries changed under traffic",
    "unit: test_shared_parts/test_value_refused flips every bit")
row(23, "Request cut at every position, byte by byte", "e2e: server_framing/test_every_cut, "
    "server_connections/test_byte_by_byte, test_client_leaves_while_sending")
row(24, "Content-Length with Transfer-Encoding", "e2e: server_framing/test_refused_heads")
row(25, "Odd Content-Length values", "e2e: server_framing/test_refused_heads")
row(26, "Odd Transfer-Encoding values", "e2e: server_framing/test_refused_heads")
row(27, "Odd chunk sizes", "e2e: server_framing/test_refused_heads, test_accepted_heads (extensions of "
    "4 KiB, 64 trailers)", "partly: a bare line feed that ends a line of chunks is taken; libmicrohttpd hands "
    "over bodies without these lines")
row(28, "Chunked body without end, over the limit", "e2e: server_framing/test_chunked_without_end, "
    "server_bad_input/test_large_body")
row(29, "Expect: 100-continue", "e2e: server_connections/test_continue, "
    "server_framing/test_continue_is_not_sent_for_what_is_refused, test_refused_heads")
row(30, "Pipelining", "e2e: server_framing/test_thousand_pipelined, "
    "server_connections/test_pipelining")
row(31, "5,000 requests on one connection; a cap", "e2e: server_slow/test_requests_per_connection")
row(32, "Bodies where none belong; unread body", "e2e: server_framing/test_after_an_unread_body, "
    "server_bad_input/test_paths_and_methods")
row(33, "Header flood", "e2e: server_framing/test_refused_heads")
row(34, "Forbidden bytes in names and targets", "e2e: server_framing/test_refused_heads")
row(35, "Host and version forms", "e2e: server_framing/test_refused_heads, test_accepted_heads, "
    "server_connections/test_http_1_0")
row(36, "Slow headers", "e2e: server_slow/test_slow_heads")
row(37, "Slow body, slow reader", "e2e: server_slow/test_slow_bodies, test_slow_readers, "
    "server_connections/test_reader_that_never_reads")
row(38, "Idle connections", "e2e: server_slow/test_ten_thousand_idle, test_eviction, "
    "server_connections/test_idle_connections")
row(39, "Half-close", "e2e: server_connections/test_half_close")
row(40, "RST at each phase", "e2e: server_slow/test_reset_in_each_phase")
row(41, "Body at the limit and above", "e2e: server_bad_input/test_large_body")
row(42, "Number of documents at the limit and above", "e2e: server_bad_input/test_values, "
    "test_million_documents")
row(43, "Documents of 10 MB, query longer than the window", "e2e: server_bad_input/test_values",
    "unit: test_tok_parts/test_stops_early")
row(44, "Every length around the window", "unit: test_tok_parts/test_pair_lengths")
row(45, "One request larger than batch or queue",
    "unit: test_engine_life/test_larger_than_the_queue")
row(46, "Soak")
row(47, "400,000 documents in requests of 5,000")
row(48, "Small requests at full speed")
row(49, "2, 512, 4,096 connections")
row(50, "Open-loop load at 50 to 200 % of capacity")
row(51, "After overload, with clients that retry")
row(52, "Large requests beside small ones; two keys",
    "unit: test_engine_life/test_small_behind_large, test_batcher/test_small_behind_large")
row(53, "One long pair among short ones", "unit: test_batcher/test_not_mixed_needlessly")
row(54, "64 clients, nobody starves")
row(55, "Deadline passes in the queue and in a batch", "e2e: server_connections/test_deadline",
    "unit: test_engine_life/test_deadline, test_hopeless_is_not_started")
row(56, "Queue full by tokens, by requests", "e2e: server_connections/test_overload",
    "unit: test_engine_life/test_queue_limits")
row(57, "20 clients leave 200 documents each")
row(58, "The device fails for good under load", "unit: test_engine_faults/test_error_once")
row(59, "A batch hangs", "unit: test_engine_faults/test_hang")
row(60, "A pair that always fails its batch", "unit: test_engine_faults/test_poison")
row(61, "A bad request, then 1,000 good ones")
row(62, "Batch exactly full, capacity 1, empty batch", "unit: test_batcher/test_batches_are_full")
row(63, "Steady load")
row(64, "Cancelled at random points", "unit: test_engine_life/test_cancel_anywhere, test_ledger")
row(65, "Half of the requests pass their deadline")
row(66, "The same request twice, the first client leaves", "unit: test_engine_life/test_coalescing")
row(67, "SIGTERM under load", "e2e: server_ops/test_drain_delay_loses_nothing")
row(68, "New requests while draining")
row(69, "Second SIGTERM, SIGKILL, drain time-out")
row(70, "Restarts under load, behind HAProxy and without")
row(71, "SIGHUP under load", "e2e: server_ops/test_hangup_under_load")
row(72, "Model swap under load",
    "e2e: server_ops/test_model_swap_under_load, test_bad_model_is_not_taken")
row(73, "Exit codes at start")
row(74, "/live, /ready, /health through a life", "unit: test_server_life/test_states, "
    "test_server_http/test_loading")
row(75, "Start time, 100 restarts", "missing: not written")
row(76, "Clock jumps", "e2e: server_ops/test_clock_jumps")
row(77, "Keys of pairs", "unit: test_cache/test_key, test_many")
row(78, "Any change of model or settings is another key", "unit: test_model/test_fingerprint")
row(79, "Redis in every state", "unit: test_shared, test_shared_redis")
row(80, "Redis late, cut, wrong", "unit: test_shared/test_misbehaviour, test_late_reply")
row(81, "Bad scores are never stored",
    "unit: test_engine_faults/test_not_a_number, test_shared/test_round_trip")
row(82, "Memory bound, hash flooding", "unit: test_cache/test_many, test_flood")
row(83, "Hits equal misses", "unit: test_engine/test_cache")
row(84, "Device out of memory", "unit: test_engine_faults/test_error_once, test_poison")
row(85, "Device error that stays", "unit: test_engine_faults/test_cpu_stands_in, test_no_stand_in")
row(86, "Device dies while idle", "unit: test_engine_faults/test_idle_death")
row(87, "NaN in one row", "unit: test_engine_faults/test_not_a_number")
row(88, "Device missing, wrong plugin", "unit: test_registry, test_engine_faults/test_open")
row(89, "GPU at full load", "unit: tests/cuda/test_cuda.c test_memory, test_lost (emulated GPU: guards around "
    "device memory, each allocation fails once, the device lost)",
    "e2e: tests/cuda/end_to_end.py (memory, temperature, power and throttling in /metrics)",
    "partly: no card at full load for minutes")
row(90, "CPU against GPU", "unit: tests/cuda/test_cuda.c test_golden, test_precisions, test_neighbours "
    "(emulated GPU against double precision; scores of a pair alone and among others)",
    "e2e: tests/cuda/end_to_end.py (the starter model: within 1e-5 of the CPU in f32, 0.005 in f16)")
row(91, "Damaged safetensors", "unit: test_safetensors", "fuzz: tests/fuzz/fuzz_safetensors.c")
row(92, "Damaged GGUF", "unit: test_gguf/test_refused", "fuzz: tests/fuzz/fuzz_gguf.c")
row(93, "Hostile shard names", "unit: test_safetensors/test_shards_lookup")
row(94, "Weights with NaN, wrong layer count, labels", "unit: test_model/test_damaged, "
    "test_engine_faults/test_not_a_number")
row(95, "Weight file changes while serving")
row(96, "Model download", "e2e: cli_pull (a hub that fails in every way)")
row(97, "Hostile model names", "unit: test_hub", "e2e: cli_pull/test_pull_names", "fuzz: tests/fuzz/fuzz_hub.c")
row(98, "Suite in a sandbox", "e2e: server_gate/test_sandbox", "unit: test_server_gate/test_sandbox (what is "
    "forbidden is refused)")
row(99, "CPU quota, cpuset, affinity", "unit: test_topology")
row(100, "Other platforms", "check: make test-arm (kernels under emulation)",
    "partly: kernels only")
row(101, "promtool check metrics; number of series", "e2e: server_ops/test_metrics_are_clean")
row(102, "Each metric moves when it should", "e2e: server_ops/test_metrics_move_as_they_should")
row(103, "Sums of metrics", "e2e: server_connections/test_metrics_add_up, "
    "server_ops/test_metrics_move_as_they_should (parts of a request within 1 %)")
row(104, "Alert rules", "check: make test-deploy (tests/deploy/alerts.py: each rule, and each change of a rule)")
row(105, "Dashboard", "check: make test-deploy (tests/deploy/dashboard.py)")
row(106, "A real Prometheus", "check: make test-deploy (dashboard.py: every panel has data)")
row(107, "traceparent", "e2e: server_ops/test_traces")
row(108, "Logs under hostile input", "e2e: server_bad_input/test_log_keeps_secrets, "
    "test_request_ids, server_ops/test_log_formats, test_log_rate, test_log_that_cannot_be_written")
row(109, "Depth bomb", "e2e: server_bad_input/test_ten_megabytes_of_arrays",
    "unit: test_json/test_depth")
row(110, "Duplicate keys", "e2e: server_bad_input/test_bytes", "unit: test_json/test_duplicates")
row(111, "top_n of every kind", "e2e: server_bad_input/test_top_n")
row(112, "Wrong types", "e2e: server_bad_input/test_values", "unit: test_server_dialect/test_errors")
row(113, "Broken Unicode", "e2e: server_bad_input/test_not_unicode, test_bytes, test_tolerated")
row(114, "Other encodings and content types", "e2e: server_bad_input/test_media_types, test_tolerated")
row(115, "Unicode set", "unit: test_tok_golden/test_models")
row(116, "Special tokens as text", "unit: test_tok_parts/test_literal_specials")
row(117, "Golden tokenization", "unit: test_tok_golden/test_models, test_full_xlmr")
row(118, "Tokenizer time linear in the length", "unit: test_tok_parts/test_huge")
row(119, "Numbers and order of replies", "unit: test_buf/test_json_double, "
    "test_engine/test_reference")
row(120, "All permutations")
row(121, "API keys", "e2e: server_gate/test_one_key, test_named_keys_and_their_file, test_limits_of_a_key",
    "fuzz: tests/fuzz/fuzz_gate.c")
row(122, "Timing of key comparison")
row(123, "Admin paths", "e2e: server_gate/test_admin, server_ops/test_admin_key")
row(124, "Address lists", "e2e: server_gate/test_networks", "unit: test_server_gate/test_nets")
row(125, "CORS", "e2e: server_gate/test_cors")
row(126, "Response splitting", "e2e: server_bad_input/test_request_ids")
row(127, "TLS", "e2e: server_gate/test_tls, test_client_certificates")
row(128, "Supply chain: the same bits twice, hardened binary", "check: make check-repro")
row(129, "HAProxy: dead and slow servers")
row(130, "HAProxy retries")
row(131, "Affinity")
row(132, "Two servers, one Redis")
row(133, "Autoscaling query", "check: make test-deploy (alerts.py, KEDA's query with promtool: one number, through "
    "gaps; none when no instance is left)")
row(134, "Deployment files", "check: make test-deploy")
