# SPDX-License-Identifier: Apache-2.0
"""_program.py - where the program rerankd is: RERANKD, else the one in this package, else the one on the
path."""
import os
import shutil


def find_program() -> str:
    """The program's path; FileNotFoundError when there is none."""
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "rerankd")
    program = os.environ.get("RERANKD") or (own if os.path.exists(own) else shutil.which("rerankd"))
    if not program:
        raise FileNotFoundError("the program rerankd is neither in this package nor on the path; set "
                                "RERANKD")
    return program
