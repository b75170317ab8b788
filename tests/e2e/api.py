#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""api.py - docs/openapi.json against its standard, and schemathesis against a server that is started
for it: no 5xx, only documented statuses, replies as described, bad bodies refused.

    make test-api              about two minutes; exit status 77 when PyPI cannot be reached

Environment: RERANKD, the program; API_EXAMPLES, requests per operation (default 60); API_SEED.
"""
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
# positive_data_acceptance is left out: limits of tokens and lengths are the server's, not the
# document's.
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


def main():
    if not install():
        print("SKIP: schemathesis and openapi-spec-validator cannot be installed")
        return 77
    if subprocess.run([tool("openapi-spec-validator"), DOCUMENT], check=False).returncode:
        return 1
    config = os.path.join(VENV, "schemathesis.toml")
    with open(config, "w", encoding="utf-8") as f:
        f.write(CONFIG)
    with Server("--max-documents", "1000", model_folder=starter()) as s:
        return subprocess.run(
            [tool("st"), "--config-file", config, "run", DOCUMENT, "--url", "http://127.0.0.1:%d" % s.port,
             "--checks", ",".join(CHECKS), "--mode", "all", "--no-color",
             "--phases", "examples,coverage,fuzzing", "--max-failures", "20",
             "--max-examples", os.environ.get("API_EXAMPLES", "60"), "--max-time", "240",
             "--seed", os.environ.get("API_SEED", "1"),
             "--suppress-health-check", "all", "--request-timeout", "60",
             "--exclude-path", "/metrics", "--generation-database", "none"],
            check=False, timeout=900, cwd=os.path.join(ROOT, "build")).returncode


if __name__ == "__main__":
    sys.exit(main())
