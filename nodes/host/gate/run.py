"""What one sampling run of a MODEL with concepts remembers between its steps, and one call of the model in it.

The text encodings do not change from step to step. Similarity, gate and edited contexts are therefore computed once
for each new encoding and shared by all layers, and the projected keys and values are kept too while nothing can have
changed them. An encoding is new unless it equals a known one in every number: other patches may change the encoding on
its way to a layer, and the gate follows what really arrives.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ....perfusion_core.concept import ConceptStack
from ....perfusion_core.edit import (
    OWN_TOKEN_BIAS,
    ConceptEdit,
    EditedEncoding,
    add_value_targets,
    edit_encoding,
    similarity,
)
from ....perfusion_core.edit_present import edit_present
from ..equal_tensors import equal_tensors
from ..text.known_prompts import KnownTokens
from ..text.own_tokens import Marks, find_tokens, marks_through
from .cross_attention import CrossAttention, Forward, cross_attention_layers
from .words_in_prompt import with_offsets, words_in_prompt

KEYS, VALUES = "to_k", "to_v"

# Encodings of one run that are remembered; area prompts and prompt schedules rarely alternate between more.
KNOWN_ENCODINGS = 8

# Keys and values kept per run. Projecting them again costs about 2 % of a step, so more memory is not worth it.
REUSED_BYTES = 256 * 2**20


@dataclass(eq=False)
class _KnownEncoding:
    """One text encoding as it arrived at a layer, the same with the offsets of its words, its edit, and its projections
    by (layer, to_k or to_v)."""

    encoding: Tensor
    spoken: Tensor
    superclass_encoding: Tensor | None
    signature: tuple
    edited: EditedEncoding
    key_context: Tensor
    projections: dict[tuple[str, str], tuple[Forward, Tensor]] = field(default_factory=dict)

    def matches(self, encoding: Tensor, superclass_encoding: Tensor | None, signature: tuple) -> bool:
        return (
            self.signature == signature
            and equal_tensors(self.encoding, encoding)
            and equal_tensors(self.superclass_encoding, superclass_encoding)
        )


# What arrives at the layers: the text, the superclass' text, and the marks and known tokens of the text.
Refined = tuple[Tensor, Tensor | None, tuple[Marks, KnownTokens | None]]


class GateRun:
    """The memory of one sampling run; one for all devices, so its lists are changed under a lock.

    stack: the concepts.  remember: whether calls may share anything.  reuse_projections: whether projected keys and
    values may be kept, which needs weights that stay the same (no hooks, no keyframes).
    marks: of the own tokens of concepts in the run's prompts.  known: tokens of which it is known whose words are in
    their prompt, by the concepts of the stack; None lets every gate open in every prompt.
    was_due: whether in any step concepts were to act.  has_acted: whether any layer asked for keys or values of theirs.
    """

    def __init__(
        self,
        stack: ConceptStack,
        remember: bool,
        reuse_projections: bool,
        marks: Marks = MappingProxyType({}),
        known: KnownTokens | None = None,
    ) -> None:
        self.stack = stack
        self.marks = marks
        self.known = known
        self.remember = remember
        self.reuse_projections = reuse_projections
        self.was_due = self.has_acted = False
        self._lock = threading.Lock()
        self._known: list[_KnownEncoding] = []
        self._layers: dict[int, tuple[Module, dict[str, CrossAttention]]] = {}
        self._refined: list[tuple[Tensor, Tensor | None, Refined]] = []
        self._windows: list[tuple[float, float] | None] | None = None
        self._edits: dict[tuple[int, torch.device], ConceptEdit] = {}
        self._targets: dict[tuple, Tensor] = {}
        self._bytes = 0

    def clear(self) -> None:
        """Forget everything."""
        for memory in (self._known, self._layers, self._edits, self._targets, self._refined):
            memory.clear()

    def open_concepts(self, model_sampling: Any, sigma: Tensor) -> tuple[int, ...]:
        """Return which concepts act at this noise level, by the host's own rule for start and end percent."""
        if self._windows is None:
            self._windows = [
                None
                if gated.start_percent <= 0 and gated.end_percent >= 1
                else (
                    float(model_sampling.percent_to_sigma(gated.start_percent)),
                    float(model_sampling.percent_to_sigma(gated.end_percent)),
                )
                for gated in self.stack
            ]
        if all(window is None for window in self._windows):
            return tuple(range(len(self.stack)))  # without reading the noise level, which may wait for the device
        level = float(sigma.flatten()[0])
        return tuple(j for j, window in enumerate(self._windows) if window is None or window[1] <= level <= window[0])

    def layers(self, diffusion_model: Module) -> dict[str, CrossAttention]:
        """Return the cross-attention layers of the model that is running, looked up once per run."""
        found = self._layers.get(id(diffusion_model))
        if found is None:
            found = (diffusion_model, cross_attention_layers(diffusion_model, self.encoding_width))
            self._layers[id(diffusion_model)] = found  # keeps the model alive, so that its id stays its own
        return found[1]

    @property
    def encoding_width(self) -> int:
        return self.stack[0].concept.encoding_width

    def lock_strength(self, concepts: tuple[int, ...]) -> float:
        """Return how far the global key lock goes from the encoding to that of the superclass."""
        return max((self.stack[j].strength for j in concepts), key=abs)

    def edits(self, concepts: tuple[int, ...], device: torch.device) -> list[ConceptEdit]:
        """Return the edits of these concepts with their tensors on the device."""
        for j in concepts:
            if (j, device) not in self._edits:
                edit = self.stack[j].edit()
                moved = {
                    name: getattr(edit, name).to(device)
                    for name in ("target_input", "inverse_target_input", "superclass_encoding")
                }
                self._edits[j, device] = dataclasses.replace(edit, **moved)
        return [self._edits[j, device] for j in concepts]

    def edited(
        self, encoding: Tensor, concepts: tuple[int, ...], of_encoding: tuple[Marks, KnownTokens | None] | None = None
    ) -> EditedEncoding:
        """Return the edit of an encoding by these concepts, each measured against its word as it stands in there, and
        not at all in prompts that are known not to have it.

        of_encoding: marks and known tokens of the encoding, where it is something else than the prompts."""
        return self.spoken_and_edited(encoding, concepts, of_encoding)[1]

    def spoken_and_edited(
        self, encoding: Tensor, concepts: tuple[int, ...], of_encoding: tuple[Marks, KnownTokens | None] | None = None
    ) -> tuple[Tensor, EditedEncoding]:
        """Return an encoding with the offsets of these concepts' words, which is what is edited, and its edit."""
        marks, known = (self.marks, self.known) if of_encoding is None else of_encoding
        edits, stack = self.edits(concepts, encoding.device), tuple(self.stack[j] for j in concepts)
        words, spoken = words_in_prompt(encoding, stack, edits, marks), with_offsets(encoding, stack, marks)
        if known is None or known.tokens.shape[-1] != encoding.shape[-1]:
            return spoken, edit_encoding(spoken, edits, words)
        return spoken, edit_present(spoken, edits, words, known.words_in(encoding)[..., list(concepts)])

    def targets(self, concepts: tuple[int, ...], layer: str, device: torch.device) -> Tensor:
        """Return the target values of these concepts in one layer, [J, d_out], on the device."""
        key = (concepts, layer, device)
        if key not in self._targets:
            rows = [self.stack[j].concept.value_targets[layer] for j in concepts]
            self._targets[key] = torch.stack(rows).to(device)
        return self._targets[key]

    def refined(
        self, context: Tensor, superclass_encoding: Tensor | None, at_layers: Callable[[Tensor], Tensor]
    ) -> Refined:
        """Return what a model makes of the two before its layers see them, and what is known of the former; once per
        run.

        at_layers: makes it, for an encoding in a batch of this size: another one rounds otherwise.
        """
        for known, locked, made in self._refined:
            if equal_tensors(known, context) and equal_tensors(locked, superclass_encoding):
                return made
        arrived = at_layers(context)
        locked = None if superclass_encoding is None else at_layers(superclass_encoding)
        known = None if self.known is None else self.known.through(context, arrived)
        made = arrived, locked, (marks_through(self.marks, context, arrived), known)
        if self.remember and self.reuse_projections and not torch.is_grad_enabled():
            self._refined = [*self._refined[1 - KNOWN_ENCODINGS :], (context, superclass_encoding, made)]
        return made

    def opened(self) -> dict[str, tuple[float, float]]:
        """How far the gate of each word was open in all that arrived, and the similarity of that token by itself; at
        tokens as similar to its concept as only its own are."""
        found: dict[str, tuple[float, float]] = {}
        with self._lock:
            for known in self._known:
                concepts = known.signature[0]
                own = known.edited.similarities >= OWN_TOKEN_BIAS
                gates = torch.where(own, known.edited.gates, -1.0).flatten(0, -2)
                for column, (j, edit) in enumerate(zip(concepts, self.edits(concepts, gates.device), strict=True)):
                    at = int(gates[:, column].argmax())
                    gate = gates[at, column].item()
                    token = known.spoken.flatten(0, -2)[at]
                    alone = similarity(token, edit.target_input, edit.inverse_target_input).item()
                    word = self.stack[j].concept.word
                    if gate >= 0:
                        found[word] = max(found.get(word, (0.0, 0.0)), (gate, alone))
        return found

    def find(self, encoding: Tensor, superclass_encoding: Tensor | None, signature: tuple) -> _KnownEncoding | None:
        """Return the known encoding that equals this one, None where there is none."""
        with self._lock:
            for index, known in enumerate(self._known):
                if known.matches(encoding, superclass_encoding, signature):
                    self._known.insert(0, self._known.pop(index))
                    return known
        return None

    def add(self, known: _KnownEncoding) -> None:
        """Remember an encoding in place of the one that was not used for longest."""
        with self._lock:
            self._known.insert(0, known)
            for forgotten in self._known[KNOWN_ENCODINGS:]:
                self._bytes -= sum(tensor.nbytes for _, tensor in forgotten.projections.values())
            del self._known[KNOWN_ENCODINGS:]

    def keep_projection(self, known: _KnownEncoding, key: tuple[str, str], original: Forward, made: Tensor) -> None:
        """Keep keys or values for the next step, as far as the memory for it goes."""
        with self._lock:
            if self._bytes + made.nbytes <= REUSED_BYTES:
                self._bytes += made.nbytes
                known.projections[key] = (original, made)


