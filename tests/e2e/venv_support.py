# SPDX-License-Identifier: Apache-2.0
"""venv_support.py - packages from PyPI for a script, in a virtual environment that is kept."""
import importlib
import os
import subprocess
import sys

from cli_support import ROOT

VENV = os.path.join(ROOT, "build", "venv-eval")


def install(module, package):
    """Starts the script again with the environment's Python, where the module is."""
    try:
        importlib.import_module(module)
        return
    except ImportError:
        pass
    python = os.path.join(VENV, "bin", "python")
    if os.path.abspath(sys.executable) != python:
        if not os.path.exists(python):
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        os.execv(python, [python, *sys.argv])
    p = subprocess.run([python, "-m", "pip", "install", "-q", "--retries", "1", "--timeout", "10",
                        package], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if p.returncode:
        print("SKIP: %s cannot be installed" % module)
        sys.exit(77)
