# SPDX-License-Identifier: MIT OR Apache-2.0
"""The other side of `kiln verify`: the same training steps in PyTorch.

    python oracle.py FOLDER

FOLDER holds `task.json`, which says what to build, and `given.safetensors`. The results go to
`found.safetensors`, and then a word on how it went to `report.json`. PyTorch is all that is needed.
"""

import ctypes
import json
import os
import re
import struct
import sys
import threading

OLDEST = (2, 0)

FOLDER = sys.argv[1]


def report(**words):
    with open(os.path.join(FOLDER, "report.json"), "w") as file:
        json.dump(words, file)


try:
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
except ImportError as error:
    report(error="cannot import PyTorch: %s" % error)
    sys.exit(3)

found = re.match(r"(\d+)\.(\d+)", torch.__version__)
if not found or (int(found.group(1)), int(found.group(2))) < OLDEST:
    report(error="has PyTorch %s, which is too old" % torch.__version__)
    sys.exit(3)


# ---- The networks ----------------------------------------------------------------------------------


class SimpleNet(nn.Module):
    def __init__(self, inputs, hidden, classes, p):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.dropout1 = nn.Dropout(p)
        self.fc2 = nn.Linear(hidden, hidden)
        self.dropout2 = nn.Dropout(p)
        self.fc3 = nn.Linear(hidden, classes)

    def forward(self, x):
        x = self.dropout1(F.relu(self.fc1(x)))
        x = self.dropout2(F.relu(self.fc2(x)))
        return self.fc3(x)


class VariableDropoutNet(nn.Module):
    def __init__(self, p1, p2):
        super().__init__()
        self.fc1 = nn.Linear(784, 1024)
        self.dropout1 = nn.Dropout(p1)
        self.fc2 = nn.Linear(1024, 512)
        self.dropout2 = nn.Dropout(p2)
        self.fc3 = nn.Linear(512, 10)

    def forward(self, x):
        x = self.dropout1(F.relu(self.fc1(x)))
        x = self.dropout2(F.relu(self.fc2(x)))
        return self.fc3(x)


class CNN(nn.Module):
    def __init__(self, classes, p_conv, p_fc):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1)
        self.conv2 = nn.Conv2d(64, 128, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.dropout_conv = nn.Dropout2d(p_conv)
        self.fc1 = nn.Linear(128 * 8 * 8, 512)
        self.dropout_fc = nn.Dropout(p_fc)
        self.fc2 = nn.Linear(512, classes)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = self.dropout_conv(x)
        x = x.view(x.size(0), -1)
        x = self.dropout_fc(F.relu(self.fc1(x)))
        return self.fc2(x)


class SpatialDropoutCNN(nn.Module):
    def __init__(self, classes, p):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1)
        self.spatial_dropout = nn.Dropout2d(p)
        self.conv2 = nn.Conv2d(64, 128, 3, padding=1)
        self.fc = nn.Linear(128 * 8 * 8, classes)

    def forward(self, x):
        x = self.spatial_dropout(F.relu(self.conv1(x)))
        x = F.relu(self.conv2(x))
        return self.fc(F.avg_pool2d(x, 4).flatten(1))


class ResidualBlock(nn.Module):
    def __init__(self, channels, p):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout2d(p)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.dropout(out)
        out = self.bn2(self.conv2(out))
        return F.relu(out + x)


class ResidualNet(nn.Module):
    def __init__(self, classes, p):
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.features = nn.Sequential(stem, ResidualBlock(64, p))
        self.fc = nn.Linear(64 * 4 * 4, classes)

    def forward(self, x):
        return self.fc(F.avg_pool2d(self.features(x), 4).flatten(1))


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, p):
        super().__init__()
        # First, as torchvision's ResNets construct it.
        self.downsample = None
        if stride > 1:
            conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout2d(p)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(self.dropout(out)))
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(out + skip)