class GateCall:
    """One call of the model: which concepts act, and the projections that run in place of the layers' own.

    concepts: indices into the run's stack.  originals: the modules' forwards by (layer, to_k or to_v).
    context: the call's text encoding, [B, N, d].  superclass_encoding: for the global key lock, [B, N, d], or None.
    of_context: marks of the concepts' own tokens in what arrives, and its known tokens.
    weights: anything that compares equal while the weights of the model are the same.
    """

    def __init__(
        self,
        run: GateRun,
        concepts: tuple[int, ...],
        originals: Mapping[tuple[str, str], Forward],
        context: Tensor | None,
        superclass_encoding: Tensor | None,
        of_context: tuple[Marks, KnownTokens | None],
        weights: tuple,
        reuse_projections: bool,
    ) -> None:
        self.run = run
        self.concepts = concepts
        self.originals = originals
        self.context = context
        self.superclass_encoding = superclass_encoding
        self.of_context = of_context
        self.signature = (concepts, weights)
        # A graph of one call must not be held by the next.
        self.remember = run.remember and not torch.is_grad_enabled()
        self.reuse_projections = self.remember and run.reuse_projections and reuse_projections
        self._arrived: dict[int, tuple[Tensor, _KnownEncoding]] = {}

    def project(self, layer: str, projection: str, encoding: Tensor) -> Tensor:
        """Return the keys or values of one layer under the concepts: [..., N, d] -> [..., N, d_out]."""
        original = self.originals[layer, projection]
        if encoding.shape[-1] != self.run.encoding_width:
            return original(encoding)
        self.run.has_acted = True
        known = self._known(encoding)
        kept = known.projections.get((layer, projection))
        # Other code may have replaced the projection since; a bound method equals itself, not is itself.
        if self.reuse_projections and kept is not None and kept[0] == original:
            return kept[1]
        if projection == KEYS:
            made = original(known.key_context)
        else:
            targets = self.run.targets(self.concepts, layer, encoding.device)
            made = add_value_targets(original(known.edited.value_context), known.edited.value_gates, targets)
        if self.reuse_projections:
            self.run.keep_projection(known, (layer, projection), original, made)
        return made

    def _known(self, encoding: Tensor) -> _KnownEncoding:
        """Return the edit of an encoding: by identity within the call, by equality within the run, or a new one."""
        arrived = self._arrived.get(id(encoding))
        if arrived is not None:
            return arrived[1]
        superclass_encoding = self._superclass_encoding_of(encoding)
        known = self.run.find(encoding, superclass_encoding, self.signature) if self.remember else None
        if known is None:
            spoken, edited = self.run.spoken_and_edited(encoding, self.concepts, self.of_context)
            key_context = self._key_context(encoding, spoken, superclass_encoding, edited)
            known = _KnownEncoding(encoding, spoken, superclass_encoding, self.signature, edited, key_context)
            if self.remember:
                self.run.add(known)
        self._arrived[id(encoding)] = (encoding, known)  # keeps the tensor alive, so that its id stays its own
        return known

    def _superclass_encoding_of(self, encoding: Tensor) -> Tensor | None:
        """Return the superclass encoding of what arrived, token by token, None where the call has none.

        Other patches repeat, slice and reorder the call's encoding on its way to a layer (attention couple, NegPip), so
        its tokens are recognised one by one; a token that is none of the call's stands for itself.
        """
        if self.superclass_encoding is None or self.context is None:
            return None
        if self.superclass_encoding.shape != self.context.shape:  # other code split the batch between them
            return None
        context, superclass_encoding = self.context.to(encoding), self.superclass_encoding.to(encoding)
        if equal_tensors(context, encoding):
            return superclass_encoding
        return substituted_tokens(encoding, context, superclass_encoding)

    def _key_context(
        self, encoding: Tensor, spoken: Tensor, superclass_encoding: Tensor | None, edited: EditedEncoding
    ) -> Tensor:
        """Return what the keys are projected from.  spoken: the encoding with the offsets of its words.

        Local lock: the edited context. Global lock: the superclass encoding wherever it differs; a token that it
        shares with the encoding keeps the local edit, so that a word whose superclass encoding got lost on the way
        (in the second half of a concatenation, or in another prompt of the batch) is still locked. A strength other
        than 1 mixes the two encodings, by the strength of the strongest concept.
        """
        if superclass_encoding is None:
            return edited.key_context
        strength = self.run.lock_strength(self.concepts)
        locked = superclass_encoding if strength == 1 else torch.lerp(spoken, superclass_encoding, strength)
        shared = (superclass_encoding == encoding).all(dim=-1, keepdim=True)
        return torch.where(shared, edited.key_context, locked)


def substituted_tokens(encoding: Tensor, known: Tensor, substitutes: Tensor) -> Tensor:
    """Return the encoding, [..., N, d], with every token that equals one of `known`, [..., M, d], replaced by the token
    in the same place of `substitutes`, [..., M, d]; other tokens stay."""
    found, equal = find_tokens(encoding, known.flatten(0, -2))
    return torch.where(equal[..., None], substitutes.flatten(0, -2)[found], encoding)
