"""Show Perfusion Concept: everything that a concept file says, as a card and as text."""

from __future__ import annotations

from comfy_api.latest import io

from ..perfusion_core.concept import ConceptStack
from ..perfusion_core.errors import PerfusionError
from .concept_card import concept_cards, concept_text
from .declared import as_declared
from .host.old_hosts import search_aliases
from .shown import theme_input, with_picture
from .types import CATEGORY, PerfusionConcept


class ConceptInfo(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionConceptInfo",
            display_name="Show Perfusion Concept",
            category=CATEGORY,
            description="Shows all that a concept says of itself: its picture, word and superclass, the model and "
            "encoder layer that it needs, the gate that it recommends, and how it was trained.",
            **search_aliases("concept info", "metadata", "trigger word", "what is this file"),
            is_output_node=True,
            inputs=[
                PerfusionConcept.Input("concept", tooltip="A concept, or a stack: a card for each."),
                theme_input(),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="The cards."),
                io.String.Output(display_name="text", tooltip="The same as lines of text."),
            ],
        )

    @classmethod
    @as_declared
    def execute(cls, concept: ConceptStack, theme: str) -> io.NodeOutput:
        if not concept:
            raise PerfusionError(
                "The concept input holds an empty stack where a concept was expected; connect a trainer or a loader."
            )
        words = ", ".join(f"{gated.concept.word} ({gated.concept.superclass})" for gated in concept)
        picture, ui = with_picture(concept_cards(concept, theme), words, cls)
        return io.NodeOutput(picture, concept_text(concept), ui=ui)
