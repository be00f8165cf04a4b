# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes torch_simple_net.safetensors, a state_dict saved by PyTorch, and torch_output.safetensors,
what the network answers: `python make_fixture.py` (torch and safetensors; see ../golden)."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent


class SimpleNet(nn.Module):
    """The network of kiln::models::SimpleNet."""

    def __init__(self, inputs: int, hidden: int, classes: int):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.dropout1 = nn.Dropout(0.5)
        self.fc2 = nn.Linear(hidden, hidden)
        self.dropout2 = nn.Dropout(0.5)
        self.fc3 = nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout1(self.fc1(x).relu())
        x = self.dropout2(self.fc2(x).relu())
        return self.fc3(x)


if __name__ == "__main__":
    torch.manual_seed(7)
    net = SimpleNet(6, 5, 3).eval()
    x = torch.randn(4, 6)
    save_file(net.state_dict(), HERE / "torch_simple_net.safetensors", metadata={"format": "pt"})
    with torch.no_grad():
        save_file({"input": x, "output": net(x)}, HERE / "torch_output.safetensors")
