#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py - clients of other projects, unmodified, from PyPI, against a rerankd that serves the starter
model.

    tests/clients/run.py [DRIVER...]   sdk, langchain, llamaindex, haystack; default: all
    --store                            writes docs/CLIENTS.md from what has come out
    --upgrade                          installs newer releases first

Each driver has an environment of its own in build/clients, made at the first run (about five
minutes and 1.5 GB) from tests/clients/needs.  Prints a line per call and, last, "N passed, N failed, N
skipped"; exit status 77 when nothing could be installed.
Environment: RERANKD, the program (build/rerankd).
"""
import argparse
import contextlib
import datetime
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))

from cli_support import RERANKD, ROOT, Skip, environment  # noqa: E402
from server_support import Server, starter  # noqa: E402

DRIVERS = ["sdk", "langchain", "llamaindex", "haystack"]
HOME = os.path.join(ROOT, "build", "clients")
PAGE = os.path.join(ROOT, "docs", "CLIENTS.md")
KEY = "a-key-of-the-clients-test"
QUERY = "Comment installer un serveur web ?"
TEXTS = ["La recette du gâteau au chocolat demande trois œufs et du beurre.",
         "L'installation d'un serveur web comme nginx se fait avec le gestionnaire de paquets.",
         "Le serveur du restaurant apporte la carte et prend la commande.",
         "Apache est un serveur HTTP libre, facile à installer et à configurer.",
         "Les horaires d'ouverture de la bibliothèque changent en été."]
INSTALL_SECONDS, DRIVE_SECONDS = 590, 590

INTRO = """# Clients that work with rerankd

Made by `make test-clients CLIENTS=--store` on %s with rerankd %s; do not edit. Each client is its
project's own release from PyPI, unmodified, against a running server with the starter model. A call
passes when order and scores are those of `rerankd score`, and when errors reach the caller as the
client's own exceptions.

| Client | Package | Version | Call | Result |
|---|---|---|---|---|
"""
OUTRO = """
## How to point them at rerankd

| Client | Setting |
|---|---|
| Cohere, LangChain `CohereRerank`, LlamaIndex `CohereRerank`, Haystack `CohereRanker` | base URL `http://HOST:8002` |
| Voyage, LangChain `VoyageAIRerank` | base URL `http://HOST:8002/v1`; clients that leave out `top_k` and `truncation` (JavaScript, LangChain4j) `http://HOST:8002/voyage/v1` |
| Jina in Haystack | base URL `http://HOST:8002/v1/rerank` |
| Jina in LlamaIndex, vLLM in Haystack | base URL `http://HOST:8002/v1` |
| Jina in LangChain | no setting: the module's `JINA_API_URL` |
| Infinity | base URL `http://HOST:8002/infinity`, which gives `document` in Infinity's form |
| text-embeddings-inference in Haystack, LlamaIndex | URL `http://HOST:8002` |
| OpenAI's client | `base_url="http://HOST:8002/vllm/v1"`, `client.post("/rerank", ...)`: errors in OpenAI's form |
| LiteLLM | `api_base="http://HOST:8002"`; for its provider `infinity` `http://HOST:8002/infinity` |
| Mixedbread, Pinecone | `base_url` or `host` `http://HOST:8002` |
| Isaacus | `base_url` `http://HOST:8002/v1` |
| DashScope | `dashscope.base_http_api_url = "http://HOST:8002/api/v1"` |
| Xinference | `http://HOST:8002/xinference`, which gives `document` in Xinference's form; any uid |
| rerankers `APIRanker` | the full URL, `http://HOST:8002/rerank` or `/v1/rerank` |
| Hugging Face `InferenceClient` | `model="http://HOST:8002/predict"`, pairs as inputs |
| assistants with the Model Context Protocol | command `rerankd`, arguments `mcp --model FOLDER` |

Any key will do unless the server has keys; any model name will do.

