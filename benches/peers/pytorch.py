# SPDX-License-Identifier: MIT OR Apache-2.0
"""PyTorch eager as a resident peer process: `python pytorch.py THREADS`.

It reads one command per line and answers each with one line of JSON:

    time CASE MILLISECONDS  train for that long, answer the time of a step
    check CASE DIRECTORY    one step from a given state with given masks, answer the loss
    quit                    leave (so does the end of the input)

A step is zero_grad, forward in train mode, cross-entropy, backward, optimiser step. A command that
fails answers {"error": ...} and the process lives on.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 1
# The OpenMP and MKL runtimes read these when torch is imported.
os.environ["OMP_NUM_THREADS"] = str(THREADS)
os.environ["MKL_NUM_THREADS"] = str(THREADS)

import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

INPUTS = 784
CLASSES = 10
DROPOUT_ELEMENTS = 16 << 20
FUSED_SUFFIX = "+fused"
WARM_UP_FIRST = 5
WARM_UP_AGAIN = 2
# Rates are rounded to 1/32768, so that kept elements are scaled by the exact 1 / P(keep).
RATE_UNITS = 32768


class SimpleNet(nn.Module):
    """784-512-512-10, dropout 0.5 after both hidden activations."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(INPUTS, 512)
        self.dropout1 = nn.Dropout(0.5)
        self.fc2 = nn.Linear(512, 512)
        self.dropout2 = nn.Dropout(0.5)
        self.fc3 = nn.Linear(512, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout1(torch.relu(self.fc1(x)))
        x = self.dropout2(torch.relu(self.fc2(x)))
        return self.fc3(x)


class VariableDropoutNet(nn.Module):
    """784-1024-512-10, dropout 0.2 early and 0.5 late."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(INPUTS, 1024)
        self.dropout1 = nn.Dropout(0.2)
        self.fc2 = nn.Linear(1024, 512)
        self.dropout2 = nn.Dropout(0.5)
        self.fc3 = nn.Linear(512, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout1(torch.relu(self.fc1(x)))
        x = self.dropout2(torch.relu(self.fc2(x)))
        return self.fc3(x)


class InjectedDropout(nn.Module):
    """Dropout whose keep bits are given: select, then scale."""

    def __init__(self, keep: torch.Tensor, rate: float):
        super().__init__()
        dropped_units = int(rate * RATE_UNITS + 0.5)
        self.scale = RATE_UNITS / (RATE_UNITS - dropped_units)
        self.keep = keep.bool()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape != self.keep.shape:
            raise ValueError(f"mask of shape {list(self.keep.shape)} for {list(x.shape)}")
        return torch.where(self.keep, x * self.scale, 0.0)


@dataclass
class Case:
    """A network, how it is trained, and how large its batch is."""

    network: type[nn.Module]
    batch: int
    optimizer: str


CASES = {
    "a64sgd": Case(SimpleNet, 64, "sgd"),
    "a64adam": Case(SimpleNet, 64, "adam"),
    "a256sgd": Case(SimpleNet, 256, "sgd"),
    "a256adam": Case(SimpleNet, 256, "adam"),
    "b128adam": Case(VariableDropoutNet, 128, "adam"),
}


@dataclass
class Workload:
    """Something to time: one call of `step` handles `samples` samples."""

    step: Callable[[], None]
    samples: int


workloads: dict[str, Workload] = {}


def main() -> None:
    """Answer commands until `quit` or the end of the input."""
    torch.set_num_threads(THREADS)
    version = torch.__version__
    answer({"ready": True, "peer": "torch-eager", "version": version, "threads": THREADS})
    for line in sys.stdin:
        words = line.split()
        if not words:
            continue
        if words == ["quit"]:
            break
        try:
            answer(run(words))
        except Exception as error:  # the process outlives every failed command
            answer({"error": f"{type(error).__name__}: {error}", "command": line.strip()})


def answer(message: dict) -> None:
    """One line of JSON, at once."""
    print(json.dumps(message), flush=True)


def run(words: list[str]) -> dict:
    """Carry out one command."""
    match words:
        case ["time", case, milliseconds]:
            return time_case(case, float(milliseconds))
        case ["check", case, directory]:
            return check_case(case, Path(directory))
    raise ValueError("expected `time CASE MILLISECONDS`, `check CASE DIRECTORY` or `quit`")


def time_case(name: str, milliseconds: float) -> dict:
    """Repeat the step for the given time; the workload is kept for the next call."""
    warm_up = WARM_UP_AGAIN if name in workloads else WARM_UP_FIRST
    workload = workloads.get(name) or new_workload(name)
    workloads[name] = workload
    for _ in range(warm_up):
        workload.step()

    durations = []
    deadline = time.perf_counter() + milliseconds / 1e3
    while True:
        start = time.perf_counter()
        workload.step()
        end = time.perf_counter()
        durations.append((end - start) * 1e3)
        if end >= deadline:
            break
    median = statistics.median(durations)
    return {
        "case": name,
        "n": len(durations),
        "step_median_ms": median,
        "step_min_ms": min(durations),
        "samples_per_s": workload.samples / median * 1e3,
    }


def new_workload(name: str) -> Workload:
    """The workload of a case, from the same seed every time."""
    torch.manual_seed(0)
    if name == "drop16m":
        return dropout_workload()
    case, network, optimizer = new_training(name)
    x = torch.randn(case.batch, INPUTS)
    target = torch.randint(0, CLASSES, (case.batch,))
    return Workload(lambda: train_step(network, optimizer, x, target), case.batch)


def dropout_workload() -> Workload:
    """Dropout alone, forward and backward with a given gradient; a sample is one element."""
    dropout = nn.Dropout(0.5)
    x = torch.randn(DROPOUT_ELEMENTS, requires_grad=True)
    cotangent = torch.randn(DROPOUT_ELEMENTS)

    def step() -> None:
        x.grad = None
        dropout(x).backward(cotangent)

    return Workload(step, DROPOUT_ELEMENTS)


def new_training(name: str) -> tuple[Case, nn.Module, torch.optim.Optimizer]:
    """The network and optimiser of a case; `+fused` asks for PyTorch's fused optimiser."""
    base = name.removesuffix(FUSED_SUFFIX)
    if base not in CASES:
        known = ", ".join([*CASES, "drop16m (time only)"])
        raise ValueError(f"no case {name}: expected one of {known}, or with {FUSED_SUFFIX}")
    case = CASES[base]
    network = case.network().train()
    fused = True if name.endswith(FUSED_SUFFIX) else None
    if case.optimizer == "sgd":
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=fused)
    else:
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=fused)
    return case, network, optimizer