class ResNetSmall(nn.Module):
    def __init__(self, classes, p):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(16, 16, p)
        self.layer2 = self.stage(16, 32, p)
        self.layer3 = self.stage(32, 64, p)
        self.fc = nn.Linear(64, classes)

    def stage(self, inputs, outputs, p):
        first = BasicBlock(inputs, outputs, outputs // inputs, p)
        return nn.Sequential(first, BasicBlock(outputs, outputs, 1, p), BasicBlock(outputs, outputs, 1, p))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(F.avg_pool2d(x, 8).flatten(1))


class RNNClassifier(nn.Module):
    def __init__(self, tokens, embedding, hidden, classes, layers, p, cell, bidirectional):
        super().__init__()
        self.embedding = nn.Embedding(tokens, embedding)
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        between = p if layers > 1 else 0.0
        options = dict(batch_first=True, bidirectional=bidirectional)
        self.add_module(cell, kind(embedding, hidden, layers, dropout=between, **options))
        self.dropout = nn.Dropout(p)
        self.fc = nn.Linear(hidden * (2 if bidirectional else 1), classes)
        self.cell, self.bidirectional = cell, bidirectional

    def forward(self, x, lengths):
        embedded = self.dropout(self.embedding(x))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, hidden = getattr(self, self.cell)(packed)
        hidden = hidden[0] if self.cell == "lstm" else hidden
        last = torch.cat((hidden[-2], hidden[-1]), 1) if self.bidirectional else hidden[-1]
        return self.fc(self.dropout(last))


NETS = {
    "simple": SimpleNet,
    "variable": VariableDropoutNet,
    "cnn": CNN,
    "spatial-cnn": SpatialDropoutCNN,
    "residual": ResidualNet,
    "resnet-small": ResNetSmall,
    "rnn": RNNClassifier,
}


# ---- Masks that are given --------------------------------------------------------------------------


class Masks:
    """The masks of a pass: those of each layer in the order of its calls."""

    def __init__(self):
        self.of_pass, self.calls = {}, {}

    def begin(self, masks):
        self.of_pass, self.calls = masks, {}

    def times(self, layer, x):
        call = self.calls.get(layer, 0)
        self.calls[layer] = call + 1
        return x * self.of_pass["%s#%d" % (layer, call)]


class GivenDropout(nn.Module):
    """In the place of nn.Dropout and nn.Dropout2d."""

    def __init__(self, masks, name):
        super().__init__()
        self.masks, self.name = masks, name

    def forward(self, x):
        return self.masks.times(self.name, x)


class Stacked(nn.Module):
    """In the place of an nn.LSTM or nn.GRU of several layers: layers of their own, and masks between."""

    def __init__(self, masks, name, whole):
        super().__init__()
        self.masks, self.name = masks, name
        directions = 2 if whole.bidirectional else 1
        inputs = [whole.input_size] + [whole.hidden_size * directions] * (whole.num_layers - 1)
        options = dict(batch_first=True, bidirectional=whole.bidirectional)
        layers = [type(whole)(count, whole.hidden_size, **options) for count in inputs]
        self.layers = nn.ModuleList(layers)

    def forward(self, packed):
        x, lengths = pad_packed_sequence(packed, batch_first=True)
        hidden = []
        for index, layer in enumerate(self.layers):
            if index > 0:
                x = self.masks.times(self.name, x)
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            packed, last = layer(packed)
            hidden.append(last[0] if isinstance(last, tuple) else last)
            x, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.size(1))
        hidden = torch.cat(hidden)
        return packed, ((hidden, None) if isinstance(self.layers[0], nn.LSTM) else hidden)


def give_masks(net, masks):
    """Puts layers that take given masks in the place of those that draw."""
    for path, module in list(net.named_modules()):
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            other = GivenDropout(masks, path)
        elif isinstance(module, (nn.LSTM, nn.GRU)) and module.num_layers > 1:
            other = Stacked(masks, path, module)
        else:
            continue
        parent, _, name = path.rpartition(".")
        setattr(net.get_submodule(parent), name, other)


def usual_name(path):
    """The name of a parameter where recurrent layers are one module."""
    return re.sub(r"layers\.(\d+)\.(\w+?)_l0", r"\2_l\1", path)


# ---- Training --------------------------------------------------------------------------------------


def new_optimizer(parameters, options):
    options = dict(options)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kind[options.pop("name")](parameters, **options)


def train(task, given, dtype, prefix):
    """Trains, and returns what it found under names behind a prefix."""
    found = {}
    seed = task["torch_seed"]
    if seed is not None:
        torch.manual_seed(seed)
    net = NETS[task["net"]](**task["sizes"])
    masks = Masks()
    if seed is None:
        give_masks(net, masks)
        net = net.to(dtype)
        state = net.state_dict()
        start = below(given, "parameter.", dtype)
        for path in state:
            state[path] = start.pop(usual_name(path))
        if start:
            raise ValueError("no parameters %s" % ", ".join(start))
        net.load_state_dict(state)
    else:
        for path, parameter in net.named_parameters():
            found["initial." + path] = parameter.detach().clone()
        net = net.to(dtype)

    optimizer = new_optimizer(net.parameters(), task["optimizer"])
    losses = []
    net.train()
    for step in range(task["steps"]):
        x = [floating(given["input.%d.%d" % (step, index)], dtype) for index in range(task["inputs"])]
        target = given["target.%d" % step].long()
        masks.begin(below(given, "mask.%d." % step, dtype))
        optimizer.zero_grad()
        scores = net(*x)
        loss = F.cross_entropy(scores, target)
        loss.backward()
        if step == 0:
            found["forward.loss"], found["forward.scores"] = loss.detach().clone(), scores.detach().clone()
            for path, parameter in net.named_parameters():
                gradient = parameter.grad
                gradient = torch.zeros_like(parameter) if gradient is None else gradient
                found["gradient." + usual_name(path)] = gradient.detach().clone()
        if task["clip"] is not None:
            nn.utils.clip_grad_norm_(net.parameters(), task["clip"])
        optimizer.step()
        losses.append(loss.detach())
        for number in {1, task["steps"]} & {step + 1}:
            for path, value in net.state_dict().items():
                found["step%d.%s" % (number, usual_name(path))] = value.detach().clone()
    if task["steps"] > 1:
        found["step%d.losses" % task["steps"]] = torch.stack(losses)
    return {prefix + name: value for name, value in found.items()}


