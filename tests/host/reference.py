"""The edit written down a second time, in float64 and with nothing remembered, to compare the patch with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import comfy.model_patcher
import torch
from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
from perfusion_pack.nodes.host.text.known_prompts import KEY
from perfusion_pack.nodes.host.text.own_tokens import CONDITIONING_KEY
from perfusion_pack.perfusion_core.concept import GatedConcept
from tiny_models import tiny_model
from torch import Tensor


class Known(NamedTuple):
    """What is known of prompts.

    words: of whose concept, a token [d] and its plain word [d].  prompts: tokens [N, d], and whose words they have.
    """

    words: Sequence[tuple[str, Tensor, Tensor]] = ()
    prompts: Sequence[tuple[Tensor, Sequence[str]]] = ()


NOTHING = Known()


def own_words(conditioning: Iterable) -> Known:
    """What is known of the concepts' words in a conditioning."""
    entries = list(conditioning)
    marks = [extra.get(CONDITIONING_KEY, getattr(encoding, CONDITIONING_KEY, {})) for encoding, extra in entries]
    words = [
        (identity, token, word)
        for marked in marks
        for identity, own in marked.items()
        for token, word in zip(own.tokens, own.words, strict=True)
    ]
    remembered = [
        (prompt.encoding, prompt.words) for _, extra in entries if KEY in extra for prompt in extra[KEY].prompts
    ]
    # Of a scheduled encoding the host keeps nothing but the encoding, which says its own words.
    remembered += [(encoding, getattr(encoding, KEY)) for encoding, _ in entries if hasattr(encoding, KEY)]
    return Known(words, [(encoding[0], held) for encoding, held in remembered])


def present(row: Tensor, stack: Sequence[GatedConcept], prompts: Sequence[tuple[Tensor, Sequence[str]]]) -> list[int]:
    """The concepts whose words may be in a prompt, [N, d]: some token is of no known prompt without it."""
    found, words = [], mixed(row, prompts)
    for j, g in enumerate(stack):
        if words is not None:
            found += [j] if g.concept.word_hash in words else []
            continue
        without = [tokens for tokens, words in prompts if g.concept.word_hash not in words]
        nothing = (row == 0).all(dim=-1)
        known = [nothing, *((row[:, None] == tokens.to(row)).all(dim=-1).any(dim=1) for tokens in without)]
        if not torch.stack(known).any(dim=0).all():
            found.append(j)
    return found


_MIXED: dict[bytes, set[str] | None] = {}


def mixed(row: Tensor, prompts: Sequence[tuple[Tensor, Sequence[str]]]) -> set[str] | None:
    """Whose words are in a prompt, [N, d], that was mixed out of two known ones; None where it was not."""
    key = row.numpy().tobytes()
    if key not in _MIXED:
        _MIXED[key] = None
        same_length = [(tokens.flatten().double(), words) for tokens, words in prompts if tokens.shape == row.shape]
        mixture = row.flatten().double()
        known = any(torch.equal(mixture, tokens) for tokens, _ in same_length) or not mixture.any()
        for (one, words), (other, others) in combinations(same_length, 2) if not known else ():
            basis = torch.stack([one, other], dim=1)
            weights = torch.linalg.lstsq(basis, mixture).solution
            if (basis @ weights - mixture).norm() <= 1e-6 * mixture.norm():
                _MIXED[key] = {*words, *others}
    return _MIXED[key]


