"""Code of the pack around the encoding of a prompt, whichever stock node encodes it.

A patch of the text encoder's `encode_token_weights` in the patcher's list is the only way by which a stock encode node
calls code of ours; the host applies and removes it together with the clone's other patches, and later clones (LoRA,
clip skip) keep it. All of the pack shares one such patch, because two would each have to follow the other to a deep
clone's model.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP
from comfy.sd import CLIP

_PATCH_KEY = "perfusion_for_comfyui.encoder_patch"
_ENCODE = "encode_token_weights"

Encode = Callable[..., tuple]
# Called as around(patcher, encode, tokens) in the place of encode(tokens), with the patcher of the CLIP that encodes;
# its model is that of all encoders.
Around = Callable[..., tuple]


class EncoderPatch:
    """What stands in the place of the `encode_token_weights` of a patcher's model.

    other: another pack's patch, which stays in force.  around: innermost first.
    What stands in an instance's place does not know its instance, so each clone has one of its own.
    """

    def __init__(self, patcher: ModelPatcher, other: Encode | None, around: tuple[Around, ...]) -> None:
        self.other, self.around = other, around
        self._model = patcher.model
        self._patcher = weakref.ref(patcher)  # a patcher that held itself would keep its model for long

    def __call__(self, *args: Any, **kwargs: Any) -> tuple:
        encode = self.other or partial(getattr(type(self._model), _ENCODE), self._model)
        patcher = self._patcher()
        for around in self.around if patcher is not None else ():
            encode = partial(around, patcher, encode)
        return encode(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> EncoderPatch:
        """A deep copy of a CLIP encodes with the copy, not with the original, which may be gone by then."""
        made = memo[id(self)] = object.__new__(type(self))
        made.other, made.around = copy.deepcopy(self.other, memo), self.around
        made._model = copy.deepcopy(self._model, memo)
        patcher = copy.deepcopy(self._patcher(), memo)
        made._patcher = self._patcher if patcher is None else weakref.ref(patcher)
        return made


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
    if known is not None and known is current:
        _install(patcher, known.other, (*known.around, around))
    else:
        _install(patcher, current, (around,))


def other_patches(patcher: ModelPatcher) -> dict[str, Any] | None:
    """The object patches beside this one by name; None where another pack's stands in or over this one."""
    known, others = patcher.get_attachment(_PATCH_KEY), dict(patcher.object_patches)
    if known is None or known.other is not None or others.pop(_ENCODE, None) is not known:
        return None
    return others


def _install(patcher: ModelPatcher, other: Encode | None, around: tuple[Around, ...]) -> None:
    patch = EncoderPatch(patcher, other, around)
    patcher.add_object_patch(_ENCODE, patch)
    patcher.set_attachments(_PATCH_KEY, patch)


def _rebind(_source: ModelPatcher, clone: ModelPatcher) -> None:
    known = clone.get_attachment(_PATCH_KEY)
    if known is not None and clone.object_patches.get(_ENCODE) is known:
        _install(clone, known.other, known.around)
