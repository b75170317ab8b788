# SPDX-License-Identifier: Apache-2.0
"""python -m rerankd serve ...: runs the program rerankd with these words."""
import os
import sys

from ._program import find_program


def main() -> None:
    try:
        program = find_program()
    except FileNotFoundError as e:
        sys.exit("rerankd: %s" % e)
    try:
        os.execv(program, ["rerankd", *sys.argv[1:]])
    except OSError as e:
        sys.exit("rerankd: cannot run %s: %s" % (program, e.strerror))


if __name__ == "__main__":
    main()
