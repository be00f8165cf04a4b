# SPDX-License-Identifier: MIT OR Apache-2.0
"""PyTorch's side of `cargo bench --bench growth`: training steps of networks of which one quantity grows.

The networks are those of `benches/growth/axis.rs`; `pytorch.py` times them as its cases `grow-AXIS-SIZE`.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

INPUTS = 784
CLASSES = 10
WORDS = 1000
BATCH = 64
SMALL_BATCH = 16
UNITS = 256


class Texts(nn.Module):
    """Embedding, two layers of LSTM with dropout between them, scores of the last hidden state."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 64)
        self.lstm = nn.LSTM(64, 128, num_layers=2, dropout=0.5, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(128, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, (hidden, _) = self.lstm(self.dropout(self.embedding(x)))
        return self.fc(self.dropout(hidden[-1]))


def dense(width: int) -> nn.Module:
    """Two hidden layers, dropout 0.5 after each."""
    first = [nn.Linear(INPUTS, width), nn.ReLU(), nn.Dropout(0.5)]
    second = [nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*first, *second, nn.Linear(width, CLASSES))


def deep(layers: int) -> nn.Module:
    """So many layers, dropout 0.1 before each."""
    hidden = [nn.Linear(INPUTS, UNITS)]
    for _ in range(layers):
        hidden += [nn.ReLU(), nn.Dropout(0.1), nn.Linear(UNITS, UNITS)]
    return nn.Sequential(*hidden, nn.ReLU(), nn.Linear(UNITS, CLASSES))


def convolutions() -> nn.Module:
    """Two convolutions, and means of their maps."""
    first = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()]
    second = [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))


def new_step(axis: str, size: int) -> tuple[Callable[[], None], int, int]:
    """A step with the fused optimiser, its samples, and how many parameters it trains."""
    samples = size if axis == "batch" else BATCH if axis in ("width", "depth") else SMALL_BATCH
    match axis:
        case "batch":
            network, x = dense(512), torch.randn(samples, INPUTS)
        case "width":
            network, x = dense(size), torch.randn(samples, INPUTS)
        case "depth":
            network, x = deep(size), torch.randn(samples, INPUTS)
        case "image":
            layout = torch.channels_last
            network = convolutions().to(memory_format=layout)
            x = torch.randn(samples, 3, size, size).to(memory_format=layout)
        case "length":
            network, x = Texts(), torch.randint(0, WORDS, (samples, size))
        case _:
            raise ValueError(f"nothing grows by {axis}")
    network.train()
    target = torch.arange(samples) % CLASSES
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(network(x), target).backward()
        optimizer.step()

    return step, samples, sum(parameter.numel() for parameter in network.parameters())
