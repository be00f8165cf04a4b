# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of layers: one forward pass and its vector-Jacobian product."""

from collections.abc import Iterator

import torch
from torch import nn

from fixture import Fixture, Source, from_numpy

INFINITY = float("inf")
NAN = float("nan")


class Residual(nn.Module):
    """x + linear(x)."""

    def __init__(self, features: int):
        super().__init__()
        self.linear = nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.linear(x)


def fixtures() -> Iterator[Fixture]:
    """All layer fixtures."""
    yield from linear()
    yield from relu()
    yield from leaky_relu()
    yield from gelu()
    yield from smooth_activations()
    yield from softmax()
    yield flatten()
    yield sequential()
    yield residual()


def layer(stem, name, module, input_of, **options) -> Fixture:
    """Run `module` on `input_of(source)` and pull a random cotangent back through it."""
    source = Source(stem)
    source.fill_parameters(module)
    x = input_of(source).requires_grad_()
    output = module(x)
    cotangent = source.normal(*output.shape)
    output.backward(cotangent)

    tensors = {"input": x, "cotangent": cotangent, "output": output, "grad.input": x.grad}
    for path, parameter in module.named_parameters():
        tensors[f"param.{path}"] = parameter
        tensors[f"grad.param.{path}"] = parameter.grad
    return Fixture(stem, "layer", name, options, tensors)


def normal(*shape: int, scale: float = 1.0):
    """An input of normal numbers."""
    return lambda source: source.normal(*shape, scale=scale)


def values(*numbers: float):
    """An input of shape [1, n] holding the given numbers."""
    return lambda _source: from_numpy([numbers])


def linear() -> Iterator[Fixture]:
    """Odd and even sizes, 2-D and 3-D input, with and without a bias."""
    cases = [
        ("layer_linear", (7, 31), 33, True),
        ("layer_linear_no_bias", (33, 7), 31, False),
        ("layer_linear_one", (1, 1), 1, True),
        ("layer_linear_column", (31, 33), 1, True),
        ("layer_linear_even", (16, 64), 32, True),
        ("layer_linear_3d", (3, 5, 31), 7, True),
        ("layer_linear_3d_no_bias", (2, 7, 33), 10, False),
    ]
    for stem, shape, out_features, bias in cases:
        module = nn.Linear(shape[-1], out_features, bias=bias)
        yield layer(
            stem,
            "linear",
            module,
            normal(*shape),
            in_features=shape[-1],
            out_features=out_features,
            bias=bias,
        )


def relu() -> Iterator[Fixture]:
    """Zeros of both signs have gradient 0; NaN passes through and has gradient 1."""
    with_zeros = values(0.0, -0.0, 1.0, -1.0, 0.0, 2.5, -3.5, 1e-30, -1e-30, -0.0, 7.0)
    special = values(NAN, INFINITY, -INFINITY, 0.0, -0.0, 1.0, -1.0)
    yield layer("layer_relu", "relu", nn.ReLU(), normal(7, 31))
    yield layer("layer_relu_zeros", "relu", nn.ReLU(), with_zeros)
    yield layer("layer_relu_special", "relu", nn.ReLU(), special)


def leaky_relu() -> Iterator[Fixture]:
    """PyTorch's default slope and a steeper one."""
    for slope, suffix in [(0.01, ""), (0.2, "_steep")]:
        stem = f"layer_leaky_relu{suffix}"
        yield layer(stem, "leaky_relu", nn.LeakyReLU(slope), normal(7, 31), slope=slope)


def gelu() -> Iterator[Fixture]:
    """The exact form and the tanh approximation, also far from zero."""
    for approximate in ["none", "tanh"]:
        module = nn.GELU(approximate=approximate)
        stem = f"layer_gelu_{approximate}"
        options = {"approximate": approximate}
        yield layer(stem, "gelu", module, normal(7, 31, scale=2.0), **options)
        yield layer(f"{stem}_extreme", "gelu", module, extreme(), **options)


def smooth_activations() -> Iterator[Fixture]:
    """silu, tanh and sigmoid, also where their tails saturate."""
    modules = {"silu": nn.SiLU(), "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid()}
    for name, module in modules.items():
        yield layer(f"layer_{name}", name, module, normal(33, 7, scale=2.0))
        yield layer(f"layer_{name}_extreme", name, module, extreme())


def extreme():
    """Numbers from tiny to saturating, of both signs."""
    return values(0.0, 1e-6, -1e-6, 4.0, -4.0, 10.0, -10.0, 20.0, -20.0, 40.0, -40.0, 80.0, -80.0)


def softmax() -> Iterator[Fixture]:
    """Over the last dimension; the large logits overflow a naive exp."""
    modules = {"softmax": nn.Softmax(dim=-1), "log_softmax": nn.LogSoftmax(dim=-1)}
    for name, module in modules.items():
        yield layer(f"layer_{name}", name, module, normal(7, 31), dim=-1)
        yield layer(f"layer_{name}_3d", name, module, normal(3, 5, 7), dim=-1)
        yield layer(f"layer_{name}_one", name, module, normal(7, 1), dim=-1)
        yield layer(f"layer_{name}_large", name, module, normal(7, 33, scale=1e4), dim=-1)


def flatten() -> Fixture:
    """All dimensions but the batch become one."""
    return layer("layer_flatten", "flatten", nn.Flatten(1), normal(3, 2, 5, 7), start_dim=1)


def sequential() -> Fixture:
    """linear, relu, linear: parameters are named by their place, `0.weight` to `2.bias`."""
    module = nn.Sequential(nn.Linear(31, 33), nn.ReLU(), nn.Linear(33, 7))
    sizes = [31, 33, 7]
    return layer(
        "layer_sequential",
        "sequential",
        module,
        normal(7, 31),
        layers=["linear", "relu", "linear"],
        sizes=sizes,
    )


def residual() -> Fixture:
    """x + linear(x), whose parameters are `linear.weight` and `linear.bias`."""
    return layer("layer_residual", "residual", Residual(31), normal(7, 31), features=31)
