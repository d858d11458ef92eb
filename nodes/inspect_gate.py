"""Inspect Perfusion Gate: which words of a prompt open the gate of which concept, before anything is sampled."""

from __future__ import annotations

import dataclasses

from comfy_api.latest import io

from ..perfusion_core.concept import ConceptStack
from . import advice
from .declared import as_declared
from .gate_picture import gate_numbers, gate_picture, gate_text, sentence
from .host.gate.inspection import inspect_gate
from .host.old_hosts import GrowingInput, search_aliases
from .shown import theme_input, with_picture
from .types import CATEGORY, PerfusionConcept

CONCEPTS = GrowingInput("concepts", "concept", most=32)


class InspectGate(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionInspectGate",
            display_name="Inspect Perfusion Gate",
            category=CATEGORY,
            description="Shows for every word of a prompt how far it opens the gate of each concept, and how much the "
            "concepts have in common, with exact_gate on. Nothing is sampled, so it takes a moment only.",
            **search_aliases("inspect", "similarity", "gate values", "bleeding", "debug prompt"),
            is_output_node=True,
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="The CLIP that encodes your prompts: of the checkpoint, or of the gate node."
                ),
                *CONCEPTS.inputs(
                    PerfusionConcept.Input("concept", tooltip="A concept, or a stack of concepts."),
                    tooltip="The concepts that are used together, as on the gate node.",
                ),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="a photo of a <hugsy>",
                    tooltip="The prompt to look at; connect the text that your prompt node gets, or write one.",
                ),
                io.Float.Input(
                    "bias",
                    default=advice.BIAS_OF_THE_FILE,
                    min=advice.BIAS_OF_THE_FILE,
                    max=advice.HIGHEST_BIAS,
                    step=0.01,
                    tooltip=f"The bias to look at, for all concepts; {advice.BIAS_OF_THE_FILE:g} takes that of each "
                    "loader. Similarities do not depend on it.",
                ),
                theme_input(),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model of that CLIP, where it makes something else of the text before it looks at it "
                    "(Anima, Wan, LTXV, PixArt). Other models change nothing; leave it open for them.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Image.Output(display_name="picture", tooltip="Words across, concepts down."),
                io.String.Output(display_name="text", tooltip="The same as lines of text."),
                io.String.Output(display_name="numbers", tooltip="The same as JSON, for scripts."),
            ],
        )

    @classmethod
    @as_declared
    @CONCEPTS.gathered
    def execute(
        cls,
        clip: io.Clip.Type,
        prompt: str,
        bias: float,
        theme: str,
        concepts: dict[str, ConceptStack] | None = None,
        model: io.Model.Type | None = None,
    ) -> io.NodeOutput:
        stack = tuple(gated for connected in (concepts or {}).values() for gated in connected)
        if bias >= advice.LOWEST_BIAS:
            stack = tuple(dataclasses.replace(gated, bias=bias) for gated in stack)
        found = inspect_gate(clip, stack, prompt, model)
        picture, ui = with_picture(gate_picture(found, theme), sentence(found), cls)
        return io.NodeOutput(picture, gate_text(found), gate_numbers(found), ui=ui)
