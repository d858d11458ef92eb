"""How far each concept's gate would open at each word of a prompt, and at the words of the other concepts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from ....perfusion_core.concept import ConceptStack, check_stack
from ....perfusion_core.errors import PerfusionError
from ..model_family import makes_its_own_text
from ..text.prompt_words import words_at_layers, words_of_prompt
from ..text.words import add_words, known_words
from .reading import read_gates
from .refined_text import refined_text

# Stands for start, end and padding, at which no word was written and a gate may open all the same.
REST = "(rest)"


class Reading(NamedTuple):
    """One concept at one word: the largest of its tokens."""

    similarity: float
    gate: float


class GateInspection(NamedTuple):
    """What `inspect_gate` found.

    stack: the concepts with the gates that were looked at.  words: of the prompt, and REST.
    readings: by word and concept.  by_themselves, together: similarity of concept j at the word of concept k, [J][J],
    where j is used alone and where all are used at once.
    """

    stack: ConceptStack
    words: tuple[str, ...]
    readings: tuple[tuple[Reading, ...], ...]
    by_themselves: tuple[tuple[float, ...], ...]
    together: tuple[tuple[float, ...], ...]

    @property
    def concepts(self) -> tuple[str, ...]:
        return tuple(gated.concept.word for gated in self.stack)


def inspect_gate(clip: CLIP, stack: ConceptStack, prompt: str, model: ModelPatcher | None = None) -> GateInspection:
    """Encode a prompt and look at the gates of a stack.

    clip: with the concepts' words or without them.  stack: concepts of strength 0 are left out, as in a run.
    model: of the CLIP, for what its layers see of the text; needed where that is not the encoding.
    Raises PerfusionError where no concept is left, where one does not fit the CLIP, or where the model is missing.
    """
    stack = tuple(gated for gated in stack if gated.strength != 0)
    if not stack:
        raise PerfusionError(
            "The input concepts expected at least one concept of a strength other than 0, but found none; connect Load"
            " Perfusion Concept."
        )
    check_stack(stack)
    at_layers = None if model is None else refined_text(model)
    if model is None and makes_its_own_text(stack[0].concept.base_model):
        raise PerfusionError(
            f"The input model expected the model of {stack[0].concept.word}, since {stack[0].concept.base_model} models"
            " make something else of the CLIP's text before they look at it, but nothing is connected; connect the"
            " model of this CLIP."
        )
    known = known_words(clip)
    speaking = add_words(clip, tuple(gated for gated in stack if gated.concept.word not in known))
    tokens = speaking.tokenize(prompt)
    prompt_encoded = speaking.encode_from_tokens_scheduled(tokens)[0]
    encoding = prompt_encoded[0]
    if at_layers is None and encoding.shape[-1] != stack[0].concept.encoding_width:
        raise PerfusionError(
            f"The concept {stack[0].concept.word} was made for text encodings of width"
            f" {stack[0].concept.encoding_width}, but the CLIP gives width {encoding.shape[-1]}; load a CLIP of the"
            f" family {stack[0].concept.base_model}."
        )
    found = read_gates(prompt_encoded, stack, at_layers)
    similarities, gates = found.similarities[0].cpu(), found.gates[0].cpu()

    words = words_of_prompt(speaking, tokens) if at_layers is None else words_at_layers(speaking, tokens)
    places = [list(word.positions) for word in words]
    written = {position for positions in places for position in positions}
    places.append([position for position in range(len(gates)) if position not in written])
    return GateInspection(
        stack,
        (*(word.text for word in words), REST),
        tuple(_largest(similarities[at], gates[at]) for at in places),
        *_between(stack),
    )


def _largest(similarities: Tensor, gates: Tensor) -> tuple[Reading, ...]:
    """Of the tokens of a word, [n, J], for each concept the one at which it opens widest."""
    at = similarities.argmax(dim=0)
    columns = torch.arange(similarities.shape[1])
    pairs = zip(similarities[at, columns].tolist(), gates[at, columns].tolist(), strict=True)
    return tuple(Reading(*pair) for pair in pairs)


def _between(stack: ConceptStack) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...]]:
    """Similarities of the concepts at each other's target inputs: each alone, and all together."""
    words = torch.stack([gated.concept.target_input for gated in stack])[None], {}
    alone = [read_gates(words, (gated,)).similarities[0, :, 0].tolist() for gated in stack]
    together = read_gates(words, stack).similarities[0].T.tolist()
    return tuple(map(tuple, alone)), tuple(map(tuple, together))
