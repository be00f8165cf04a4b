# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of the functions that networks are written with: one forward pass and its vector-Jacobian product."""

from collections.abc import Callable, Iterator

import torch

from fixture import Fixture, Source, from_numpy

INFINITY = float("inf")
NAN = float("nan")

# What a function makes of its input and its other operands.
Function = Callable[..., torch.Tensor]

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.75, 2.0, -3.0, 1e-3, 40.0, INFINITY, -INFINITY, NAN]
TIES = [[1.0, 3.0, 3.0, -2.0], [0.0, -0.0, 0.0, 0.0], [5.0, NAN, 5.0, 1.0], [-INFINITY, 2.0, 2.0, 2.0]]


def fixtures() -> Iterator[Fixture]:
    """All fixtures of functions."""
    yield from unary()
    yield from binary()
    yield from reductions()
    yield from movement()
    yield from products()
    yield from indices()


def function(name: str, record: Function, x, *others) -> Fixture:
    """Run `record` and pull a random cotangent back through it. Integers have no gradient."""
    stem = f"op_{name}"
    source = Source(stem)
    made = [value(source) if callable(value) else value for value in (x, *others)]
    values = [v.requires_grad_() if v.is_floating_point() else v for v in made]
    output = record(*values)
    cotangent = source.normal(*output.shape)
    output.backward(cotangent)
    tensors = {"input": values[0], "cotangent": cotangent, "output": output}
    if values[0].grad is not None:
        tensors["grad.input"] = values[0].grad
    for index, other in enumerate(values[1:]):
        tensors[f"param.{index}"] = other
        tensors[f"grad.param.{index}"] = torch.zeros_like(other) if other.grad is None else other.grad
    return Fixture(stem, "op", name, {}, tensors)


def normal(*shape: int):
    """Normal numbers."""
    return lambda source: source.normal(*shape)


def positive(*shape: int):
    """Numbers from 0.25 to 4."""
    return lambda source: source.uniform(0.25, 4.0, *shape)


def rounded(*shape: int):
    """Small halves, so that many are equal."""
    return lambda source: (source.normal(*shape) * 2).round() / 2


def classes(count: int, *shape: int):
    """Integers from 0 on."""
    return lambda source: source.classes(count, *shape)


def values(numbers) -> torch.Tensor:
    """The given numbers."""
    return from_numpy(numbers)


def unary() -> Iterator[Fixture]:
    """Where they are smooth, and at zeros, ties, infinities and NaN."""
    functions = {
        "abs": torch.abs,
        "sqrt": torch.sqrt,
        "rsqrt": torch.rsqrt,
        "reciprocal": torch.reciprocal,
        "sin": torch.sin,
        "cos": torch.cos,
        "erf": torch.erf,
        "exp": torch.exp,
        "log": torch.log,
        "square": torch.square,
        "softplus": torch.nn.Softplus(threshold=1000.0),
        "pow_3": lambda x: x.pow(3.0),
        "pow_1_5": lambda x: x.pow(1.5),
        "pow_minus_1_5": lambda x: x.pow(-1.5),
        "pow_minus_1": lambda x: x.pow(-1.0),
        "pow_half": lambda x: x.pow(0.5),
        "pow_0": lambda x: x.pow(0.0),
        "clamp": lambda x: x.clamp(-0.5, 0.75),
        "clamp_min": lambda x: x.clamp(min=0.5),
        "clamp_max": lambda x: x.clamp(max=0.5),
        "clamp_crossed": lambda x: x.clamp(0.75, -0.5),
        "numbers": lambda x: 2.0 * (1.0 - x) + (x - 3.0) / 4.0 + 0.5 - (-x) * 1.5,
        "number_over": lambda x: 3.0 / x,
        "hardswish": lambda x: x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
    }
    finite = [number for number in SPECIAL if abs(number) < INFINITY]
    for name, record in functions.items():
        yield function(name, record, positive(3, 11))
        # Periodic functions of infinity are NaN everywhere, but 40 radians are enough.
        special = finite if name in ["sin", "cos"] else SPECIAL
        yield function(f"{name}_special", record, values([special]))
    yield function("abs_normal", torch.abs, normal(5, 31))
    yield function("erf_normal", torch.erf, normal(5, 31))


