#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""end_to_end.py - the program with the plugin over the emulation: the starter model on "cuda" gives
the scores of the CPU, device failures are survived, and doctor tells what is there.

    tests/cuda/end_to_end.py RERANKD PLUGIN BENCH_ENCODER
"""
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

QUERY = "installer un serveur web"
DOCUMENTS = ["Apache est un serveur HTTP libre.", "GIMP retouche des photos.", "nginx"]


def run(program, *arguments, stdin="", **env):
    r = subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True,
                       timeout=250, check=False, env={**os.environ, **env})
    return r.returncode, r.stdout, r.stderr


def scores(program, device, *more, **env):
    where = ("--device", device) if device else ()
    code, out, err = run(program, "score", "--model", "models/starter", *where, "--query", QUERY,
                         "--format", "lines", *more, "-", stdin="\n".join(DOCUMENTS) + "\n", **env)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    return [row["score"] for row in sorted(rows, key=lambda row: row["index"])], err


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as reply:
        return reply.read().decode()


@contextlib.contextmanager
def server(program, *more, **env):
    """A server on the GPU that is ready: its port, and the lines of its log as they come."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    where = () if "--devices" in more else ("--device", "cuda")
    process = subprocess.Popen([program, "serve", "--model", "models/starter", *where,
                                "--host", "127.0.0.1", "--port", str(port), *more],
                               stderr=subprocess.PIPE, text=True, env={**os.environ, **env})
    log = []
    reader = threading.Thread(target=lambda: log.extend(process.stderr), daemon=True)
    reader.start()
    try:
        for path in ("/live", "/ready"):  # it listens; the model is loaded
            wait_for(lambda p=path: get(port, p) is not None, log, process)
        yield port, log, process
    finally:
        process.terminate()
        process.wait(timeout=120)
        reader.join(timeout=10)


def wait_for(condition, log, process):
    for _ in range(2400):
        try:
            if condition():
                return
        except OSError:
            pass
        assert process.poll() is None, "".join(log)
        time.sleep(0.1)
    raise AssertionError("".join(log))


def figures(program, env):
    """/metrics and /info of a server on the GPU, whose driver needs more than reading in the sandbox."""
    with server(program, "--no-fallback", "--sandbox-read", env["LD_LIBRARY_PATH"],
                **env) as (port, _, _):
        metrics = get(port, "/metrics").splitlines()
        for line in ("rerank_gpu_utilization_ratio 0.25", "rerank_gpu_memory_used_bytes 104857600",
                     "rerank_gpu_memory_bytes 536870912", "rerank_gpu_temperature_celsius 41",
                     "rerank_gpu_power_watts 33.5", 'rerank_gpu_throttled{reason="power"} 1',
                     'rerank_gpu_throttled{reason="setting"} 0', "rerank_gpu_repeated_pairs_total 0"):
            assert line in metrics, (line, [m for m in metrics if "gpu" in m])
        gpu = json.loads(get(port, "/info"))["gpu"]
        assert gpu == {"memory_used_bytes": 104857600, "memory_bytes": 536870912,
                       "utilization": 0.25, "celsius": 41, "watts": 33.5, "repeated_pairs": 0,
                       "throttled": ["power", "thermal"]}, gpu


def machine_memory(program):
    """What lies on the GPU is named apart from what the machine needs; a CPU beside it counts there."""
    here, there = "memory plan: weights 0.0 MiB, ", "memory plan, on cuda:0: weights "
    with server(program, "--no-fallback", "--dtype", "f16") as (_, log, _):
        text = "".join(log)
        assert here in text and ", workspace 0.0 MiB, cache " in text, text
        found = re.search(there + r"([\d.]+) MiB, workspace ([\d.]+) MiB, of 512 MiB", text)
        assert found and float(found.group(1)) > 1 and float(found.group(2)) > 1, text
    with server(program, "--devices", "cuda:0,cpu", "--dtype", "f32") as (_, log, _):
        text = "".join(log)
        assert "memory plan: weights " in text and here not in text and there in text, text


def full(program, folder):
    """Where the GPU has no room for a third model, one that nobody uses is unloaded."""
    other = os.path.join(folder, "other")  # without known scores: emulated, they take 7 s
    shutil.copytree("models/starter", other, ignore=shutil.ignore_patterns("reference.jsonl"))
    models = ("--model", "b=" + other, "--model", "c=" + other, "--dtype", "f16")
    with server(program, "--no-fallback", *models, EMUL_MEMORY="145") as (port, log, process):
        for name in ("b", "c"):
            body = json.dumps({"model": name, "query": QUERY, "documents": ["a"]}).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/rerank", body,
                                             {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=120) as reply:
                assert len(json.loads(reply.read())["results"]) == 1
        wait_for(lambda: any("model b unloaded to make room" in line for line in log), log, process)


