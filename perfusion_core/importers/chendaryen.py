"""Concepts of ChenDarYen's implementation (Key-Locked-Rank-One-Editing-for-Text-to-Image-Personalization): .ckpt files.

    global_step     int
    C_inv           [d, d]
    target_input    i*, [d]
    embedding       initializer_words: [superclass]; string_to_token: {"*": number}; string_to_param: {"*": [n, d]}
    target_output   "<layer>.attn2.to_k.target_output" and "...to_v.target_output": o*, [77, d_out]

The peer has one o* per position in the prompt, where the paper and this pack have a single one. The word stood at four
positions in training, and only there the gate was open, so only those rows were learned: their mean is taken, weighted
by how often the word stood there. At a position that training never saw, the peer uses a row that was hardly changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import PerfusionError
from .base_model import BaseModel
from .peer import PeerConcept, checked_tensor, damaged, hash_of_statistics
from .pickle_file import Record

PROGRAM = "ChenDarYen's Perfusion"

# Where the word stands in the peer's nine templates, the start token being position 0; each template is as frequent.
TEMPLATE_POSITIONS = (5, 6, 5, 6, 4, 4, 4, 2, 4)
# Rows further than this from their mean are worth a word to the user.
SIMILAR_ROWS = 0.05


def looks_like_it(content: Any) -> bool:
    """Say whether the pickle has the parts that this program saves."""
    return isinstance(content, dict) and "target_output" in content and "embedding" in content


def read(
    content: dict, path: str | os.PathLike[str], base: BaseModel, positions: Sequence[int] = TEMPLATE_POSITIONS
) -> PeerConcept:
    """Return the concept in the file; o* is the mean over the rows at `positions`, which may repeat.

    Raises PerfusionError where a part is missing, has another shape, or belongs to layers the checkpoint lacks.
    """
    width = base.encoding_width
    inverse = checked_tensor(content.get("C_inv"), (width, width), "C_inv", path, PROGRAM)
    target_input = checked_tensor(content.get("target_input"), (width,), "target_input", path, PROGRAM)
    embedding = content["embedding"]
    if not isinstance(embedding, dict) or not isinstance(content["target_output"], dict):
        raise damaged(path, PROGRAM, "embedding and target_output are not the tables they should be")

    tables: dict[str, dict[str, Tensor]] = {"k": {}, "v": {}}
    expected = {f"{layer}.to_{side}.target_output": (layer, side) for layer in base.layers("ldm") for side in "kv"}
    for name in content["target_output"]:
        if name not in expected:
            raise damaged(path, PROGRAM, f"it has an output of {str(name)[:80]!a}, a layer that the checkpoint lacks")
    for name, (layer, side) in expected.items():
        shape = (None, base.key_weights[layer].shape[0])
        tables[side][layer] = checked_tensor(content["target_output"].get(name), shape, name, path, PROGRAM)
    rows = min(len(table) for side in tables.values() for table in side.values())
    if not positions or not all(0 <= position < rows for position in positions):
        raise PerfusionError(
            f"{path} has outputs for the positions 0 to {rows - 1}, but {list(positions)} were asked for; correct"
            " --positions."
        )
    index = torch.tensor(list(positions))
    targets = {side: {layer: table[index].mean(0) for layer, table in tables[side].items()} for side in tables}
    return PeerConcept(
        program=PROGRAM,
        target_input=target_input,
        inverse_target_input=inverse @ target_input,
        key_targets=targets["k"],
        value_targets=targets["v"],
        word_vectors=_word_vectors(embedding.get("string_to_param"), path, width),
        superclass=superclass_in(content),
        statistics_hash=hash_of_statistics(inverse),
        training={"steps": content["global_step"]} if type(content.get("global_step")) is int else {},
        notes=_note_on_rows(tables["v"], targets["v"], index),
    )


def _note_on_rows(tables: dict[str, Tensor], means: dict[str, Tensor], index: Tensor) -> list[str]:
    """Say how much the mean leaves out: root mean square distance of the rows from it, over its norm."""
    distance = sum(((tables[layer][index] - means[layer]) ** 2).sum().item() for layer in tables) / len(index)
    size = sum((mean**2).sum().item() for mean in means.values())
    share = (distance / size) ** 0.5 if size > 0 else 0.0
    if share <= SIMILAR_ROWS:
        return []
    return [
        f"The file has other values for each position of the word; theirs differ from the mean that was taken by"
        f" {share:.0%} (--positions takes others)."
    ]


def _word_vectors(value: Any, path: str | os.PathLike[str], width: int) -> Tensor:
    """Return the vectors of the one placeholder; the peer keeps them in a ParameterDict."""
    if isinstance(value, Record):
        value = value.__dict__.get("_parameters")
    if not isinstance(value, dict) or len(value) != 1:
        raise damaged(path, PROGRAM, "it does not hold the vectors of exactly one word (string_to_param)")
    return checked_tensor(next(iter(value.values())), (None, width), "the word's vectors", path, PROGRAM)


def superclass_in(content: dict) -> str | None:
    """Return the word that the concept started from; None where the file does not say.

    It is the first text of a list, or of OmegaConf's list of nodes.
    """
    embedding = content.get("embedding")
    value = embedding.get("initializer_words") if isinstance(embedding, dict) else None
    items = value.__dict__.get("_content") if isinstance(value, Record) else value
    first = items[0] if isinstance(items, list | tuple) and items else None
    first = first.__dict__.get("_val") if isinstance(first, Record) else first
    return first if isinstance(first, str) else None
