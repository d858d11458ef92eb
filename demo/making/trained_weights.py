"""The weights as they were trained, in half precision, and the making of those that ship.

Trainings go on from these, and the benchmarks whose results are kept measure with them.  UNet and autoencoder ship in
eight bits, the text encoder as it is: concepts and text statistics depend on every bit of its encodings.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from ...perfusion_core.tensor_file import write_tensors
from ..eight_bits import reduced
from ..model import WEIGHTS

TRAINED = Path(__file__).parent / "weights"
REDUCED = ("unet.safetensors", "vae.safetensors")


def trained_file(name: str) -> Path:
    """The file of this name in weights/, with its numbers as they were trained."""
    return (TRAINED if name in REDUCED else WEIGHTS) / name


def write_trained(name: str, weights: Mapping[str, Tensor]) -> None:
    """Write the weights in half precision, and what ships of them."""
    write_tensors(trained_file(name), {key: tensor.half() for key, tensor in weights.items()}, {})
    write_shipped(name)


def write_shipped(name: str) -> None:
    """Write the file that ships of trained weights; of those that ship as they are nothing is to be done."""
    if name in REDUCED:
        write_tensors(WEIGHTS / name, reduced(load_file(trained_file(name))), {})