Clients that need npm or a hosted page (Dify, RAGFlow, Open WebUI, Weaviate, n8n, FastGPT, MaxKB, LightRAG,
LangChain JS, the Vercel AI SDK and others) are checked as recorded requests, read as those clients read them:
`tests/e2e/server_clients.py`, part of `make test`.
"""


def python(driver):
    return os.path.join(HOME, driver, "bin", "python")


def install(driver, upgrade):
    """False when PyPI cannot be reached and nothing is there from before."""
    needs = os.path.join(HERE, "needs", driver + ".txt")
    mark = os.path.join(HOME, driver, "installed")
    with open(needs, encoding="utf-8") as f:
        wanted = f.read()
    with contextlib.suppress(OSError), open(mark, encoding="utf-8") as f:
        if f.read() == wanted and not upgrade:
            return True
    if subprocess.run([sys.executable, "-m", "venv", os.path.join(HOME, driver)],
                      check=False).returncode:
        return False
    command = [python(driver), "-m", "pip", "install", "-q", "--disable-pip-version-check",
               "--retries", "1", "--prefer-binary", *(["--upgrade"] if upgrade else []), "-r", needs]
    try:
        if subprocess.run(command, check=False, timeout=INSTALL_SECONDS).returncode:
            return False
    except subprocess.TimeoutExpired:
        return False
    with open(mark, "w", encoding="utf-8") as f:
        f.write(wanted)
    return True


def scores():
    out = subprocess.run([RERANKD, "score", "--model", starter(), "--query", QUERY, "--json",
                          "--no-sort"], input="".join(t + "\n" for t in TEXTS).encode(),
                         stdout=subprocess.PIPE, env=environment(), check=True).stdout
    return [json.loads(line)["score"] for line in out.splitlines()]


def servers(stack):
    """A server for each thing that can be refused."""
    one = ["--queue-requests", "1", "--threads", "1", "--request-timeout", "300", "--cache-size", "0"]
    made = {"main": [], "keys": ["--api-key", KEY],
            "small": ["--max-documents", "2", "--max-body", "2000"],
            "busy429": one, "busy503": [*one, "--overload-status", "503"]}
    return {name: "http://127.0.0.1:%d" % stack.enter_context(
        Server(*options, model_folder=starter())).port for name, options in made.items()}


def drive(driver, job):
    """The driver's lines, and one more when it did not come to its end."""
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    env.update(HAYSTACK_TELEMETRY_ENABLED="False", LITELLM_LOG="ERROR",
               LITELLM_LOCAL_MODEL_COST_MAP="True", PYTHONWARNINGS="ignore", NO_PROXY="127.0.0.1")
    process = subprocess.Popen([python(driver), os.path.join(HERE, "drive_%s.py" % driver), job],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    try:
        out, err = process.communicate(timeout=DRIVE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += b"\nnot done after %d s" % DRIVE_SECONDS
    lines = [json.loads(x) for x in out.splitlines() if x.startswith(b'{"client"')]
    if process.returncode or not lines:
        lines.append({"client": driver, "package": "", "version": "", "call": "driver", "ok": False,
                      "why": err.decode()[-3000:]})
    return lines


def store(lines):
    version = subprocess.run([RERANKD, "--version"], stdout=subprocess.PIPE, check=True).stdout.split()
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(INTRO % (datetime.date.today().isoformat(), version[1].decode()))
        for x in lines:
            f.write("| %(client)s | %(package)s | %(version)s | %(call)s | " % x)
            f.write("ok |\n" if x["ok"] else "fails |\n")
        f.write(OUTRO)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("drivers", nargs="*", choices=[*DRIVERS, []])
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--upgrade", action="store_true")
    arguments = parser.parse_args()
    wanted = arguments.drivers or DRIVERS
    os.makedirs(HOME, exist_ok=True)
    missing = [d for d in wanted if not install(d, arguments.upgrade)]
    for driver in missing:
        print("SKIP: %s: its clients cannot be installed from PyPI" % driver)
    if len(missing) == len(wanted):
        return 77
    lines = []
    with contextlib.ExitStack() as stack:
        job = {"urls": servers(stack), "key": KEY, "query": QUERY, "texts": TEXTS, "scores": scores(),
               "model": "starter", "rerankd": RERANKD, "folder": starter()}
        path = os.path.join(HOME, "job.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(job, f)
        for driver in wanted:
            for x in drive(driver, path) if driver not in missing else []:
                lines.append(x)
                print("%-5s %s (%s %s): %s%s" % ("ok" if x["ok"] else "FAIL", x["client"], x["package"],
                                                 x.get("version", "?"), x["call"],
                                                 "" if x["ok"] else "\n" + x["why"]), flush=True)
    if arguments.store:
        store(lines)
    passed = sum(x["ok"] for x in lines)
    print("%d passed, %d failed, %d skipped" % (passed, len(lines) - passed, len(missing)))
    return 1 if passed < len(lines) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Skip as e:
        print("SKIP: %s" % e)
        sys.exit(77)
