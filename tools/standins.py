#!/usr/bin/env python3
"""Makes what pages take for granted, for tools/commands.py: somebody's network and pictures, small and made up.

    python3 tools/standins.py net.onnx pictures cat.png       # a network of 16×16 pictures with 3 classes, 24 pictures, one more
    python3 tools/standins.py rows.onnx heart.csv             # a network of 4 columns with 2 classes, 40 rows

Each name says what is made, and where. The same every time. Needs Python 3.9, nothing else.
"""

import os
import random
import struct
import sys
import zlib

SIZE, CLASSES = 16, ("disc", "square", "stripes")


def field(number, value):
    """One field of a protobuf message: whole numbers as such, everything else by its length."""
    def whole(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    if isinstance(value, int):
        return whole(number << 3) + whole(value)
    value = value.encode() if isinstance(value, str) else value
    return whole(number << 3 | 2) + whole(len(value)) + value


def tensor(name, shape, values):
    return b"".join(field(1, d) for d in shape) + field(2, 1) + field(8, name) + field(9, struct.pack(f"<{len(values)}f", *values))


def node(operator, inputs, output, **attributes):
    def attribute(name, value):
        many = isinstance(value, list)
        return field(1, name) + (b"".join(field(8, v) for v in value) if many else field(3, value)) + field(20, 7 if many else 2)

    named = b"".join(field(5, attribute(name, value)) for name, value in attributes.items())
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operator) + named


def port(name, shape):
    dimensions = b"".join(field(1, field(1, d)) for d in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dimensions)))


def network(path, shape, nodes, weights, outputs):
    """An ONNX file with random weights; each weight is (name, shape)."""
    rng = random.Random(1)
    made = []
    for name, size in weights:
        count, into = 1, 1
        for d in size:
            count *= d
        for d in size[1:]:
            into *= d
        made.append(tensor(name, size, [rng.gauss(0, into**-0.5) for _ in range(count)]))
    graph = b"".join(field(1, one) for one in nodes) + field(2, "standin") + b"".join(field(5, one) for one in made)
    graph += field(11, port("x", shape)) + field(12, port("y", [1, outputs]))
    with open(path, "wb") as file:
        file.write(field(1, 8) + field(7, graph) + field(8, field(2, 17)))


def picture_network(path):
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c1", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], "r1"),
        node("Conv", ["r1", "w2", "b2"], "c2", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], "r2"),
        node("GlobalAveragePool", ["r2"], "p"),
        node("Flatten", ["p"], "f", axis=1),
        node("Gemm", ["f", "w3", "b3"], "y", transB=1),
    ]
    weights = [("w1", (4, 3, 3, 3)), ("b1", (4,)), ("w2", (8, 4, 3, 3)), ("b2", (8,)), ("w3", (3, 8)), ("b3", (3,))]
    network(path, [1, 3, SIZE, SIZE], nodes, weights, 3)


def row_network(path):
    nodes = [node("Gemm", ["x", "w1", "b1"], "h", transB=1), node("Relu", ["h"], "r"), node("Gemm", ["r", "w2", "b2"], "y", transB=1)]
    network(path, [1, 4], nodes, [("w1", (8, 4)), ("b1", (8,)), ("w2", (2, 8)), ("b2", (2,))], 2)


def picture(path, kind, rng):
    """A disc, a square or stripes, as a PNG."""
    a, b = rng.uniform(5, 11), rng.uniform(5, 11)
    lines = b""
    for y in range(SIZE):
        lines += b"\0"
        for x in range(SIZE):
            shape = [(x - a) ** 2 + (y - b) ** 2 < 16, max(abs(x - a), abs(y - b)) < 4, int(x + a) % 4 < 2][kind]
            lines += bytes(min(255, max(0, int(70 + 100 * shape + rng.gauss(0, 15)))) for _ in range(3))

    def part(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)))
        file.write(part(b"IDAT", zlib.compress(lines)) + part(b"IEND", b""))


def pictures(folder):
    rng = random.Random(2)
    for kind, name in enumerate(CLASSES):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        for i in range(8):
            picture(os.path.join(folder, name, f"{i:02}.png"), kind, rng)


def table(path):
    """Patients: three columns that are used, one that is not, and a class."""
    rng = random.Random(3)
    with open(path, "w", encoding="utf-8") as file:
        file.write("id,age,pulse,chol,slope,disease\n")
        for i in range(40):
            row = [rng.randint(30, 75), rng.randint(55, 110), rng.randint(150, 320), round(rng.uniform(0, 3), 1)]
            file.write(",".join(map(str, [i, *row, "yes" if row[0] + row[2] / 5 > 100 else "no"])) + "\n")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        if name == "rows.onnx":
            row_network(name)
        elif name.endswith(".onnx"):
            picture_network(name)
        elif name.endswith(".png"):
            picture(name, 0, random.Random(4))
        elif name.endswith(".csv"):
            table(name)
        else:
            pictures(name)


if __name__ == "__main__":
    main()
