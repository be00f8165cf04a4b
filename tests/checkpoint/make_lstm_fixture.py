# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes torch_lstm.safetensors, the state_dict of the article's RNNClassifier with two directions, saved by
PyTorch, and torch_lstm_output.safetensors, what its LSTM and the network answer for texts of several lengths:
`python make_lstm_fixture.py` (torch and safetensors; see ../golden)."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = Path(__file__).parent


class RNNClassifier(nn.Module):
    def __init__(self, vocab_size, embedding_dim, hidden_dim, output_dim, dropout_p=0.5):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(
            embedding_dim, hidden_dim, num_layers=2, dropout=dropout_p, batch_first=True, bidirectional=True
        )
        self.dropout = nn.Dropout(dropout_p)
        self.fc = nn.Linear(hidden_dim, output_dim)

    def forward(self, x, lengths):
        embedded = self.dropout(self.embedding(x))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        output, (hidden, cell) = self.lstm(packed)
        output, _ = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
        return output, hidden, cell, self.fc(self.dropout(hidden[-1]))


if __name__ == "__main__":
    torch.manual_seed(7)
    net = RNNClassifier(20, 5, 9, 3).eval()
    lengths = torch.tensor([7, 1, 4])
    x = torch.randint(0, 20, (3, 7))
    save_file(net.state_dict(), HERE / "torch_lstm.safetensors", metadata={"format": "pt"})
    with torch.no_grad():
        output, hidden, cell, scores = net(x, lengths)
    tensors = {"output": output, "hidden": hidden, "cell": cell, "scores": scores}
    tensors |= {"tokens": x.int(), "lengths": lengths.int()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "torch_lstm_output.safetensors")