def binary() -> Iterator[Fixture]:
    """Ties, NaN, broadcasting."""
    functions = {
        "minimum": torch.minimum,
        "maximum": torch.maximum,
        "less": lambda x, y: x * (x < y),
        "less_equal": lambda x, y: x * (x <= y),
        "greater": lambda x, y: x * (x > y),
        "greater_equal": lambda x, y: x * (x >= y),
        "equal": lambda x, y: x * (x == y),
        "not_equal": lambda x, y: x * (x != y),
    }
    numbers = [0.0, 1.0, -3.0, INFINITY, -INFINITY, NAN]
    grid = [[a, b] for a in numbers for b in numbers]
    for name, record in functions.items():
        yield function(name, record, rounded(3, 11), rounded(3, 11))
        yield function(f"{name}_stretched", record, rounded(2, 1, 5), rounded(3, 1))
        left, right = (values([pair[side] for pair in grid]) for side in range(2))
        yield function(f"{name}_special", record, left, right)
    yield function("power", torch.pow, positive(4, 9), normal(4, 9))
    yield function("power_stretched", torch.pow, positive(4, 1), rounded(9))
    bases, exponents = [0.0, 1.0, -2.0, 3.0], [0.0, 1.0, 2.0, -1.0, 0.5]
    grid = [[a, b] for a in bases for b in exponents]
    left, right = (values([pair[side] for pair in grid]) for side in range(2))
    yield function("power_special", torch.pow, left, right)
    yield function("where", lambda x, a, b: torch.where(x > 0, a, b * x), normal(5, 9), normal(9), normal(5, 1))
    # The branch that is not taken is infinite at 0.
    yield function(
        "where_guarded",
        lambda x, y: torch.where(x != 0, 1 / torch.where(x != 0, x, 1.0), y),
        values([[0.0, 2.0, -4.0, 0.0]]),
        normal(1, 4),
    )
    yield function("huber", lambda x: torch.nn.functional.huber_loss(x, torch.zeros_like(x), reduction="none"), normal(7, 9))


def reductions() -> Iterator[Fixture]:
    """Over one axis, several, all; kept and not."""
    shape = (2, 3, 4)
    yield function("sum_over_1", lambda x: x.sum(1), normal(*shape))
    yield function("sum_over_0_2_kept", lambda x: x.sum((0, 2), keepdim=True), normal(*shape))
    yield function("mean_over_last", lambda x: x.mean(-1), normal(*shape))
    yield function("mean_over_0_1", lambda x: x.mean((0, 1)), normal(*shape))
    yield function("var_over_1", lambda x: x.var(1), normal(*shape))
    yield function("var_over_0_2_population", lambda x: x.var((0, 2), correction=0, keepdim=True), normal(*shape))
    yield function("var", lambda x: x.var(), normal(*shape))
    for name, record in [("max", torch.amax), ("min", torch.amin)]:
        yield function(f"{name}_over_1", lambda x, r=record: r(x, 1), rounded(*shape))
        yield function(f"{name}_over_0_2_kept", lambda x, r=record: r(x, (0, 2), keepdim=True), rounded(*shape))
        yield function(f"{name}_over_last_ties", lambda x, r=record: r(x, -1), values(TIES))
        yield function(name, lambda x, r=record: r(x, (0, 1, 2)), rounded(*shape))
    for name, record in [("argmax", torch.argmax), ("argmin", torch.argmin)]:
        # The places choose rows of a table, and a sum lets a gradient reach the input.
        table = lambda x, t, r, axis: t[r(x, axis)] + x.sum()
        yield function(f"{name}_over_1", lambda x, t, r=record: table(x, t, r, 1), rounded(3, 7, 5), normal(7))
        yield function(f"{name}_over_last_ties", lambda x, t, r=record: t[r(x, -1)] + x[:, :1].sum(), values(TIES[:2] + TIES[3:]), normal(4, 2))
        yield function(f"{name}_over_0_nan", lambda x, t, r=record: t[r(x, 0)] + x[0, 3], values(TIES), normal(4, 3))
        yield function(name, lambda x, t, r=record: t[r(x)] + x.sum(), rounded(3, 5), normal(15, 2))


