#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""end_to_end.py - the program with the plugin over the emulation: the starter model on "cuda" gives
the scores of the CPU, device failures are survived, and doctor tells what is there.

    tests/cuda/end_to_end.py RERANKD PLUGIN
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

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
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    main()
