# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of normalisation, resampling, transposed convolution, and random layers with kiln's masks."""

from collections.abc import Iterator

import torch
from torch import nn

import philox
from fixture import Fixture, Source
from layers import layer, normal
from steps import SEED

CONV_TRANSPOSE = [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
ALPHA = 1.7580993408473766


def fixtures() -> Iterator[Fixture]:
    """All of them."""
    yield from layer_norm()
    yield from group_norm()
    yield from instance_norm()
    yield from adaptive_avg_pool()
    yield from zero_pad()
    yield from upsample()
    yield from conv_transpose()
    yield from random_layers()


def layer_norm() -> Iterator[Fixture]:
    """One extent and several; with and without parameters."""
    cases = [
        ("row", (5, 33), (33,), {}),
        ("steps", (3, 4, 7), (7,), {"eps": 1e-3}),
        ("image", (2, 3, 5, 4), (3, 5, 4), {}),
        ("plain", (6, 9), (9,), {"elementwise_affine": False}),
        ("no_bias", (6, 9), (9,), {"bias": False}),
    ]
    for name, shape, features, arguments in cases:
        yield layer(
            f"layer_layer_norm_{name}",
            "layer_norm",
            nn.LayerNorm(features, **arguments),
            normal(*shape),
            features=features,
            eps=arguments.get("eps", 1e-5),
            affine=arguments.get("elementwise_affine", True),
            bias=arguments.get("bias", True),
        )


def group_norm() -> Iterator[Fixture]:
    """From one group to one channel per group."""
    cases = [
        ("2d", (2, 6, 5, 3), 3, {}),
        ("one", (3, 4, 3, 3), 1, {"eps": 1e-3}),
        ("each", (2, 5, 7), 5, {}),
        ("plain", (4, 6), 2, {"affine": False}),
    ]
    for name, shape, groups, arguments in cases:
        yield layer(
            f"layer_group_norm_{name}",
            "group_norm",
            nn.GroupNorm(groups, shape[1], **arguments),
            normal(*shape),
            groups=groups,
            channels=shape[1],
            eps=arguments.get("eps", 1e-5),
            affine=arguments.get("affine", True),
        )


def instance_norm() -> Iterator[Fixture]:
    """Without state, in eval with running statistics, and two passes that move them."""
    shape = (3, 4, 5, 2)
    for name, affine in [("plain", False), ("affine", True)]:
        module = nn.InstanceNorm2d(4, affine=affine)
        options = {"channels": 4, "affine": affine, "track": False}
        stem = f"layer_instance_norm_{name}"
        yield layer(stem, "instance_norm", module, normal(*shape), **options)
    stem = "layer_instance_norm_running"
    module = nn.InstanceNorm2d(4, affine=True, track_running_stats=True).eval()
    source = Source(f"{stem}_state")
    module.running_mean.copy_(source.normal(4))
    module.running_var.copy_(source.uniform(0.5, 2.0, 4))
    options = {"channels": 4, "affine": True, "track": True}
    fixture = layer(stem, "instance_norm", module, normal(*shape), **options)
    fixture.tensors["param.running_mean"] = module.running_mean
    fixture.tensors["param.running_var"] = module.running_var
    yield fixture
    stem = "state_instance_norm"
    source = Source(stem)
    module = nn.InstanceNorm2d(4, momentum=0.3, track_running_stats=True)
    tensors = {}
    for index in range(2):
        x = source.normal(*shape, scale=1.0 + index)
        tensors |= {f"{index}.input": x, f"{index}.output": module(x)}
    tensors |= {f"after.{path}": value for path, value in module.named_buffers()}
    yield Fixture(stem, "instance_norm", "instance_norm", {"channels": 4, "momentum": 0.3}, tensors)


def adaptive_avg_pool() -> Iterator[Fixture]:
    """Sizes that divide the image's, that do not, and an extent that stays."""
    cases = [
        ("one", (2, 3, 7, 5), (1, 1)),
        ("halves", (2, 3, 6, 8), (3, 4)),
        ("uneven", (2, 3, 7, 10), (3, 4)),
        ("larger", (1, 2, 3, 4), (5, 6)),
        ("kept", (1, 2, 5, 4), (None, 3)),
    ]
    for name, shape, size in cases:
        module = nn.AdaptiveAvgPool2d(size)
        stem = f"layer_adaptive_avg_pool_{name}"
        numbers = [extent or 0 for extent in size]
        yield layer(stem, "adaptive_avg_pool", module, normal(*shape), size=numbers)


def zero_pad() -> Iterator[Fixture]:
    """All sides differ."""
    module = nn.ZeroPad2d((1, 2, 3, 0))
    yield layer("layer_zero_pad", "zero_pad", module, normal(2, 3, 4, 5), padding=(1, 2, 3, 0))


def upsample() -> Iterator[Fixture]:
    """Sizes and factors, up and down, in all modes."""
    cases = [
        ("nearest_double", (2, 3, 4, 5), "nearest", {"scale_factor": 2.0}),
        ("nearest_size", (1, 2, 5, 7), "nearest", {"size": (8, 4)}),
        ("nearest_1d", (2, 3, 7), "nearest", {"size": (11,)}),
        ("nearest_3d", (1, 2, 2, 3, 2), "nearest", {"size": (4, 3, 5)}),
        ("bilinear_double", (2, 3, 4, 5), "bilinear", {"scale_factor": 2.0}),
        ("bilinear_size", (1, 2, 5, 7), "bilinear", {"size": (8, 4)}),
        ("bilinear_factor", (1, 2, 5, 5), "bilinear", {"scale_factor": 1.3}),
        ("bilinear_corners", (1, 2, 5, 7), "bilinear", {"size": (9, 3), "align_corners": True}),
        ("bilinear_corner", (1, 2, 5, 7), "bilinear", {"size": (1, 8), "align_corners": True}),
        ("linear", (2, 3, 6), "linear", {"size": (10,)}),
    ]
    for name, shape, mode, arguments in cases:
        factor = arguments.get("scale_factor", 0)
        yield layer(
            f"layer_upsample_{name}",
            "upsample",
            nn.Upsample(mode=mode, **arguments),
            normal(*shape),
            size=arguments.get("size", ()),
            factor=[factor] * (len(shape) - 2) if factor else (),
            mode="nearest" if mode == "nearest" else "linear",
            align_corners=arguments.get("align_corners", False),
        )


def conv_transpose() -> Iterator[Fixture]:
    """Strides, padding on both sides, dilation, groups."""
    cases = [
        ("2d", (2, 3, 4, 5), 4, (3, 3), {}),
        ("2d_double", (2, 4, 3, 5), 3, (2, 2), {"stride": (2, 2)}),
        (
            "2d_padded",
            (1, 4, 4, 3),
            6,
            (3, 4),
            {"stride": (2, 3), "padding": (1, 2), "output_padding": (1, 2)},
        ),
        ("2d_dilated", (1, 3, 4, 4), 2, (3, 2), {"dilation": (2, 3), "padding": (1, 0)}),
        ("2d_groups", (2, 4, 3, 3), 6, (3, 3), {"groups": 2, "bias": False, "padding": (1, 1)}),
        ("1d", (2, 3, 6), 4, (5,), {"stride": (3,), "padding": (1,)}),
        ("3d", (1, 2, 2, 3, 2), 3, (2, 3, 2), {"stride": (2, 1, 2)}),
    ]
    for name, shape, outputs, kernel, arguments in cases:
        spatial = len(kernel)
        ones, zeros = (1,) * spatial, (0,) * spatial
        yield layer(
            f"layer_conv_transpose_{name}",
            "conv_transpose",
            CONV_TRANSPOSE[spatial - 1](shape[1], outputs, kernel, **arguments),
            normal(*shape),
            inputs=shape[1],
            outputs=outputs,
            kernel=kernel,
            stride=arguments.get("stride", ones),
            padding=arguments.get("padding", zeros),
            output_padding=arguments.get("output_padding", zeros),
            dilation=arguments.get("dilation", ones),
            groups=arguments.get("groups", 1),
            bias=arguments.get("bias", True),
        )


def random_layers() -> Iterator[Fixture]:
    """Train mode with kiln's keep bits in the place of PyTorch's."""
    cases = [
        ("dropout1d", "channel_dropout", (3, 9, 4), 0.25),
        ("dropout2d", "channel_dropout", (3, 11, 2, 3), 0.5),
        ("dropout3d", "channel_dropout", (2, 5, 2, 3, 2), 0.25),
        ("alpha_dropout", "alpha_dropout", (4, 13), 0.25),
        ("feature_alpha_dropout", "feature_alpha_dropout", (3, 6, 2, 2), 0.5),
        ("stochastic_depth", "stochastic_depth", (9, 3, 2), 0.25),
        ("drop_block", "drop_block", (2, 3, 8, 7), 0.25),
        ("drop_block_even", "drop_block", (2, 3, 6, 7), 0.5),
    ]
    for name, kind, shape, rate in cases:
        stem = f"random_{name}"
        source = Source(stem)
        x = source.normal(*shape).requires_grad_()
        side = {"drop_block": 3, "drop_block_even": 2}.get(name, 0)
        output = RANDOM[kind](x, rate, side)
        cotangent = source.normal(*shape)
        output.backward(cotangent)
        tensors = {"input": x, "output": output, "cotangent": cotangent, "grad.input": x.grad}
        options = {"seed": SEED, "p": rate, "side": side}
        yield Fixture(stem, "random", kind, options, tensors)


def keep(x, width: int, rate: float) -> torch.Tensor:
    """The keep bits of a layer at `layer`, in its first pass."""
    bits = philox.keep_bits(SEED, "layer#0", 0, range(x.shape[0]), width, rate)
    return torch.from_numpy(bits).bool()


def of_channels(x, bits) -> torch.Tensor:
    """Bits of channels beside an image."""
    return bits.reshape(*bits.shape, *[1] * (x.dim() - 2))


def channel_dropout(x, rate, _side):
    """Whole channels."""
    bits = of_channels(x, keep(x, x.shape[1], rate))
    return torch.where(bits, x * philox.scale(rate), torch.zeros_like(x))


def alpha(x, bits, rate):
    """What `torch.nn.functional.alpha_dropout` does with its noise."""
    a = 1 / ((ALPHA**2 * rate + 1) * (1 - rate)) ** 0.5
    kept = bits.to(x.dtype)
    return a * x * kept + (kept - 1) * ALPHA * a + ALPHA * a * rate


def alpha_dropout(x, rate, _side):
    """Single elements of a matrix."""
    return alpha(x, keep(x, x.shape[1], rate), rate)


def feature_alpha_dropout(x, rate, _side):
    """Whole channels."""
    return alpha(x, of_channels(x, keep(x, x.shape[1], rate)), rate)


def stochastic_depth(x, rate, _side):
    """Whole samples: the first decision of each."""
    bits = keep(x, 1, rate).reshape(-1, *[1] * (x.dim() - 1))
    return torch.where(bits, x * philox.scale(rate), torch.zeros_like(x))


def drop_block(x, rate, side):
    """Squares by their first pixels, which the mask counts channel by channel."""
    samples, channels, height, width = x.shape
    rows, columns = height - side + 1, width - side + 1
    seeds_rate = rate * height * width / (side * side * rows * columns)
    bits = keep(x, rows * columns * channels, seeds_rate)
    first = ~bits.reshape(samples, channels, rows, columns)
    noise = torch.ones_like(x)
    for place in first.nonzero().tolist():
        sample, channel, row, column = place
        noise[sample, channel, row : row + side, column : column + side] = 0
    return x * noise * (noise.numel() / (1e-6 + noise.sum()))


RANDOM = {
    "channel_dropout": channel_dropout,
    "alpha_dropout": alpha_dropout,
    "feature_alpha_dropout": feature_alpha_dropout,
    "stochastic_depth": stochastic_depth,
    "drop_block": drop_block,
}