def movement() -> Iterator[Fixture]:
    """Orders of axes, pieces, copies."""
    shape = (2, 3, 1, 4)
    yield function("permute", lambda x: x.permute(2, 0, 3, 1), normal(2, 3, 4, 5))
    yield function("transpose_last", lambda x: x.transpose(-2, -1), normal(*shape))
    yield function("transpose_0_2", lambda x: x.transpose(0, 2), normal(*shape))
    yield function("transpose_matrix", lambda x: x.t(), normal(33, 7))
    yield function("narrow", lambda x: x.narrow(1, 1, 2), normal(*shape))
    yield function("slice", lambda x: x[:, 1:, :, :2], normal(*shape))
    yield function("pad", lambda x: torch.nn.functional.pad(x, (0, 3, 2, 1)), normal(*shape))
    yield function("concat", lambda x, y: torch.cat([x, y, x], 1), normal(2, 3, 4), normal(2, 2, 4))
    yield function("concat_last", lambda x, y: torch.cat([x, y], -1), normal(5, 3), normal(5, 1))
    yield function("stack", lambda x, y: torch.stack([x, y, x], 1), normal(4, 3), normal(4, 3))
    yield function("stack_behind", lambda x, y: torch.stack([x, y], -1), normal(4, 3), normal(4, 3))
    yield function("squeeze", lambda x: x.squeeze(1).unsqueeze(-1), normal(4, 1, 3))
    yield function("expand", lambda x: x.expand(5, 4, 3), normal(4, 1))


def products() -> Iterator[Fixture]:
    """Batches of matrices, broadcast to one another."""
    cases = [
        ("batch", (4, 3, 7), (4, 7, 5)),
        ("rank_4", (2, 3, 4, 7), (2, 3, 7, 5)),
        ("stretched", (2, 1, 4, 7), (3, 7, 5)),
        ("matrix_right", (2, 3, 4, 7), (7, 5)),
        ("matrix_left", (4, 7), (3, 7, 5)),
        ("row", (3, 1, 9), (3, 9, 1)),
    ]
    for name, left, right in cases:
        yield function(f"matmul_{name}", torch.matmul, normal(*left), normal(*right))
        transposed = lambda x, y: torch.matmul(x, y.transpose(-1, -2))
        turned = (*right[:-2], right[-1], right[-2])
        yield function(f"matmul_transposed_{name}", transposed, normal(*left), normal(*turned))


def indices() -> Iterator[Fixture]:
    """Indices are the input; among them are equal ones."""
    yield function("take_0", lambda i, t: t[i], classes(5, 2, 7), normal(5, 3))
    yield function("take_one", lambda i, t: t[i], classes(9, 4), normal(9))
    yield function("take_1", lambda i, t: t[:, i], classes(4, 3, 2), normal(2, 4, 5))
    yield function("index_select_last", lambda i, t: t.index_select(-1, i), classes(6, 8), normal(3, 6))
    yield function("gather_1", lambda i, t: t.gather(1, i), classes(6, 3, 4), normal(3, 6))
    yield function("gather_0", lambda i, t: t.gather(0, i), classes(3, 5, 2, 4), normal(3, 2, 4))
    yield function("gather_smaller", lambda i, t: t.gather(2, i), classes(5, 2, 1, 9), normal(3, 4, 5))