def below(given, prefix, dtype):
    items = ((name, value) for name, value in given.items() if name.startswith(prefix))
    return {name[len(prefix) :]: floating(value, dtype) for name, value in items}


def floating(value, dtype):
    return value.to(dtype) if value.is_floating_point() else value.long()


# ---- Kinks -----------------------------------------------------------------------------------------

# Share of the largest input of a ReLU, or of a pool, within which rounding may decide.
NEAR = 2.0**-21

usual_relu, usual_max_pool2d = F.relu, F.max_pool2d


class ReluAtKinks(torch.autograd.Function):
    """A ReLU with a slope of its own where its input is nearly 0."""

    @staticmethod
    def forward(ctx, x, slope):
        near = (x != 0) & (x.abs() <= NEAR * x.abs().max())
        ctx.save_for_backward(torch.where(near, torch.full_like(x, slope), (x > 0).to(x.dtype)))
        return usual_relu(x)

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0], None


def second_of_nearly_equal(x, *_, **__):
    """Max-pooling of 2x2 that hands on the second largest where it is nearly the largest."""
    samples, channels, height, width = x.shape
    windows = x.reshape(samples, channels, height // 2, 2, width // 2, 2)
    top = windows.permute(0, 1, 2, 4, 3, 5).flatten(4).topk(2, dim=4).values
    near = top[..., 0] - top[..., 1] <= NEAR * x.abs().max()
    return torch.where(near, top[..., 1], top[..., 0])


def undecided(task, given, dtype, found):
    """By how much each tensor could be another one where rounding decides at kinks: trains with either
    decision."""
    most = {}
    for slope, max_pool2d in ((0.0, second_of_nearly_equal), (1.0, usual_max_pool2d)):
        F.relu = lambda x, inplace=False: ReluAtKinks.apply(x, slope)
        F.max_pool2d = max_pool2d
        for name, value in train(task, given, dtype, "").items():
            difference = (value.double() - found[name].double()).abs().max()
            most[name] = most.get(name, 0.0) + difference
    F.relu, F.max_pool2d = usual_relu, usual_max_pool2d
    return {"undecided." + name: difference for name, difference in most.items()}


def draws_by_its_generator():
    """Whether dropout draws as PyTorch's own code does, and is not left to a library."""
    for p in (0.5, 0.2):
        torch.manual_seed(1)
        kept = F.dropout(torch.ones(4096), p) > 0
        torch.manual_seed(1)
        if not torch.equal(kept, torch.rand(4096, dtype=torch.float64) < 1 - p):
            return False
    return True


# ---- Files -----------------------------------------------------------------------------------------

TYPES = {
    "F32": torch.float32,
    "F64": torch.float64,
    "I32": torch.int32,
    "I64": torch.int64,
}


def load(path):
    """The tensors of a safetensors file."""
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length].decode())
    header.pop("__metadata__", None)
    tensors = {}
    for name, info in header.items():
        start, end = (8 + length + offset for offset in info["data_offsets"])
        flat = torch.frombuffer(bytearray(data[start:end]), dtype=TYPES[info["dtype"]])
        tensors[name] = flat.reshape(info["shape"])
    return tensors


def save(tensors, path):
    names = {dtype: name for name, dtype in TYPES.items()}
    header, pieces, end = {}, [], 0
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        piece = ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())
        info = {"dtype": names[tensor.dtype], "shape": list(tensor.shape)}
        info["data_offsets"] = [end, end + len(piece)]
        header[name], end = info, end + len(piece)
        pieces.append(piece)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(pieces)


def end_with_the_caller():
    """The caller holds the other end of the standard input for as long as it lives."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main():
    threading.Thread(target=end_with_the_caller, daemon=True).start()
    with open(os.path.join(FOLDER, "task.json")) as file:
        task = json.load(file)
    given = load(os.path.join(FOLDER, "given.safetensors"))
    if task["torch_seed"] is None:
        # What the numbers should be, and what PyTorch makes of them in the usual precision.
        exact = train(task, given, torch.float64, "")
        either = undecided(task, given, torch.float64, exact)
        found = dict(exact, **either, **train(task, given, torch.float32, "f32."))
    elif draws_by_its_generator():
        found = train(task, given, torch.float32, "")
        found.update(undecided(task, given, torch.float32, found))
        # The same draws, with more digits: to tell what is 0 but for rounding.
        exact = train(task, given, torch.float64, "exact.")
        found.update(exact)
    else:
        report(error="draws masks by another generator than PyTorch's own, as on processors of Intel's")
        sys.exit(3)
    save(found, os.path.join(FOLDER, "found.safetensors"))
    report(torch=torch.__version__)


main()
