# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of convolutional networks: convolution, pooling, batch normalisation."""

from collections.abc import Iterator

import torch
from torch import nn

from fixture import Fixture, Source, from_numpy
from layers import layer, normal

CONV = [nn.Conv1d, nn.Conv2d, nn.Conv3d]
MAX_POOL = [nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d]
AVG_POOL = [nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d]
BATCH_NORM = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def fixtures() -> Iterator[Fixture]:
    """All fixtures of images."""
    yield from convolution()
    yield from max_pool()
    yield from avg_pool()
    yield from batch_norm_in_eval()
    yield from batch_norm_in_training()


def convolution() -> Iterator[Fixture]:
    """Ranks, strides, paddings, dilations, groups; odd sizes."""
    cases = [
        ("2d", (2, 3, 7, 6), 5, (3, 3), {}),
        ("2d_padded", (2, 3, 7, 6), 4, (3, 3), {"padding": (1, 1)}),
        ("2d_stride", (1, 4, 9, 8), 6, (3, 2), {"stride": (2, 3), "padding": (1, 0)}),
        ("2d_same", (2, 2, 5, 6), 3, (4, 3), {"padding": "same"}),
        ("2d_dilated", (1, 3, 9, 9), 2, (3, 3), {"dilation": (2, 3), "padding": (2, 3)}),
        ("2d_groups", (2, 4, 5, 5), 6, (3, 3), {"groups": 2, "bias": False}),
        ("2d_depthwise", (2, 3, 6, 5), 6, (3, 3), {"groups": 3, "padding": (1, 1)}),
        ("2d_one", (3, 5, 4, 3), 7, (1, 1), {}),
        ("2d_seven", (1, 3, 15, 14), 4, (7, 7), {"stride": (2, 2), "padding": (3, 3)}),
        ("2d_even", (2, 2, 6, 7), 3, (2, 4), {"stride": (1, 2), "padding": (1, 2)}),
        ("2d_rows_over", (1, 2, 8, 8), 3, (3, 3), {"stride": (3, 3)}),
        ("1d", (2, 3, 11), 4, (5,), {"stride": (2,), "padding": (2,)}),
        ("3d", (1, 2, 4, 5, 3), 3, (2, 3, 2), {"padding": (1, 1, 0)}),
    ]
    for name, shape, outputs, kernel, arguments in cases:
        spatial = len(kernel)
        module = CONV[spatial - 1](shape[1], outputs, kernel, **arguments)
        ones, zeros = (1,) * spatial, (0,) * spatial
        yield layer(
            f"layer_conv_{name}",
            "conv",
            module,
            normal(*shape),
            inputs=shape[1],
            outputs=outputs,
            kernel=kernel,
            stride=arguments.get("stride", ones),
            padding=arguments.get("padding", zeros),
            dilation=arguments.get("dilation", ones),
            groups=arguments.get("groups", 1),
            bias=arguments.get("bias", True),
        )


def max_pool() -> Iterator[Fixture]:
    """Overlaps, ceil_mode, dilation, ties and NaN."""
    cases = [
        ("2d", (2, 3, 6, 8), (2, 2), {}),
        ("2d_overlap", (1, 2, 7, 7), (3, 3), {"stride": (2, 2), "padding": (1, 1)}),
        ("2d_ceil", (1, 2, 6, 7), (3, 2), {"stride": (2, 2), "ceil_mode": True}),
        ("2d_dilated", (1, 2, 7, 8), (2, 3), {"stride": (1, 2), "dilation": (2, 1)}),
        ("1d_ceil", (2, 3, 5), (2,), {"ceil_mode": True}),
        ("3d", (1, 2, 4, 4, 5), (2, 2, 3), {"stride": (2, 1, 1), "padding": (1, 0, 1)}),
    ]
    for name, shape, kernel, arguments in cases:
        yield pool(f"layer_max_pool_{name}", "max_pool", MAX_POOL, normal(*shape), kernel, arguments)
    nan = float("nan")
    ties = [[[1, 1, 0, 0, nan, 2], [1, 0, 0, 0, 3, nan], [-1, -1, 5, 5, 0, 0], [-1, -1, 5, 5, 0, 0]]]
    yield pool(
        "layer_max_pool_ties", "max_pool", MAX_POOL, lambda _: from_numpy([ties]), (2, 2), {}
    )


