"""Concepts of lucidrains/perfusion-pytorch (its save function): a .pt file without a single name in it.

    embed_params      the word's vectors, [concepts, d]
    key_value_params  pairs of i*, [concepts, d], and o*, [concepts, d_out], in the order of the model's modules: key
                      and value by turns; the layers as diffusers orders them (down, up, mid) or as ldm does
    C_inv             [d, d]

Every projection has a moving average i* of its own, fed with the same numbers. Superclass, word and base model are not
in the file. Its optimiser helper trains the keys and leaves the values alone; both come as they are in the file.
"""

from __future__ import annotations

import os
from typing import Any

from torch import Tensor

from ..errors import PerfusionError
from .base_model import BaseModel
from .peer import PeerConcept, checked_tensor, damaged, hash_of_statistics

PROGRAM = "perfusion-pytorch"
# The moving averages are computed from the same numbers; half precision makes the largest honest difference.
SAME = 1e-3


def looks_like_it(content: Any) -> bool:
    """Say whether the pickle has the parts that this program saves."""
    return isinstance(content, dict) and "key_value_params" in content


def read(content: dict, path: str | os.PathLike[str], base: BaseModel, concept: int = 0) -> PeerConcept:
    """Return one of the concepts in the file.

    Raises PerfusionError where a part is missing, has another shape, or fits no order of the checkpoint's layers.
    """
    width = base.encoding_width
    inverse = checked_tensor(content.get("C_inv"), (width, width), "C_inv", path, PROGRAM)
    pairs = content["key_value_params"]
    if not isinstance(pairs, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise damaged(path, PROGRAM, "key_value_params is no list of pairs")
    names = _layers(pairs, path, base)

    count = pairs[0][0].shape[0] if isinstance(pairs[0][0], Tensor) and pairs[0][0].dim() == 2 else 1
    if not 0 <= concept < count:
        raise PerfusionError(
            f"{path} holds {count} concepts, but number {concept} was asked for (the first is 0); correct it."
        )
    inputs, outputs = [], []
    for number, (given, output) in enumerate(pairs):
        name = names[number // 2]
        inputs.append(checked_tensor(given, (count, width), f"i* number {number}", path, PROGRAM)[concept])
        size = base.key_weights[name].shape[0]
        outputs.append(checked_tensor(output, (count, size), f"o* number {number}", path, PROGRAM)[concept])
    target_input = inputs[0]
    if max(((other - target_input).norm() / target_input.norm()).item() for other in inputs) > SAME:
        raise damaged(path, PROGRAM, "its layers have different target inputs, which a concept has only one of")
    if content.get("embed_params") is None:
        raise damaged(path, PROGRAM, "it was saved without the vector of its word (embed_params)")
    vectors = checked_tensor(content["embed_params"], (count, width), "embed_params", path, PROGRAM)
    return PeerConcept(
        program=PROGRAM,
        target_input=target_input,
        inverse_target_input=inverse @ target_input,
        key_targets=dict(zip(names, outputs[0::2], strict=True)),
        value_targets=dict(zip(names, outputs[1::2], strict=True)),
        word_vectors=vectors[concept : concept + 1],
        superclass=None,
        statistics_hash=hash_of_statistics(inverse),
        training={},
    )


def _layers(pairs: Any, path: str | os.PathLike[str], base: BaseModel) -> list[str]:
    """Return the names of the layers in the order of the file, told by the sizes of their outputs."""
    sizes = [output.shape[-1] if isinstance(output, Tensor) and output.dim() else None for _, output in pairs]
    for order in ("diffusers", "ldm"):
        names = base.layers(order)
        if sizes == [base.key_weights[name].shape[0] for name in names for _ in ("key", "value")]:
            return names
    raise damaged(
        path, PROGRAM, f"its {len(sizes)} outputs fit no order of the {len(base.key_weights)} layers of the checkpoint"
    )
