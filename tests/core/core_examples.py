"""Small made-up metrics, edits and concepts for the tests of perfusion_core."""

from __future__ import annotations

import torch
from torch import Tensor

from perfusion_core.concept import Concept, unit_energy
from perfusion_core.edit import ConceptEdit

# Names and widths of the 16 cross-attention layers of SD1.5's UNet.
SD15_LAYERS = {
    **{f"input_blocks.{n}.1": 320 for n in (1, 2)},
    **{f"input_blocks.{n}.1": 640 for n in (4, 5)},
    **{f"input_blocks.{n}.1": 1280 for n in (7, 8)},
    "middle_block.1": 1280,
    **{f"output_blocks.{n}.1": 1280 for n in (3, 4, 5)},
    **{f"output_blocks.{n}.1": 640 for n in (6, 7, 8)},
    **{f"output_blocks.{n}.1": 320 for n in (9, 10, 11)},
}
PICTURE = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4  # begins as a JPEG file does

SD15_VALUE_WIDTHS = {f"{block}.transformer_blocks.0.attn2": width for block, width in SD15_LAYERS.items()}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def second_moment(width: int, seed: int = 0) -> Tensor:
    """A symmetric positive matrix with a spread of eigenvalues (1 to 1000), as text encodings have, float64."""
    basis, _ = torch.linalg.qr(random((width, width), seed))
    return (basis * torch.logspace(0, 3, width, dtype=torch.float64)) @ basis.T


def make_edits(count: int, width: int, inverse: Tensor, seed: int = 0, **settings) -> list[ConceptEdit]:
    """Edits whose target inputs share a common part, as encodings of words do (correlations around 0.5)."""
    common = random((width,), seed + 1)
    edits = []
    for index in range(count):
        target_input = common + random((width,), seed + 10 + index)
        superclass_encoding = random((width,), seed + 50 + index)
        own = {"bias": 0.6 + 0.05 * index, "temperature": 0.15, "form": "gated", **settings}
        edits.append(ConceptEdit(target_input, inverse @ target_input, superclass_encoding, **own))
    return edits


def make_concept(
    word: str = "<hugsy>", width: int = 16, value_widths: dict[str, int] | None = None, seed: int = 0, **changes
) -> Concept:
    """A concept with made-up numbers; `changes` replaces fields."""
    target_input = random((width,), seed, torch.float32)
    inverse = torch.linalg.inv(second_moment(width, seed)).float() @ target_input
    if value_widths is None:
        value_widths = {
            "input_blocks.1.1.transformer_blocks.0.attn2": 8,
            "middle_block.1.transformer_blocks.0.attn2": 12,
        }
    fields = {
        "word": word,
        "superclass": "bear",
        "base_model": "sd1",
        "encoding_width": width,
        "clip_layer": None,
        "form": "gated",
        "bias": 0.65,
        "temperature": 0.15,
        "statistics_hash": "0123456789abcdef",
        "training": {"steps": 400, "learning_rate": 0.03, "prompts": ["a photo of a {}"]},
        "target_input": target_input,
        "inverse_target_input": unit_energy(target_input, inverse),
        "superclass_encoding": random((width,), seed + 1, torch.float32),
        "word_vectors": {"clip_l": random((1, width), seed + 2, torch.float32)},
        "superclass_vectors": {"clip_l": random((2, width), seed + 3, torch.float32)},
        "value_targets": {
            name: random((size,), seed + 4 + n, torch.float32) for n, (name, size) in enumerate(value_widths.items())
        },
    }
    return Concept(**{**fields, **changes})


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number expected."""
    return ((found.double() - expected.double()).abs().max() / expected.double().abs().max()).item()
