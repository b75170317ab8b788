# SPDX-License-Identifier: Apache-2.0
"""python -m rerankd serve ...: runs the program rerankd with these words; the one in this package, else
the one on the path.  RERANKD names another."""
import os
import shutil
import sys


def main() -> None:
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "rerankd")
    program = os.environ.get("RERANKD") or (own if os.path.exists(own) else shutil.which("rerankd"))
    if not program:
        sys.exit("rerankd: the program is neither in this package nor on the path; set RERANKD")
    try:
        os.execv(program, ["rerankd", *sys.argv[1:]])
    except OSError as e:
        sys.exit("rerankd: cannot run %s: %s" % (program, e.strerror))


if __name__ == "__main__":
    main()
