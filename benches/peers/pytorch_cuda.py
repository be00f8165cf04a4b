#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""PyTorch on a GPU as a resident peer process: `pytorch_cuda.py [--device cuda|cpu]`.

It reads one command per line and answers each with one line of JSON:

    check CASE MODE DTYPE FOLDER            one step from before.safetensors on batch.safetensors, whose masks it takes;
                                            the loss, and in after.safetensors what came of it and each gradient.NAME
    time CASE MODE DTYPE FEED MILLISECONDS  the median time of a step, in microseconds
    product N DTYPE FORM MILLISECONDS       the median time of a product of square matrices
    quit                                    leave (so does the end of the input)

A case is NETWORK:BATCH:RULE, a mode eager, fused, graph or compile, a feed resident or from-host, a form nt, nn
or tn. What is checked is the step of a mode, neither captured nor compiled. A command that fails answers
{"error": ...} and the process lives on. PyTorch is all it needs.
"""

import argparse
import ctypes
import json
import re
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

CLASSES = 10
WARM_UP = 3
# Steps between two looks at the clock, which wait for the device.
STEPS = 10
DTYPES = {"F32": torch.float32, "I32": torch.int32, "I64": torch.int64}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

parser = argparse.ArgumentParser()
parser.add_argument("--device", default="cuda")
DEVICE = torch.device(parser.parse_args().device)
IS_CUDA = DEVICE.type == "cuda"
if IS_CUDA:
    # Graphs are captured on the device at hand.
    torch.cuda.set_device(DEVICE)


class Mlp(nn.Sequential):
    """Two hidden layers as wide as the input."""

    def __init__(self, width: int):
        hidden = [layer for _ in range(2) for layer in (nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.5))]
        super().__init__(*hidden, nn.Linear(width, CLASSES))


class Dense(nn.Module):
    """784 features, two hidden layers with dropout behind their activations."""

    def __init__(self, widths: list[int], rates: list[float]):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(784, widths[0]), nn.Linear(widths[0], widths[1])
        self.fc3 = nn.Linear(widths[1], CLASSES)
        self.dropout1, self.dropout2 = nn.Dropout(rates[0]), nn.Dropout(rates[1])

    def forward(self, x):
        x = self.dropout1(torch.relu(self.fc1(x)))
        return self.fc3(self.dropout2(torch.relu(self.fc2(x))))


class Cnn(nn.Module):
    """Two convolutions with ReLU and pooling, two linear layers, dropout of maps and of features."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 128, 3, padding=1)
        self.dropout_conv, self.dropout_fc = nn.Dropout2d(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(128 * 8 * 8, 512), nn.Linear(512, CLASSES)

    def forward(self, x):
        for conv in (self.conv1, self.conv2):
            x = functional.max_pool2d(torch.relu(conv(x)), 2)
        return self.fc2(self.dropout_fc(torch.relu(self.fc1(self.dropout_conv(x).flatten(1)))))


class SpatialDropoutCnn(nn.Module):
    """Two convolutions with dropout of maps between them."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 128, 3, padding=1)
        self.spatial_dropout = nn.Dropout2d(0.2)

    def forward(self, x):
        return torch.relu(self.conv2(self.spatial_dropout(torch.relu(self.conv1(x)))))


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm beside a skip connection."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout2d(0.1)

    def forward(self, x):
        out = self.dropout(torch.relu(self.bn1(self.conv1(x))))
        return torch.relu(self.bn2(self.conv2(out)) + x)


class RnnClassifier(nn.Module):
    """Embedding, two layers of LSTM with dropout between them, scores of the last hidden state."""

    def __init__(self, words: int, width: int, hidden: int):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, dropout=0.5, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(hidden, CLASSES)

    def forward(self, x):
        _, (hidden, _) = self.lstm(self.dropout(self.embedding(x)))
        return self.fc(self.dropout(hidden[-1]))


class Given(nn.Module):
    """Dropout whose factors are given, a tensor for each call."""

    def __init__(self, factors: list[torch.Tensor]):
        super().__init__()
        self.factors = list(factors)

    def forward(self, x):
        factors = self.factors.pop(0)
        return x * factors.reshape(factors.shape + (1,) * (x.dim() - factors.dim()))


class GivenLstm(nn.Module):
    """The layers of an LSTM, on its own parameters, with a given dropout between them."""

    def __init__(self, lstm: nn.LSTM, between: Given):
        super().__init__()
        self.layers, self.between = nn.ModuleList(), between
        for index in range(lstm.num_layers):
            width = lstm.input_size if index == 0 else lstm.hidden_size
            layer = nn.LSTM(width, lstm.hidden_size, batch_first=True, device=DEVICE)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                setattr(layer, f"{name}_l0", getattr(lstm, f"{name}_l{index}"))
            self.layers.append(layer)

    def forward(self, x):
        last = []
        for index, layer in enumerate(self.layers):
            x, (hidden, _) = layer(x if index == 0 else self.between(x))
            last.append(hidden)
        return x, (torch.cat(last), None)


# A network, and the extents of a sample; tokens are below `words`.
NETWORKS = {
    "simple": (lambda: Dense([512, 512], [0.5, 0.5]), [784], None),
    "variable": (lambda: Dense([1024, 512], [0.2, 0.5]), [784], None),
    "cnn": (Cnn, [3, 32, 32], None),
    "spatial": (SpatialDropoutCnn, [3, 32, 32], None),
    "residual": (lambda: ResidualBlock(64), [64, 32, 32], None),
    "residual8": (lambda: ResidualBlock(8), [8, 6, 6], None),
    "rnn": (lambda: RnnClassifier(10_000, 128, 256), [64], 10_000),
    "rnn8": (lambda: RnnClassifier(20, 8, 8), [3], 20),
}


class Training:
    """A network with its optimiser, and a batch."""

    def __init__(self, case: str, mode: str, dtype: str):
        self.name, batch, self.rule = case.split(":")
        self.dtype, self.fused, self.capturable = dtype, mode != "eager", mode == "graph" and IS_CUDA
        # tf32 is asked for by name, and f32 is f32.
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"
        torch.manual_seed(0)
        wide = re.fullmatch(r"mlp(\d+)", self.name)
        if wide:
            width = int(wide[1])
            make, sample, words = (lambda: Mlp(width)), [width], None
        elif self.name in NETWORKS:
            make, sample, words = NETWORKS[self.name]
        else:
            raise ValueError(f"no network {self.name}")
        self.network = make().to(DEVICE).train()
        shape = (int(batch), *sample)
        x = torch.randint(0, words, shape) if words else torch.randn(shape)
        self.host = [x, torch.randint(0, CLASSES, (int(batch),))]
        if IS_CUDA:
            self.host = [tensor.pin_memory() for tensor in self.host]
        self.x, self.target = (tensor.to(DEVICE) for tensor in self.host)
        self.optimizer = self.new_optimizer()
        self.forward = torch.compile(self.network, mode="max-autotune") if mode == "compile" else self.network

    def new_optimizer(self):
        """As kiln's case has it."""
        parameters, fused = self.network.parameters(), True if self.fused else None
        if self.rule == "sgd":
            return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, fused=fused)
        return torch.optim.Adam(parameters, lr=1e-3, fused=fused, capturable=self.capturable)

    def step(self) -> torch.Tensor:
        """One training step; the loss is not read, so that reading it is not timed."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.dtype == "bf16", cache_enabled=False):
            output = self.forward(self.x)
            if output.dim() == 2:
                loss = functional.cross_entropy(output, self.target)
            else:
                loss = output.float().square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def feed(self) -> None:
        """The batch from host memory, as a loader leaves it there."""
        self.x.copy_(self.host[0], non_blocking=True)
        self.target.copy_(self.host[1], non_blocking=True)


def replay_of(training: Training):
    """The step captured once, as PyTorch's documentation asks for it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            training.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        training.step()
    return graph.replay


