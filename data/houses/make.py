#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes houses.csv: made-up houses, whose prices follow from their features and some noise."""

import random
from pathlib import Path

COUNT = 400


def main() -> None:
    draw = random.Random(7)
    lines = ["area,rooms,age,distance,price"]
    for _ in range(COUNT):
        area = draw.uniform(35, 220)
        rooms = max(1, round(area / 28 + draw.gauss(0, 0.8)))
        age = draw.uniform(0, 90)
        distance = draw.uniform(0.3, 25)
        # In hundred thousands: space, less so where it is far away; new and very old ones are dear.
        price = 0.4 + 0.021 * area / (1 + 0.05 * distance) + 0.05 * rooms
        price += 0.5 * ((age - 55) / 55) ** 2
        price *= 1 + draw.gauss(0, 0.03)
        lines.append(f"{area:.1f},{rooms},{age:.0f},{distance:.1f},{price:.3f}")
    path = Path(__file__).with_name("houses.csv")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
