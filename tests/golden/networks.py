# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of training steps of the article's convolutional networks, with kiln's masks of channels."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

import philox
from fixture import Fixture, Source
from optimizers import new_optimizer
from steps import SEED, call_name

STEPS = 2
CLASSES = 5


class Masked(nn.Module):
    """A network whose dropout layers are given their keep bits; `rates` names them."""

    rates: dict[str, float] = {}

    def drop(self, x: torch.Tensor, site: str, keep: dict[str, torch.Tensor]) -> torch.Tensor:
        """Kept elements, or channels, times the scale, 0 elsewhere."""
        bits = keep[site].bool()
        bits = bits.reshape(*bits.shape, *[1] * (x.dim() - bits.dim()))
        return torch.where(bits, x * philox.scale(self.rates[site]), torch.zeros_like(x))


class Cnn(Masked):
    """Two convolutions with pooling, dropout of feature maps and of features."""

    rates = {"dropout_conv": 0.25, "dropout_fc": 0.5}
    widths = {"dropout_conv": 6, "dropout_fc": 9}
    side = 8

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.fc1 = nn.Linear(6 * 2 * 2, 9)
        self.fc2 = nn.Linear(9, CLASSES)

    def forward(self, x, keep):
        x = functional.max_pool2d(self.conv1(x).relu(), 2, 2)
        x = functional.max_pool2d(self.conv2(x).relu(), 2, 2)
        x = self.drop(x, "dropout_conv", keep)
        x = x.view(x.size(0), -1)
        x = self.drop(self.fc1(x).relu(), "dropout_fc", keep)
        return self.fc2(x)


class SpatialDropoutCnn(Masked):
    """Dropout of feature maps between two convolutions; means of pixels and scores behind them."""

    rates = {"spatial_dropout": 0.2}
    widths = {"spatial_dropout": 4}
    side = 6

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 7, 3, padding=1)
        self.fc = nn.Linear(7 * 3 * 3, CLASSES)

    def forward(self, x, keep):
        x = self.drop(self.conv1(x).relu(), "spatial_dropout", keep)
        x = self.conv2(x).relu()
        return self.fc(functional.avg_pool2d(x, 2).flatten(1))


class ResidualBlock(Masked):
    """The article's block, with a stem before it and scores behind it."""

    rates = {"dropout": 0.1}
    widths = {"dropout": 6}
    side = 8

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.conv1 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6 * 2 * 2, CLASSES)

    def forward(self, x, keep):
        x = self.stem(x)
        out = self.bn1(self.conv1(x)).relu()
        out = self.drop(out, "dropout", keep)
        out = self.bn2(self.conv2(out))
        return self.fc(functional.avg_pool2d((out + x).relu(), 2).flatten(1))


def fixtures() -> Iterator[Fixture]:
    """Two steps of each network."""
    yield network("network_cnn", "cnn", Cnn, 5)
    yield network("network_spatial_cnn", "spatial_cnn", SpatialDropoutCnn, 4)
    yield network("network_residual", "residual", ResidualBlock, 6)


def network(stem, name, make, batch) -> Fixture:
    """Two training steps, each with its own batch and masks (the step counter is 0, then 1)."""
    source = Source(stem)
    net = make()
    source.fill_parameters(net)
    optimizer, defaults = new_optimizer("sgd", net.parameters(), {"lr": 0.1, "momentum": 0.9})
    tensors = {f"param.{path}": p.detach().clone() for path, p in net.named_parameters()}
    losses = []
    for index in range(STEPS):
        x = source.normal(batch, 3, net.side, net.side)
        target = source.classes(CLASSES, batch)
        keep = {}
        for site, rate in net.rates.items():
            width = net.widths[site]
            bits = philox.keep_bits(SEED, call_name(site), index, range(batch), width, rate)
            keep[site] = torch.from_numpy(bits)
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(x, keep), target)
        loss.backward()
        optimizer.step()

        losses.append(loss.detach())
        tensors |= {f"input.{index}": x, f"target.{index}": target}
        tensors |= {f"mask.{index}.{site}": bits for site, bits in keep.items()}
        for path, parameter in net.named_parameters():
            tensors[f"gradient.{index}.{path}"] = parameter.grad.clone()
            tensors[f"value.{index}.{path}"] = parameter.detach().clone()
        for path, buffer in net.named_buffers():
            tensors[f"value.{index}.{path}"] = buffer.detach().clone()
    tensors["loss"] = torch.stack(losses)
    options = {
        "seed": SEED,
        "steps": STEPS,
        "sites": list(net.rates),
        "rates": list(net.rates.values()),
        "optimizer": "sgd",
    }
    options |= defaults | {"lr": 0.1, "momentum": 0.9}
    return Fixture(stem, "network", name, options, tensors)
