# SPDX-License-Identifier: Apache-2.0
"""deepen.py - from OpenVINO's static int8 model of two layers one of any depth, with random weights.

    python3 bench/peers/deepen.py SHALLOW.xml DEEP.xml [--layers 24]

For machines without NNCF, or with too little memory for it: the shallow model is made elsewhere (net.py
--layers 2, then convert.py) and is small when the zeros in its weights are packed (--hollow writes it
so).  The second layer is repeated with its quantizers, and every matrix is filled anew: speed is the
same, scores mean nothing.

One thing differs between layers that NNCF calibrates: rows behind a LayerNorm are i8 where the value
furthest from zero was negative, u8 where it was positive, and OpenVINO is not equally fast with both
(5 % on AVX2).  By chance both are as likely, so --mirror odd gives the odd layers the other kind.
"""
import argparse
import copy
import os
import re
import xml.etree.ElementTree as tree

import numpy

MATRIX = 1 << 16  # bytes: smaller constants are scales and ranges, which are kept
SPREAD = 38  # of 8-bit weights whose largest is 127


def ends(root):
    """Ids of the nodes that close the first and the second layer."""
    found = {l.get("name"): l.get("id") for l in root.find("layers") if l.get("type") == "MVN"}
    return [found["__module.blocks.%d.norm2/aten::layer_norm/MVN" % i] for i in range(2)]


def ancestors(edges, node):
    inputs, seen, open_ends = {}, set(), [node]
    for e in edges:
        inputs.setdefault(e.get("to-layer"), []).append(e.get("from-layer"))
    while open_ends:
        at = open_ends.pop()
        if at not in seen:
            seen.add(at)
            open_ends += inputs.get(at, [])
    return seen


def deepen(root, depth):
    """Puts depth - 2 copies of the second layer behind it."""
    layers, edges = root.find("layers"), root.find("edges")
    first, last = ends(root)
    second = ancestors(edges, last) - ancestors(edges, first)
    nodes = [l for l in layers if l.get("id") in second]
    inner = [e for e in edges if e.get("to-layer") in second]
    after = [e for e in edges if e.get("from-layer") == last]
    free = max(int(l.get("id")) for l in layers) + 1
    end = last
    for i in range(2, depth):
        ids = {n.get("id"): str(free + j) for j, n in enumerate(nodes)}
        free += len(nodes)
        ids[first] = end
        place = list(layers).index([l for l in layers if l.get("id") == end][0]) + 1
        for j, n in enumerate(nodes):
            n = copy.deepcopy(n)
            n.set("id", ids[n.get("id")])
            n.set("name", "layer%d/%s" % (i, n.get("name")))
            layers.insert(place + j, n)
        for e in inner:
            e = copy.deepcopy(e)
            for side in ("from-layer", "to-layer"):
                e.set(side, ids.get(e.get(side), e.get(side)))
            edges.append(e)
        end = ids[last]
    for e in after:
        e.set("from-layer", end)


def mirrored(name, which):
    """The bound whose negative takes the place of this one, or None."""
    layer = re.match(r"layer(\d+)/", name) or re.search(r"blocks\.(\d+)", name)
    odd = layer and int(layer.group(1)) % 2
    if which == "none" or (which == "odd" and not odd) or "layer_norm/" not in name:
        return None
    bound = re.fullmatch(r"(.*fq_output_0/(?:in|out)put_)(low|high)", name)
    return bound and bound.group(1) + {"low": "high", "high": "low"}[bound.group(2)]


def values(root, source, which):
    """Bytes of the constants that are no matrices, by name."""
    found = {}
    for node in root.iterfind("layers/layer[@type='Const']"):
        data = node.find("data")
        at = int(data.get("offset"))
        found[node.get("name")] = source[at:at + int(data.get("size"))]
    return {name: -found[other].view(numpy.float32) if (other := mirrored(name, which)) else value
            for name, value in found.items()}


def weights(root, source, out, hollow, which):
    """Writes every constant to out, each at a place of its own, and notes it in root."""
    kept = values(root, source, which)
    random = numpy.random.default_rng(0)
    pool = numpy.clip(random.standard_normal(1 << 24, numpy.float32) * SPREAD, -127, 127)
    pool = numpy.tile(pool.astype(numpy.int8), 2)
    for node in root.iterfind("layers/layer[@type='Const']"):
        data = node.find("data")
        size = int(data.get("size"))
        out.write(bytes(-out.tell() % 64))  # OpenVINO maps the file
        data.set("offset", str(out.tell()))
        if data.get("element_type") != "i8" or size < MATRIX:
            out.write(kept[node.get("name")].tobytes())
            continue
        while size:
            piece = min(size, 1 << 24)
            begin = int(random.integers(1 << 24))
            out.write(bytes(piece) if hollow else pool[begin:begin + piece])
            size -= piece


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shallow")
    parser.add_argument("deep")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hollow", action="store_true", help="zeros for weights: to be deepened later")
    parser.add_argument("--mirror", choices=("none", "odd", "all"), default="odd")
    args = parser.parse_args()
    root = tree.parse(args.shallow).getroot()
    deepen(root, args.layers)
    source = numpy.fromfile(os.path.splitext(args.shallow)[0] + ".bin", numpy.uint8)
    with open(os.path.splitext(args.deep)[0] + ".bin", "wb") as out:
        weights(root, source, out, args.hollow, args.mirror)
    tree.ElementTree(root).write(args.deep)


if __name__ == "__main__":
    main()
