# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of whole training steps, in which PyTorch's dropout uses kiln's masks."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

import philox
from fixture import Fixture, Source
from optimizers import new_optimizer

STEPS = 2
SITES = ["dropout1", "dropout2"]
# A seed with bits in both halves, so that the order of the key words is tested.
SEED = 0x9E3779B97F4A7C15


class SimpleNet(nn.Module):
    """Three linear layers with ReLU and dropout between them; the keep bits are given."""

    def __init__(self, inputs: int, hidden1: int, hidden2: int, classes: int, rate: float):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden1)
        self.fc2 = nn.Linear(hidden1, hidden2)
        self.fc3 = nn.Linear(hidden2, classes)
        self.scale = philox.scale(rate)

    def forward(self, x: torch.Tensor, keep: dict[str, torch.Tensor]) -> torch.Tensor:
        x = self.drop(self.fc1(x).relu(), keep["dropout1"])
        x = self.drop(self.fc2(x).relu(), keep["dropout2"])
        return self.fc3(x)

    def drop(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Kept elements times the scale, 0 elsewhere."""
        return torch.where(keep.bool(), x * self.scale, torch.zeros_like(x))


def fixtures() -> Iterator[Fixture]:
    """Two steps of SGD and of Adam, at rates 0.5 and 0.2, and one network of odd sizes."""
    sgd = {"lr": 0.1, "momentum": 0.9}
    adam = {"lr": 0.01}
    square = (20, 16, 16, 10)
    yield step("step_simple_net_sgd", square, 8, 0.5, "sgd", sgd)
    yield step("step_simple_net_sgd_p02", square, 8, 0.2, "sgd", sgd)
    yield step("step_simple_net_adam", square, 8, 0.5, "adam", adam)
    yield step("step_simple_net_adam_p02", square, 8, 0.2, "adam", adam)
    yield step("step_simple_net_sgd_odd", (49, 33, 31, 10), 5, 0.2, "sgd", sgd)


def step(stem, sizes, batch, rate, optimizer_name, optimizer_options) -> Fixture:
    """Two training steps, each with its own batch and masks (the step counter is 0, then 1)."""
    source = Source(stem)
    net = SimpleNet(*sizes, rate)
    source.fill_parameters(net)
    optimizer, defaults = new_optimizer(optimizer_name, net.parameters(), optimizer_options)
    tensors = {f"param.{path}": p.detach().clone() for path, p in net.named_parameters()}
    losses = []
    for index in range(STEPS):
        x = source.normal(batch, sizes[0])
        target = source.classes(sizes[-1], batch)
        keep = masks(index, batch, sizes, rate)
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
    tensors["loss"] = torch.stack(losses)

    options = {
        "seed": SEED,
        "steps": STEPS,
        "sizes": sizes,
        "batch": batch,
        "p": rate,
        "sites": [call_name(site) for site in SITES],
        "loss": "cross_entropy",
        "optimizer": optimizer_name,
    }
    return Fixture(stem, "step", "simple_net", options | defaults | optimizer_options, tensors)


def masks(step_index: int, batch: int, sizes, rate: float) -> dict[str, torch.Tensor]:
    """The keep bits of both dropout layers for samples 0..batch."""
    keep = {}
    for site, width in zip(SITES, sizes[1:]):
        bits = philox.keep_bits(SEED, call_name(site), step_index, range(batch), width, rate)
        keep[site] = torch.from_numpy(bits)
    return keep


def call_name(site: str) -> str:
    """The site of a layer's first call."""
    return f"{site}#0"
