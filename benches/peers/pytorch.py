# SPDX-License-Identifier: MIT OR Apache-2.0
"""PyTorch eager as a resident peer process: `python pytorch.py THREADS`.

It reads one command per line and answers each with one line of JSON:

    time CASE MILLISECONDS  repeat the step for that long, answer its time
    steps CASE COUNT        make so many steps
    check CASE DIRECTORY    one step from a given state with given masks, answer the loss; of draws, their mean
    quit                    leave (so does the end of the input)

A step is zero_grad, forward in train mode, cross-entropy, backward, optimiser step; of `...eval` it is a forward
pass in eval mode, of `mc32` 32 draws by `torch.func.vmap`. A command that fails answers {"error": ...} and the process lives on.
"""

import itertools
import json
import os
import re
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

import growth  # noqa: E402
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
# Batches of images, cropped and mirrored; the best way has workers.
LOADING_CASE = "load64"
LOADED_IMAGES = 4096
LOADING_BATCH = 64
LOADING_WORKERS = 2
# One quantity grows, as in `grow-batch-64`.
GROWING = "grow-"
# The fused optimiser, images in channels_last, and inference mode.
BEST_SUFFIX = "+best"
# With all that, by torch.compile.
COMPILED_SUFFIX = "+compiled"
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


class SpatialDropoutCnn(nn.Module):
    """Two convolutions with dropout of maps between them."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1)
        self.spatial_dropout = nn.Dropout2d(0.2)
        self.conv2 = nn.Conv2d(64, 128, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv2(self.spatial_dropout(torch.relu(self.conv1(x)))))


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


class BasicBlock(nn.Module):
    """Two convolutions with batch norm beside a skip connection, which a 1x1 convolution halves with them."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout2d(0.1)
        self.downsample = None
        if stride == 2:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.dropout(torch.relu(self.bn1(self.conv1(x))))
        beside = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(out)) + beside)


class ResnetSmall(nn.Module):
    """ResNet-20 with dropout of maps in its blocks."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(16, 16)
        self.layer2 = self.stage(16, 32)
        self.layer3 = self.stage(32, 64)
        self.fc = nn.Linear(64, CLASSES)

    @staticmethod
    def stage(inputs: int, outputs: int) -> nn.Sequential:
        more = (BasicBlock(outputs, outputs) for _ in range(2))
        return nn.Sequential(BasicBlock(inputs, outputs), *more)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


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
class Net:
    """A network, what is in its batches, and its loss."""

    network: type[nn.Module]
    inputs: Callable[[int], torch.Tensor] = features
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = functional.cross_entropy


# By the first letter of a case.
NETS = {
    "a": Net(SimpleNet),
    "b": Net(VariableDropoutNet),
    "c": Net(Cnn, images),
    "d": Net(RNNClassifier, tokens),
    "e": Net(ResidualBlock, maps, mean_of_squares),
    "f": Net(SpatialDropoutCnn, images, mean_of_squares),
    "g": Net(ResnetSmall, images),
}


@dataclass
class Case:
    """What a name such as `a64sgd+best` says: the net, the batch, what is done with it and how."""

    net: Net
    batch: int
    does: str
    suffix: str

    @staticmethod
    def parse(name: str) -> "Case":
        match = re.fullmatch(r"([a-g])(\d+)(sgd|adam|eval)(\+best|\+compiled)?", name)
        if not match:
            known = ", ".join([*DROPOUT_SHAPES, LOADING_CASE, DRAWS_CASE])
            raise ValueError(f"no case {name}: expected [a-g]BATCH(sgd|adam|eval), or {known}")
        letter, batch, does, suffix = match.groups()
        return Case(NETS[letter], int(batch), does, suffix or "")


@dataclass
class Workload:
    """Something to time: one call of `step` handles `samples` samples."""

    step: Callable[[], None]
    samples: int
    parameters: int | None = None


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
        case ["steps", case, count]:
            workload = kept_workload(case)
            for _ in range(int(count)):
                workload.step()
            return {"case": case}
        case ["check", case, directory]:
            return check_case(case, Path(directory))
    raise ValueError("expected `time CASE MILLISECONDS`, `steps CASE COUNT`, `check CASE DIRECTORY` or `quit`")


def time_case(name: str, milliseconds: float) -> dict:
    """Repeat the step for the given time; the workload is kept for the next call."""
    warm_up = WARM_UP_AGAIN if name in workloads else WARM_UP_FIRST
    workload = kept_workload(name)
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
        "step_p99_ms": sorted(durations)[-(-99 * (len(durations) - 1) // 100)],
        "processor_median_ms": statistics.median(of_processor),
        "samples_per_s": workload.samples / median * 1e3,
        "parameters": workload.parameters,
    }


def kept_workload(name: str) -> Workload:
    """The workload of a case, made by the first who asks."""
    if name not in workloads:
        workloads[name] = new_workload(name)
    return workloads[name]


def new_workload(name: str) -> Workload:
    """The workload of a case, from the same seed every time."""
    torch.manual_seed(0)
    if name.startswith(GROWING):
        workloads.clear()  # they are large, and none is asked for again
        axis, size = name.removeprefix(GROWING).split("-")
        return Workload(*growth.new_step(axis, int(size)))
    base, _, suffix = name.partition("+")
    if base in DROPOUT_SHAPES:
        return dropout_workload(base, f"+{suffix}")
    if base == LOADING_CASE:
        return loading_workload(LOADING_WORKERS if suffix else 0)
    if name == DRAWS_CASE:
        return draws_workload()
    case = Case.parse(name)
    network = new_network(case)
    x = laid_out(case.suffix, case.net.inputs(case.batch))
    if case.does == "eval":
        return Workload(lambda: predict(case, network, x), case.batch)
    optimizer = new_optimizer(case, network)
    target = torch.randint(0, CLASSES, (case.batch,))
    return Workload(lambda: train_step(case, network, optimizer, x, target), case.batch)


def laid_out(suffix: str, x):
    """A tensor or a network in the memory format that a case asks for."""
    is_tensor = isinstance(x, torch.Tensor)
    is_best = suffix in (BEST_SUFFIX, COMPILED_SUFFIX)
    if not is_best or (is_tensor and x.dim() != 4):
        return x
    return x.to(memory_format=torch.channels_last)


def dropout_workload(name: str, suffix: str) -> Workload:
    """Dropout alone, forward and backward with a given gradient; a sample is one element."""
    shape = DROPOUT_SHAPES[name]
    dropout = nn.Dropout2d(0.5) if len(shape) == 4 else nn.Dropout(0.5)
    x = laid_out(suffix, torch.randn(shape)).requires_grad_()
    cotangent = laid_out(suffix, torch.randn(shape))

    def step() -> None:
        x.grad = None
        dropout(x).backward(cotangent)

    return Workload(step, x.numel())


class Images(torch.utils.data.Dataset):
    """Images in memory, cropped from a border of 4 zeros and mirrored at random."""

    def __init__(self):
        self.images = torch.randn(LOADED_IMAGES, 3, 32, 32)

    def __len__(self) -> int:
        return LOADED_IMAGES

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = functional.pad(self.images[index], (4, 4, 4, 4))
        top, left = torch.randint(0, 9, (2,)).tolist()
        image = image[:, top : top + 32, left : left + 32]
        return image.flip(-1) if torch.rand(()) < 0.5 else image, index % CLASSES


def loading_workload(workers: int) -> Workload:
    """The next batch, epoch after epoch."""
    loader = torch.utils.data.DataLoader(
        Images(), LOADING_BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    return Workload(lambda: next(batches), LOADING_BATCH)


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


def new_network(case: Case) -> nn.Module:
    """The network of a case, in the mode and the layout that it asks for."""
    network = laid_out(case.suffix, case.net.network().train(case.does != "eval"))
    if case.suffix == COMPILED_SUFFIX:
        network.compile()
    return network


def new_optimizer(case: Case, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a case, PyTorch's default or its fastest."""
    fused = True if case.suffix else None
    if case.does == "sgd":
        return torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=fused)
    return torch.optim.Adam(network.parameters(), lr=1e-3, fused=fused)


