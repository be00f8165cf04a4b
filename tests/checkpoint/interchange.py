# SPDX-License-Identifier: MIT OR Apache-2.0
"""Loads weights written by kiln strictly into PyTorch's network, prints its answers to the inputs
0, 1, 2, ... (one number a line) and writes the same weights back: interchange.py FROM TO."""

import sys

import torch
from safetensors.torch import load_file, save_file

from make_fixture import SimpleNet

if __name__ == "__main__":
    net = SimpleNet(6, 5, 3).eval()
    net.load_state_dict(load_file(sys.argv[1]), strict=True)
    with torch.no_grad():
        scores = net(torch.arange(12, dtype=torch.float32).reshape(2, 6))
    for score in scores.flatten().tolist():
        print(repr(score))
    save_file(net.state_dict(), sys.argv[2], metadata={"format": "pt"})