def train_step(network, optimizer, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One training step; the loss is not read, so that reading it is not timed."""
    optimizer.zero_grad()
    loss = functional.cross_entropy(network(x), target)
    loss.backward()
    optimizer.step()
    return loss.detach()


def check_case(name: str, directory: Path) -> dict:
    """One step from `before.safetensors` on `batch.safetensors`; writes `after.safetensors`."""
    _, network, optimizer = new_training(name)
    network.load_state_dict(load_file(directory / "before.safetensors"))
    with safe_open(directory / "batch.safetensors", framework="pt") as batch:
        x = batch.get_tensor("input")
        target = batch.get_tensor("target").long()
        inject_masks(network, batch)
    loss = train_step(network, optimizer, x, target)

    state = {path: tensor.contiguous() for path, tensor in network.state_dict().items()}
    save_file(state, directory / "after.safetensors")
    norms = {path: tensor.double().norm().item() for path, tensor in state.items()}
    return {"case": name, "loss": loss.item(), "parameters": norms}


def inject_masks(network: nn.Module, batch) -> None:
    """Put the masks `mask.LAYER` of the batch file in the place of the network's dropout.

    The rate is the metadata `p.LAYER`, else `p`, else the rate of the layer itself.
    """
    metadata = batch.metadata() or {}
    for path, layer in list(network.named_children()):
        if isinstance(layer, nn.Dropout):
            rate = float(metadata.get(f"p.{path}", metadata.get("p", layer.p)))
            keep = batch.get_tensor(f"mask.{path}")
            setattr(network, path, InjectedDropout(keep, rate))


if __name__ == "__main__":
    main()
