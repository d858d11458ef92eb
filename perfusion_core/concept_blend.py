"""A concept between two others, such as a teddy between two teddies.

With the concepts a and b, and the share t of b from 0 to 1, field by field (each line says why):

    word vectors, o_V        (1 - t) a + t b at the length (1 - t) |a| + t |b|: a mean of two directions is shorter than
                             both, and a shorter value paints a paler thing
    i, superclass encoding   (1 - t) a + t b: what is taken out of an encoding does not depend on the length of i, and
                             superclasses of one name are equal
    C^-1 i                   of the blended i, since C^-1 is linear: files hold u = C^-1 i / E with E = i . C^-1 i, and
                             E_a / E_b = (i_a . u_b) / (i_b . u_a) undoes that, because C is symmetric
    offset of the encoding   (1 - t) a + t b, as the i that it is a part of; a concept without one has 0
    bias, temperature, lock, strength, window
                             (1 - t) a + t b: both ends are gates that work, and so is what lies between
    superclass, its vectors, pooled lock
                             of the nearer one: a name has nothing between, and the encoding says the rest
    picture, training        left out, but for what it was blended of: they would tell of another concept

At both ends it is that concept, bit for bit, under the new word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .concept import Concept, GatedConcept, unit_energy
from .errors import PerfusionError, quoted

KEY = "blend"  # of what a concept was blended of, among its training settings


def default_word(a: Concept, b: Concept) -> str:
    """The word of a blend for which nobody chose one: "<hugsy-bruno>"."""
    return f"<{a.word.strip('<>')}-{b.word.strip('<>')}>"


def blend_concepts(a: GatedConcept, b: GatedConcept, share: float, word: str) -> GatedConcept:
    """Return the concept between two, with a gate between theirs; see the module for each field.

    share: of b, 0 to 1.  word: "<hugsy-bruno>".
    Raises PerfusionError for concepts of different models, forms, layers or numbers of tokens, and for such as have
    nothing in common in the metric of their text statistics.
    """
    if not 0 <= share <= 1:
        raise PerfusionError(f"The input share expected a number from 0 to 1, but found {share}; choose one of these.")
    _check_alike(a.concept, b.concept)

    def between(one: float, other: float) -> float:
        return (1 - share) * one + share * other

    if share in (0, 1):
        end = b if share else a
        return replace(end, concept=replace(end.concept, word=word))
    lock = None
    if a.lock is not None or b.lock is not None:
        lock = between(*(one.concept.recommended_lock if one.lock is None else one.lock for one in (a, b)))
    numbers = ("bias", "temperature", "strength", "start_percent", "end_percent")
    gate = {name: between(getattr(a, name), getattr(b, name)) for name in numbers}
    return GatedConcept(_blended(a.concept, b.concept, share, word), **gate, lock=lock)


def concerns(a: Concept, b: Concept) -> list[str]:
    """What speaks against a good blend of two concepts that can be blended, for people."""
    found = []
    if a.superclass != b.superclass:
        found.append(f"{a.superclass} and {b.superclass} are different superclasses: the kind changes at some share")
    if a.statistics_hash != b.statistics_hash:
        found.append("measured with different text statistics: the gate between them is a guess")
    return found


def between_directions(a: Tensor, b: Tensor, share: float) -> Tensor:
    """(1 - share) a + share b, each last dimension at the length that lies between theirs: [..., n] -> [..., n].

    Where a and b cancel each other there is no direction, and the sum stays as short as it is.
    """
    one, other = a.double(), b.double()
    mixed = torch.lerp(one, other, share)
    wanted = torch.lerp(one.norm(dim=-1, keepdim=True), other.norm(dim=-1, keepdim=True), share)
    length = mixed.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-6 * wanted, mixed * (wanted / length.clamp(min=1e-30)), mixed).float()


def inverse_between(a: Concept, b: Concept, share: float) -> Tensor:
    """A multiple of C^-1 ((1 - share) i_a + share i_b), [d].

    Raises PerfusionError where the two have no positive similarity, so that nothing tells how long each is.
    """
    i_a, u_a, i_b, u_b = (
        tensor.double() for tensor in (a.target_input, a.inverse_target_input, b.target_input, b.inverse_target_input)
    )
    of_a, of_b = (i_a @ u_b).item(), (i_b @ u_a).item()  # C^-1 in common, over E_b and over E_a
    if not (of_a > 0 and of_b > 0 and math.isfinite(of_a / of_b)):
        raise PerfusionError(
            f"The input concept_b expected a concept similar to {a.word}, but {b.word} has a similarity of {of_b:.2g}"
            " to it; blend things that resemble each other."
        )
    return torch.lerp(of_a / of_b * u_a, u_b, share)


def _blended(a: Concept, b: Concept, share: float, word: str) -> Concept:
    def all_between(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: between_directions(tensor, other[name], share) for name, tensor in one.items()}

    nearer = b if share > 0.5 else a
    target_input = torch.lerp(a.target_input, b.target_input, share)
    lock = None if a.lock is None or b.lock is None else (1 - share) * a.lock + share * b.lock
    return replace(
        nearer,
        word=word,
        bias=(1 - share) * a.bias + share * b.bias,
        temperature=(1 - share) * a.temperature + share * b.temperature,
        lock=lock,
        statistics_hash=a.statistics_hash if a.statistics_hash == b.statistics_hash else "",
        training={KEY: {"of": [a.word, b.word], "share": share}, "pooled_lock": nearer.pooled_lock},
        target_input=target_input,
        inverse_target_input=unit_energy(target_input, inverse_between(a, b, share).float()),
        superclass_encoding=torch.lerp(a.superclass_encoding, b.superclass_encoding, share),
        word_vectors=all_between(a.word_vectors, b.word_vectors),
        value_targets=all_between(a.value_targets, b.value_targets),
        encoding_offset=_offset_between(a.encoding_offset, b.encoding_offset, share),
        picture=None,
    )


def _offset_between(a: Tensor | None, b: Tensor | None, share: float) -> Tensor | None:
    if a is None:
        return None if b is None else share * b
    return (1 - share) * a if b is None else torch.lerp(a, b, share)


def _check_alike(a: Concept, b: Concept) -> None:
    """Raise PerfusionError for the first of what both must have in common."""

    def refuse(what: str, of_a: object, of_b: object) -> None:
        if of_a != of_b:
            raise PerfusionError(
                f"The input concept_b expected a concept like {a.word}, of the {what} {quoted(of_a)}, but {b.word} has"
                f" {quoted(of_b)}; blend concepts that were trained in one way."
            )

    refuse("base model", a.base_model, b.base_model)
    refuse("form", a.form, b.form)
    refuse("layer of the text encoder", a.clip_layer, b.clip_layer)
    refuse("width of text encodings", a.encoding_width, b.encoding_width)
    refuse("numbers of word tokens", _sizes(a.word_vectors), _sizes(b.word_vectors))
    for key, vectors in a.word_vectors.items():
        refuse(f"width of {key} vectors", vectors.shape[1], b.word_vectors[key].shape[1])
    if a.encoding_offset is not None and b.encoding_offset is not None:
        refuse("number of positions", len(a.encoding_offset), len(b.encoding_offset))
    refuse("number of layers", len(a.value_targets), len(b.value_targets))
    for name, size in _sizes(a.value_targets).items():
        refuse(f"layer {name} of size", size, _sizes(b.value_targets).get(name))


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The first dimension of each: tokens of a word, or numbers of a value."""
    return {name: len(tensor) for name, tensor in sorted(tensors.items())}
