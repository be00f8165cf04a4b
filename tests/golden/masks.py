# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures that freeze the masks: Philox4x32-10 itself, and the keep bits made from it."""

from collections.abc import Iterator

import numpy
import torch

import philox
from fixture import Fixture

SAMPLES = [0, 1, 2, 3, 1000003]
MONTE_CARLO = 1 << 31

# seed, site, step, rate, elements of a sample
CASES = [
    (0, "dropout1#0", 0, 0.5, 64),
    (0, "dropout1#1", 0, 0.5, 64),
    (0, "dropout1#0", 1, 0.5, 64),
    (7, "dropout1#0", 0, 0.5, 37),
    (7, "dropout2#0", 123456, 0.2, 64),
    (1 << 32, "dropout1#0", 0, 0.5, 64),
    (0x0123456789ABCDEF, "features.3.dropout#0", 5, 0.1, 37),
    ((1 << 64) - 1, "dropout1#0", MONTE_CARLO | 5, 0.25, 64),
    (42, "embedding.dropout#2", 0xFFFFFFFF, 0.75, 1),
    (42, "dropout#0", 3, 0.999, 64),
    (42, "dropout#0", 3, 1.0 / 32768.0, 64),
    (42, "dropout#0", 3, 1.0, 64),
]


def fixtures() -> Iterator[Fixture]:
    """Both mask fixtures."""
    yield generator()
    yield keep()


def generator() -> Fixture:
    """`counter` [n, 4], `key` [n, 2] and `output` [n, 4]: the known answers, then others."""
    rows = list(philox.KNOWN_ANSWERS)
    numbers = numpy.random.default_rng(4321)
    for _ in range(13):
        counter = tuple(int(word) for word in numbers.integers(0, 1 << 32, 4))
        key = tuple(int(word) for word in numbers.integers(0, 1 << 32, 2))
        rows.append((counter, key, philox.philox4x32(counter, key)))
    tensors = {
        "counter": words([row[0] for row in rows]),
        "key": words([row[1] for row in rows]),
        "output": words([row[2] for row in rows]),
    }
    return Fixture("philox", "philox", "philox4x32", {"rounds": philox.ROUNDS}, tensors)


def words(rows) -> torch.Tensor:
    """Rows of 32-bit words."""
    return torch.from_numpy(numpy.asarray(rows, dtype=numpy.uint32))


def keep() -> Fixture:
    """`keep.N` [5, elements] (u8, 1 = kept); the options of case N are prefixed `N.`."""
    options = {"cases": len(CASES), "samples": SAMPLES}
    tensors = {}
    for index, (seed, site, step, rate, elements) in enumerate(CASES):
        bits = philox.keep_bits(seed, site, step, SAMPLES, elements, rate)
        tensors[f"keep.{index}"] = torch.from_numpy(bits)
        case = {
            "seed": seed,
            "site": site,
            "site_hash": philox.site_hash(site),
            "step": step,
            "p": rate,
            "drop15": philox.drop_threshold(rate),
            "elements": elements,
        }
        options |= {f"{index}.{key}": value for key, value in case.items()}
    return Fixture("masks", "mask", "dropout", options, tensors)
