"""Is what was trained really there: in the file, and in what the model does with it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import torch
from torch import Tensor

from .concept import Concept
from .concept_file import load_concept, round_for_file, round_values
from .edit import RESIDUAL
from .errors import PerfusionError


def check_saved(path: str | os.PathLike[str], concept: Concept) -> None:
    """Read the file back and compare it with the concept, bit for bit. Raises PerfusionError naming what differs."""
    found, expected = load_concept(path), round_for_file(concept)
    different = [
        field.name
        for field in dataclasses.fields(Concept)
        if not _same(getattr(found, field.name), getattr(expected, field.name))
    ]
    if different:
        raise PerfusionError(
            f"{path} was written, but read back it holds another {', '.join(different)} than was trained; check the"
            " disk and save again."
        )


def check_learned(start: Mapping[str, Tensor], concept: Concept) -> None:
    """Raise PerfusionError where no value target differs, at the precision of a file, from that of step 0.

    start: layer name -> [d_out].  In the forms residual and anchored a word that differs from its superclass is enough.
    """
    offset = concept.encoding_offset
    another_word = not _same(concept.word_vectors, concept.superclass_vectors) or (offset is not None and offset.any())
    if concept.form in RESIDUAL and another_word:
        return
    at_start = {name: start[name].detach().float().cpu() for name in concept.value_targets}
    if _same(round_values(at_start), round_values(concept.value_targets)):
        raise PerfusionError(
            f"The training of {concept.word} learned nothing: every value is what it was at step 0; raise"
            " relative_value_rate or steps in the preset Custom."
        )


def relative_change(before: Tensor, after: Tensor) -> float:
    """Root mean square of the change over that of what was before; for two predictions of one shape."""
    return ((after - before).norm() / before.norm().clamp(min=torch.finfo(torch.float32).tiny)).item()


def _same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other