def edited_contexts(
    encoding: Tensor, stack: Sequence[GatedConcept], known: Known = NOTHING
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the key context, the value context [..., N, d] and gate times strength [..., N, J], float64.

    known: of `own_words`."""
    if encoding.dim() != 3 or not known.prompts:
        return _edited(encoding, stack, known.words)
    rows = []
    for row in encoding:
        here, gates = present(row, stack, known.prompts), row.new_zeros(len(row), len(stack)).double()
        keys = values = row.double()
        if here:
            keys, values, gates_here = (t[0] for t in _edited(row[None], [stack[j] for j in here], known.words))
            gates[:, here] = gates_here
        rows.append((keys, values, gates))
    keys, values, gates = (torch.stack(column) for column in zip(*rows, strict=True))
    return keys, values, gates


def _edited(
    encoding: Tensor, stack: Sequence[GatedConcept], known: Sequence[tuple[str, Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    e = encoding.double()
    i = torch.stack([g.concept.target_input for g in stack]).double()
    c = torch.stack([g.concept.inverse_target_input for g in stack]).double()
    e_super = torch.stack([g.concept.superclass_encoding for g in stack]).double()
    bias = torch.tensor([g.bias for g in stack]).double()
    temperature = torch.tensor([g.temperature for g in stack]).double()
    strength = torch.tensor([g.strength for g in stack]).double()
    paper = torch.tensor([g.concept.form == "paper" for g in stack])
    own_keys = torch.tensor([float(g.concept.form in ("unlocked", "lockable", "anchored")) for g in stack]).double()
    lock = torch.tensor([g.concept.recommended_lock if g.lock is None else g.lock for g in stack]).double()

    alone = (e @ c.T) / (i * c).sum(-1)
    gram = c @ i.T  # row j: what is left of e must have no part along C^-1 i_j
    joint = torch.linalg.solve(gram, (e @ c.T).flatten(0, -2).T).T.reshape(alone.shape)
    own, measure = torch.zeros_like(alone, dtype=torch.bool), torch.ones_like(alone)
    for j, g in enumerate(stack):
        for identity, token, word in known:
            if identity == g.concept.word_hash and g.concept.form != "paper":
                there = (encoding == token.to(encoding)).all(dim=-1)
                own[..., j] |= there
                measure[..., j] = torch.where(there, word.double() @ c[j] / (i[j] @ c[j]), measure[..., j])
        for row in range(own.shape[0] if own.dim() == 3 else 0):
            if own[row, :, j].any():
                measure[row, ~own[row, :, j], j] = measure[row, own[row, :, j], j].mean()
    divisor = measure.clamp(min=0.5)
    joint_relative = joint / divisor
    largest = joint_relative == joint_relative.amax(dim=-1, keepdim=True)
    largest = torch.where(own.any(dim=-1, keepdim=True), own, largest)
    relative = torch.where(own, 1 + (alone - measure) / divisor, alone / divisor)
    similarity = torch.where(paper | largest, relative, torch.minimum(relative, joint_relative))
    gate = 1 / (1 + torch.exp(-(similarity - bias) / temperature))
    coefficients = strength * torch.where(paper, joint, gate * joint)
    own_tokens = 1 / (1 + torch.exp(-(similarity - 0.75) / 0.1))
    e = e + (own_keys * strength * own_tokens * (1 - gate) * joint) @ (e_super - i)
    key_context = e - (lock * coefficients) @ i + (lock * strength * gate) @ e_super
    taken = torch.tensor([float(g.concept.form not in ("residual", "anchored")) for g in stack]).double()
    return key_context, e - (taken * coefficients) @ i, strength * gate


class ReferenceProjection(torch.nn.Module):
    """A to_k or to_v that applies the edit to whatever arrives, whenever it is called."""

    def __init__(
        self, linear, stack, layer: str, keys: bool, locked: Sequence[tuple[Tensor, Tensor]], known: Known
    ) -> None:
        super().__init__()
        self.linear, self.stack, self.layer, self.keys, self.locked = linear, stack, layer, keys, locked
        self.known = known

    def forward(self, encoding: Tensor) -> Tensor:
        key_context, value_context, gates = edited_contexts(encoding, self.stack, self.known)
        if self.keys:
            for row, one in enumerate(encoding):
                for own, superclass in self.locked:
                    if one.shape == own.shape and torch.equal(one, own):
                        other = (superclass != own).any(dim=-1, keepdim=True)
                        key_context[row] = torch.where(other, superclass.double(), key_context[row])
            return self.linear(key_context.to(encoding))
        targets = torch.stack([g.concept.value_targets[self.layer] for g in self.stack]).double()
        return (self.linear(value_context.to(encoding)).double() + gates @ targets).to(encoding)


def reference_model(
    stack: Sequence[GatedConcept],
    locked: Sequence[tuple[Tensor, Tensor]] = (),
    known: Known = NOTHING,
    **settings: object,
) -> comfy.model_patcher.ModelPatcher:
    """Return the tiny model of the other tests, made anew, whose projections are replaced for good.

    locked: pairs of (encoding, superclass encoding), [N, d], for the global key lock.  known: of
    `own_words`.  settings: of `tiny_model`.
    """
    model = tiny_model(**settings)
    for name, layer in cross_attention_layers(model.model.diffusion_model).items():
        layer.to_k = ReferenceProjection(layer.to_k, stack, name, True, locked, known)
        layer.to_v = ReferenceProjection(layer.to_v, stack, name, False, locked, known)
    return model
