# SPDX-License-Identifier: MIT OR Apache-2.0
"""Numbers that unit tests quote as literals, checked against PyTorch."""

import math

import torch
from torch.nn import functional

from optimizers import new_optimizer

DIGITS = 1e-10

# One parameter, starting at 1, after the gradients 1, 0.5 and -0.25.
GRADIENTS = [1.0, 0.5, -0.25]
OPTIMIZERS = [
    ("sgd", {"lr": 0.1, "momentum": 0.9}, 0.6590),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, 0.5681),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, 0.5010283510),
    ("adam", {"lr": 0.1}, 0.7504159015),
    ("adam", {"lr": 0.1, "weight_decay": 0.1}, 0.7421953938),
    ("adam", {"lr": 0.1, "eps": 0.1}, 0.7773803249),
    ("adamw", {"lr": 0.1, "weight_decay": 0.1}, 0.7236370811),
]

LOGITS = [[1.0, 2.0, 3.0], [0.5, -1.0, 0.25], [2.0, 0.0, 1.0]]
CLASSES = [2, -100, 0]
CROSS_ENTROPIES = [
    (None, 0.0, 0.4076059644),
    (None, 0.1, 0.5076059644),
    ([1.0, 2.0, 0.5], 0.1, 0.6191396291),
]


def check() -> None:
    """Raise if PyTorch gives any other number."""
    check_optimizers()
    check_cross_entropy()
    check_clipping()


def check_optimizers() -> None:
    """Three steps of every optimiser."""
    for name, options, expected in OPTIMIZERS:
        parameter = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer, _ = new_optimizer(name, [parameter], options)
        for gradient in GRADIENTS:
            parameter.grad = torch.full_like(parameter, gradient)
            optimizer.step()
        expect(f"{name} {options}", parameter.item(), expected)


def check_cross_entropy() -> None:
    """The mean over the kept rows, with smoothing and class weights."""
    logits = torch.tensor(LOGITS, dtype=torch.float64)
    target = torch.tensor(CLASSES)
    for weights, smoothing, expected in CROSS_ENTROPIES:
        weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        loss = functional.cross_entropy(logits, target, weight, label_smoothing=smoothing)
        expect(f"cross_entropy smoothing {smoothing} weights {weights}", loss.item(), expected)


def check_clipping() -> None:
    """Gradients [3, 0] and [4] have norm 5 and are scaled by 1 / (5 + 1e-6)."""
    first, second = (torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (2, 1))
    first.grad = torch.tensor([3.0, 0.0], dtype=torch.float64)
    second.grad = torch.tensor([4.0], dtype=torch.float64)
    norm = torch.nn.utils.clip_grad_norm_([first, second], 1.0)
    expect("clip_grad_norm_ norm", norm.item(), 5.0)
    expect("clip_grad_norm_ first", first.grad[0].item(), 3.0 / (5.0 + 1e-6))
    expect("clip_grad_norm_ second", second.grad[0].item(), 4.0 / (5.0 + 1e-6))


def expect(what: str, got: float, expected: float) -> None:
    """Raise unless the numbers agree to the digits written here."""
    if not math.isclose(got, expected, rel_tol=0.0, abs_tol=DIGITS):
        raise AssertionError(f"{what}: expected {expected}, got {got:.9f}")
