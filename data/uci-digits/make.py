#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes digits.bin from the copy of the UCI digits that scikit-learn ships.

    pip download --no-deps --dest DIR scikit-learn==1.9.1
    python3 make.py DIR/scikit_learn-*.whl

Standard library only. Layout of digits.bin: 8 bytes "KILNDIG1", u32 LE sample count, u32 LE values per
sample, then count x 64 grey values 0..16 (u8, row-major), then count labels 0..9 (u8).
"""

import gzip
import hashlib
import struct
import sys
import zipfile
from pathlib import Path

MEMBER = "sklearn/datasets/data/digits.csv.gz"
COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def main(wheel: str) -> None:
    packed = zipfile.ZipFile(wheel).read(MEMBER)
    lines = gzip.decompress(packed).decode("ascii").split()
    rows = [[int(float(field)) for field in line.split(",")] for line in lines]
    pixels, labels = [row[:-1] for row in rows], [row[-1] for row in rows]

    assert all(len(row) == 64 and 0 <= min(row) and max(row) <= 16 for row in pixels)
    assert [labels.count(digit) for digit in range(10)] == COUNTS

    body = b"".join(map(bytes, pixels)) + bytes(labels)
    binary = b"KILNDIG1" + struct.pack("<II", len(rows), 64) + body
    Path(__file__).with_name("digits.bin").write_bytes(binary)
    print(f"digits.csv.gz sha256 {hashlib.sha256(packed).hexdigest()}, {len(packed)} bytes")
    print(f"digits.bin    sha256 {hashlib.sha256(binary).hexdigest()}, {len(binary)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
