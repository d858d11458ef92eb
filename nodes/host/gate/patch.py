"""Putting concepts on a MODEL: a patch that exists only while the model runs.

Four wrappers, all plain functions (the host calls `.to` of any wrapper that has one, and may cast it to fp8):

    outer_sample      around a sampling run: gives it a memory, and for the global key lock prepares the conditioning
    sampler_sample    around the steps: what the model made of the prompts it makes of the superclass encodings too
    apply_model       around every call of the model: resolves to_k and to_v of each cross-attention layer by name in
                      the model object that is running, and swaps their forward for the length of the call
    calc_cond_batch   around every step: notes that the concepts are due in it, and gives ControlNets the prompt that
                      the global key lock asks for

No module is kept from one call to the next, so the patch is right for whichever model object the host chooses to run
(a clone, a copy on another device, one reloaded from disk), and the base MODEL never sees it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....perfusion_core.concept import Concept, ConceptStack, check_stack
from ....perfusion_core.edit import edit_encoding
from ....perfusion_core.errors import DependentConceptsError, PerfusionError, quoted
from ..model_family import check_text_conditioned
from ..text.known_prompts import known_behind, known_tokens
from ..text.own_tokens import marks_behind, marks_of
from ..text.superclass_encoding import (
    CONDITIONING_KEY,
    CONTEXT,
    attach_to_model_conds,
    prepare_as_prompts,
    with_locked_control,
)
from .cross_attention import CrossAttention, Forward, cross_attention_layers, refined_from
from .model_call import ModelCall, around_calls, stand_in
from .refined_text import first_arrival
from .run import KEYS, VALUES, GateCall, GateRun
from .silent_failures import prompts_of, warn_of_bypass, warn_of_lost_lock

# One long key for wrappers, attachment and run, so that no other pack removes or finds them by accident.
PATCH_KEY = "perfusion_for_comfyui.concept_gate"

KEY_LOCKS = ("local", "global")


class GatePatch(NamedTuple):
    """What is on a patched MODEL: its concepts, the kind of key lock, and whether prompts without a word stay as they
    are."""

    stack: ConceptStack
    key_lock: str
    exact: bool = True


def apply_concepts(
    model: ModelPatcher, stack: ConceptStack, key_lock: str = "local", exact: bool = True
) -> ModelPatcher:
    """Return a clone of the MODEL in which the concepts act; a MODEL that already has concepts gets these in addition.

    stack: the concepts; those of strength 0 are left out, and with none left the clone runs as the base does.
    key_lock: "local" locks each word's keys to its superclass, "global" feeds all keys the encoding of the prompt with
    the superclass in the word's place (needs the CLIP of `add_words` with the same lock).
    exact: whether a concept leaves prompts as they are, bit for bit, that are known not to have its word; otherwise its
    gate may open at similar words of any prompt (the paper).
    Raises PerfusionError where a concept does not fit the model, a word occurs twice, concepts cannot be told apart,
    or the model already has concepts with the other lock or the other kind of gate.
    """
    if key_lock not in KEY_LOCKS:
        raise PerfusionError(f"The key lock must be one of {', '.join(KEY_LOCKS)}, but it is {key_lock!r}.")
    patched = model.clone()
    stack = tuple(gated for gated in stack if gated.strength != 0)
    if not stack:
        return patched
    earlier = applied_concepts(model)
    if earlier is not None:
        if earlier.key_lock != key_lock:
            raise PerfusionError(
                f"The MODEL already has concepts with the {earlier.key_lock} key lock, but these are to be added with"
                f" the {key_lock} one; choose the same lock in both nodes."
            )
        if earlier.exact != exact:
            kind = "in any prompt" if exact else "only in prompts with their word"
            raise PerfusionError(
                f"The MODEL already has concepts whose gates open {kind}, but these are to be added with the other"
                " kind; choose the same exact_gate in both nodes."
            )
        stack = earlier.stack + stack
    _put_on(patched, GatePatch(stack, key_lock, exact))
    return patched


def with_gate(model: ModelPatcher, word: str = "", **settings: float) -> ModelPatcher:
    """Return a clone of a MODEL with concepts whose gates are set otherwise; nothing else changes.

    No such setting is part of a text encoding, so prompts that are encoded already stay right (paper, section 4.3: the
    trade between likeness and obedience is made when the model runs).
    word: of the one concept to change, such as <hugsy>; "" changes all.  settings: of `GatedConcept`, by their names;
    a concept of strength 0 is taken off.
    Raises PerfusionError where the MODEL has no concepts, or none of that word.
    """
    patch = applied_concepts(model)
    if patch is None:
        raise PerfusionError(
            "The socket model expected a MODEL with concepts, but no concept is on it; connect the MODEL that comes out"
            " of Apply Perfusion Concepts (Gate), with at least one concept of a strength other than 0."
        )
    words = [gated.concept.word for gated in patch.stack]
    if word and word not in words:
        raise PerfusionError(
            f"The input word expected one of the concepts on the MODEL, {', '.join(words)}, but found {quoted(word)};"
            " write one of these, or leave it empty for all."
        )
    changed, stack = model.clone(), []
    for gated in patch.stack:
        gated = dataclasses.replace(gated, **settings) if word in ("", gated.concept.word) else gated
        stack += [gated] if gated.strength != 0 else []
    _take_off(changed)
    if stack:
        _put_on(changed, patch._replace(stack=tuple(stack)))
    return changed


def _take_off(patched: ModelPatcher) -> None:
    """Leave no concept on a MODEL."""
    kinds = WrappersMP.OUTER_SAMPLE, WrappersMP.SAMPLER_SAMPLE, WrappersMP.APPLY_MODEL, WrappersMP.CALC_COND_BATCH
    for kind in kinds:
        patched.remove_wrappers_with_key(kind, PATCH_KEY)
    patched.remove_attachments(PATCH_KEY)


def _put_on(patched: ModelPatcher, patch: GatePatch) -> None:
    """Make the concepts those of a MODEL, in place of what was there."""
    stack = patch.stack
    check_stack(stack)
    layers = cross_attention_layers_for(patched, [gated.concept for gated in stack])
    _check_independence(stack)

    current = threading.local()
    projections = {
        (layer, projection): stand_in(current, layer, projection) for layer in layers for projection in (KEYS, VALUES)
    }
    _take_off(patched)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, PATCH_KEY, _outer_sample_wrapper(patch))
    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, PATCH_KEY, _sampler_sample)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, PATCH_KEY, _apply_model_wrapper(stack, projections, current))
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, PATCH_KEY, _calc_cond_batch)
    patched.set_attachments(PATCH_KEY, patch)


def applied_concepts(model: ModelPatcher) -> GatePatch | None:
    """Return what concepts are on the MODEL, None where there are none."""
    return model.get_attachment(PATCH_KEY)


def cross_attention_layers_for(model: ModelPatcher, concepts: Iterable[Concept]) -> dict[str, CrossAttention]:
    """Return the cross-attention layers of the MODEL after checking that every concept fits them.

    Raises PerfusionError naming the concept, what it was made for and what is loaded.
    """
    check_text_conditioned(model)
    layers: dict[str, CrossAttention] = {}
    looked_for = None
    for concept in concepts:
        if concept.encoding_width != looked_for:  # once for all concepts of a width: the model is large
            looked_for = concept.encoding_width
            try:
                layers = cross_attention_layers(model.get_model_object("diffusion_model"), looked_for)
            except PerfusionError:
                raise _misfit(model, concept, f"text encodings of width {looked_for}", None) from None
        widths = {name: layer.to_v.out_features for name, layer in layers.items()}
        for name in (*widths, *concept.value_targets):
            made_for = f"width {len(concept.value_targets[name])}" if name in concept.value_targets else "no such layer"
            found = f"width {widths[name]}" if name in widths else "no such layer"
            if made_for != found:
                raise _misfit(model, concept, f"{made_for} at {name}", found)
    return layers


def _misfit(model: ModelPatcher, concept: Concept, made_for: str, found: str | None) -> PerfusionError:
    loaded = type(getattr(model.model, "model_config", model.model)).__name__
    has = f"has {found} there" if found else "has no cross-attention of that width"
    return PerfusionError(
        f"Concept {concept.word} was made for {concept.base_model} models with {made_for}, but the loaded MODEL"
        f" ({loaded}) {has}; load a model of the family {concept.base_model} or another concept."
    )


def _check_independence(stack: ConceptStack) -> None:
    """Find out now, not while sampling, whether the concepts can be told apart, and say which by their words."""
    try:
        edit_encoding(torch.zeros(1, stack[0].concept.encoding_width), [gated.edit() for gated in stack])
    except DependentConceptsError as error:
        words = " and ".join(stack[j].concept.word for j in error.indices)
        raise PerfusionError(
            f"The target inputs of {words} depend on each other, so the text encoder cannot tell them apart; remove one"
            " of them or set its strength to 0."
        ) from None


def _outer_sample_wrapper(patch: GatePatch) -> Callable[..., Any]:
    stack, key_lock, exact = patch
    identities = [gated.concept.word_hash for gated in stack]

    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        # Where the model makes something else of the text, its prompts' encodings tell nothing of the gate.
        refined = refined_from(guider.model_patcher.model.diffusion_model) is not None
        prompts = prompts_of(guider.conds)
        if key_lock == "global":
            if not refined:
                warn_of_lost_lock(prompts, stack)
            attach_to_model_conds(guider.conds)
        run = GateRun(
            stack,
            remember=True,
            reuse_projections=not _weights_may_change(guider),
            marks=marks_of(prompts),
            known=known_tokens(prompts, identities) if exact else None,
        )
        options = guider.model_options.setdefault("transformer_options", {})  # the guider's own copy for this run
        options[PATCH_KEY] = run
        try:
            result = executor(*args, **kwargs)
            if run.was_due and not run.has_acted:
                warn_of_bypass([] if refined else prompts, stack, guider.model_options, PATCH_KEY)
            return result
        finally:
            options.pop(PATCH_KEY, None)
            run.clear()

    return outer_sample


def _weights_may_change(guider: Any) -> bool:
    """Whether the model's weights may be others from one call of this run to the next.

    Hooks exchange them, and a weight wrapper is a function of another pack's, which computes a weight for every call.
    """
    patcher = guider.model_patcher
    if getattr(patcher, "forced_hooks", None) is not None or getattr(patcher, "hook_patches", None):
        return True
    if getattr(patcher, "weight_wrapper_patches", None):
        return True
    return any("hooks" in cond for conds in guider.conds.values() for cond in conds)


def _sampler_sample(
    executor: Any, guider: Any, sigmas: Tensor, extra_args: Any, callback: Any, noise: Tensor, *rest: Any
) -> Any:
    if refined_from(guider.inner_model.diffusion_model) is not None:
        prepare_as_prompts(guider.conds, guider.inner_model, noise)
        run = guider.model_options.get("transformer_options", {}).get(PATCH_KEY)
        if run is not None:
            prompts = prompts_of(guider.conds)
            run.marks = {**run.marks, **marks_behind(prompts, CONTEXT)}
            run.known = known_behind(run.known, prompts, CONTEXT)
    return executor(guider, sigmas, extra_args, callback, noise, *rest)


def _calc_cond_batch(
    executor: Any,
    model: Any,
    conds: Sequence[list[dict[str, Any]] | None],
    x_in: Tensor,
    timestep: Tensor,
    model_options: Mapping[str, Any],
) -> Any:
    """Note that concepts are due, and give ControlNets the superclass encoding in the steps in which one acts.

    A ControlNet has cross-attention of its own, which no concept was trained for.  Under the local lock there is none.
    """
    run = model_options.get("transformer_options", {}).get(PATCH_KEY)
    concepts = run.open_concepts(model.model_sampling, timestep) if run is not None else ()
    if run is not None and concepts:
        run.was_due = True
        conds = with_locked_control(conds, run.lock_strength(concepts))
    return executor(model, conds, x_in, timestep, model_options)


def _apply_model_wrapper(
    stack: ConceptStack, projections: Mapping[tuple[str, str], Forward], current: threading.local
) -> Callable[..., Any]:
    def begin(
        call: ModelCall, superclass_encoding: Tensor | None
    ) -> tuple[GateCall, Iterator[tuple[Any, Forward]]] | None:
        base_model = call.base_model
        run = call.options.get(PATCH_KEY)
        if run is None:  # called without a sampling run around it
            run = GateRun(stack, remember=False, reuse_projections=False)
        concepts = run.open_concepts(base_model.model_sampling, call.options.get("sigmas", call.timestep))
        if not concepts:
            return None

        diffusion_model = base_model.diffusion_model
        layers = run.layers(diffusion_model)
        context, of_context = call.context, (run.marks, run.known)
        wanted = context is not None and (superclass_encoding is not None or run.marks or run.known is not None)
        if context is not None and wanted and refined_from(diffusion_model) is not None:

            def at_layers(encoding: Tensor) -> Tensor:
                return first_arrival(diffusion_model, call._replace(context=encoding, control=None).run)

            context, superclass_encoding, of_context = run.refined(context, superclass_encoding, at_layers)
        modules = {(name, kind): getattr(layers[name], kind) for name, kind in projections if name in layers}
        gate_call = GateCall(
            run,
            concepts,
            originals={key: module.forward for key, module in modules.items()},
            context=context,
            superclass_encoding=superclass_encoding,
            of_context=of_context,
            weights=(id(diffusion_model), getattr(base_model, "current_weight_patches_uuid", None)),
            reuse_projections=not _projections_may_be_changed(call.options),
        )
        return gate_call, ((module, projections[key]) for key, module in modules.items())

    return around_calls(CONDITIONING_KEY, current, begin)


def _projections_may_be_changed(transformer_options: Mapping[str, Any]) -> bool:
    """Whether other code gets the keys and values in its hands, which it might change in place."""
    replaced = transformer_options.get("patches_replace", {}).get("attn2")
    return bool(replaced) or "optimized_attention_override" in transformer_options
