#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""end_to_end.py - the program with the plugin over the emulation: the starter model on "cuda" gives
the scores of the CPU, device failures are survived, and doctor tells what is there.

    tests/cuda/end_to_end.py RERANKD PLUGIN
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

QUERY = "installer un serveur web"
DOCUMENTS = ["Apache est un serveur HTTP libre.", "GIMP retouche des photos.", "nginx"]


def run(program, *arguments, stdin="", **env):
    r = subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True,
                       timeout=250, check=False, env={**os.environ, **env})
    return r.returncode, r.stdout, r.stderr


def scores(program, device, *more, **env):
    code, out, err = run(program, "score", "--model", "models/starter", "--device", device,
                         "--query", QUERY, "--format", "lines", *more, "-",
                         stdin="\n".join(DOCUMENTS) + "\n", **env)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    return [row["score"] for row in sorted(rows, key=lambda row: row["index"])], err


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as reply:
        return reply.read().decode()


def figures(program, env):
    """/metrics and /info of a server on the GPU."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = subprocess.Popen([program, "serve", "--model", "models/starter", "--device", "cuda",
                               "--no-fallback", "--host", "127.0.0.1", "--port", str(port),
                               "--sandbox-read", env["LD_LIBRARY_PATH"]],
                              stderr=subprocess.PIPE, text=True, env={**os.environ, **env})
    try:
        for _ in range(600):  # until it listens
            try:
                get(port, "/live")
                break
            except OSError:
                assert server.poll() is None, server.stderr.read()
                time.sleep(0.1)
        for _ in range(2400):  # until the model is loaded
            try:
                get(port, "/ready")
                break
            except OSError:
                time.sleep(0.1)
        metrics = get(port, "/metrics").splitlines()
        for line in ("rerank_gpu_utilization_ratio 0.25", "rerank_gpu_memory_used_bytes 104857600",
                     "rerank_gpu_memory_bytes 536870912", "rerank_gpu_temperature_celsius 41",
                     "rerank_gpu_power_watts 33.5", 'rerank_gpu_throttled{reason="power"} 1',
                     'rerank_gpu_throttled{reason="setting"} 0'):
            assert line in metrics, (line, [m for m in metrics if "gpu" in m])
        gpu = json.loads(get(port, "/info"))["gpu"]
        assert gpu == {"memory_used_bytes": 104857600, "memory_bytes": 536870912,
                       "utilization": 0.25, "celsius": 41, "watts": 33.5,
                       "throttled": ["power", "thermal"]}, gpu
    finally:
        server.terminate()
        server.communicate(timeout=120)


def main():
    rerankd, plugin = sys.argv[1:3]
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
        # 1: the self-check, 2: warming up, 3: the documents
        gpu, err = scores(program, "cuda", "--dtype", "f32", EMUL_STICKY="3")
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
        figures(program, env)
        passed += 1
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    main()
