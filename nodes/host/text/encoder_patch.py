"""Code of the pack around the encoding of a prompt, whichever stock node encodes it.

A patch of the text encoder's `encode_token_weights` in the patcher's list is the only way by which a stock encode node
calls code of ours; the host applies and removes it together with the clone's other patches, and later clones (LoRA,
clip skip) keep it. All of the pack shares one such patch, because two would each have to follow the other to a deep
clone's model.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP
from comfy.sd import CLIP

_PATCH_KEY = "perfusion_for_comfyui.encoder_patch"
_ENCODE = "encode_token_weights"

Encode = Callable[..., tuple]
# Called as around(patcher, encode, tokens) in the place of encode(tokens), with the patcher of the CLIP that encodes;
# its model is that of all encoders.
Around = Callable[..., tuple]


class _EncoderPatch(NamedTuple):
    """What stands in the encoder's place, and what it was made of."""

    function: Encode
    other: Encode | None  # another pack's patch, which stays in force
    around: tuple[Around, ...]  # innermost first


def encode_through(clip: CLIP, around: Around) -> None:
    """Let `around` stand around the encoding of prompts by this CLIP, a clone of the caller's; once, if asked again.

    around: a function of the module, so that it can be recognised.
    """
    patcher = clip.patcher
    known, current = patcher.get_attachment(_PATCH_KEY), patcher.object_patches.get(_ENCODE)
    if known is None:
        patcher.add_callback_with_key(CallbacksMP.ON_CLONE, _PATCH_KEY, _rebind)
    elif around in known.around:
        return
    if known is not None and known.function is current:
        _install(patcher, known.other, (*known.around, around))
    else:
        _install(patcher, current, (around,))


def other_patches(patcher: ModelPatcher) -> dict[str, Any] | None:
    """The object patches beside this one by name; None where another pack's stands in or over this one."""
    known, others = patcher.get_attachment(_PATCH_KEY), dict(patcher.object_patches)
    if known is None or known.other is not None or others.pop(_ENCODE, None) is not known.function:
        return None
    return others


def _install(patcher: ModelPatcher, other: Encode | None, around: tuple[Around, ...]) -> None:
    model, itself = patcher.model, weakref.ref(patcher)  # a patcher that held itself would keep its model for long
    innermost = other or partial(getattr(type(model), _ENCODE), model)

    def encode_token_weights(*args: Any, **kwargs: Any) -> tuple:
        encode = innermost
        for one in around:
            encode = partial(one, itself(), encode)
        return encode(*args, **kwargs)

    patcher.add_object_patch(_ENCODE, encode_token_weights)
    patcher.set_attachments(_PATCH_KEY, _EncoderPatch(encode_token_weights, other, around))


def _rebind(_source: ModelPatcher, clone: ModelPatcher) -> None:
    """A function in an instance's place does not know its instance: each clone gets one that knows the clone."""
    known = clone.get_attachment(_PATCH_KEY)
    if known is not None and clone.object_patches.get(_ENCODE) is known.function:
        _install(clone, known.other, known.around)
