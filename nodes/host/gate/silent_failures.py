"""What goes wrong in a sampling run without an error: each is told in one warning that names who did it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ....perfusion_core.concept import ConceptStack
from ....perfusion_core.edit import OWN_TOKEN_BIAS, edit_encoding
from ..text.own_tokens import marks_of
from ..text.superclass_encoding import encoded_by, superclass_encoding_of
from .words_in_prompt import with_offsets, words_in_prompt

logger = logging.getLogger(__name__)

# Wrappers of these kinds stand between a step and the model.
_KINDS = ("calc_cond_batch", "apply_model", "diffusion_model")

_OPEN = 0.5

Entry = Mapping[str, Any]


def prompts_of(conds: Mapping[str, Sequence[Entry]]) -> list[Entry]:
    """Return those entries of a guider's conditioning that have a text encoding, "cross_attn", [B, N, d]."""
    return [entry for group in conds.values() for entry in group if entry.get("cross_attn") is not None]


def words_in(prompts: Sequence[Entry], stack: ConceptStack) -> list[str]:
    """Return the words of the concepts that certainly stand in one of the prompts and whose gate is open there.

    Certainly: a token is as similar to the concept as only its own is; the superclass may open a low gate as well.
    """
    found: set[str] = set()
    edits, marks = [gated.edit() for gated in stack], marks_of(prompts)
    for prompt in prompts:
        if prompt["cross_attn"].shape[-1] == stack[0].concept.encoding_width:
            encoding = prompt["cross_attn"].detach().to("cpu", torch.float32)
            words = words_in_prompt(encoding, stack, edits, marks)
            edited = edit_encoding(with_offsets(encoding, stack, marks), edits, words)
            acts = ((edited.similarities >= OWN_TOKEN_BIAS) & (edited.gates > _OPEN)).flatten(0, -2).any(dim=0)
            found |= {gated.concept.word for gated, act in zip(stack, acts.tolist(), strict=True) if act}
    return sorted(found)


def warn_of_lost_lock(prompts: Sequence[Entry], stack: ConceptStack) -> None:
    """Warn of prompts with a concept that are to be locked as a whole and lack the encoding that this needs."""
    lost = [entry for entry in prompts if superclass_encoding_of(entry["cross_attn"], entry) is None]
    words = words_in(lost, stack) if lost else []
    if words:
        makers = sorted({name for entry in lost if (name := encoded_by(entry))})
        logger.warning(
            "The global key lock is only the local one for %s in this run: the conditioning%s lacks the superclass"
            " encoding that the gate node's CLIP adds to it; encode with CLIP Text Encode, or set key_lock to local.",
            " and ".join(words),
            f" encoded by {' and '.join(makers)}" if makers else "",
        )


def warn_of_bypass(prompts: Sequence[Entry], stack: ConceptStack, model_options: Mapping[str, Any], own: str) -> None:
    """Warn that the model was run and no layer asked for its keys and values under the concepts.

    own: the key of this pack's wrappers.
    """
    words = words_in(prompts, stack)
    if words:
        logger.warning(
            "The concepts did not act in this run, though the prompt has %s: %s ran the model past its cross-attention"
            " projections, to which concepts are bound; take it out, or put it where it does not run the blocks.",
            " and ".join(words),
            " or ".join(_who_runs_the_model(model_options, own)) or "another patch of the MODEL",
        )


def _who_runs_the_model(model_options: Mapping[str, Any], own: str) -> list[str]:
    """The names of what others put between a step and the cross-attention, the likeliest alone where there is one."""
    options = model_options.get("transformer_options", {})
    if "model_function_wrapper" in model_options:
        return [_name_of(model_options["model_function_wrapper"])]
    wrappers = options.get("wrappers", {})
    names = [
        _name_of(function)
        for kind in _KINDS
        for key, functions in wrappers.get(kind, {}).items()
        for function in functions
        if key != own
    ]
    replaced = options.get("patches_replace", {}).get("attn2", {}).values()
    return list(dict.fromkeys([*names, *map(_name_of, replaced)]))


def _name_of(function: Any) -> str:
    """A function's name and the file or folder of the pack that it is of."""
    named = function if hasattr(function, "__qualname__") else type(function)
    module = str(getattr(named, "__module__", None) or "another pack")
    return f"{named.__qualname__.replace('.<locals>', '')} of {Path(module).name}"
