# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of losses: value and gradient for every reduction.

The cotangent of `mean` and `sum` is the number 1; that of `none` is random, one per loss.
"""

from collections.abc import Iterator

import torch
from torch.nn import functional

from fixture import Fixture, Source, from_numpy

REDUCTIONS = ["mean", "sum", "none"]
IGNORED = -100


def fixtures() -> Iterator[Fixture]:
    """All loss fixtures."""
    yield from cross_entropy()
    yield from cross_entropy_large()
    yield from cross_entropy_special()
    yield from mse()
    yield from bce_with_logits()


def loss(source, stem, name, value_of, logits, target, weight=None, **options) -> Fixture:
    """Evaluate `value_of(logits)` and its gradient."""
    logits = logits.requires_grad_()
    output = value_of(logits)
    if options["reduction"] == "none":
        cotangent = source.normal(*output.shape)
    else:
        cotangent = torch.ones_like(output)
    output.backward(cotangent)

    tensors = {
        "input": logits,
        "target": target,
        "cotangent": cotangent,
        "output": output,
        "grad.input": logits.grad,
    }
    if weight is not None:
        tensors["weight"] = weight
    return Fixture(stem, "loss", name, options, tensors)


def cross_entropy() -> Iterator[Fixture]:
    """Every reduction of every combination of ignored rows, smoothing and class weights."""
    rows, classes = 7, 10
    some, every = slice(1, rows, 3), slice(0, rows)
    # suffix, ignored rows, label smoothing, class weights
    variants = [
        ("plain", None, 0.0, False),
        ("ignore", some, 0.0, False),
        ("smoothing", None, 0.1, False),
        ("weights", None, 0.0, True),
        ("weights_smoothing_ignore", some, 0.1, True),
        ("all_ignored", every, 0.0, False),
    ]
    for suffix, ignored, smoothing, weighted in variants:
        for reduction in REDUCTIONS:
            stem = f"loss_cross_entropy_{suffix}_{reduction}"
            source = Source(stem)
            target = source.classes(classes, rows)
            if ignored is not None:
                target[ignored] = IGNORED
            weight = source.uniform(0.25, 2.0, classes) if weighted else None
            logits = source.normal(rows, classes, scale=2.0)
            yield cross_entropy_case(source, stem, logits, target, weight, reduction, smoothing)


def cross_entropy_large() -> Iterator[Fixture]:
    """Logits whose exponentials overflow, and odd sizes including one class."""
    for suffix, rows, classes, magnitude in [
        ("large", 7, 33, 1e4),
        ("wide", 5, 127, 3.0),
        ("one_class", 3, 1, 1.0),
        ("one_row", 1, 31, 1.0),
    ]:
        stem = f"loss_cross_entropy_{suffix}_mean"
        source = Source(stem)
        logits = source.normal(rows, classes, scale=magnitude)
        target = source.classes(classes, rows)
        yield cross_entropy_case(source, stem, logits, target, None, "mean", 0.0)


def cross_entropy_special() -> Iterator[Fixture]:
    """A score of minus infinity, scores near -5000, and labels without any weight."""
    low = from_numpy([[1.0, 2.0, -torch.inf], [-torch.inf, 0.5, -1.0], [0.0, 0.0, 0.0]])
    deep = from_numpy([[-5000.0, -5001.0, -5002.5], [-4999.5, -5000.0, -4999.0]])
    plain = from_numpy([[1.0, 2.0, 3.0], [0.5, -1.0, 0.25], [2.0, 0.0, 1.0]])
    weightless = from_numpy([0.0, 1.0, 2.0])
    cases = [
        ("infinite", low, [0, 1, 2], None, 0.0),
        ("deep", deep, [1, 0], None, 0.0),
        ("deep_smoothing", deep, [1, 0], None, 0.1),
        ("weightless", plain, [0, IGNORED, 0], weightless, 0.0),
        ("weightless_smoothing", plain, [0, IGNORED, 0], weightless, 0.1),
    ]
    for suffix, scores, labels, weight, smoothing in cases:
        for reduction in REDUCTIONS:
            stem = f"loss_cross_entropy_{suffix}_{reduction}"
            source, target, logits = Source(stem), torch.tensor(labels), scores.clone()
            yield cross_entropy_case(source, stem, logits, target, weight, reduction, smoothing)


def cross_entropy_case(source, stem, logits, target, weight, reduction, smoothing) -> Fixture:
    """One cross-entropy fixture."""

    def value_of(logits):
        return functional.cross_entropy(
            logits,
            target,
            weight=weight,
            ignore_index=IGNORED,
            reduction=reduction,
            label_smoothing=smoothing,
        )

    return loss(
        source,
        stem,
        "cross_entropy",
        value_of,
        logits,
        target,
        weight,
        reduction=reduction,
        ignore_index=IGNORED,
        label_smoothing=smoothing,
    )


def mse() -> Iterator[Fixture]:
    """Mean squared error against targets of the input's shape."""
    for reduction in REDUCTIONS:
        stem = f"loss_mse_{reduction}"
        source = Source(stem)
        target = source.normal(7, 31)

        def value_of(prediction):
            return functional.mse_loss(prediction, target, reduction=reduction)

        prediction = source.normal(7, 31)
        yield loss(source, stem, "mse", value_of, prediction, target, reduction=reduction)


def bce_with_logits() -> Iterator[Fixture]:
    """Soft and hard targets, with logits that a sigmoid followed by a log turns into infinity."""
    extreme = from_numpy([40.0, -40.0, 100.0, -100.0, 0.0, 40.0, -40.0, 100.0, -100.0, 1e-6])
    hard = from_numpy([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    for reduction in REDUCTIONS:
        stem = f"loss_bce_with_logits_{reduction}"
        source = Source(stem)
        logits = torch.cat([source.normal(23, scale=3.0), extreme]).reshape(3, 11)
        target = torch.cat([source.uniform(0.0, 1.0, 23), hard]).reshape(3, 11)

        def value_of(logits):
            return functional.binary_cross_entropy_with_logits(
                logits, target, reduction=reduction
            )

        yield loss(source, stem, "bce_with_logits", value_of, logits, target, reduction=reduction)
