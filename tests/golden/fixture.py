# SPDX-License-Identifier: MIT OR Apache-2.0
"""What a golden fixture is, where its random numbers come from, and how it is written."""

import json
import struct
import zlib
from dataclasses import dataclass, field

import numpy
import safetensors.torch
import torch


@dataclass
class Fixture:
    """One file of tensors. `kind` and `name` tell a test what to build, `options` how.

    `float_type` is what floating tensors are stored as, whatever they were computed in.
    """

    stem: str
    kind: str
    name: str
    options: dict[str, object] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    float_type: torch.dtype = torch.float32

    def to_bytes(self) -> bytes:
        """Serialise to the safetensors format, the same bytes on every run.

        The library writes the metadata in hash order, which changes from run to run, so the
        header is written again with its metadata sorted.
        """
        tensors = {name: self._stored(tensor) for name, tensor in self.tensors.items()}
        metadata = {"kind": self.kind, "name": self.name}
        metadata |= {key: option_text(value) for key, value in self.options.items()}
        unordered = safetensors.torch.save(tensors, metadata=metadata)

        (header_size,) = struct.unpack("<Q", unordered[:8])
        header = json.loads(unordered[8 : 8 + header_size])
        header["__metadata__"] = dict(sorted(metadata.items()))
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + unordered[8 + header_size :]

    def _stored(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor in the type of the file: results in `float_type`, class indices as i32."""
        tensor = tensor.detach()
        if tensor.dtype == torch.int64:
            tensor = tensor.to(torch.int32)
        if tensor.is_floating_point():
            tensor = tensor.to(self.float_type)
        return tensor.clone(memory_format=torch.contiguous_format)


def option_text(value: object) -> str:
    """An option as metadata text: booleans in lower case, sequences joined by commas."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(option_text(item) for item in value)
    return str(value)


class Source:
    """Random numbers that depend on the fixture's stem alone.

    Adding a fixture therefore leaves every other file as it was. All floating numbers are exactly
    representable in f32, so that the f64 computation starts from the very numbers in the file.
    """

    def __init__(self, stem: str):
        self._generator = numpy.random.default_rng(zlib.crc32(stem.encode()))

    def normal(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        """Normal numbers with mean 0 and the given standard deviation."""
        return from_numpy(self._generator.standard_normal(shape) * scale)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Uniform numbers in [low, high)."""
        return from_numpy(self._generator.uniform(low, high, shape))

    def classes(self, count: int, *shape: int) -> torch.Tensor:
        """Class indices in 0..count."""
        return torch.from_numpy(self._generator.integers(0, count, shape))

    def fill_parameters(self, module: torch.nn.Module) -> None:
        """Give every parameter numbers from this source, at PyTorch's usual scale."""
        with torch.no_grad():
            for parameter in module.parameters():
                bound = 1.0 / max(1, parameter.shape[-1]) ** 0.5
                parameter.copy_(self.uniform(-bound, bound, *parameter.shape))


def from_numpy(values) -> torch.Tensor:
    """Numbers rounded to f32, held in the default type (the type results are computed in)."""
    rounded = numpy.asarray(values, dtype=numpy.float64).astype(numpy.float32)
    return torch.from_numpy(rounded).to(torch.get_default_dtype())
