# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes torch_resnet18.safetensors: what torchvision's ResNet-18, written again here under the same names, answers
to two images of 64x64 and two of 224x224 pixels in eval mode: `python make_resnet18_fixture.py` (torch and
safetensors; see ../golden).

The 45 MB of its weights are not in the file: both sides work them out from their names, see `numbers` and `value`.
The metadata `state` lists the names and shapes of the state_dict. Computed in f64, stored as f32."""

from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent
WORD = 0xFFFFFFFF
SIDES = [64, 224]


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + identity)


class ResNet18(nn.Module):
    def __init__(self, classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64), BasicBlock(64, 64))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def numbers(name: str, count: int) -> numpy.ndarray:
    """Numbers in [-1, 1) that f32 holds exactly: each place, mixed with the FNV-1a of a name."""
    key = 0x811C9DC5
    for byte in name.encode():
        key = ((key ^ byte) * 0x01000193) & WORD
    x = numpy.arange(count, dtype=numpy.uint32) * numpy.uint32(0x9E3779B9) + numpy.uint32(key)
    for shift, factor in [(16, 0x85EBCA6B), (13, 0xC2B2AE35)]:
        x = (x ^ (x >> numpy.uint32(shift))) * numpy.uint32(factor)
    x ^= x >> numpy.uint32(16)
    return (x >> numpy.uint32(8)).astype(numpy.float32) * numpy.float32(2**-23) - numpy.float32(1)


def value(name: str, shape: list[int]) -> torch.Tensor:
    """What a tensor of the state_dict holds; each step is rounded to f32."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    x = numbers(name, int(numpy.prod(shape)))
    if len(shape) > 1:
        x = x * numpy.float32(numpy.sqrt(6 / numpy.prod(shape[1:])))
    elif name.endswith("running_var"):
        x = x * numpy.float32(0.75) + numpy.float32(1.25)
    elif name.endswith("weight"):
        x = x * numpy.float32(0.5) + numpy.float32(1)
    else:
        x = x * numpy.float32(0.25)
    assert x.dtype == numpy.float32
    return torch.from_numpy(x.reshape(shape))


def logits(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The answers, computed in some type."""
    net = ResNet18().eval()
    state = {name: value(name, list(tensor.shape)) for name, tensor in net.state_dict().items()}
    net.load_state_dict(state, strict=True)
    net = net.to(dtype)
    with torch.no_grad():
        images = [torch.from_numpy(numbers(f"images{side}", 2 * 3 * side * side) * numpy.float32(2)) for side in SIDES]
        images = [x.reshape(2, 3, side, side).to(dtype) for x, side in zip(images, SIDES)]
        return {f"logits{side}": net(x).contiguous() for x, side in zip(images, SIDES)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    exact, single = logits(torch.float64), logits(torch.float32)
    for name, expected in exact.items():
        error = (single[name] - expected).abs().max() / expected.abs().max()
        print(f"{name}: largest {expected.abs().max():.2f}, PyTorch's own error in f32 {error:.1e} of that")
    shapes = ResNet18().state_dict().items()
    listed = [f"{name} {'x'.join(map(str, tensor.shape))}".strip() for name, tensor in shapes]
    tensors = {name: tensor.float() for name, tensor in exact.items()}
    save_file(tensors, HERE / "torch_resnet18.safetensors", metadata={"state": "\n".join(listed)})
