"""The second text encoding of the global key lock: the same token list with the superclass in the word's place.

It is made where the prompt is encoded, travels through the stock conditioning nodes as a plain tensor under one key of
the conditioning's dict (they copy keys they do not know), and reaches the model as one more condition. Unpatched models
ignore it.

Nodes that ask the CLIP for an encoding and its pooled output only, and the host's own schedule of hooks, never see that
key. So the encoding itself carries the other one too, as an attribute, which lasts as long as the encoding is handed on
and not computed with: what is made of it has no mark, and no wrong one. The pooled output says which node encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from comfy.conds import CONDCrossAttn
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from ..executing_node import executing_node
from .encoder_patch import Encode, encode_through
from .encoders import SUPERCLASS

CONDITIONING_KEY = "perfusion_superclass_encoding"
_ENCODED_BY = "perfusion_encoded_by"

# The host's own names of what a model is told about the prompt, and a ControlNet where it shall be told something else.
CONTEXT, _CONTROL_CONTEXT = "c_crossattn", "crossattn_controlnet"


def encode_superclass_too(clip: CLIP) -> None:
    """Let this CLIP, a clone of the caller's, add the superclass encoding to every prompt that has a concept's word."""
    encode_through(clip, _with_superclass_encoding)


def _with_superclass_encoding(
    _patcher: ModelPatcher, encode: Encode, tokens: Mapping[str, Any], *args: Any, **kwargs: Any
) -> tuple:
    encoded = encode(tokens, *args, **kwargs)
    substituted = with_superclass(tokens)
    if substituted is None:
        return encoded
    encoding, pooled, extra = encoded if len(encoded) > 2 else (*encoded, {})
    superclass_encoding = encode(substituted, *args, **kwargs)[0]
    setattr(encoding, CONDITIONING_KEY, superclass_encoding)
    if pooled is not None:
        setattr(pooled, _ENCODED_BY, executing_node())
    return encoding, pooled, {**extra, CONDITIONING_KEY: superclass_encoding}


def superclass_encoding_of(encoding: Tensor, extra: Mapping[str, Any]) -> Tensor | None:
    """Return the superclass encoding of an entry of a conditioning, None where it has none or lost it."""
    return extra.get(CONDITIONING_KEY, getattr(encoding, CONDITIONING_KEY, None))


def encoded_by(extra: Mapping[str, Any]) -> str | None:
    """Return which node encoded an entry, by its class, as far as that is known."""
    return getattr(extra.get("pooled_output"), _ENCODED_BY, None)


def with_superclass(tokens: Mapping[str, Any], mark: str = SUPERCLASS) -> dict[str, Any] | None:
    """Return the token lists with the superclass in the place of each concept whose vectors have this mark, None where
    there is no such concept."""
    found = False

    def substituted(entry: tuple) -> tuple:
        nonlocal found
        if not hasattr(entry[0], mark):
            return entry
        found = True
        return (getattr(entry[0], SUPERCLASS), *entry[1:])

    lists = {key: [[substituted(entry) for entry in batch] for batch in batches] for key, batches in tokens.items()}
    return lists if found else None


def attach_to_model_conds(conds: Mapping[str, list[dict[str, Any]]]) -> None:
    """Turn the plain tensors into conditions of the model, for every entry of the guider's conds if any has one.

    The host runs two conditionings in one batch only if both have the same keys, so an entry without a superclass
    encoding gets its own encoding. Its dict is the sampler's own copy; what is in it is replaced, never changed.
    """
    entries = [entry for group in conds.values() for entry in group if entry.get("cross_attn") is not None]
    if not any(superclass_encoding_of(entry["cross_attn"], entry) is not None for entry in entries):
        return
    for entry in entries:
        encoding = entry["cross_attn"]
        fitted = fit_superclass_encoding(superclass_encoding_of(encoding, entry), encoding)
        entry["model_conds"] = {**entry["model_conds"], CONDITIONING_KEY: CONDCrossAttn(fitted)}


def prepare_as_prompts(conds: Mapping[str, list[dict[str, Any]]], base: Any, noise: Tensor) -> None:
    """Let a loaded model make of the superclass encodings what it made of the prompts before the first step.

    conds: as a guider holds them once the model has prepared them.  base: the host's BaseModel.  Nothing is done where
    it left the prompts as they were.
    """
    for entry in (entry for group in conds.values() for entry in group):
        known = entry["model_conds"]
        if CONDITIONING_KEY in known and CONTEXT in known and known[CONTEXT].cond is not entry["cross_attn"]:
            told = {**entry, "cross_attn": known[CONDITIONING_KEY].cond, "noise": noise, "device": noise.device}
            known[CONDITIONING_KEY] = CONDCrossAttn(base.extra_conds(**told)[CONTEXT].cond)


def with_locked_control(
    conds: Sequence[list[dict[str, Any]] | None], strength: float
) -> Sequence[list[dict[str, Any]] | None]:
    """Return the conditions of one step with the superclass encoding for ControlNets, where any entry has one.

    strength: how far to go from the encoding to that of the superclass.  All entries get it, as they must have the
    same keys to share a batch; what the user chose for ControlNets in the graph stays.
    """
    if not any("control" in entry for group in conds for entry in group or ()):
        return conds

    def locked(entry: dict[str, Any]) -> dict[str, Any]:
        known = entry["model_conds"]
        if CONDITIONING_KEY not in known or CONTEXT not in known or _CONTROL_CONTEXT in known:
            return entry
        encoding = known[CONDITIONING_KEY]
        if strength != 1:
            encoding = CONDCrossAttn(torch.lerp(known[CONTEXT].cond, encoding.cond, strength))
        return {**entry, "model_conds": {**known, _CONTROL_CONTEXT: encoding}}

    return [group and [locked(entry) for entry in group] for group in conds]


def fit_superclass_encoding(superclass_encoding: Tensor | None, encoding: Tensor) -> Tensor:
    """Return the superclass encoding with the shape of the encoding, [B, N, d].

    Stock nodes change only the encoding: Concat appends to it, Average may shorten it. What has no counterpart is taken
    from the encoding itself.
    """
    if superclass_encoding is None or superclass_encoding.shape[-1] != encoding.shape[-1]:
        return encoding
    if superclass_encoding.shape[0] not in (1, encoding.shape[0]):
        return encoding
    count = min(superclass_encoding.shape[1], encoding.shape[1])
    head = superclass_encoding[:, :count].to(encoding).expand(encoding.shape[0], -1, -1)
    return torch.cat([head, encoding[:, count:]], dim=1)
