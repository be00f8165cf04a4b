#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes words.txt from the word lists in the crate bip39.

    cargo fetch       # in a project that depends on bip39 = "=3.0.0"
    python3 make.py ~/.cargo/registry/cache/*/bip39-3.0.0.crate

Standard library only. A line of words.txt is a language, a tab, and its words with a space between two.
"""

import hashlib
import re
import sys
import tarfile
import unicodedata
from pathlib import Path

LANGUAGES = ["czech", "english", "french", "italian", "portuguese", "spanish"]


def main(crate: str) -> None:
    lines = []
    with tarfile.open(crate) as archive:
        for language in LANGUAGES:
            source = archive.extractfile(f"bip39-3.0.0/src/language/{language}.rs").read().decode("utf-8")
            # The lists have letters and accents apart; people type them as one.
            words = [unicodedata.normalize("NFC", word) for word in re.findall(r'^\s*"(.*)",$', source, re.M)]
            assert len(words) == 2048 == len(set(words)), language
            lines.append(f"{language}\t{' '.join(words)}\n")
    data = "".join(lines).encode("utf-8")
    Path(__file__).with_name("words.txt").write_bytes(data)
    print(len(data), hashlib.sha256(data).hexdigest())


if __name__ == "__main__":
    main(sys.argv[1])
