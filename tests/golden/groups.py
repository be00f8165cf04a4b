# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of parameter groups, freezing and moving averages: steps of a small network."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fixture import Fixture, Source
from optimizers import new_optimizer

STEPS = 6
BATCH = 5
# Of the schedules.
HALVED = {"step_size": 2, "gamma": 0.5}
PEAK = 0.1


class Tuned(nn.Module):
    """Normalisation, a body and a head. Nothing normalises what a bias adds: its gradient would be rounding error."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.body = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.body(self.norm(x))))


SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
NESTEROV = SGD | {"nesterov": True}
ADAM = {"lr": 0.02, "weight_decay": 0.1}
# A pattern, a factor of the rate, and a weight decay where it is not the optimiser's.
HEAD = ("head.*", 10.0, None)
BODY = ("body.*", 0.5, 0.3)
WEIGHTS = ("*.weight", 0.25, 0.0)
FROZEN_BODY = ["0:freeze:body.*", "0:freeze:norm.*"]
THAWED = FROZEN_BODY + ["3:unfreeze:body.*", "4:unfreeze:norm.*"]
AGAIN = ["2:freeze:head.weight", "4:unfreeze:head.weight"]


def fixtures() -> Iterator[Fixture]:
    """Groups alone and with clipping and schedules; freezing; averages."""
    yield case("groups_sgd", "sgd", SGD, groups=[HEAD, BODY])
    yield case("groups_nesterov", "sgd", NESTEROV, groups=[HEAD, BODY], bare=True)
    yield case("groups_adam", "adam", ADAM, groups=[HEAD, BODY], bare=True)
    yield case("groups_adamw", "adamw", ADAM, groups=[WEIGHTS], max_norm=0.05)
    yield case("groups_adamw_bare", "adamw", ADAM, bare=True, schedule="step")
    yield case("groups_sgd_one_cycle", "sgd", SGD, groups=[HEAD, BODY], schedule="one_cycle")
    yield case("groups_adam_one_cycle", "adam", ADAM, groups=[BODY], schedule="one_cycle")
    yield case("freeze_sgd_clipped", "sgd", NESTEROV, events=FROZEN_BODY, max_norm=0.05)
    yield case("freeze_sgd_thawed", "sgd", NESTEROV, events=THAWED, groups=[HEAD])
    yield case("freeze_adam_thawed", "adam", ADAM, events=THAWED, max_norm=0.5)
    yield case("freeze_adamw_again", "adamw", ADAM, events=AGAIN, bare=True)
    yield case("freeze_adam_one_cycle", "adam", ADAM, events=THAWED, schedule="one_cycle")
    yield case("average_sgd", "sgd", SGD, average=0.75)
    yield case("average_adamw_buffers", "adamw", ADAM, average=0.4, buffers=True)
    yield case("average_adam_frozen", "adam", ADAM, average=0.9, events=THAWED + AGAIN[:1])


def case(
    stem: str,
    name: str,
    options: dict,
    groups=(),
    bare: bool = False,
    events=(),
    max_norm: float = 0.0,
    schedule: str = "constant",
    average: float = -1.0,
    buffers: bool = False,
) -> Fixture:
    """`values` and `averages` hold parameters and running statistics after each step, in a row."""
    source = Source(stem)
    net = Tuned()
    source.fill_parameters(net)
    rule, factors, defaults = grouped(net, name, options, groups, bare)
    scheduler = new_scheduler(rule, schedule, factors)
    averaged = None
    if average >= 0.0:
        averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(average), use_buffers=buffers)
    tensors = {f"param.{path}": p.detach().clone() for path, p in net.named_parameters()}
    losses, norms, values, averages, batches = [], [], [], [], []
    for index in range(STEPS):
        for event in events:
            happen(net, rule, index, event)
        x, target = source.normal(BATCH, 6), source.normal(BATCH, 3)
        rule.zero_grad()
        loss = nn.functional.mse_loss(net(x), target)
        loss.backward()
        if max_norm:
            norms.append(nn.utils.clip_grad_norm_(net.parameters(), max_norm))
        rule.step()
        if averaged is not None:
            averaged.update_parameters(net)
        if scheduler is not None and index + 1 < STEPS:
            scheduler.step()
        losses.append(loss.detach())
        batches.append((x, target))
        values.append(state(net))
        if averaged is not None:
            averages.append(state(averaged.module))
    tensors["input"], tensors["target"] = (torch.stack(parts) for parts in zip(*batches))
    tensors |= {"loss": torch.stack(losses), "values": torch.stack(values)}
    if norms:
        tensors["norm"] = torch.stack(norms)
    if averaged is not None:
        tensors["averages"] = torch.stack(averages)
        tensors["averaged"] = averaged.module.eval()(x)

    all_options = defaults | options | {
        "steps": STEPS,
        "optimizer": name,
        "groups": [f"{pattern}={factor}/{'' if decay is None else decay}" for pattern, factor, decay in groups],
        "bare": bare,
        "events": list(events),
        "max_norm": max_norm,
        "schedule": schedule,
        "average": average,
        "use_buffers": buffers,
    }
    return Fixture(stem, "groups", "tuned", all_options, tensors)


def grouped(net: Tuned, name: str, options: dict, groups, bare: bool):
    """An optimiser with a param group per parameter, and the factor of each."""
    defaults = new_optimizer(name, [torch.nn.Parameter(torch.zeros(1))], {})[1]
    rate, usual = (defaults | options)["lr"], (defaults | options)["weight_decay"]
    all_groups, factors = [], []
    for path, parameter in net.named_parameters():
        own = [(factor, decay) for pattern, factor, decay in groups if fnmatchcase(path, pattern)]
        assert len(own) <= 1, path
        factor, decay = own[0] if own else (1.0, None)
        decay = usual if decay is None else decay
        if bare and parameter.dim() <= 1:
            decay = 0.0
        all_groups.append({"params": [parameter], "lr": rate * factor, "weight_decay": decay})
        factors.append(factor)
    rule, _ = new_optimizer(name, all_groups, options)
    return rule, factors, defaults


def new_scheduler(rule, schedule: str, factors):
    """A scheduler of the rates of all groups."""
    if schedule == "step":
        return lr_scheduler.StepLR(rule, **HALVED)
    if schedule == "one_cycle":
        return lr_scheduler.OneCycleLR(rule, [PEAK * factor for factor in factors], total_steps=STEPS)
    return None


def happen(net: Tuned, rule, index: int, event: str) -> None:
    """Freeze or thaw before a step. What is frozen leaves the optimiser, and begins anew in it."""
    step, what, pattern = event.split(":")
    if int(step) != index:
        return
    for path, parameter in net.named_parameters():
        if fnmatchcase(path, pattern):
            parameter.requires_grad_(what == "unfreeze")
            parameter.grad = None
            rule.state.pop(parameter, None)


def state(net: Tuned) -> torch.Tensor:
    """Parameters and running statistics, in the order of `state_dict`; no counters."""
    values = net.state_dict().values()
    return torch.cat([value.flatten() for value in values if value.is_floating_point()])