def hang(program, cpu):
    """A kernel that does not end for a while: the request is answered by the CPU, in the time that
    --stall-timeout allows, and the GPU is taken back when it has ended.  Eight seconds, because an
    emulated batch that is well takes a second or two on a busy machine."""
    body = json.dumps({"query": QUERY, "documents": DOCUMENTS}).encode()
    # 1 and 2: the self-check, 3: warming up, 4: the request
    with server(program, "--stall-timeout", "8", "--dtype", "f32", EMUL_HANG="4",
                EMUL_HANG_MS="7000") as (port, log, process):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/rerank", body,
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as reply:
            results = json.loads(reply.read())["results"]
        by_index = {r["index"]: r["relevance_score"] for r in results}
        assert all(abs(by_index[i] - score) < 1e-5 for i, score in enumerate(cpu)), (results, cpu)
        text = "".join(log)
        assert "has not answered for 6000 ms: a kernel hangs" in text, text
        assert "is out of service" in text and "the CPU serves" in text, text
        wait_for(lambda: any("is back in service" in line for line in log), log, process)


def memory(program):
    """Batches shrink to the memory that is there, unless their size was asked for."""
    more = ["--dtype", "f16"]
    cpu, _ = scores(program, "cpu")
    gpu, err = scores(program, "cuda", "--no-fallback", *more, EMUL_MEMORY="112")
    found = re.search(r"no memory for batches of 4096 tokens: they have at most (\d+);", err)
    assert found and 512 <= int(found.group(1)) < 4096, err
    assert max(abs(a - b) for a, b in zip(cpu, gpu)) < 0.005, (cpu, gpu)
    code, _, err = run(program, "score", "--model", "models/starter", "--device", "cuda", *more,
                       "--no-fallback", "--batch-tokens", "4096", "--query", QUERY, "-",
                       stdin="nginx\n", EMUL_MEMORY="112")
    offered = re.search(r"112 of 112 MiB are free: --batch-tokens (\d+) fits, --dtype int8 needs", err)
    assert code and offered and int(offered.group(1)) >= int(found.group(1)), err
    code, _, err = run(program, "score", "--model", "models/starter", "--device", "cuda", *more,
                       "--no-fallback", "--query", QUERY, "-", stdin="nginx\n", EMUL_MEMORY="100")
    assert code and "not even one pair of 512 tokens fits" in err, err


def choice(program, folder):
    """verify --choose measures what the GPU has, and --dtype auto takes what it found."""
    cache = os.path.join(folder, "cache")
    data = os.path.join(folder, "lists.jsonl")
    with open(data, "w", encoding="utf-8") as f:
        json.dump({"query": "serveur", "documents": ["nginx", "GIMP", "Apache", "a", "b", "c"]}, f)
    code, out, err = run(program, "verify", "models/starter", "--choose", "--json", "--data", data,
                         "--gate-top5", "0", "--gate-tau", "-1", "--device", "cuda",
                         "--no-fallback", "--cache-dir", cache, "--stall-timeout", "600")
    assert code == 0, err
    report = json.loads(out)
    assert [row["ran"] for row in report["precisions"]] == [True] * 5, out
    name = next(f for f in os.listdir(cache) if f.startswith("dtype-"))
    with open(os.path.join(cache, name), encoding="utf-8") as f:
        stored = json.load(f)
    assert stored["dtype"] == report["chosen"] and stored["device"] == "Emulated GPU 0", stored
    with open(os.path.join(cache, name), "w", encoding="utf-8") as f:  # whatever was quickest here
        json.dump({**stored, "dtype": "int8", "why": "chosen by a test"}, f)
    kept = ["--cache-dir", cache, "--log-level", "debug"]
    chosen, err = scores(program, "cuda", "--no-fallback", *kept)
    assert "int8: chosen by a test (Emulated GPU 0)" in err, err
    asked, err = scores(program, "cuda", "--no-fallback", "--dtype", "int8", *kept)
    assert chosen == asked and "chosen" not in err, (chosen, asked, err)
    _, err = scores(program, "cpu", *kept)  # another device
    assert "chosen" not in err, err


