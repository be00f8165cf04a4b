# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of recurrent layers: all options, lengths, initial states; and of embeddings."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fixture import Fixture, Source

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
INPUTS, STEPS, SAMPLES = 3, 5, 4
LENGTHS = [3, 5, 1, 4]
STACK = {"bidirectional": True, "num_layers": 2}

# Name of the case, cell, units, arguments of the PyTorch module, and what else is given.
CASES = [
    ("plain", "lstm", 4, {}, ""),
    ("no_bias", "lstm", 4, {"bias": False}, ""),
    ("states", "lstm", 5, {}, "states"),
    ("two_layers", "lstm", 4, {"num_layers": 2}, "states"),
    ("both", "lstm", 4, {"bidirectional": True}, "states"),
    ("both_two_layers", "lstm", 3, STACK, ""),
    ("projected", "lstm", 5, {"proj_size": 2}, "states"),
    ("projected_all", "lstm", 4, {"proj_size": 3} | STACK, "states lengths"),
    ("lengths", "lstm", 4, {}, "lengths"),
    ("lengths_all", "lstm", 3, STACK, "states lengths"),
    ("steps_first", "lstm", 4, {"batch_first": False} | STACK, "states lengths"),
    ("wide", "lstm", 17, {}, "states"),
    ("plain", "gru", 4, {}, ""),
    ("no_bias", "gru", 4, {"bias": False}, "states"),
    ("lengths", "gru", 4, {}, "lengths"),
    ("all", "gru", 3, STACK, "states lengths"),
    ("steps_first", "gru", 3, {"batch_first": False, "bidirectional": True}, "states"),
    ("wide", "gru", 17, {}, "states"),
    ("tanh", "rnn", 4, {}, ""),
    ("tanh_all", "rnn", 3, STACK, "states lengths"),
    ("relu", "rnn", 4, {"nonlinearity": "relu"}, "states"),
    ("relu_no_bias", "rnn", 4, {"nonlinearity": "relu", "bias": False}, ""),
    ("relu_all", "rnn", 3, {"nonlinearity": "relu"} | STACK, "states lengths"),
    ("tanh_steps_first", "rnn", 3, {"batch_first": False}, "states lengths"),
]


def fixtures() -> Iterator[Fixture]:
    """All fixtures of recurrent layers and embeddings."""
    for case in CASES:
        yield recurrent(*case)
    yield embedding("embedding", (7, 4), (3, 5), None)
    yield embedding("embedding_padding", (7, 4), (3, 5), 2)
    yield embedding("embedding_last_is_padding", (6, 3), (2, 2, 4), -1)


def recurrent(suffix: str, name: str, units: int, arguments: dict, given: str) -> Fixture:
    """One layer: outputs and last states, and the gradients of everything."""
    stem = f"recurrent_{name}_{suffix}"
    source = Source(stem)
    arguments = {"batch_first": True} | arguments
    module = CELLS[name](INPUTS, units, **arguments)
    source.fill_parameters(module)
    extents = (SAMPLES, STEPS) if arguments["batch_first"] else (STEPS, SAMPLES)
    x = source.normal(*extents, INPUTS).requires_grad_()
    count = module.num_layers * (2 if module.bidirectional else 1)
    state = module.proj_size or units
    initial = []
    if "states" in given:
        initial.append(source.normal(count, SAMPLES, state).requires_grad_())
        if name == "lstm":
            initial.append(source.normal(count, SAMPLES, units).requires_grad_())
    lengths = LENGTHS if "lengths" in given else None
    results = run(module, x, initial, lengths)
    cotangents = [source.normal(*result.shape) for result in results]
    sum((result * dy).sum() for result, dy in zip(results, cotangents)).backward()

    names = ["output", "hidden", "cell"]
    tensors = {"input": x, "grad.input": x.grad}
    tensors |= {name: result for name, result in zip(names, results)}
    tensors |= {f"cotangent.{name}": dy for name, dy in zip(names, cotangents)}
    if not arguments["batch_first"]:
        # What is given to a network has samples first, whatever order the layer is told.
        for key in ["input", "grad.input", "output", "cotangent.output"]:
            tensors[key] = tensors[key].transpose(0, 1)
    for kind, tensor in zip(names[1:], initial):
        tensors |= {f"initial.{kind}": tensor, f"grad.initial.{kind}": tensor.grad}
    if lengths:
        tensors["lengths"] = torch.tensor(lengths)
    for path, parameter in module.named_parameters():
        tensors[f"param.{path}"] = parameter
        tensors[f"grad.param.{path}"] = parameter.grad
    options = {
        "inputs": INPUTS,
        "hidden": units,
        "projected": module.proj_size,
        "layers": module.num_layers,
        "bias": module.bias,
        "both": module.bidirectional,
        "batch_first": module.batch_first,
        "nonlinearity": arguments.get("nonlinearity", "tanh"),
    }
    return Fixture(stem, "recurrent", name, options, tensors)


def run(module, x, initial, lengths) -> list[torch.Tensor]:
    """Outputs and last states; those of sequences with lengths by way of a packed sequence."""
    packed = x
    if lengths:
        packed = pack_padded_sequence(x, lengths, module.batch_first, enforce_sorted=False)
    states = initial[0] if len(initial) == 1 else tuple(initial)
    output, last = module(packed, states) if initial else module(packed)
    if lengths:
        output, _ = pad_packed_sequence(output, module.batch_first, total_length=STEPS)
    return [output, *(last if isinstance(last, tuple) else [last])]


def embedding(stem: str, table, shape, padding) -> Fixture:
    """Rows of a table; the row that is padding has no gradient, but whatever value it has."""
    source = Source(stem)
    module = nn.Embedding(*table, padding_idx=padding)
    source.fill_parameters(module)
    tokens = source.classes(table[0], *shape)
    # Each row at least once, some twice.
    tokens.view(-1)[: table[0]] = torch.arange(table[0])
    output = module(tokens)
    cotangent = source.normal(*output.shape)
    output.backward(cotangent)
    tensors = {"input": tokens, "cotangent": cotangent, "output": output}
    tensors |= {"param.weight": module.weight, "grad.param.weight": module.weight.grad}
    none = "none" if padding is None else padding
    options = {"rows": table[0], "width": table[1], "padding": none}
    return Fixture(stem, "embedding", "embedding", options, tensors)
