#!/usr/bin/env python3
"""Pictures of CIFAR-10's binary form as the harness hands them out: `cifar_data.py FILE.bin FIRST COUNT OUT`.

OUT/test_pixels.txt has a picture a line, 3,072 numbers from 0 to 1, channel by channel, row by row; OUT/test_labels.txt its class.
"""

import sys
from pathlib import Path

RECORD = 1 + 3 * 32 * 32


def main():
    data, first, count, out = Path(sys.argv[1]).read_bytes(), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    records = [data[i * RECORD : (i + 1) * RECORD] for i in range(first, first + count)]
    out.mkdir(parents=True, exist_ok=True)
    lines = (" ".join(f"{v / 255:.6f}" for v in record[1:]) + "\n" for record in records)
    (out / "test_pixels.txt").write_text("".join(lines))
    (out / "test_labels.txt").write_text("".join(f"{record[0]}\n" for record in records))


if __name__ == "__main__":
    main()
