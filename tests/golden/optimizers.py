# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of optimisers (some steps on given gradients) and of clipping by global norm."""

from collections.abc import Iterator

import torch

from fixture import Fixture, Source

STEPS = 5
CYCLE = 12
SIZE = 33

# Only the options that differ from these are passed to PyTorch, so that its defaults are tested.
SGD_DEFAULTS = {"lr": 0.001, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0}
SGD_DEFAULTS |= {"nesterov": False}
ADAM_DEFAULTS = {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-08, "weight_decay": 0.0}
ADAMW_DEFAULTS = ADAM_DEFAULTS | {"weight_decay": 0.01}


def fixtures() -> Iterator[Fixture]:
    """All optimiser and clipping fixtures."""
    yield from sgd()
    yield from adam()
    yield from adamw()
    yield from one_cycle()
    yield from clip()


def sgd() -> Iterator[Fixture]:
    """Plain, and each option alone and together."""
    cases = {
        "default": {},
        "plain": {"lr": 0.1},
        "momentum": {"lr": 0.1, "momentum": 0.9},
        "dampening": {"lr": 0.1, "momentum": 0.9, "dampening": 0.5},
        "nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        "weight_decay": {"lr": 0.1, "weight_decay": 0.1},
        "momentum_nesterov_weight_decay": {
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.1,
        },
    }
    for suffix, options in cases.items():
        yield optimizer(f"optimizer_sgd_{suffix}", "sgd", options)


def adam() -> Iterator[Fixture]:
    """Default, with coupled weight decay, and an eps large enough to show where it is added."""
    cases = {
        "default": {},
        "plain": {"lr": 0.1},
        "weight_decay": {"lr": 0.1, "weight_decay": 0.1},
        "big_eps": {"lr": 0.1, "eps": 0.1},
        "betas": {"lr": 0.05, "beta1": 0.5, "beta2": 0.9},
    }
    for suffix, options in cases.items():
        yield optimizer(f"optimizer_adam_{suffix}", "adam", options)


def adamw() -> Iterator[Fixture]:
    """Default (weight decay 0.01) and a decay that shows it is decoupled."""
    cases = {"default": {}, "weight_decay": {"lr": 0.1, "weight_decay": 0.1}}
    for suffix, options in cases.items():
        yield optimizer(f"optimizer_adamw_{suffix}", "adamw", options)


def one_cycle() -> Iterator[Fixture]:
    """OneCycleLR's defaults, which move the momentum, too: SGD without momentum gets one."""
    cases = [
        ("sgd", "", {"lr": 0.1}),
        ("sgd", "_nesterov", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("adam", "", {"lr": 0.1}),
        ("adamw", "", {"lr": 0.1}),
    ]
    for name, suffix, options in cases:
        yield optimizer(f"optimizer_{name}{suffix}_one_cycle", name, options, cycle=CYCLE)


def optimizer(stem: str, name: str, options: dict, cycle: int = 0) -> Fixture:
    """Steps from `param.p`; the first element never gets a gradient other than 0."""
    source = Source(stem)
    parameter = torch.nn.Parameter(source.normal(SIZE))
    rule, defaults = new_optimizer(name, [parameter], options)
    scheduler, schedule = None, {}
    if cycle:
        schedule = {"max_lr": 0.1, "total_steps": cycle}
        scheduler = torch.optim.lr_scheduler.OneCycleLR(rule, **schedule)
    steps = cycle or STEPS
    tensors = {"param.p": parameter.detach().clone()}
    for step in range(steps):
        gradient = source.normal(SIZE)
        gradient[0] = 0.0
        parameter.grad = gradient
        rule.step()
        if scheduler is not None and step + 1 < steps:
            scheduler.step()
        tensors[f"gradient.{step}"] = gradient
        tensors[f"value.{step}"] = parameter.detach().clone()
    all_options = defaults | options | schedule | {"steps": steps}
    return Fixture(stem, "optimizer", name, all_options, tensors)


def new_optimizer(name: str, parameters, options: dict):
    """PyTorch's optimiser with the given options, and the defaults of those not given."""
    arguments = dict(options)
    if name == "sgd":
        return torch.optim.SGD(parameters, **arguments), SGD_DEFAULTS
    if "beta1" in arguments:
        arguments["betas"] = (arguments.pop("beta1"), arguments.pop("beta2"))
    if name == "adam":
        return torch.optim.Adam(parameters, **arguments), ADAM_DEFAULTS
    return torch.optim.AdamW(parameters, **arguments), ADAMW_DEFAULTS


def clip() -> Iterator[Fixture]:
    """Norms above, below and equal to nothing special, and norms that are not finite."""
    cases = [
        ("clip_above", 1.0, None),
        ("clip_below", 100.0, None),
        ("clip_zero", 1.0, 0.0),
        ("clip_infinity", 1.0, float("inf")),
        ("clip_nan", 1.0, float("nan")),
    ]
    for stem, max_norm, special in cases:
        source = Source(stem)
        gradients = [source.normal(7, 5), source.normal(31), source.normal(1)]
        if special == 0.0:
            gradients = [torch.zeros_like(gradient) for gradient in gradients]
        elif special is not None:
            gradients[1][3] = special
        yield clip_case(stem, max_norm, gradients)


def clip_case(stem: str, max_norm: float, gradients: list[torch.Tensor]) -> Fixture:
    """`clip_grad_norm_` over all gradients together; `norm` is the norm before clipping."""
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    tensors = {}
    for index, (parameter, gradient) in enumerate(zip(parameters, gradients)):
        parameter.grad = gradient.clone()
        tensors[f"gradient.{index}"] = gradient
    tensors["norm"] = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    for index, parameter in enumerate(parameters):
        tensors[f"clipped.{index}"] = parameter.grad
    options = {"max_norm": max_norm, "norm_type": 2.0, "error_if_nonfinite": False}
    return Fixture(stem, "clip", "clip_grad_norm", options, tensors)
