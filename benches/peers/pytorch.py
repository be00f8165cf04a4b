# SPDX-License-Identifier: MIT OR Apache-2.0
"""PyTorch eager as a resident peer process: `python pytorch.py THREADS`.

It reads one command per line and answers each with one line of JSON:

    time CASE MILLISECONDS  train for that long, answer the time of a step
    check CASE DIRECTORY    one step from a given state with given masks, answer the loss; of draws, their mean
    quit                    leave (so does the end of the input)

A step is zero_grad, forward in train mode, cross-entropy, backward, optimiser step; of `mc32` it is 32 draws
by `torch.func.vmap`. A command that fails answers {"error": ...} and the process lives on.
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
WORDS = 10_000
STEPS = 64
# What dropout alone is given.
DROPOUT_SHAPES = {"drop16m": (16 << 20,), "drop2d": (64, 128, 32, 32)}
# Draws of Monte Carlo dropout, for so many samples.
DRAWS_CASE = "mc32"
DRAWS = 32
DRAWS_BATCH = 64
FUSED_SUFFIX = "+fused"
# The fused optimiser, and images in channels_last.
BEST_SUFFIX = "+best"
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


class Cnn(nn.Module):
    """Two convolutions with ReLU and pooling, two linear layers, dropout of maps and of features."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1)
        self.conv2 = nn.Conv2d(64, 128, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.dropout_conv = nn.Dropout2d(0.25)
        self.fc1 = nn.Linear(128 * 8 * 8, 512)
        self.dropout_fc = nn.Dropout(0.5)
        self.fc2 = nn.Linear(512, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = self.dropout_conv(x).flatten(1)
        return self.fc2(self.dropout_fc(torch.relu(self.fc1(x))))


class ResidualBlock(nn.Module):
    """Two convolutions of 64 channels with batch norm beside a skip connection."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(64, 64, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(64)
        self.dropout = nn.Dropout2d(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.dropout(torch.relu(self.bn1(self.conv1(x))))
        return torch.relu(self.bn2(self.conv2(out)) + x)


class RNNClassifier(nn.Module):
    """Embedding, two layers of LSTM with dropout between them, scores of the last hidden state."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 128)
        self.lstm = nn.LSTM(128, 256, num_layers=2, dropout=0.5, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(256, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, (hidden, _) = self.lstm(self.dropout(self.embedding(x)))
        return self.fc(self.dropout(hidden[-1]))


class WideNet(nn.Sequential):
    """784-2048-2048-10, dropout 0.5 before the last layer."""

    def __init__(self):
        first = [nn.Linear(INPUTS, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU()]
        super().__init__(*first, nn.Dropout(0.5), nn.Linear(2048, CLASSES))


class InjectedDropout(nn.Module):
    """Dropout whose keep bits are given, one tensor a call: select, then scale."""

    def __init__(self, keeps: list[torch.Tensor], rate: float):
        super().__init__()
        dropped_units = int(rate * RATE_UNITS + 0.5)
        self.scale = RATE_UNITS / (RATE_UNITS - dropped_units)
        self.keeps = [keep.bool() for keep in keeps]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        keep = self.keeps.pop(0)
        if x.shape != keep.shape:
            raise ValueError(f"mask of shape {list(keep.shape)} for {list(x.shape)}")
        return torch.where(keep, x * self.scale, 0.0)


class InjectedLSTM(nn.Module):
    """The layers of an LSTM, on its own parameters, with a given dropout between them."""

    def __init__(self, lstm: nn.LSTM, dropout: InjectedDropout):
        super().__init__()
        self.layers = nn.ModuleList(self.layer(lstm, index) for index in range(lstm.num_layers))
        self.dropout = dropout

    @staticmethod
    def layer(lstm: nn.LSTM, index: int) -> nn.LSTM:
        width = lstm.input_size if index == 0 else lstm.hidden_size
        layer = nn.LSTM(width, lstm.hidden_size, batch_first=lstm.batch_first)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(layer, f"{name}_l0", getattr(lstm, f"{name}_l{index}"))
        return layer

    def forward(self, x: torch.Tensor):
        hidden, cell = [], []
        for index, layer in enumerate(self.layers):
            x, (last_hidden, last_cell) = layer(x if index == 0 else self.dropout(x))
            hidden.append(last_hidden)
            cell.append(last_cell)
        return x, (torch.cat(hidden), torch.cat(cell))


def features(batch: int) -> torch.Tensor:
    """Rows of pixels."""
    return torch.randn(batch, INPUTS)


def images(batch: int) -> torch.Tensor:
    """Colour images."""
    return torch.randn(batch, 3, 32, 32)


def maps(batch: int) -> torch.Tensor:
    """Feature maps within a network."""
    return torch.randn(batch, 64, 32, 32)


def tokens(batch: int) -> torch.Tensor:
    """Texts of one length."""
    return torch.randint(0, WORDS, (batch, STEPS))


def mean_of_squares(output: torch.Tensor, _target: torch.Tensor) -> torch.Tensor:
    """A loss for what yields no scores."""
    return output.square().mean()


@dataclass
class Case:
    """A network, how it is trained, how large its batch is and what is in it."""

    network: type[nn.Module]
    batch: int
    optimizer: str
    inputs: Callable[[int], torch.Tensor] = features
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = functional.cross_entropy


CASES = {
    "a64sgd": Case(SimpleNet, 64, "sgd"),
    "a64adam": Case(SimpleNet, 64, "adam"),
    "a256sgd": Case(SimpleNet, 256, "sgd"),
    "a256adam": Case(SimpleNet, 256, "adam"),
    "b128adam": Case(VariableDropoutNet, 128, "adam"),
    "c64sgd": Case(Cnn, 64, "sgd", images),
    "d32adam": Case(RNNClassifier, 32, "adam", tokens),
    "e32sgd": Case(ResidualBlock, 32, "sgd", maps, mean_of_squares),
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

    durations, of_processor = [], []
    deadline = time.perf_counter() + milliseconds / 1e3
    while True:
        start, start_of_processor = time.perf_counter(), time.process_time()
        workload.step()
        of_processor.append((time.process_time() - start_of_processor) * 1e3)
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
        "processor_median_ms": statistics.median(of_processor),
        "samples_per_s": workload.samples / median * 1e3,
    }


def new_workload(name: str) -> Workload:
    """The workload of a case, from the same seed every time."""
    torch.manual_seed(0)
    if base_of(name) in DROPOUT_SHAPES:
        return dropout_workload(name)
    if name == DRAWS_CASE:
        return draws_workload()
    case, network, optimizer = new_training(name)
    x = laid_out(name, case.inputs(case.batch))
    target = torch.randint(0, CLASSES, (case.batch,))
    return Workload(lambda: train_step(case, network, optimizer, x, target), case.batch)


def base_of(name: str) -> str:
    """The name of a case without what it asks for."""
    return name.removesuffix(FUSED_SUFFIX).removesuffix(BEST_SUFFIX)


def laid_out(name: str, x):
    """A tensor or a network in the memory format that a case asks for."""
    is_tensor = isinstance(x, torch.Tensor)
    if not name.endswith(BEST_SUFFIX) or (is_tensor and x.dim() != 4):
        return x
    return x.to(memory_format=torch.channels_last)


def dropout_workload(name: str) -> Workload:
    """Dropout alone, forward and backward with a given gradient; a sample is one element."""
    shape = DROPOUT_SHAPES[base_of(name)]
    dropout = nn.Dropout2d(0.5) if len(shape) == 4 else nn.Dropout(0.5)
    x = laid_out(name, torch.randn(shape)).requires_grad_()
    cotangent = laid_out(name, torch.randn(shape))

    def step() -> None:
        x.grad = None
        dropout(x).backward(cotangent)

    return Workload(step, x.numel())


def draws_workload() -> Workload:
    """Draws in one run: what no dropout comes before is computed once, as vmap does by itself."""
    network = WideNet().train()
    x = features(DRAWS_BATCH)
    run = torch.func.vmap(lambda _: network(x), randomness="different")
    draws = torch.arange(DRAWS)

    def step() -> None:
        with torch.no_grad():
            run(draws)

    return Workload(step, DRAWS_BATCH)


def check_draws(directory: Path) -> dict:
    """Draws of `before.safetensors` for `input` under `mask`, whose rows are samples, and then draws."""
    network = WideNet().train()
    network.load_state_dict(load_file(directory / "before.safetensors"))
    batch = load_file(directory / "batch.safetensors")
    x, keeps = batch["input"], batch["mask"].transpose(0, 1)
    dropout = network[4] = InjectedDropout([], 0.5)

    def draw(keep: torch.Tensor) -> torch.Tensor:
        dropout.keeps.append(keep.bool())
        return network(x)

    with torch.no_grad():
        draws = torch.func.vmap(draw)(keeps)
    save_file({"draws": draws.contiguous()}, directory / "after.safetensors")
    return {"case": DRAWS_CASE, "loss": draws.mean().item()}


def new_training(name: str) -> tuple[Case, nn.Module, torch.optim.Optimizer]:
    """The network and optimiser of a case; `+fused` asks for PyTorch's fused optimiser, `+best` for it
    and for channels_last."""
    base = base_of(name)
    if base not in CASES:
        timed = (f"{name} (time only)" for name in DROPOUT_SHAPES)
        known = ", ".join([*CASES, DRAWS_CASE, *timed])
        either = f"{FUSED_SUFFIX} or {BEST_SUFFIX}"
        raise ValueError(f"no case {name}: expected one of {known}, or with {either}")
    case = CASES[base]
    network = laid_out(name, case.network().train())
    fused = True if name != base else None
    if case.optimizer == "sgd":
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=fused)
    else:
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=fused)
    return case, network, optimizer


def train_step(case, network, optimizer, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One training step; the loss is not read, so that reading it is not timed."""
    optimizer.zero_grad()
    loss = case.loss(network(x), target)
    loss.backward()
    optimizer.step()
    return loss.detach()


def check_case(name: str, directory: Path) -> dict:
    """One step from `before.safetensors` on `batch.safetensors`; writes `after.safetensors`."""
    if name == DRAWS_CASE:
        return check_draws(directory)
    case, network, optimizer = new_training(name)
    network.load_state_dict(load_file(directory / "before.safetensors"))
    # Its tensors are the parameters themselves, under the names that they have before layers are replaced.
    state = network.state_dict()
    with safe_open(directory / "batch.safetensors", framework="pt") as batch:
        x = laid_out(name, batch.get_tensor("input"))
        target = batch.get_tensor("target").long()
        inject_masks(network, batch)
    loss = train_step(case, network, optimizer, x, target)

    state = {path: tensor.contiguous() for path, tensor in state.items()}
    save_file(state, directory / "after.safetensors")
    norms = {path: tensor.double().norm().item() for path, tensor in state.items()}
    return {"case": name, "loss": loss.item(), "parameters": norms}


def inject_masks(network: nn.Module, batch) -> None:
    """Put the masks `mask.LAYER#CALL` of the batch file in the place of the network's dropout.

    The rate is the metadata `p.LAYER`, else `p`, else the rate of the layer itself.
    """
    metadata = batch.metadata() or {}
    names = batch.keys()
    for path, layer in list(network.named_children()):
        is_dropout = isinstance(layer, (nn.Dropout, nn.Dropout2d))
        is_recurrent = isinstance(layer, nn.LSTM)
        if not is_dropout and not is_recurrent:
            continue
        rate = layer.p if is_dropout else layer.dropout
        rate = float(metadata.get(f"p.{path}", metadata.get("p", rate)))
        calls = sum(name.startswith(f"mask.{path}#") for name in names)
        keeps = [batch.get_tensor(f"mask.{path}#{call}") for call in range(calls)]
        dropout = InjectedDropout(keeps, rate)
        setattr(network, path, dropout if is_dropout else InjectedLSTM(layer, dropout))


if __name__ == "__main__":
    main()