workloads: dict = {}


def workload(case: str, mode: str, dtype: str):
    """A training and what runs its step; kept for the next turn."""
    key = (case, mode, dtype)
    if key not in workloads:
        # Only the case at hand: others' memory is given back.
        for other in [kept for kept in workloads if kept[0] != case or kept[2] != dtype]:
            del workloads[other]
        training = Training(case, mode, dtype)
        workloads[key] = (training, replay_of(training) if training.capturable else training.step)
    return workloads[key]


def synchronize() -> None:
    """Waits for the device."""
    if IS_CUDA:
        torch.cuda.synchronize()


def median_us(step, milliseconds: float) -> float:
    """Microseconds of a step, the median over samples of some behind each other."""
    for _ in range(WARM_UP):
        step()
    synchronize()
    times, deadline = [], time.perf_counter() + milliseconds / 1e3
    while not times or time.perf_counter() < deadline:
        begin = time.perf_counter()
        for _ in range(STEPS):
            step()
        synchronize()
        times.append((time.perf_counter() - begin) / STEPS * 1e6)
    return statistics.median(times)


def time_step(case: str, mode: str, dtype: str, feed: str, milliseconds: str) -> dict:
    """The command `time`."""
    training, run = workload(case, mode, dtype)
    if feed == "resident":
        return {"us": median_us(run, float(milliseconds))}

    def fed() -> None:
        training.feed()
        run()

    return {"us": median_us(fed, float(milliseconds))}