def avg_pool() -> Iterator[Fixture]:
    """What sums are divided by."""
    cases = [
        ("2d", (2, 3, 6, 8), (2, 2), {}),
        ("2d_padded", (1, 2, 7, 7), (3, 3), {"stride": (2, 2), "padding": (1, 1)}),
        ("2d_valid", (1, 2, 7, 7), (3, 3), {"padding": (1, 1), "count_include_pad": False}),
        ("2d_divisor", (1, 2, 6, 6), (2, 3), {"divisor_override": 4}),
        ("1d_ceil", (2, 3, 6), (3,), {"stride": (2,), "padding": (1,), "ceil_mode": True}),
        ("3d", (1, 2, 4, 4, 5), (2, 2, 3), {"stride": (2, 1, 1)}),
    ]
    for name, shape, kernel, arguments in cases:
        yield pool(f"layer_avg_pool_{name}", "avg_pool", AVG_POOL, normal(*shape), kernel, arguments)


def pool(stem, name, classes, input_of, kernel, arguments) -> Fixture:
    """One pooling layer."""
    spatial = len(kernel)
    return layer(
        stem,
        name,
        classes[spatial - 1](kernel, **arguments),
        input_of,
        kernel=kernel,
        stride=arguments.get("stride", kernel),
        padding=arguments.get("padding", (0,) * spatial),
        dilation=arguments.get("dilation", (1,) * spatial),
        ceil_mode=arguments.get("ceil_mode", False),
        count_include_pad=arguments.get("count_include_pad", True),
        divisor=arguments.get("divisor_override", 0),
    )


def batch_norm_in_eval() -> Iterator[Fixture]:
    """Running statistics are constants."""
    for name, shape, affine in [("2d", (3, 4, 5, 2), True), ("plain", (5, 3), False)]:
        stem = f"layer_batch_norm_{name}"
        module = BATCH_NORM[len(shape)](shape[1], affine=affine).eval()
        source = Source(f"{stem}_running")
        module.running_mean.copy_(source.normal(shape[1]))
        module.running_var.copy_(source.uniform(0.5, 2.0, shape[1]))
        fixture = layer(
            stem, "batch_norm", module, normal(*shape), channels=shape[1], affine=affine
        )
        fixture.tensors["param.running_mean"] = module.running_mean
        fixture.tensors["param.running_var"] = module.running_var
        yield fixture


def batch_norm_in_training() -> Iterator[Fixture]:
    """Two passes: what they yield, their gradients and the statistics that they leave."""
    cases = [
        ("2d", (4, 3, 5, 2), {}),
        ("1d", (7, 4), {}),
        ("sequence", (2, 3, 9), {"momentum": 0.3, "eps": 1e-3}),
        ("3d", (2, 2, 3, 2, 3), {"affine": False}),
        ("cumulative", (3, 2, 4, 4), {"momentum": None}),
        ("untracked", (3, 2, 4, 4), {"track_running_stats": False}),
    ]
    for name, shape, arguments in cases:
        stem = f"batch_norm_{name}"
        source = Source(stem)
        module = BATCH_NORM[len(shape)](shape[1], **arguments)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(source.uniform(0.5, 1.5, *parameter.shape))
        tensors = {f"param.{path}": value.clone() for path, value in module.named_parameters()}
        for run in range(2):
            module.zero_grad()
            x = source.normal(*shape, scale=1.0 + run).requires_grad_()
            output = module(x)
            cotangent = source.normal(*shape)
            output.backward(cotangent)
            tensors |= {f"{run}.input": x, f"{run}.cotangent": cotangent, f"{run}.output": output}
            tensors[f"{run}.grad.input"] = x.grad
            for path, parameter in module.named_parameters():
                tensors[f"{run}.grad.param.{path}"] = parameter.grad.clone()
        tensors |= {f"after.{path}": value for path, value in module.named_buffers()}
        yield Fixture(
            stem,
            "batch_norm",
            "batch_norm",
            {
                "channels": shape[1],
                "affine": arguments.get("affine", True),
                "eps": arguments.get("eps", 1e-5),
                "momentum": arguments.get("momentum", 0.1) or "none",
                "track": arguments.get("track_running_stats", True),
            },
            tensors,
        )
