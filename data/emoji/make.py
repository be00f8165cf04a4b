#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes train.png, test.png and labels.txt from the emoji of two npm packages.

    npm pack emoji-datasource-twitter@16.0.0 emoji-datasource-google@16.0.0
    python3 make.py emoji-datasource-twitter-16.0.0.tgz emoji-datasource-google-16.0.0.tgz

Needs Pillow 12. Each picture is a table of cells of 32 x 32 pixels, 40 in a row, of at most 64 colours.
"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

from PIL import Image

GROUPS = [
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
]
STYLES = [("twitter", "train.png"), ("google", "test.png")]
TRAIN, SIDE, COLUMNS, COLOURS = 1200, 32, 40, 64


def member(archive: tarfile.TarFile, name: str) -> bytes:
    return archive.extractfile(f"package/{name}").read()


def main(packages: list[str]) -> None:
    archives = [tarfile.open(package) for package in packages]
    # Order and split depend on the code points alone.
    known = json.loads(member(archives[0], "emoji.json"))
    known = [
        emoji
        for emoji in known
        if emoji["category"] in GROUPS and all(emoji[f"has_img_{style}"] for style, _ in STYLES)
    ]
    known.sort(key=lambda emoji: hashlib.sha256(emoji["unified"].encode()).digest())
    parts = [known[:TRAIN], known[TRAIN:]]
    lines = []
    for archive, package, (style, name), part in zip(archives, packages, STYLES, parts):
        places = {e["unified"]: e for e in json.loads(member(archive, "emoji.json"))}
        packed = member(archive, f"img/{style}/sheets/{SIDE}.png")
        sheet = Image.open(io.BytesIO(packed)).convert("RGBA")
        rows = -(-len(part) // COLUMNS)
        table = Image.new("RGBA", (COLUMNS * SIDE, rows * SIDE), "white")
        for number, emoji in enumerate(part):
            place = places[emoji["unified"]]
            x, y = [place[f"sheet_{axis}"] * (SIDE + 2) + 1 for axis in "xy"]
            cell = sheet.crop((x, y, x + SIDE, y + SIDE))
            row, column = divmod(number, COLUMNS)
            table.alpha_composite(cell, (column * SIDE, row * SIDE))
            lines.append(f"{name[:-4]} {GROUPS.index(emoji['category'])} {emoji['unified']}\n")
        colours = table.convert("RGB").quantize(COLOURS, Image.Quantize.MEDIANCUT, 0, None, Image.Dither.NONE)
        target = Path(__file__).with_name(name)
        colours.save(target, optimize=True)
        written = target.read_bytes()
        print(f"{package}: sheet sha256 {hashlib.sha256(packed).hexdigest()}")
        print(f"{name}: {len(part)} emoji, {len(written)} bytes, sha256 {hashlib.sha256(written).hexdigest()}")
        counts = [sum(e["category"] == group for e in part) for group in GROUPS]
        print(f"  {counts}")
    Path(__file__).with_name("labels.txt").write_text("".join(lines))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1:])
