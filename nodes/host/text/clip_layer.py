"""Clip skip: a concept's target input belongs to one layer of the text encoder, and CLIPSetLastLayer takes another.

Checked where a prompt is encoded: that node may come before or after the one that adds the words, and only the encoder
knows which layer it uses by default.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from comfy.model_patcher import ModelPatcher

from .encoder_patch import Encode
from .encoders import ANY_LAYER, LAYER, WORD, embedding_key

logger = logging.getLogger(__name__)


def warn_of_other_layer(
    patcher: ModelPatcher, encode: Encode, tokens: Mapping[str, Any], *args: Any, **kwargs: Any
) -> tuple:
    """Encode the prompt, and warn once of all its concepts that were trained on another layer than it is encoded on."""
    used, trained = None, {}
    for name, batches in tokens.items():
        key = embedding_key(name, dict(patcher.model.named_children()))
        encoder = None if key is None else getattr(patcher.model, key)
        for entry in (entry for batch in batches for entry in batch):
            layer = getattr(entry[0], LAYER, ANY_LAYER)
            if layer != ANY_LAYER and encoder is not None and _layer_of(encoder, layer) != _layer_in_use(encoder):
                used, trained[getattr(entry[0], WORD)] = _layer_in_use(encoder), _layer_of(encoder, layer)
    if trained:
        logger.warning(
            "The prompt is encoded on layer %d of the text encoder, but these concepts were trained on another, so that"
            " their gate may stay closed: %s; give CLIP Set Last Layer the layer that they were trained on.",
            used,
            ", ".join(f"{word} (layer {layer})" for word, layer in trained.items()),
        )
    return encode(tokens, *args, **kwargs)


def _layer_in_use(encoder: Any) -> int:
    """Return the layer counted from the end; the host's "last" is the same as -1, normalised alike."""
    return encoder.layer_idx if encoder.layer == "hidden" else -1


def _layer_of(encoder: Any, clip_layer: int | None) -> int:
    """Return the layer that the encoder uses when the CLIP is set to clip_layer; None = its default."""
    if clip_layer is None:
        layer, index, *_ = encoder.options_default
        return index if layer == "hidden" else -1
    return clip_layer if abs(clip_layer) <= encoder.num_layers else -1
