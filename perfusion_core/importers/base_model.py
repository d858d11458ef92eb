"""What the peers' files lack and the checkpoint has: the key projections, by layer, and the token table.

A peer stores the locked key o_K = W_K e_super of every layer; ours stores e_super itself, so that the lock stays exact
under another checkpoint. All layers together are thousands of equations for the few hundred numbers of e_super.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import PerfusionError, quoted

# Width of the text encodings -> family and the host's key of the text encoder.
FAMILIES = {768: ("sd1", "clip_l"), 1024: ("sd2", "clip_h")}

_LAYER = re.compile(
    r"model\.diffusion_model\.((?:input_blocks|middle_block|output_blocks)\..*\.attn2)\.to_([kv])\.weight"
)
_BLOCKS = {"ldm": ("input", "middle", "output"), "diffusers": ("input", "output", "middle")}


@dataclass(frozen=True, eq=False)
class BaseModel:
    """The parts of a checkpoint that a conversion needs.

    family: "sd1" or "sd2".  embedding_key: "clip_l" or "clip_h".  encoding_width: d.
    key_weights, value_weights: W_K and W_V by name of the layer, [d_out, d].
    superclass_vectors: of the superclass' tokens, [m, d].
    """

    family: str
    embedding_key: str
    encoding_width: int
    key_weights: Mapping[str, Tensor]
    value_weights: Mapping[str, Tensor]
    superclass_vectors: Tensor

    def layers(self, order: str) -> list[str]:
        """Return the names in the order in which a program of that lineage, "ldm" or "diffusers", walks its modules."""

        def place(name: str) -> tuple[int, list[int]]:
            return _BLOCKS[order].index(name.split("_")[0]), [int(number) for number in re.findall(r"\d+", name)]

        return sorted(self.key_weights, key=place)


def read_base_model(path: str | os.PathLike[str], superclass_tokens: Sequence[int]) -> BaseModel:
    """Return the parts of an SD1 or SD2 checkpoint in one safetensors file (U-Net and text encoder).

    superclass_tokens: numbers of the superclass' tokens in the CLIP vocabulary.
    Raises PerfusionError for a file that is no such checkpoint or a token that its table does not have.
    """
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            weights: dict[str, dict[str, Tensor]] = {"k": {}, "v": {}}
            for name in names:
                if found := _LAYER.fullmatch(name):
                    weights[found[2]][found[1]] = file.get_tensor(name).float()
            tables = [name for name in names if name.endswith("token_embedding.weight")]
            if not weights["k"] or weights["k"].keys() != weights["v"].keys() or len(tables) != 1:
                raise PerfusionError(
                    f"{path} was expected to be an SD1 or SD2 checkpoint with its text encoder, but {len(weights['k'])}"
                    f" cross-attention layers and {len(tables)} token tables were found; choose the checkpoint that"
                    " the concept was trained on."
                )
            rows = file.get_slice(tables[0])
            count, _ = rows.get_shape()
            for token in superclass_tokens:
                if not 0 <= token < count:
                    raise PerfusionError(
                        f"{path} has {count} tokens, but the superclass has token {token}; correct it."
                    )
            vectors = torch.cat([rows[token : token + 1] for token in superclass_tokens]).float()
    except (OSError, SafetensorError) as problem:
        raise PerfusionError(
            f"{path} was expected to be a checkpoint in a safetensors file, but it cannot be read"
            f" ({quoted(str(problem))}); choose another, or convert a .ckpt first."
        ) from None
    width = next(iter(weights["k"].values())).shape[1]
    if width not in FAMILIES or vectors.shape[1] != width:
        raise PerfusionError(
            f"{path} has text encodings of width {width} and tokens of width {vectors.shape[1]}, but the other programs"
            f" know only SD1 (768) and SD2 (1024); choose the checkpoint that the concept was trained on."
        )
    return BaseModel(*FAMILIES[width], width, weights["k"], weights["v"], vectors)


def tokens_of(superclass: str, vocabulary: str | os.PathLike[str]) -> list[int]:
    """Return the numbers of the superclass' words in CLIP's vocab.json.

    Raises PerfusionError for a file that is no vocabulary or a word that is more than one token.
    """
    try:
        numbers = json.loads(Path(vocabulary).read_text(encoding="utf-8"))
        if not isinstance(numbers, dict):
            raise ValueError
    except (OSError, ValueError, RecursionError):
        raise PerfusionError(
            f"{vocabulary} was expected to be the vocab.json of CLIP's tokenizer, but it is not; choose the one in the"
            " folder comfy/sd1_tokenizer of ComfyUI."
        ) from None
    tokens: list[Any] = [numbers.get(f"{word}</w>") for word in superclass.lower().split()]
    if not tokens or not all(type(token) is int for token in tokens):
        raise PerfusionError(
            f"The superclass {quoted(superclass)} has a word that is not a single token in {vocabulary}; give another"
            " with --superclass, or its tokens with --superclass-tokens."
        )
    return tokens


def superclass_encoding(key_targets: Mapping[str, Tensor], key_weights: Mapping[str, Tensor]) -> tuple[Tensor, float]:
    """Return e_super, [d], for which W_K e_super comes nearest to the key targets, and the relative distance left.

    Solved in float64 over all layers at once. A distance above rounding says that the targets are not keys of this
    checkpoint, or that they were trained: the lock then holds the nearest key that it can.
    """
    weights = torch.cat([key_weights[name].double() for name in key_targets])
    targets = torch.cat([target.double() for target in key_targets.values()])
    # Directions that the keys hardly depend on are left at 0 instead of being filled with amplified rounding.
    encoding = torch.linalg.lstsq(weights, targets[:, None], rcond=1e-6, driver="gelsd").solution[:, 0]
    distance = ((weights @ encoding - targets).norm() / targets.norm().clamp_min(1e-30)).item()
    return encoding.float(), distance
