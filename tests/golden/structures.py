# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of training steps of networks with several inputs or outputs."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

import philox
from fixture import Fixture, Source
from optimizers import new_optimizer

STEPS = 2
SEED = 0x9E3779B97F4A7C15
SAMPLES, FEATURES, HIDDEN, CLASSES = 6, 7, 12, 5
RATE = 0.2


class Siamese(nn.Module):
    """Two inputs through one tower, whose dropout draws a mask in each call."""

    def __init__(self):
        super().__init__()
        self.tower = nn.Linear(FEATURES, HIDDEN)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, a, b, keep):
        a, b = self.drop(self.tower(a).relu(), keep[0]), self.drop(self.tower(b).relu(), keep[1])
        return self.head(a * b)

    def drop(self, x, keep):
        """Kept elements times the scale, 0 elsewhere."""
        return torch.where(keep.bool(), x * philox.scale(RATE), torch.zeros_like(x))


class TwoOutputs(nn.Module):
    """Class scores and the input again, from one trunk."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(FEATURES, HIDDEN)
        self.scores = nn.Linear(HIDDEN, CLASSES)
        self.again = nn.Linear(HIDDEN, FEATURES)

    def forward(self, x):
        x = self.trunk(x).relu()
        return self.scores(x), self.again(x)


class IntegerInput(nn.Module):
    """How unexpected each class of a second input is, by a linear layer of the first."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x, classes):
        return functional.cross_entropy(self.fc(x), classes, reduction="none")


def fixtures() -> Iterator[Fixture]:
    """Two steps of each network."""
    yield steps("structure_siamese", "siamese", Siamese, siamese_step, "adam", {"lr": 0.01})
    sgd = {"lr": 0.1, "momentum": 0.9}
    yield steps("structure_two_outputs", "two_outputs", TwoOutputs, two_outputs_step, "sgd", sgd)
    yield steps("structure_integer_input", "integer_input", IntegerInput, integer_step, "sgd", sgd)


def siamese_step(net, source, index):
    """Binary cross-entropy of whether two samples belong together."""
    a, b = source.normal(SAMPLES, FEATURES), source.normal(SAMPLES, FEATURES)
    target = source.classes(2, SAMPLES, 1).to(torch.get_default_dtype())
    keep = []
    for call in range(2):
        bits = philox.keep_bits(SEED, f"dropout#{call}", index, range(SAMPLES), HIDDEN, RATE)
        keep.append(torch.from_numpy(bits))
    loss = functional.binary_cross_entropy_with_logits(net(a, b, keep), target)
    return loss, [a, b], [target]


def two_outputs_step(net, source, _index):
    """Cross-entropy of the scores and half the mean squared error of the other output."""
    x, labels = source.normal(SAMPLES, FEATURES), source.classes(CLASSES, SAMPLES)
    scores, again = net(x)
    loss = functional.cross_entropy(scores, labels) + 0.5 * functional.mse_loss(again, x)
    return loss, [x], [labels, x]


def integer_step(net, source, _index):
    """The mean of the squares."""
    x, classes = source.normal(SAMPLES, FEATURES), source.classes(CLASSES, SAMPLES)
    return net(x, classes).square().mean(), [x, classes], []


def steps(stem, name, new_net, step, optimizer_name, optimizer_options) -> Fixture:
    """Training steps, each with its own batch, and the gradients of the inputs in each."""
    source = Source(stem)
    net = new_net()
    source.fill_parameters(net)
    optimizer, defaults = new_optimizer(optimizer_name, net.parameters(), optimizer_options)
    tensors = {f"param.{path}": p.detach().clone() for path, p in net.named_parameters()}
    losses = []
    for index in range(STEPS):
        optimizer.zero_grad()
        loss, inputs, targets = step(net, source, index)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        tensors |= {f"input.{index}.{place}": x for place, x in enumerate(inputs)}
        tensors |= {f"target.{index}.{place}": x for place, x in enumerate(targets)}
        for path, parameter in net.named_parameters():
            tensors[f"gradient.{index}.{path}"] = parameter.grad.clone()
            tensors[f"value.{index}.{path}"] = parameter.detach().clone()
    tensors["loss"] = torch.stack(losses)
    options = {"seed": SEED, "steps": STEPS, "p": RATE, "optimizer": optimizer_name}
    return Fixture(stem, "structure", name, options | defaults | optimizer_options, tensors)
