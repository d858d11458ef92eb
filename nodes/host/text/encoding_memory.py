"""Encodings that were made before are given again: a change of a concept's gate alone runs no text encoder.

The host runs a node again when any setting before it changed, so a new bias in the loader encodes every prompt again,
though the bias is nothing that an encoding depends on.  The memory belongs to the CLIP that concepts are added to; the
host keeps that one while settings behind it change, and the memory ends with it.

Only what is known to determine an encoding is trusted: the weights as their patches name them, the options of the
encoders, and the token lists with the bytes of their vectors.  Whatever else can act on an encoder (hooks, injections,
another pack's patch, gradients) is encoded anew.
"""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor
from torch.nn import Module

from .encoder_patch import Encode, other_patches

_MEMORY = "perfusion_for_comfyui.encoding_memory"
MOST_PROMPTS = 16  # a few megabytes; a graph has two or three prompts, and the global key lock encodes each twice

_OPTIONS = ("layer", "layer_idx", "return_projected_pooled", "execution_device")


class EncodingMemory(OrderedDict[Hashable, tuple]):
    """The encodings of the prompts that were used last, by what determines them."""

    def keep(self, key: Hashable, encoded: tuple) -> None:
        self[key] = _copy(encoded)
        while len(self) > MOST_PROMPTS:
            self.popitem(last=False)

    def __deepcopy__(self, _: dict[int, Any]) -> EncodingMemory:
        """Empty: what it remembers is of the model that it was made with."""
        return EncodingMemory()

    def recall(self, key: Hashable) -> tuple:
        """Raises KeyError for what is not remembered.  Copies, since nodes may change what they are given."""
        self.move_to_end(key)
        return _copy(self[key])


def share_memory(clip: CLIP) -> None:
    """Let all later clones of this CLIP remember the same encodings; with `encode_through(clone, remembered)`."""
    if clip.patcher.get_attachment(_MEMORY) is None:
        clip.patcher.set_attachments(_MEMORY, EncodingMemory())


def remembered(patcher: ModelPatcher, encode: Encode, tokens: Mapping[str, Any], *args: Any, **kwargs: Any) -> tuple:
    """The encoding from the memory where all that it depends on is the same; else it is made."""
    memory: EncodingMemory | None = patcher.get_attachment(_MEMORY)
    key = None if memory is None or args or kwargs else _all_that_it_depends_on(patcher, tokens)
    if memory is None or key is None:
        return encode(tokens, *args, **kwargs)
    if key in memory:
        return memory.recall(key)
    encoded = encode(tokens)
    if _can_be_copied(encoded):
        memory.keep(key, encoded)
    return encoded


def _all_that_it_depends_on(patcher: ModelPatcher, tokens: Mapping[str, Any]) -> Hashable | None:
    """What names an encoding, None where something may act on it that has no name."""
    unnamed = (
        patcher.forced_hooks, patcher.current_hooks, patcher.injections, patcher.weight_wrapper_patches,
        patcher.additional_models,
    )  # fmt: skip
    patches = other_patches(patcher)
    if any(unnamed) or patches is None or not all(isinstance(value, torch.dtype) for value in patches.values()):
        return None
    if patcher.model.current_weight_patches_uuid != patcher.patches_uuid:  # encoded without having been loaded
        return None
    modules = list(patcher.model.modules())
    if any(map(_is_altered, modules)):
        return None
    encoders = [module for module in modules if hasattr(module, "set_clip_options")]
    options = tuple(str(getattr(encoder, name, None)) for encoder in encoders for name in _OPTIONS)
    signs = _signs_of(tokens)
    return None if signs is None else (
        weakref.ref(patcher.model), patcher.patches_uuid, tuple(patches.items()), options, signs,
    )  # fmt: skip


def _is_altered(module: Module) -> bool:
    """Whether this one instance has a hook or computes otherwise than its class does."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return bool(hooked) or "forward" in vars(module) or "process_tokens" in vars(module)


def _signs_of(tokens: Mapping[str, Any]) -> str | None:
    """A digest of token lists; None for entries of a kind that is not known, or that a gradient must pass through."""
    digest = hashlib.sha256()
    for name, batches in tokens.items():
        for batch in batches:
            digest.update(f"{name} {len(batch)}:".encode())
            for entry in batch:
                for part in entry:
                    if isinstance(part, Tensor) and not part.requires_grad:
                        values = part.detach().cpu().contiguous()
                        digest.update(f"{values.dtype} {list(values.shape)} ".encode())
                        digest.update(values.view(torch.uint8).numpy().tobytes() if values.numel() else b"")
                    elif isinstance(part, int | float):
                        digest.update(f"{part!r} ".encode())
                    else:
                        return None
    return digest.hexdigest()


def _can_be_copied(encoded: tuple) -> bool:
    parts = (*encoded[:2], *(encoded[2].values() if len(encoded) > 2 else ()))
    return len(encoded) <= 3 and all(
        part is None or (isinstance(part, Tensor) and not part.requires_grad) for part in parts
    )


def _copy(encoded: tuple) -> tuple:
    def copied(part: Tensor | None) -> Tensor | None:
        return None if part is None else part.clone()

    first = tuple(map(copied, encoded[:2]))
    return first if len(encoded) < 3 else (*first, {name: copied(part) for name, part in encoded[2].items()})