def predict(case: Case, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A forward pass in eval mode."""
    with torch.inference_mode() if case.suffix else torch.no_grad():
        return network(x)


def train_step(case: Case, network, optimizer, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One training step; the loss is not read, so that reading it is not timed."""
    optimizer.zero_grad()
    loss = case.net.loss(network(x), target)
    loss.backward()
    optimizer.step()
    return loss.detach()


def check_case(name: str, directory: Path) -> dict:
    """One step from `before.safetensors` on `batch.safetensors`; writes `after.safetensors`."""
    if name == DRAWS_CASE:
        return check_draws(directory)
    case = Case.parse(name)
    network = new_network(case)
    network.load_state_dict(load_file(directory / "before.safetensors"))
    # Its tensors are the parameters themselves, under the names that they have before layers are replaced.
    state = network.state_dict()
    parameters = dict(network.named_parameters())
    with safe_open(directory / "batch.safetensors", framework="pt") as batch:
        x = laid_out(case.suffix, batch.get_tensor("input"))
        if case.does == "eval":
            output = predict(case, network, x).clone().contiguous()
            save_file({"output": output}, directory / "after.safetensors")
            return {"case": name, "loss": output.mean().item()}
        target = batch.get_tensor("target").long()
        inject_masks(network, batch)
    loss = train_step(case, network, new_optimizer(case, network), x, target)

    state = {path: tensor.contiguous() for path, tensor in state.items()}
    norms = {path: tensor.double().norm().item() for path, tensor in state.items()}
    for path, parameter in parameters.items():
        state[f"gradient.{path}"] = parameter.grad.contiguous()
    save_file(state, directory / "after.safetensors")
    return {"case": name, "loss": loss.item(), "parameters": norms}


def inject_masks(network: nn.Module, batch) -> None:
    """Put the masks `mask.LAYER#CALL` of the batch file in the place of the network's dropout.

    The rate is the metadata `p.LAYER`, else `p`, else the rate of the layer itself.
    """
    metadata = batch.metadata() or {}
    names = batch.keys()
    for path, layer in list(network.named_modules()):
        is_dropout = isinstance(layer, (nn.Dropout, nn.Dropout2d))
        is_recurrent = isinstance(layer, nn.LSTM)
        if not is_dropout and not is_recurrent:
            continue
        rate = layer.p if is_dropout else layer.dropout
        rate = float(metadata.get(f"p.{path}", metadata.get("p", rate)))
        calls = sum(name.startswith(f"mask.{path}#") for name in names)
        keeps = [batch.get_tensor(f"mask.{path}#{call}") for call in range(calls)]
        dropout = InjectedDropout(keeps, rate)
        network.set_submodule(path, dropout if is_dropout else InjectedLSTM(layer, dropout))


if __name__ == "__main__":
    main()
