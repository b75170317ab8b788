# SPDX-License-Identifier: Apache-2.0
"""png.py - makes a browser's screenshot small enough for a repository: a palette of 256 colours.

The 256 are those that occur most; any other becomes the nearest of them.  On a page of text that can be
seen at the edges of letters only, and hardly there."""
import struct
import zlib


def chunks(data):
    at = 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        yield kind, data[at + 8:at + 8 + size]
        at += size + 12


def rows(data):
    """Width and the rows of pixels, as (red, green, blue), of an 8-bit PNG without interlacing."""
    parts = list(chunks(data))
    width, _, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", dict(parts)[b"IHDR"])
    step = {2: 3, 6: 4}[kind]
    assert (depth, interlaced) == (8, 0)
    raw = zlib.decompress(b"".join(d for k, d in parts if k == b"IDAT"))
    stride, above = width * step, bytes(width * step)
    for at in range(0, len(raw), stride + 1):
        above = unfilter(raw[at], bytearray(raw[at + 1:at + 1 + stride]), above, step)
        yield width, [tuple(above[i:i + 3]) for i in range(0, stride, step)]


def unfilter(how, line, above, step):
    """The five filters of the PNG specification."""
    for i in range(len(line)) if how else ():
        a = line[i - step] if i >= step else 0
        b = above[i]
        if how == 1:
            line[i] = (line[i] + a) & 255
        elif how == 2:
            line[i] = (line[i] + b) & 255
        elif how == 3:
            line[i] = (line[i] + (a + b) // 2) & 255
        else:
            c = above[i - step] if i >= step else 0
            p, q, r = abs(b - c), abs(a - c), abs(a + b - 2 * c)
            line[i] = (line[i] + (a if p <= q and p <= r else b if q <= r else c)) & 255
    return line


def shrink(data):
    lines, count = [], {}
    for width, line in rows(data):
        lines.append(line)
        for pixel in line:
            count[pixel] = count.get(pixel, 0) + 1
    palette = sorted(count, key=count.get, reverse=True)[:256]
    index = {c: min(range(len(palette)), key=lambda i: sum((x - y) ** 2 for x, y in zip(palette[i], c)))
             for c in count}
    raw = b"".join(b"\0" + bytes(index[p] for p in line) for line in lines)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(lines), 8, 3, 0, 0, 0)) +
            chunk(b"PLTE", b"".join(bytes(c) for c in palette)) +
            chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))
