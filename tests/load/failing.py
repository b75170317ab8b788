# SPDX-License-Identifier: Apache-2.0
"""failing.py - switches of tests/support/failing.c, which makes calls of a whole process fail.

    with Failing() as f, Rerankd(env=f.env) as s:
        f.memory_ppm = 1000     # of allocations fail
        f.calm()
"""
import mmap
import os
import struct
import tempfile

from cli_support import RERANKD, environment
from server import SANITIZED, Skip

LIBRARY = os.path.join(os.path.dirname(RERANKD), "tests", "support", "libfailing.so")
NAMES = ("memory_ppm", "interrupt_ppm", "first", "count", "calls", "failed")


class Failing:
    def __init__(self):
        if not os.path.exists(LIBRARY) or SANITIZED:
            raise Skip("libfailing.so is not built, or a sanitizer has its place")
        file, self.path = tempfile.mkstemp(prefix="rr_failing.")
        os.ftruncate(file, 4096)
        self.map = mmap.mmap(file, 4096)
        os.close(file)
        self.env = environment(LD_PRELOAD=LIBRARY, RR_FAILING=self.path)

    def calm(self):
        for name in NAMES[:4]:
            setattr(self, name, 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.calm()
        os.unlink(self.path)


def switch(i):
    def get(self):
        return struct.unpack_from("q", self.map, 8 * i)[0]

    def put(self, value):
        struct.pack_into("q", self.map, 8 * i, value)

    return property(get, put)


for _i, _name in enumerate(NAMES):
    setattr(Failing, _name, switch(_i))
