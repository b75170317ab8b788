#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_cuda.py - what nvcc made of the kernels, for every architecture in a plugin.

    tools/check_cuda.py build/librerank_cuda.so    exit status 1: a rule is broken, 77: skipped
    tools/check_cuda.py --self-test                shows that each rule rejects what breaks it

Rules: products and attention have tensor-core instructions of their type and no local memory beyond
a few saved words; those of 9.0 never wait for memory to be in order (MEMBAR); every kernel stays within the registers that its launch bounds promise; every
architecture that the Makefile names is there.
"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MAX_REGISTERS = 255
# (kernel, architectures, instructions that must be there or, with !, must not, registers, bytes of local
# memory)
ANY = range(0, 1000)
RULES = [
    # The groups that multiply take 232 in place of these.
    (r"gemm_turns.*TypeB?F16", [90], ["HGMMA", "UTMALDG", "USETMAXREG", "!MEMBAR"], 168, 0),
    (r"gemm_turns.*TypeI8", [90], ["IGMMA", "UTMALDG", "USETMAXREG", "!MEMBAR"], 168, 0),
    # One block to a processor, of one group of warps, or up to three.
    (r"gemm_sm90.*TypeI8.*ELi1ELi1EEE", [90], ["IGMMA", "UTMALDG", "!MEMBAR"], 168, 0),
    (r"gemm_sm90.*TypeB?F16", [90], ["HGMMA", "UTMALDG", "!MEMBAR"], 128, 0),
    (r"gemm_sm90.*TypeI8", [90], ["IGMMA", "UTMALDG", "!MEMBAR"], 128, 0),
    (r"gemm_sm90.*TypeF8", [90], ["QGMMA", "UTMALDG", "!MEMBAR"], 224, 0),
    (r"gemmI.*TypeF16", range(75, 1000), ["HMMA"], 128, 16),
    (r"gemmI.*TypeBF16", range(80, 1000), ["HMMA"], 128, 16),
    (r"gemmI.*TypeI8", range(75, 1000), ["IMMA"], 128, 16),
    (r"gemmI.*TypeF8", [89, 120], ["QMMA"], 128, 16),
    # 9.0 (which never starts it) and 10.0 have no such product: it is made of f16's.
    (r"gemmI.*TypeF8", range(90, 1000), ["HMMA"], 255, 64),
    # Five blocks to a processor, of four warps; two of eight.
    (r"attention_sm90.*ELi1EEE", [90], ["HGMMA", "UTMALDG"], 96, 0),
    (r"attention_sm90", [90], ["HGMMA", "UTMALDG"], 128, 0),
    (r"attention_tiles.*Narrow\)0|attention_tiles.*NarrowE0", range(75, 1000), ["HMMA"], 255, 16),
    (r"attention_tiles.*Narrow\)1|attention_tiles.*NarrowE1", range(80, 1000), ["HMMA"], 255, 16),
    (r"dots_f32", ANY, ["FFMA"], 128, 16),
    (r"gemm_f32", ANY, ["FFMA"], 128, 0),
    (r".*", ANY, [], MAX_REGISTERS, 64),
]
# Kernels that are never started on an architecture (bf16 before 8.0) end in a trap there.
NEVER_STARTED = r"gemm_sm90|gemm_turns|gemm.*Type|attention_sm90|attention_tiles"
EXPECTED_ARCHS = (75, 80, 86, 89, 90, 100, 120)


def find_tool(name):
    """From the path, from CUDA, or from what tools/install_cuda.sh installed."""
    for place in [shutil.which(name), os.environ.get(name.upper()),
                  *map(str, Path("build").glob(f"cuda*/**/bin/{name}"))]:
        if place and os.access(place, os.X_OK):
            return place
    return None


def parse(resources, sass):
    """{(architecture, kernel): {"registers", "local", "opcodes"}} from cuobjdump's two listings."""
    kernels, arch, name = {}, 0, None
    for line in resources.splitlines():
        if m := re.match(r"arch = sm_(\d+)", line.strip()):
            arch = int(m.group(1))
        elif m := re.match(r"\s*Function (\S+):", line):
            name = m.group(1)
        elif (m := re.search(r"REG:(\d+) STACK:(\d+).*LOCAL:(\d+)", line)) and name:
            kernels[arch, name] = {"registers": int(m.group(1)),
                                   "local": int(m.group(2)) + int(m.group(3)), "opcodes": set()}
    for line in sass.splitlines():
        if m := re.match(r"arch = sm_(\d+)", line.strip()):
            arch = int(m.group(1))
        elif m := re.match(r"\s*Function : (\S+)", line):
            name = m.group(1)
        elif (m := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9]*)", line)) and \
                (arch, name) in kernels:
            kernels[arch, name]["opcodes"].add(m.group(1))
    return kernels


