# SPDX-License-Identifier: MIT OR Apache-2.0
"""kiln's dropout masks, written a second time in numpy to check the engine against.

keep(seed, site, step, sample, element) is a pure function: Philox4x32-10 is keyed with the 64-bit
seed (low word first) and counts over (element / 8, sample, step, site). The four output words are
eight 16-bit lanes, low half first, and an element is kept iff the low 15 bits of its lane are at
least round(p * 32768).
"""

import math

import numpy

MULTIPLIER_0 = 0xD2511F53
MULTIPLIER_1 = 0xCD9E8D57
WEYL_0 = 0x9E3779B9
WEYL_1 = 0xBB67AE85
ROUNDS = 10
WORD = 0xFFFFFFFF
LANES_PER_BLOCK = 8
DROP_ONE = 1 << 15

# Counter, key and output published with the Random123 library.
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

# Published with FNV-1a.
HASHES = {"": 0x811C9DC5, "a": 0xE40C292C, "foobar": 0xBF9CF968}


def philox4x32(counter: tuple, key: tuple) -> list[numpy.ndarray]:
    """The four output words for four counter words (arrays or numbers) and two key words."""
    c0, c1, c2, c3 = (numpy.asarray(word, dtype=numpy.uint64) for word in counter)
    k0, k1 = key
    for _ in range(ROUNDS):
        product_0 = c0 * numpy.uint64(MULTIPLIER_0)
        product_1 = c2 * numpy.uint64(MULTIPLIER_1)
        high_0, low_0 = product_0 >> numpy.uint64(32), product_0 & numpy.uint64(WORD)
        high_1, low_1 = product_1 >> numpy.uint64(32), product_1 & numpy.uint64(WORD)
        c0 = high_1 ^ c1 ^ numpy.uint64(k0)
        c1 = low_1
        c2 = high_0 ^ c3 ^ numpy.uint64(k1)
        c3 = low_0
        k0 = (k0 + WEYL_0) & WORD
        k1 = (k1 + WEYL_1) & WORD
    return [word.astype(numpy.uint32) for word in numpy.broadcast_arrays(c0, c1, c2, c3)]


def site_hash(site: str) -> int:
    """32-bit FNV-1a of a site's name: a layer's path, `#`, and which call of that layer."""
    value = 0x811C9DC5
    for byte in site.encode():
        value = ((value ^ byte) * 0x01000193) & WORD
    return value


def drop_threshold(rate: float) -> int:
    """The rate in 32768ths, half rounded up."""
    return math.floor(rate * DROP_ONE + 0.5)


def scale(rate: float) -> float:
    """What kept elements are multiplied by: exactly 1 / P(keep)."""
    return DROP_ONE / (DROP_ONE - drop_threshold(rate))


def keep_bits(seed: int, site: str, step: int, samples, elements: int, rate: float):
    """Keep bits (u8, 1 = kept) of shape [len(samples), elements]."""
    blocks = (elements + LANES_PER_BLOCK - 1) // LANES_PER_BLOCK
    counter = (
        numpy.arange(blocks)[None, :],
        numpy.asarray(samples)[:, None],
        step,
        site_hash(site),
    )
    key = (seed & WORD, seed >> 32)
    words = numpy.stack(philox4x32(counter, key), axis=-1)
    low_half = words & numpy.uint32(0xFFFF)
    high_half = words >> numpy.uint32(16)
    lanes = numpy.stack([low_half, high_half], axis=-1).reshape(len(samples), -1)[:, :elements]
    lane15 = lanes & numpy.uint32(DROP_ONE - 1)
    return (lane15 >= drop_threshold(rate)).astype(numpy.uint8)


def check_known_answers() -> None:
    """Raise if this file does not compute Philox4x32-10 and FNV-1a."""
    for counter, key, expected in KNOWN_ANSWERS:
        got = tuple(int(word) for word in philox4x32(counter, key))
        if got != expected:
            raise AssertionError(f"philox4x32{counter, key}: expected {expected}, got {got}")
    for text, expected_hash in HASHES.items():
        if site_hash(text) != expected_hash:
            raise AssertionError(f"site_hash({text!r}): expected {expected_hash:#x}")


if __name__ == "__main__":
    check_known_answers()
    print("known answers of Philox4x32-10 and FNV-1a: right")