def plan(bench, backend):
    """What a model of full size takes, with 16384 tokens in flight."""
    for dtype, most in (("int8", 1.1e9), ("fp8", 1.1e9), ("f16", 1.6e9), ("bf16", 1.6e9)):
        code, out, err = run(bench, "--backend", backend, "--dtype", dtype, "--plan", "--words",
                             "250002")
        assert code == 0, err
        found = re.search(r"weights (\d+) MB, workspace (\d+) MB for 16384 tokens", out)
        total = (int(found.group(1)) + int(found.group(2))) * 1e6
        assert 0.5 * most < total < most, (dtype, out)


def several(program, cpu, env):
    """Two GPUs, one of which is lost at work: the other one does what it had in hand.  And more than
    there are."""
    both = ("--devices", "cuda:*", "--dtype", "f32")
    gpu, err = scores(program, None, *both, "--no-fallback", EMUL_DEVICES="2", **env)
    assert max(abs(a - b) for a, b in zip(cpu, gpu)) < 1e-5 and not err, (cpu, gpu, err)
    # 1 to 6: self-check, warming up, three batches to measure; as many on the other one; 13: documents
    lost, err = scores(program, None, *both, "--no-fallback", EMUL_DEVICES="2", EMUL_STICKY="13", **env)
    assert "out of service" in err and lost == gpu, (lost, gpu, err)
    code, _, err = run(program, "score", "--model", "models/starter", "--devices", "cuda:0,cuda:3",
                       "--no-fallback", "--query", QUERY, "-", stdin="a\n", EMUL_DEVICES="2", **env)
    assert code and "cuda:3: 2 usable devices" in err, (code, err)


def main():
    rerankd, plugin, bench = sys.argv[1:4]
    passed = 0
    with tempfile.TemporaryDirectory() as folder:
        program = shutil.copy(rerankd, folder)
        shutil.copy(plugin, os.path.join(folder, "librerank_cuda.so"))
        cpu, _ = scores(program, "cpu")
        for dtype, allowed in (("f32", 1e-5), ("auto", 0.005)):
            gpu, _ = scores(program, "cuda", "--dtype", dtype, "--no-fallback")
            worst = max(abs(a - b) for a, b in zip(cpu, gpu))
            assert len(gpu) == len(cpu) and worst <= allowed, (dtype, cpu, gpu)
            assert dtype == "f32" or worst > 0, "the CPU must have served"
            passed += 1
        gpu, err = scores(program, "cuda", EMUL_DRIVER="0")
        assert gpu == cpu and "no NVIDIA driver" in err, err
        passed += 1
        # 1 and 2: the self-check, 3: warming up, 4: the documents
        gpu, err = scores(program, "cuda", "--dtype", "f32", EMUL_STICKY="4")
        assert "out of service" in err and "the CPU serves" in err, err
        assert max(abs(a - b) for a, b in zip(cpu, gpu)) < 1e-5, (cpu, gpu)
        passed += 1
        _, out, _ = run(program, "doctor", "--model", "models/starter")
        assert "usable, 1 device" in out, out
        passed += 1
        # the figures of the stand-in for NVML, beside the plugin
        env = {"LD_LIBRARY_PATH": os.path.dirname(os.path.abspath(plugin)), "EMUL_THROTTLE": "0x24"}
        _, out, _ = run(program, "doctor", "--model", "models/starter", **env)
        assert "Emulated GPU 0, sm_89, 100 MiB / 512 MiB, 25 %, 41 °C, 34 W, throttled: power, " \
            "throttled: thermal" in out and "slower than it could" in out, out
        _, out, _ = run(program, "doctor", "--json", "--model", "models/starter", **env)
        gpu = json.loads(out)["machine"]["gpus"][0]
        assert gpu["throttled"] == ["power", "thermal"] and gpu["watts"] == 33.5, gpu
        passed += 1
        backend = re.search(r"librerank_(\w+)\.so", plugin).group(1)
        os.environ["LD_LIBRARY_PATH"] = os.path.dirname(os.path.abspath(plugin))
        plan(bench, backend)
        del os.environ["LD_LIBRARY_PATH"]
        for test in (lambda: figures(program, env), lambda: memory(program),
                     lambda: machine_memory(program), lambda: full(program, folder),
                     lambda: choice(program, folder), lambda: hang(program, cpu)):
            test()
            passed += 1
        passed += 1
        several(program, cpu, env)
        passed += 1
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    main()
