# SPDX-License-Identifier: MIT OR Apache-2.0
"""Write the golden fixtures and their MANIFEST.

    python generate.py                               # rewrite data/ and MANIFEST
    python generate.py --dtype float32 --out FOLDER  # the same cases, computed in f32

Everything is computed in f64 and stored as f32. The second form shows how far PyTorch's own f32
arithmetic is from that, which is what a tolerance should be compared with.
"""

import argparse
import hashlib
from pathlib import Path

import numpy
import safetensors
import torch

import classifier
import groups
import images
import layers
import losses
import masks
import more_layers
import networks
import ops
import optimizers
import philox
import recurrent
import schedules
import scalars
import steps
import structures

HERE = Path(__file__).resolve().parent
SIZE_LIMIT = 1_400_000


def main() -> None:
    """Check the reference itself, then write every fixture."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(getattr(torch, arguments.dtype))
    philox.check_known_answers()
    scalars.check()

    contents = {}
    modules = [layers, ops, images, losses, optimizers, schedules, steps, groups, structures]
    for module in [*modules, masks, recurrent, classifier, networks, more_layers]:
        for fixture in module.fixtures():
            file_name = f"{fixture.stem}.safetensors"
            if file_name in contents:
                raise ValueError(f"two fixtures are called {fixture.stem}")
            contents[file_name] = fixture.to_bytes()
    total = sum(len(content) for content in contents.values())
    if total > SIZE_LIMIT:
        raise ValueError(f"the fixtures take {total} bytes, more than {SIZE_LIMIT}")

    write(arguments.out, contents)
    print(f"{len(contents)} fixtures, {total} bytes, in {arguments.out}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "data", help="folder to write to")
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    return parser.parse_args()


def write(folder: Path, contents: dict[str, bytes]) -> None:
    """Replace the fixtures in `folder`, and the MANIFEST beside it (`sha256sum -c MANIFEST`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.safetensors"):
        stale.unlink()
    lines = [
        f"# torch {torch.__version__.split('+')[0]}",
        f"# numpy {numpy.__version__}",
        f"# safetensors {safetensors.__version__}",
    ]
    for file_name, content in sorted(contents.items()):
        (folder / file_name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        lines.append(f"{digest}  {folder.name}/{file_name}")
    (folder.parent / "MANIFEST").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