def time_product(n: str, dtype: str, form: str, milliseconds: str) -> dict:
    """The command `product`."""
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    a, b = (torch.randn(int(n), int(n), device=DEVICE).to(kind) for _ in range(2))
    left, right = (a.t() if form == "tn" else a), (b.t() if form == "nt" else b)
    return {"us": median_us(lambda: left @ right, float(milliseconds))}


def check(case: str, mode: str, dtype: str, folder: str) -> dict:
    """The command `check`."""
    training = Training(case, "fused" if mode == "compile" else mode, dtype)
    network, at = training.network, Path(folder)
    network.load_state_dict({name: tensor.to(DEVICE) for name, tensor in load(at / "before.safetensors").items()})
    # Its tensors are the parameters themselves, under the names that they have before layers are replaced.
    state, parameters = network.state_dict(), dict(network.named_parameters())
    batch = {name: tensor.to(DEVICE) for name, tensor in load(at / "batch.safetensors").items()}
    training.x, training.target = batch["input"], batch["target"].long()
    for path, layer in list(network.named_modules()):
        masks = [name for name in batch if name.startswith(f"mask.{path}#")]
        given = Given([batch[f"mask.{path}#{call}"] for call in range(len(masks))])
        if isinstance(layer, (nn.Dropout, nn.Dropout2d)):
            setattr(network, path, given)
        elif isinstance(layer, nn.LSTM):
            setattr(network, path, GivenLstm(layer, given))
    loss = training.step()
    state.update((f"gradient.{name}", parameter.grad) for name, parameter in parameters.items())
    save({name: tensor.contiguous().cpu() for name, tensor in state.items()}, at / "after.safetensors")
    return {"loss": loss.item()}


def load(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, without its package."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, about in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in about["data_offsets"])
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=DTYPES[about["dtype"]])
        tensors[name] = flat.reshape(about["shape"])
    return tensors


def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Writes such a file."""
    header, blocks, at = {}, [], 0
    for name, tensor in tensors.items():
        block = ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())
        about = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(block)]}
        header[name], at = about, at + len(block)
        blocks.append(block)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blocks))


COMMANDS = {"check": check, "time": time_step, "product": time_product}


def main() -> None:
    """Answers commands until `quit` or the end of the input."""
    torch.backends.cudnn.benchmark = True
    about = torch.cuda.get_device_name(DEVICE) if IS_CUDA else "cpu"
    print(json.dumps({"ready": True, "version": torch.__version__, "device": about}), flush=True)
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            break
        if not words:
            continue
        try:
            answer = COMMANDS[words[0]](*words[1:])
        except Exception as error:  # the process outlives every failed command
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
