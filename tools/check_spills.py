#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_spills.py - finds stack traffic inside the inner loops of kernel objects.

    tools/check_spills.py [--objdump PROGRAM] OBJECT...

A tile keeps its sums in registers.  A compiler that gives up on that loads and stores them on every
turn, which costs half the speed and no test notices.  So: disassemble every function named tile_*,
take its innermost loops with multiply-accumulate instructions, and fail if one of their
instructions has an operand on the stack.  Beside AMX tiles, whose step takes 64 cycles, pointers may
be there, vectors may not.  A tile without such a loop fails, and so does an object without a tile.
"""
import argparse
import re
import subprocess
import sys

PRODUCT = re.compile(
    r"^(vfmadd|vfnmadd|vpdp|vdpbf16|vpmaddwd|vpmaddubsw|tdp|fmla|fmlal|smmla|usmmla|ummla|"
    r"[su]dot|usdot|bfmmla|bfdot|sadalp)"
)
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(?:\{vex\} )?(\S+)\s*(.*)$")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
VECTOR = re.compile(r"%[xyz]mm")
JUMP = re.compile(r"^(j[a-z]+|b\.[a-z]+|b|cbn?z|tbn?z)$")


def functions(objdump, path):
    """Yields (name, [(address, mnemonic, operands)])."""
    text = subprocess.run(
        [objdump, "-d", "--no-show-raw-insn", path], check=True, capture_output=True, text=True
    ).stdout
    name, body = None, []
    for line in text.splitlines():
        head = FUNCTION.match(line)
        if head:
            if name:
                yield name, body
            name, body = head.group(1), []
            continue
        m = LINE.match(line)
        if m and name:
            body.append((int(m.group(1), 16), m.group(2), m.group(3)))
    if name:
        yield name, body


def target(operands):
    m = re.search(r"(?:^|, ?)([0-9a-f]+) <", operands)
    return int(m.group(1), 16) if m else None


def products(body, first, last):
    return sum(1 for address, m, _ in body if first <= address <= last and PRODUCT.match(m))


def loops(body):
    """Innermost loops with products: (first, last) addresses of backward jumps with no other such
    loop inside.  One that only fetches ahead is no loop of its own."""
    start = body[0][0]
    found = []
    for address, mnemonic, operands in body:
        if JUMP.match(mnemonic):
            to = target(operands)
            if to is not None and start <= to <= address and products(body, to, address):
                found.append((to, address))
    return [
        a for a in found if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in found)
    ]


def on_stack(operands, framed):
    registers = ["%rsp", r"\[sp"] + (["%rbp", r"\[x29"] if framed else [])
    return any(re.search(r"\([^)]*" + r if r[0] == "%" else r, operands) for r in registers)


def is_framed(body):
    """True if the frame pointer is one; otherwise it may hold anything."""
    return any(
        (m == "mov" and o.replace(" ", "") in ("%rsp,%rbp", "x29,sp"))
        or (m == "add" and "x29, sp" in o)
        for _, m, o in body
    )


def check(objdump, path):
    """Returns the number of tiles and a list of what is wrong with them."""
    count, bad = 0, []
    for name, body in functions(objdump, path):
        if not body or not name.startswith("tile_"):
            continue
        count += 1
        framed, found = is_framed(body), loops(body)
        amx = any(m.startswith("tdp") for _, m, _ in body)
        for first, last in found:
            spills = [(m, o) for a, m, o in body if first <= a <= last and on_stack(o, framed)]
            if amx:
                spills = [(m, o) for m, o in spills if VECTOR.search(o)]
            if spills:
                bad.append(
                    f"{name} at {first:x}: {len(spills)} stack operands among "
                    f"{products(body, first, last)} "
                    f"multiply-accumulates, e.g. {spills[0][0]} {spills[0][1]}"
                )
        if not found:
            bad.append(f"{name}: no loop with multiply-accumulates")
    return count, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("objects", nargs="+")
    args = parser.parse_args()
    failed = 0
    for path in args.objects:
        count, bad = check(args.objdump, path)
        if count == 0:
            bad = ["no function named tile_*: is this a kernel object?"]
        for line in bad:
            print(f"FAIL {path}: {line}")
        if not bad:
            print(f"ok   {path}: {count} tiles, no stack traffic in their inner loops")
        failed += len(bad)
    print(f"{len(args.objects)} objects, {failed} faults")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
