#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_mca.py - the inner loops of kernels as llvm-mca models processors that are not at hand.

    tools/check_mca.py [--floor PERCENT] FOLDER         objects of the kernels: build/obj/src/cpu/x86

Each tile's inner loop is taken from its object and run through llvm-mca (16 or newer): cycles a turn,
beside those of its products alone, on registers and independent of each other, which is the peak in
the same model.  Fails if a full tile stays below the floor; exit status 77 without llvm-mca.  What
the model leaves out: caches (every load hits the first level), prefetches and frequencies.
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_spills  # noqa: E402

BROADCAST = "the model charges a broadcast into zmm, not one into ymm, to a vector unit"

WIDENING = "weights are widened by shifts and masks beside the products"

# AMX is missing: the models give its instructions a latency and no throughput.  Level, processor as
# llvm-mca calls it, tiles.
ROWS = [
    ("avx2", "znver4", ["tile_f32_6", "tile_bf16_4", "tile_i8_4"]),
    ("avx2", "skylake", ["tile_f32_6", "tile_bf16_4", "tile_i8_4"]),
    ("avxvnni", "alderlake", ["tile_f32_6", "tile_bf16_4", "tile_i8_6"]),
    ("avx512", "skylake-avx512", ["tile_f32_6", "tile_bf16_4", "tile_i8_4"]),
    ("avx512vnni", "icelake-server", ["tile_f32_6", "tile_bf16_4", "tile_i8_6"]),
    ("avx512vnni", "znver4", ["tile_f32_6", "tile_bf16_4", "tile_i8_6"]),
    ("avx512bf16", "znver4", ["tile_f32_6", "tile_bf16_6", "tile_i8_6"]),
    ("avx512bf16", "sapphirerapids", ["tile_f32_6", "tile_bf16_6", "tile_i8_6"]),
]
# What is below the floor for a reason: (level, processor, tile): percent to hold, why.
KNOWN = {
    ("avx2", "znver4", "tile_bf16_4"): (85, WIDENING),
    ("avx2", "skylake", "tile_bf16_4"): (85, WIDENING),
    ("avxvnni", "alderlake", "tile_bf16_4"): (65, WIDENING),
    ("avx512", "skylake-avx512", "tile_bf16_4"): (75, WIDENING),
    ("avx512vnni", "icelake-server", "tile_bf16_4"): (85, WIDENING),
    ("avx512vnni", "znver4", "tile_bf16_4"): (75, WIDENING),
    ("avx2", "skylake", "tile_i8_4"): (85, "one load for each two products, five operations a product"),
    ("avx512", "skylake-avx512", "tile_i8_4"): (
        75, "the model lets port 1 work beside 512-bit vectors in the peak's loop"),
    ("avx512vnni", "znver4", "tile_f32_6"): (75, BROADCAST),
    ("avx512vnni", "znver4", "tile_i8_6"): (85, BROADCAST),
    ("avx512bf16", "znver4", "tile_f32_6"): (75, BROADCAST),
    ("avx512bf16", "znver4", "tile_i8_6"): (85, BROADCAST),
}
# What counts as work: products, and the additions that a product without VNNI needs.
WORK = re.compile(r"^(vfmadd|vpdp|vdpbf16|vpmadd|vpaddw|vpaddd|tdp)")
TURNS = 400


def find_mca():
    for name in ["llvm-mca-%d" % n for n in range(24, 15, -1)] + ["llvm-mca"]:
        path = shutil.which(name)
        if path:
            text = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
            version = re.search(r"LLVM version (\d+)", text)
            if version and int(version.group(1)) >= 16:
                return path
    return None


def loop_of(path, tile):
    """The instructions of the tile's inner loop, without its jumps."""
    for name, body in check_spills.functions("objdump", path):
        if name != tile:
            continue
        for first, last in check_spills.loops(body):
            inside = [(m, o) for a, m, o in body
                      if first <= a < last and not check_spills.JUMP.match(m)]
            if any(check_spills.PRODUCT.match(m) for m, _ in inside):
                return inside
    return None


def on_registers(work, turn):
    """Products of a loop on registers, each with a sum of its own, so that nothing waits."""
    lines = []
    for i, (mnemonic, operands) in enumerate(work):
        kind = re.search(r"%([xyzt]mm)", operands).group(1)
        few = 8 if kind == "tmm" else 16 if kind == "ymm" else 32
        to = "%%%s%d" % (kind, (i + turn * len(work)) % (few - 2))
        if kind == "tmm":
            to = "%%tmm%d" % (i % 4)
        source = "%%%s%d" % (kind, few - 1)
        other = "%tmm5" if kind == "tmm" else source
        prefix = "{vex} " if mnemonic == "vpdpbusd" and kind == "ymm" else ""
        lines.append("%s%s %s, %s, %s" % (prefix, mnemonic, source, other, to))
    return lines


def cycles(mca, processor, lines):
    text = subprocess.run(
        [mca, "-mcpu=" + processor, "-iterations=%d" % TURNS, "-instruction-info=false",
         "-resource-pressure=false"],
        input="\n".join(lines) + "\n", capture_output=True, text=True)
    if text.returncode:
        raise RuntimeError(text.stderr.strip().splitlines()[0])
    total = re.search(r"Total Cycles:\s+(\d+)", text.stdout)
    return int(total.group(1)) / TURNS


def check(mca, path, processor, tile):
    """(products, cycles a turn, peak cycles)"""
    loop = loop_of(path, tile)
    if loop is None:
        raise RuntimeError("no inner loop with products")
    work = [(m, o) for m, o in loop if WORK.match(m)]
    products = sum(1 for m, _ in work if not m.startswith("vpadd"))
    vex = tile.startswith("tile_i8") and "avxvnni" in path
    lines = [("{vex} " if vex and m == "vpdpbusd" else "") + m + " " + re.sub(r"\s*(<.*>|#.*)", "", o)
             for m, o in loop if not m.startswith("prefetch")]
    # Sums of a product without VNNI hang on each other inside a group, never between groups.
    alone = cycles(mca, processor, on_registers(work, 0) + on_registers(work, 1)) / 2
    return products, cycles(mca, processor, lines), alone


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--floor", type=float, default=90, help="percent of the modelled peak")
    parser.add_argument("folder")
    args = parser.parse_args()
    mca = find_mca()
    if not mca:
        print("SKIP: llvm-mca 16 or newer is not installed")
        return 77
    if not glob.glob(os.path.join(args.folder, "kern_*.o")):
        raise SystemExit("no kernel objects in %s: build first" % args.folder)
    failed = 0
    print("| level | tile | processor | products a turn | cycles | peak | percent | |")
    print("|" + " --- |" * 8)
    for level, processor, tiles in ROWS:
        path = os.path.join(args.folder, "kern_%s.o" % level)
        for tile in tiles:
            try:
                products, took, alone = check(mca, path, processor, tile)
            except RuntimeError as e:
                print("| %s | %s | %s | %s |" % (level, tile, processor, e))
                failed += 1
                continue
            percent = 100 * alone / took
            floor, why = KNOWN.get((level, processor, tile), (args.floor, ""))
            failed += percent < floor
            print("| %s | %s | %s | %d | %.1f | %.1f | %.0f | %s |"
                  % (level, tile, processor, products, took, alone, percent, why))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