def problems(kernels, archs):
    """Lines that say which rule which kernel breaks."""
    found = sorted({arch for arch, _ in kernels})
    for arch in archs:
        if arch not in found:
            yield f"sm_{arch}: there is no code for it, only for {found}"
    for (arch, name), k in sorted(kernels.items()):
        for pattern, archs_of_rule, instructions, registers, local in RULES:
            if not re.search(pattern, name) or arch not in archs_of_rule:
                continue
            if pattern == ".*" and re.search(NEVER_STARTED, name):
                break
            for wanted in instructions:
                there = any(re.fullmatch(wanted.lstrip("!"), o) for o in k["opcodes"])
                if there == wanted.startswith("!"):
                    yield f"sm_{arch} {name}: {'a' if there else 'no'} {wanted.lstrip('!')} instruction"
            if k["registers"] > registers:
                yield f"sm_{arch} {name}: {k['registers']} registers, at most {registers}"
            if k["local"] > local:
                yield f"sm_{arch} {name}: {k['local']} bytes of local memory, at most {local}"
            break


SAMPLE_RESOURCES = """arch = sm_{arch}
 Function _Z{kernel}7TypeF16E:
  REG:{registers} STACK:{local} SHARED:0 LOCAL:0 CONSTANT[0]:472
"""
SAMPLE_SASS = """arch = sm_{arch}
\t\tFunction : _Z{kernel}7TypeF16E
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/              @!P0 {opcode} R4, R4, R8, R12 ;
"""


def self_test():
    cases = [  # (changes, archs, words of the complaint or None)
        ({}, [80], None),
        ({"opcode": "FFMA"}, [80], "no HMMA"),
        ({"registers": 129}, [80], "129 registers"),
        ({"local": 24}, [80], "24 bytes of local"),
        ({}, [80, 90], "sm_90: there is no code"),
        ({"kernel": "9gemm_sm90I", "opcode": "NOP"}, [80], None),  # never started there
        ({"arch": 90, "kernel": "9gemm_sm90I", "registers": 90, "local": 0,
          "opcode": "HGMMA.64x128x16.F32"}, [90], "no UTMALDG"),
        ({"arch": 90, "kernel": "9gemm_sm90I", "registers": 90, "local": 0,
          "opcode": "HGMMA R4, R4 ;\n        /*0020*/ UTMALDG.2D [UR4] ;\n"
                    "        /*0030*/ @!P0 MEMBAR.ALL.GPU ;\n        /*0040*/ MOV"}, [90], "a MEMBAR"),
    ]
    for changes, archs, words in cases:
        values = {"arch": 80, "kernel": "4gemmI", "registers": 128, "local": 8, "opcode": "HMMA.16816.F32", **changes}
        kernels = parse(SAMPLE_RESOURCES.format(**values), SAMPLE_SASS.format(**values))
        said = list(problems(kernels, archs))
        good = not said if words is None else len(said) == 1 and words in said[0]
        if not good:
            sys.exit(f"self-test {changes}, {archs}: {said}, expected {words}")
    print(f"{len(cases)} passed, 0 failed")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return 0
    plugin = sys.argv[1]
    tool = find_tool("cuobjdump")
    if not os.path.exists(plugin) or not tool:
        print(f"SKIP: {'cuobjdump is not installed' if not tool else plugin + ' is not there'}; "
              "see tools/install_cuda.sh")
        return 77
    env = {**os.environ, "PATH": os.path.dirname(tool) + ":" + os.environ.get("PATH", "")}
    kernels = parse(*(subprocess.run([tool, option, plugin], check=True, capture_output=True,
                                     text=True, env=env).stdout
                      for option in ("-res-usage", "-sass")))
    archs = [int(a) for a in os.environ.get("CUDA_ARCHS", "").split()] or EXPECTED_ARCHS
    broken = list(problems(kernels, archs))
    print("\n".join(broken) or
          f"{len(kernels)} kernels for {sorted({a for a, _ in kernels})}: registers, local memory "
          "and tensor-core instructions as expected")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
