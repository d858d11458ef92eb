"""What a learned concept is, and a stack of concepts with the settings of their gates."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .edit import FORMS, LOCK_OF, ConceptEdit, is_lock
from .errors import PerfusionError, quoted

MAX_PICTURE_BYTES = 65_536
# Of word and superclass: longer than any text that a person reads, shorter than what spoils a sentence that quotes it.
MAX_TEXT_LENGTH = 200

# Gate for using a concept, as its file recommends it. Biases from .55 to .85 do about as well
# (benchmarks/quality/results); of these it opens least at other words.
RECOMMENDED_BIAS, RECOMMENDED_TEMPERATURE = 0.85, 0.15
# Another bias for forms whose own word is less similar to the concept in a prompt (benchmarks/presets.md).
RECOMMENDED_BIAS_OF_FORM = {"paper": 0.65}

# How far i . C^-1 i may be from 1: the rounding of float32 sums over thousands of numbers, with room to spare.
ENERGY_TOLERANCE = 1e-3


def normalise_word(text: str) -> str:
    """Return the word as prompts use it: lower case, in angle brackets ("Hugsy" -> "<hugsy>").

    Lower case because the text encoders' tokenizers do not tell case apart. Raises PerfusionError for an empty word,
    for one with other signs than letters, digits, "-" and "_", which prompt syntax would cut into pieces, and for one
    that is too long for a file.
    """
    word = f"<{text.strip().removeprefix('<').removesuffix('>').strip().lower()}>"
    if not re.fullmatch(r"<[\w-]+>", word):
        raise PerfusionError(
            f"The word of a concept must be one or more letters, digits, - or _ in angle brackets, such as <hugsy>,"
            f" but it is {quoted(text)}; choose another word."
        )
    if len(word) > MAX_TEXT_LENGTH:
        raise PerfusionError(
            f"The word of a concept must be at most {MAX_TEXT_LENGTH} signs long, but {quoted(word)} has {len(word)};"
            " choose a shorter word."
        )
    return word


def typed_word(text: str | None, otherwise: str = "") -> str:
    """The word that a person typed, as prompts use it; the other one where nothing was typed.

    Raises PerfusionError for one that cannot be; see `normalise_word`.
    """
    return normalise_word(text) if text and text.strip() else otherwise


def unit_energy(target_input: Tensor, inverse_target_input: Tensor) -> Tensor:
    """Return C^-1 i scaled so that i . C^-1 i = 1, [d]; the edit does not depend on the scale of C.

    Raises PerfusionError where i . C^-1 i is not a positive number.
    """
    energy = (target_input.double() * inverse_target_input.double()).sum()
    if not 0 < energy.item() < math.inf:
        raise PerfusionError(
            f"The target input has the energy i.C^-1 i = {energy.item():.3g} where a positive number is needed;"
            " measure the text statistics again."
        )
    return (inverse_target_input.double() / energy).to(inverse_target_input.dtype)


@dataclass(frozen=True, eq=False)
class Concept:
    """One learned concept, with all that is needed to use it: no text statistics, no look-up of the superclass.

    word: "<hugsy>".  superclass: the plain word for what it is.  base_model: family ("sd1", "sdxl", ...).
    encoding_width: d.  clip_layer: layer of the text encoder it was trained on, None for the host's default.
    form: of the edit, see `edit.FORMS`.  bias, temperature: recommended gate.  statistics_hash: of the text statistics.
    training: settings of the training, JSON values.  lock: of the keys, recommended, 0 to 1, in the form lockable, and
    None in the others, which have one each.
    target_input: i, [d].  inverse_target_input: C^-1 i, scaled to i . C^-1 i = 1, [d].  superclass_encoding: [d].
    word_vectors, superclass_vectors: learned and initial token vectors by embedding key ("clip_l"), [n, width].
    value_targets: o_V by name of the cross-attention layer, [d_out]; in the forms residual and anchored, what is added
    to the word's own values.  encoding_offset: what is added to the word's encoding at each of its positions, [p, d],
    or None; see `encoding_offset`.  picture: small JPEG file, or None.

    All tensors are kept as own float32 copies on the CPU. Raises PerfusionError where something does not fit.
    """

    word: str
    superclass: str
    base_model: str
    encoding_width: int
    clip_layer: int | None
    form: str
    bias: float
    temperature: float
    statistics_hash: str
    training: Mapping[str, Any]
    target_input: Tensor
    inverse_target_input: Tensor
    superclass_encoding: Tensor
    word_vectors: Mapping[str, Tensor]
    superclass_vectors: Mapping[str, Tensor]
    value_targets: Mapping[str, Tensor]
    picture: bytes | None = field(default=None, repr=False)
    lock: float | None = None
    encoding_offset: Tensor | None = None

    def __post_init__(self) -> None:
        if self.word != normalise_word(self.word):
            raise PerfusionError(
                f"The word of a concept must be lower case in angle brackets, {normalise_word(self.word)!r},"
                f" but it is {self.word!r}; pass it through normalise_word."
            )
        self._check_settings()
        for name in ("target_input", "inverse_target_input", "superclass_encoding"):
            object.__setattr__(self, name, self._own(name, getattr(self, name), (self.encoding_width,)))
        for name, dimensions in (("word_vectors", 2), ("superclass_vectors", 2), ("value_targets", 1)):
            tensors = dict(getattr(self, name))
            if not tensors:
                raise self._error(f"needs at least one entry in {name}, but there is none")
            shape = (None,) * dimensions
            object.__setattr__(self, name, {k: self._own(f"{name}[{k}]", t, shape) for k, t in tensors.items()})
        if self.encoding_offset is not None:
            offset = self._own("encoding_offset", self.encoding_offset, (None, self.encoding_width))
            object.__setattr__(self, "encoding_offset", offset)
        self._check_word_vectors()
        energy = (self.target_input.double() * self.inverse_target_input.double()).sum().item()
        if not abs(energy - 1) <= ENERGY_TOLERANCE:
            raise self._error(f"needs i.C^-1 i = 1 (see unit_energy), but it is {energy:.4g}")

    @property
    def recommended_lock(self) -> float:
        """The lock with which the concept is used where nobody chooses another one."""
        return LOCK_OF[self.form] if self.lock is None else self.lock

    @property
    def pooled_lock(self) -> bool:
        """Whether it was trained, and is used, with the pooled vectors of prompts with its superclass."""
        return self.training.get("pooled_lock") is True

    @cached_property
    def word_hash(self) -> str:
        """What tells this concept's word from that of another one, however both are called: what the text encoder gets.

        So without the offset, which it does not get: of equal encodings none can have a word that the other has not.
        """
        digest = hashlib.sha256()
        for key, vectors in sorted(self.word_vectors.items()):
            digest.update(f"{key} {list(vectors.shape)} ".encode())
            digest.update(vectors.numpy().tobytes())
        return digest.hexdigest()

    def _error(self, problem: str) -> PerfusionError:
        return PerfusionError(f"Concept {self.word} {problem}; train or save it again.")

    def _check_settings(self) -> None:
        for name in ("superclass", "base_model"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise self._error(f"needs a text as its {name}, but it is {text!r}")
            if len(text) > MAX_TEXT_LENGTH:
                raise self._error(f"needs a {name} of at most {MAX_TEXT_LENGTH} signs, but has {quoted(text)}")
            if not text.isprintable():  # its file could not be read again
                raise self._error(f"needs a {name} of signs that can be seen, but has {quoted(text)}")
        if self.form not in FORMS:
            raise self._error(f"must have one of the forms {', '.join(FORMS)}, but it is {self.form!r}")
        if self.form == "lockable" and self.lock is None:
            object.__setattr__(self, "lock", LOCK_OF[self.form])
        if self.lock is not None and (self.form != "lockable" or not is_lock(self.lock)):
            expected = "a lock from 0 to 1" if self.form == "lockable" else "no lock of its own"
            raise self._error(f"needs {expected} in the form {self.form}, but it is {self.lock}")
        if not math.isfinite(self.bias):
            raise self._error(f"needs a finite bias, but it is {self.bias}")
        if not 0 < self.temperature < math.inf:
            raise self._error(f"needs a temperature above 0, but it is {self.temperature}")
        try:
            settings = json.loads(json.dumps(dict(self.training), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as problem:
            raise self._error(f"needs training settings that JSON can hold, but found {problem}") from None
        object.__setattr__(self, "training", settings)
        picture = self.picture
        if picture is not None and (not picture.startswith(b"\xff\xd8") or len(picture) > MAX_PICTURE_BYTES):
            raise self._error(
                f"needs a JPEG picture of at most {MAX_PICTURE_BYTES} bytes, but it has {len(picture)} bytes"
                f" that begin with {picture[:4]!r}"
            )

    def _own(self, name: str, tensor: Tensor, shape: Sequence[int | None]) -> Tensor:
        """Return a checked float32 copy on the CPU; a None in the shape stands for any size above 0."""
        fits = tensor.dim() == len(shape) and all(
            found > 0 and wanted in (None, found) for found, wanted in zip(tensor.shape, shape, strict=False)
        )
        if not fits:
            wanted = " x ".join("any" if size is None else str(size) for size in shape)
            raise self._error(f"needs the shape {wanted} for {name}, but it is {list(tensor.shape)}")
        # The host runs nodes in inference mode; what is made there could never again take part in a training.
        with torch.inference_mode(False):
            own = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        if not torch.isfinite(own).all():
            raise self._error(f"needs finite numbers in {name}, but some are infinite or not a number")
        return own

    def _check_word_vectors(self) -> None:
        if set(self.word_vectors) != set(self.superclass_vectors):
            raise self._error(
                f"needs vectors of its word and of its superclass for the same text encoders, but has"
                f" {sorted(self.word_vectors)} and {sorted(self.superclass_vectors)}"
            )
        for key, vectors in self.word_vectors.items():
            if vectors.shape[1] != self.superclass_vectors[key].shape[1]:
                raise self._error(
                    f"needs vectors of one width for {key}, but has {vectors.shape[1]} for its word and"
                    f" {self.superclass_vectors[key].shape[1]} for its superclass"
                )


@dataclass(frozen=True, eq=False)
class GatedConcept:
    """A concept with the settings of its gate for one use.

    bias, temperature: in units of the similarity.  strength: 0 = not there, 1 = as learned.
    start_percent, end_percent: part of the sampling, 0 to 1, in which the concept acts.
    lock: of the keys, 0 (the word's own) to 1 (those of its superclass); None takes what the concept recommends.
    """

    concept: Concept
    bias: float
    temperature: float
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    lock: float | None = None

    def __post_init__(self) -> None:
        word = self.concept.word
        if not math.isfinite(self.bias) or not math.isfinite(self.strength):
            raise PerfusionError(
                f"The bias and the strength of {word} must be finite numbers, but they are {self.bias} and"
                f" {self.strength}."
            )
        if not 0 < self.temperature < math.inf:
            raise PerfusionError(f"The temperature of {word} must be above 0, but it is {self.temperature}.")
        if not 0 <= self.start_percent <= self.end_percent <= 1:
            raise PerfusionError(
                f"The start and end of {word} must be ordered numbers from 0 to 1, but they are"
                f" {self.start_percent} and {self.end_percent}; set start_percent to no more than end_percent."
            )
        if self.lock is not None and not is_lock(self.lock):
            raise PerfusionError(f"The lock of {word} must be a number from 0 to 1, but it is {self.lock}.")

    def edit(self) -> ConceptEdit:
        """Return what the equations need of this concept."""
        return ConceptEdit(
            target_input=self.concept.target_input,
            inverse_target_input=self.concept.inverse_target_input,
            superclass_encoding=self.concept.superclass_encoding,
            bias=self.bias,
            temperature=self.temperature,
            strength=self.strength,
            form=self.concept.form,
            lock=self.concept.recommended_lock if self.lock is None else self.lock,
        )


ConceptStack = tuple[GatedConcept, ...]


def alone(concept: Concept) -> ConceptStack:
    """The stack of this one concept, with the gate that it recommends."""
    return (GatedConcept(concept, concept.bias, concept.temperature),)


def check_stack(stack: Sequence[GatedConcept]) -> None:
    """Raise PerfusionError where two concepts of the stack are called by the same word, or where the text encoder gets
    the same of both and each would add another offset to it."""
    seen: set[str] = set()
    spoken: dict[str, Concept] = {}
    for gated in stack:
        other = spoken.setdefault(gated.concept.word_hash, gated.concept)
        if not _same_offset(other, gated.concept):
            raise PerfusionError(
                f"The words {other.word} and {gated.concept.word} have the same vectors and other offsets, so a prompt"
                " cannot tell which of the two it says; remove one of them."
            )
        if gated.concept.word in seen:
            raise PerfusionError(
                f"Two concepts of the stack are called {gated.concept.word}, but a prompt needs one word for each;"
                " write another one into the input word of one of their Load Perfusion Concept nodes."
            )
        seen.add(gated.concept.word)


def _same_offset(one: Concept, other: Concept) -> bool:
    a, b = one.encoding_offset, other.encoding_offset
    return a is b or (a is not None and b is not None and torch.equal(a, b))
