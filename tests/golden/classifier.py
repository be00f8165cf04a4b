# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of steps of a recurrent classifier, in which PyTorch's dropout uses kiln's masks.

Layers between which something is dropped are layers of their own here, since a PyTorch LSTM draws
masks that nobody can give it.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import philox
from fixture import Fixture, Source
from optimizers import new_optimizer

STEPS = 2
SEED = 0x9E3779B97F4A7C15
SITES = ["dropout#0", "lstm#0", "dropout#1"]


class Classifier(nn.Module):
    """embedding, dropout, two layers of LSTM with dropout between them, dropout, linear."""

    def __init__(self, rows: int, width: int, hidden: int, classes: int, rate: float, both: bool):
        super().__init__()
        directions = 2 if both else 1
        arguments = {"batch_first": True, "bidirectional": both}
        self.embedding = nn.Embedding(rows, width)
        self.lstm0 = nn.LSTM(width, hidden, **arguments)
        self.lstm1 = nn.LSTM(hidden * directions, hidden, **arguments)
        self.fc = nn.Linear(hidden, classes)
        self.scale = philox.scale(rate)

    def forward(self, tokens, lengths, keep) -> torch.Tensor:
        x = self.drop(self.embedding(tokens), keep["dropout#0"])
        x, _ = self.layer(self.lstm0, x, lengths)
        x = self.drop(x, keep["lstm#0"])
        _, hidden = self.layer(self.lstm1, x, lengths)
        return self.fc(self.drop(hidden[-1], keep["dropout#1"]))

    def layer(self, lstm, x, lengths):
        """Outputs and last hidden states of one layer."""
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, (hidden, _) = lstm(packed)
        output, _ = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
        return output, hidden

    def drop(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Kept elements times the scale, 0 elsewhere."""
        return torch.where(keep.bool().view(x.shape), x * self.scale, torch.zeros_like(x))


def name_of(path: str) -> str:
    """A parameter's name where the two layers are one LSTM."""
    for layer in "01":
        if path.startswith(f"lstm{layer}."):
            return path.replace(f"lstm{layer}.", "lstm.").replace("_l0", f"_l{layer}")
    return path


def fixtures() -> Iterator[Fixture]:
    """Two steps of SGD and of Adam; whole sequences, and some with lengths; both directions."""
    sgd = {"lr": 0.1, "momentum": 0.9}
    # A large eps, since gradients of nearly 0 would make Adam's steps a matter of rounding.
    adam = {"lr": 0.01, "eps": 1e-3}
    yield step("step_classifier_sgd", (11, 5, 6, 3), [7, 7, 7, 7], 0.5, False, "sgd", sgd)
    yield step("step_classifier_lengths", (11, 5, 6, 3), [7, 2, 5, 1], 0.5, False, "adam", adam)
    yield step("step_classifier_both", (9, 4, 5, 3), [3, 6, 1, 4, 6], 0.2, True, "sgd", sgd)


def step(stem, sizes, lengths, rate, both, optimizer_name, optimizer_options) -> Fixture:
    """Two training steps, each with its own batch and masks."""
    rows, width, hidden, classes = sizes
    batch, length = len(lengths), max(lengths)
    source = Source(stem)
    net = Classifier(*sizes, rate, both)
    source.fill_parameters(net)
    optimizer, defaults = new_optimizer(optimizer_name, net.parameters(), optimizer_options)
    tensors = {f"param.{name_of(path)}": p.detach().clone() for path, p in net.named_parameters()}
    widths = [length * width, length * hidden * (2 if both else 1), hidden]
    losses = []
    for index in range(STEPS):
        tokens = source.classes(rows, batch, length)
        target = source.classes(classes, batch)
        keep = {
            site: torch.from_numpy(philox.keep_bits(SEED, site, index, range(batch), count, rate))
            for site, count in zip(SITES, widths)
        }
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(tokens, lengths, keep), target)
        loss.backward()
        optimizer.step()

        losses.append(loss.detach())
        tensors |= {f"input.{index}": tokens, f"target.{index}": target}
        for path, parameter in net.named_parameters():
            tensors[f"gradient.{index}.{name_of(path)}"] = parameter.grad.clone()
            tensors[f"value.{index}.{name_of(path)}"] = parameter.detach().clone()
    tensors |= {"loss": torch.stack(losses), "lengths": torch.tensor(lengths)}

    options = {
        "seed": SEED,
        "steps": STEPS,
        "sizes": sizes,
        "p": rate,
        "both": both,
        "sites": SITES,
        "loss": "cross_entropy",
        "optimizer": optimizer_name,
    }
    return Fixture(stem, "step", "classifier", options | defaults | optimizer_options, tensors)
