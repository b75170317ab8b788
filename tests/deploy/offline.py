#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""offline.py - the examples of offline scoring, with Ray Data and Spark in local mode: every pair is
scored once, and to the bit as by the library itself."""
import glob
import json
import os
import shutil
import tempfile

import support
from support import ROOT

PAIRS, QUERIES = 600, 40
PACKAGES = ("ray[data]", "pyspark", "pandas", "pyarrow", "numpy")
EXAMPLES = os.path.join(ROOT, "examples", "offline")
STARTER = os.path.join(ROOT, "models", "starter")
STATE = {}


def python():
    """Of an environment with both engines and the wheel of this build."""
    if "python" not in STATE:
        folder = support.tools("offline", *PACKAGES)
        support.run("make", "-C", ROOT, "wheel", timeout=600)
        wheel = glob.glob(os.path.join(ROOT, "build", "rerankd-*.whl"))[0]
        support.run(os.path.join(folder, "pip"), "install", "--quiet", "--no-deps", "--no-index",
                    "--force-reinstall", "--disable-pip-version-check", wheel)
        STATE["python"] = os.path.join(folder, "python")
    return STATE["python"]


def write_pairs(folder):
    """Pairs in several files, with a column that must be kept."""
    for part in range(3):
        with open(os.path.join(folder, "p%d.jsonl" % part), "w", encoding="utf-8") as f:
            for i in range(part, PAIRS, 3):
                f.write(json.dumps({"id": i, "query": "installer un serveur %d" % (i % QUERIES),
                                    "document": "paquet %d, un serveur web léger" % i}) + "\n")


CHECK = """
import sys, pandas as pd
from rerankd import CrossEncoder
t = pd.read_parquet(sys.argv[1]).sort_values("id")
assert t["id"].tolist() == list(range(int(sys.argv[3]))), t
right = CrossEncoder(sys.argv[2], threads=1).predict(list(zip(t["query"], t["document"])))
assert len(set(right.tolist())) > 100
assert (t["score"].to_numpy(dtype="float32") == right).all(), abs(t["score"] - right).max()
print("all", len(t), "equal")
"""


def scored_by(name, env, *words):
    with tempfile.TemporaryDirectory() as folder:
        data, out = os.path.join(folder, "in"), os.path.join(folder, "out")
        os.mkdir(data)
        write_pairs(data)
        support.run(python(), os.path.join(EXAMPLES, name), "--model", STARTER, "--threads", "1",
                    "--input", os.path.join(data, "*.jsonl") if "spark" in name else data,
                    "--output", out, *words, timeout=400, cwd=folder,
                    env=dict(os.environ, HOME=folder, PYSPARK_PYTHON=python(), **env))
        _, said = support.run(python(), "-c", CHECK, out, STARTER, str(PAIRS), cwd=folder)
        assert "all %d equal" % PAIRS in said, said


def ray_data():
    python()
    scored_by("ray_score.py", {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0",
                               "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
              "--actors", str(max(1, (os.cpu_count() or 2) // 2)), "--batch", "64")


def spark():
    if not shutil.which("java"):
        raise support.Missing("java is not installed")
    scored_by("spark_score.py", {"PYSPARK_SUBMIT_ARGS": "--master local[2] --conf spark.ui.enabled=false "
                                 "pyspark-shell"}, "--partitions", "4")


support.main([ray_data, spark])
