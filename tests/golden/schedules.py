# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of schedules: the rate, and a cycled momentum, used at steps 0, 1, ... 29, in f64."""

from collections.abc import Iterator

import torch
from torch.optim import lr_scheduler

from fixture import Fixture, Source

STEPS = 30
BASE_LR = 0.1

SCHEDULERS = {
    "constant_lr": lr_scheduler.ConstantLR,
    "step_lr": lr_scheduler.StepLR,
    "cosine_annealing_lr": lr_scheduler.CosineAnnealingLR,
    "linear_lr": lr_scheduler.LinearLR,
    "one_cycle_lr": lr_scheduler.OneCycleLR,
}

ONE_CYCLE = {
    "max_lr": 0.1,
    "total_steps": STEPS,
    "pct_start": 0.3,
    "anneal_strategy": "cos",
    "div_factor": 25.0,
    "final_div_factor": 10000.0,
    "three_phase": False,
    "cycle_momentum": False,
}
PLATEAU = {
    "mode": "min",
    "factor": 0.1,
    "patience": 10,
    "threshold": 1e-4,
    "threshold_mode": "rel",
    "cooldown": 0,
    "min_lr": 0.0,
    "eps": 1e-8,
}
# PyTorch's default.
CYCLED = {"cycle_momentum": True, "base_momentum": 0.85, "max_momentum": 0.95}


def fixtures() -> Iterator[Fixture]:
    """All schedule fixtures."""
    cases = [
        ("constant_lr", "", {"factor": 0.25, "total_iters": 5}),
        ("step_lr", "", {"step_size": 7, "gamma": 0.5}),
        ("cosine_annealing_lr", "", {"T_max": STEPS, "eta_min": 0.0}),
        ("cosine_annealing_lr", "_past_end", {"T_max": 20, "eta_min": 0.001}),
        ("linear_lr", "", {"start_factor": 0.1, "end_factor": 1.0, "total_iters": 10}),
        ("one_cycle_lr", "", ONE_CYCLE),
        ("one_cycle_lr", "_linear", ONE_CYCLE | {"anneal_strategy": "linear"}),
        ("one_cycle_lr", "_three_phase", ONE_CYCLE | {"three_phase": True}),
        ("one_cycle_lr", "_momentum", ONE_CYCLE | CYCLED),
        ("one_cycle_lr", "_momentum_linear", ONE_CYCLE | CYCLED | {"anneal_strategy": "linear"}),
        ("one_cycle_lr", "_momentum_three_phase", ONE_CYCLE | CYCLED | {"three_phase": True}),
    ]
    for name, suffix, options in cases:
        yield single(f"schedule_{name}{suffix}", name, options)
    yield warmup_then_cosine()
    falling = [
        ("", {"patience": 2, "factor": 0.5}),
        ("_max", {"mode": "max", "patience": 1, "factor": 0.3, "threshold": 0.05}),
        ("_absolute", {"patience": 0, "threshold": 0.1, "threshold_mode": "abs"}),
        ("_max_absolute", {"mode": "max", "patience": 3, "threshold": 0.2, "threshold_mode": "abs"}),
        ("_cooldown", {"patience": 1, "cooldown": 4, "factor": 0.5}),
        ("_lowest", {"patience": 0, "min_lr": 0.02, "factor": 0.6, "eps": 0.003}),
    ]
    for suffix, options in falling:
        yield plateau(f"plateau{suffix}", PLATEAU | options)


def single(stem: str, name: str, options: dict) -> Fixture:
    """One scheduler alone. (OneCycleLR ignores the base rate: it starts at max_lr/div_factor.)"""
    optimizer = new_optimizer()
    scheduler = SCHEDULERS[name](optimizer, **options)
    return schedule(stem, name, options, optimizer, scheduler)


def warmup_then_cosine() -> Fixture:
    """SequentialLR. Options of the n-th scheduler are prefixed `n.`."""
    parts = [
        ("linear_lr", {"start_factor": 0.1, "end_factor": 1.0, "total_iters": 5}),
        ("cosine_annealing_lr", {"T_max": STEPS - 5, "eta_min": 0.0}),
    ]
    milestones = [5]
    optimizer = new_optimizer()
    schedulers = [SCHEDULERS[name](optimizer, **options) for name, options in parts]
    scheduler = lr_scheduler.SequentialLR(optimizer, schedulers, milestones)

    options = {"schedulers": [name for name, _ in parts], "milestones": milestones}
    for index, (_, part) in enumerate(parts):
        options |= {f"{index}.{key}": value for key, value in part.items()}
    return schedule("schedule_sequential_lr", "sequential_lr", options, optimizer, scheduler)


def new_optimizer() -> torch.optim.SGD:
    """An optimiser whose rate the schedulers change."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE_LR)


def schedule(stem, name, options, optimizer, scheduler) -> Fixture:
    """Read the rate, and a momentum that is cycled, before every step."""
    rates, momenta = [], []
    for step in range(STEPS):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        momenta.append(float(optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        if step + 1 < STEPS:
            scheduler.step()
    tensors = {"lr": torch.tensor(rates, dtype=torch.float64)}
    if options.get("cycle_momentum"):
        tensors["momentum"] = torch.tensor(momenta, dtype=torch.float64)
    all_options = {"base_lr": BASE_LR, "steps": STEPS} | options
    return Fixture(stem, "schedule", name, all_options, tensors, float_type=torch.float64)


def plateau(stem: str, options: dict) -> Fixture:
    """The rate after each figure of a walk that gets better at first; one is NaN."""
    source = Source(stem)
    steps = torch.arange(STEPS)
    sign = 1.0 if options["mode"] == "min" else -1.0
    values = sign * 2.0 * torch.exp(-steps.double() / 6) + source.normal(STEPS, scale=0.1).double()
    values[5] = float("nan")
    optimizer = new_optimizer()
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **options)
    rates = []
    for value in values:
        scheduler.step(value.item())
        rates.append(float(optimizer.param_groups[0]["lr"]))
    tensors = {"value": values, "lr": torch.tensor(rates, dtype=torch.float64)}
    all_options = {"base_lr": BASE_LR} | options
    name = "reduce_lr_on_plateau"
    return Fixture(stem, "plateau", name, all_options, tensors, float_type=torch.float64)
