"""Blend Perfusion Concepts: a concept between two others, by a slider."""

from __future__ import annotations

import dataclasses

from comfy_api.latest import io

from ..perfusion_core.concept import ConceptStack, GatedConcept, typed_word
from ..perfusion_core.concept_blend import blend_concepts, concerns, default_word
from ..perfusion_core.concept_file import round_for_file
from ..perfusion_core.errors import PerfusionError
from .declared import as_declared
from .host.old_hosts import search_aliases
from .shown import shown
from .types import CATEGORY, PerfusionConcept


class BlendConcepts(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionBlendConcepts",
            display_name="Blend Perfusion Concepts",
            category=CATEGORY,
            description="Makes a concept between two others, such as a teddy between two teddies. Use and save it like "
            "any other.",
            **search_aliases("interpolate", "mix", "merge", "morph", "slider"),
            inputs=[
                PerfusionConcept.Input(
                    "concept_a", tooltip="The concept at share 0; of a stack, the last one is taken."
                ),
                PerfusionConcept.Input(
                    "concept_b",
                    tooltip="The concept at share 1, of the same base model and form, best also of the same "
                    "superclass.",
                ),
                io.Float.Input(
                    "share",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="How much of the second is in it, 0 to 1. 0 and 1 are the two concepts themselves.",
                ),
                io.String.Input(
                    "word",
                    default="",
                    tooltip="The word for prompts. Empty joins both words, such as <hugsy-bruno>.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                PerfusionConcept.Output(display_name="concept", tooltip="The blended concept, a stack of one."),
                io.String.Output(display_name="word", tooltip="The word for prompts, such as <hugsy-bruno>."),
            ],
        )

    @classmethod
    def validate_inputs(cls, word: str | None = None) -> bool | str:
        try:
            typed_word(word)
        except PerfusionError as error:
            return str(error)
        return True

    @classmethod
    @as_declared
    def execute(cls, concept_a: ConceptStack, concept_b: ConceptStack, share: float, word: str = "") -> io.NodeOutput:
        a, b = _last(concept_a, "concept_a"), _last(concept_b, "concept_b")
        called = typed_word(word, default_word(a.concept, b.concept))
        blend = blend_concepts(a, b, share, called)
        # As every other concept is, so that it paints the same when it was saved and loaded.
        blend = dataclasses.replace(blend, concept=round_for_file(blend.concept))
        text = f"{called} · {1 - share:.0%} {a.concept.word}, {share:.0%} {b.concept.word} · bias {blend.bias:g}"
        lines = [text, *(f"Warning: {concern}" for concern in concerns(a.concept, b.concept))]
        return io.NodeOutput((blend,), called, ui=shown(" · ".join(lines), blend.concept.picture, cls))


def _last(stack: ConceptStack, name: str) -> GatedConcept:
    if not stack:
        raise PerfusionError(
            f"The input {name} expected a concept, but found an empty stack; connect a trainer or a loader."
        )
    return stack[-1]
