"""Finding the attention layers of a diffusion model, in pairs: a block has one of each kind."""

from __future__ import annotations

from typing import Any

from torch.nn import Module

from ....perfusion_core.errors import PerfusionError
from ..gate.cross_attention import cross_attention_layers

# Self-attention is over the places of the picture, cross-attention over the words.
SELF, CROSS = "attn1", "attn2"

# What an edit changes of each.
PROJECTIONS = {SELF: ("to_q", "to_k"), CROSS: ("to_q", "to_k", "to_v", "to_out")}


def attention_layers(diffusion_model: Module) -> dict[tuple[str, str], Any]:
    """Return the self- and cross-attention layers by block and SELF or CROSS.  Raises PerfusionError without any."""
    names = {id(layer): name for name, layer in cross_attention_layers(diffusion_model).items()}
    layers = {}
    for block in diffusion_model.modules():
        name = names.get(id(getattr(block, CROSS, None)))
        for attention in (SELF, CROSS) if name is not None else ():
            layer = getattr(block, attention, None)
            normalised = hasattr(layer, "q_norm")  # queries are not compared as projected; LTXV, for one
            if not normalised and all(hasattr(layer, projection) for projection in PROJECTIONS[attention]):
                layers[name, attention] = layer
    if not layers:
        raise PerfusionError(
            "The socket model expected a UNet of the SD1, SD2 or SDXL family, since edits take over attention as its"
            f" blocks compute it, but found {type(diffusion_model).__name__}; load a model of one of these families."
        )
    return layers
