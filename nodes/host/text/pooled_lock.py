"""The pooled vector of a prompt with the superclass in the word's place, for concepts that were trained with it.

SDXL is told a pooled vector of the whole prompt, beside the encoding on which the gate acts; the word is in it too, and
no gate closes there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP

from .encoder_patch import Encode, encode_through
from .encoders import POOLED_LOCK
from .superclass_encoding import with_superclass


def lock_pooled(clip: CLIP) -> None:
    """Let this CLIP, a clone of the caller's, give prompts with words that ask for it the superclass' pooled vector."""
    encode_through(clip, _with_locked_pooled)


def _with_locked_pooled(
    _patcher: ModelPatcher, encode: Encode, tokens: Mapping[str, Any], *args: Any, **kwargs: Any
) -> tuple:
    encoded = encode(tokens, *args, **kwargs)
    substituted = None if encoded[1] is None else with_superclass(tokens, POOLED_LOCK)
    if substituted is None:
        return encoded
    return (encoded[0], encode(substituted, *args, **kwargs)[1], *encoded[2:])
