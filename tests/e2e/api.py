#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""api.py - docs/openapi.json against its standard, and schemathesis against a server that is started
for it: no 5xx, only documented statuses, replies as described, bad bodies refused.

    make test-api              about two minutes; exit status 77 when PyPI cannot be reached

Environment: RERANKD, the program; API_EXAMPLES, requests per operation (default 60); API_SEED.
"""
import json
import os
import subprocess
import sys

from cli_support import ROOT
from server_support import Server, starter

VENV = os.path.join(ROOT, "build", "venv")
PACKAGES = ["openapi-spec-validator==0.9.0", "schemathesis==4.32.5"]
# A deadline of a millisecond that passes is an answer, not a failure.
CONFIG = """[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "504"]
"""
DOCUMENT = os.path.join(ROOT, "docs", "openapi.json")
# positive_data_acceptance is left out: a form that fits the document can still hold two lists of
# different lengths, or a key that makes it another form.
CHECKS = ["not_a_server_error", "status_code_conformance", "content_type_conformance",
          "response_headers_conformance", "response_schema_conformance", "negative_data_rejection",
          "unsupported_method"]


def tool(name):
    return os.path.join(VENV, "bin", name)


def install():
    """False when there is no way to get the tools."""
    if os.path.exists(tool("st")) and os.path.exists(tool("openapi-spec-validator")):
        return True
    made = subprocess.run([sys.executable, "-m", "venv", VENV], check=False).returncode == 0
    return made and subprocess.run([tool("pip"), "install", "-q", "--disable-pip-version-check",
                                    *PACKAGES], check=False, timeout=300).returncode == 0


def write_inputs(max_length):
    """The settings, and the document with the one limit that only a running server knows."""
    config, document = (os.path.join(VENV, n) for n in ("schemathesis.toml", "openapi.json"))
    with open(config, "w", encoding="utf-8") as f:
        f.write(CONFIG)
    with open(DOCUMENT, encoding="utf-8") as f:
        content = json.load(f)
    options = content["components"]["schemas"]["Options"]["properties"]
    for key in ("max_length", "truncate_prompt_tokens"):
        options[key]["maximum"] = max_length
    with open(document, "w", encoding="utf-8") as f:
        json.dump(content, f)
    return config, document


def main():
    if not install():
        print("SKIP: schemathesis and openapi-spec-validator cannot be installed")
        return 77
    if subprocess.run([tool("openapi-spec-validator"), DOCUMENT], check=False).returncode:
        return 1
    with Server(model_folder=starter()) as s:
        config, document = write_inputs(s.ask("GET", "/info").json()["max_length"])
        return subprocess.run(
            [tool("st"), "--config-file", config, "run", document,
             "--url", "http://127.0.0.1:%d" % s.port,
             "--checks", ",".join(CHECKS), "--mode", "all", "--no-color",
             "--phases", "examples,coverage,fuzzing", "--max-failures", "20",
             "--max-examples", os.environ.get("API_EXAMPLES", "60"), "--max-time", "240",
             "--seed", os.environ.get("API_SEED", "1"),
             "--suppress-health-check", "all", "--request-timeout", "60",
             "--exclude-path", "/metrics", "--generation-database", "none"],
            check=False, timeout=900, cwd=os.path.join(ROOT, "build")).returncode


if __name__ == "__main__":
    sys.exit(main())
