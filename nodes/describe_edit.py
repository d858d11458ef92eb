"""Describe Prompt Edit: an edit with settings of its own, for Edit with Prompt-to-Prompt."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..perfusion_core.prompt_edit import (
    AROUND_THE_WORDS,
    AT_THE_WORDS,
    EVERYWHERE,
    HIGHEST_WEIGHT,
    LOWEST_WEIGHT,
    PLACES,
    LocalBlend,
    PromptEdit,
    read_phrases,
    read_words,
)
from .advice import BLEND, BLEND_END_AROUND, EDIT, SELF_END_FOR_COLOUR, THRESHOLD_FOR_ADDITION
from .declared import as_declared
from .host.old_hosts import ADVANCED, choice, search_aliases
from .types import CATEGORY, PerfusionEdit


def _percent(name: str, default: float, tooltip: str, **settings: Any) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip, **settings)


class DescribeEdit(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionDescribeEdit",
            display_name="Describe Prompt Edit",
            category=CATEGORY,
            description="An edit for Edit with Prompt-to-Prompt: the new words, how long they follow the source's "
            "attention, how much single words weigh, and where the picture may change.",
            **search_aliases("prompt to prompt", "reweight", "attention weight", "local blend"),
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="Words to replace, such as teddy -> <hugsy>, or the whole new prompt. Empty keeps the "
                    "source's words, for weights alone.",
                ),
                _percent(
                    "cross_end",
                    EDIT.cross[1],
                    "Until when the words take the source's attention: the longer, the more shape and place stay. 0 "
                    "for another background.",
                ),
                _percent(
                    "self_end",
                    EDIT.own[1],
                    "Until when the places of the picture take the source's attention among themselves: the longer, "
                    f"the more of the layout stays. Try {SELF_END_FOR_COLOUR:g} for another colour.",
                ),
                io.String.Input(
                    "words",
                    default="",
                    multiline=True,
                    tooltip=f"A weight for a word on each line, such as hat = 2, from {LOWEST_WEIGHT:g} to "
                    f"{HIGHEST_WEIGHT:g}; -1 removes it. hat = 1, 0, 0.8 also says from when until when it takes the "
                    "source's attention.",
                ),
                choice(
                    "changes",
                    options=list(PLACES),
                    default=AT_THE_WORDS,
                    tooltip="Where the picture may change, as the model's attention to blend_words sees it; the rest "
                    "stays the source's. Around the words is for another background behind a thing.",
                ),
                io.String.Input(
                    "blend_words",
                    default="",
                    tooltip="Words of either prompt, separated by commas. Empty for those that differ.",
                ),
                _percent(
                    "cross_start",
                    EDIT.cross[0],
                    "From when the words take the source's attention. "
                    f"Start with {EDIT.cross[0]:g}, the first step; higher lets the new words change shape and place.",
                    **ADVANCED,
                ),
                _percent(
                    "self_start",
                    EDIT.own[0],
                    "From when the places of the picture take the source's attention among themselves. "
                    f"Start with {EDIT.own[0]:g}, the first step; higher leaves the layout freer.",
                    **ADVANCED,
                ),
                _percent(
                    "blend_start",
                    BLEND.window[0],
                    "From when the picture stays the source's outside of the place that may change. "
                    f"Start with {BLEND.window[0]:g}; lower may miss the place, which is not yet known, higher lets "
                    "more around it change.",
                    **ADVANCED,
                ),
                _percent(
                    "blend_end",
                    BLEND.window[1],
                    "Until when the picture stays the source's outside of the place that may change. "
                    f"Start with {BLEND.window[1]:g}, the last step, around the words with {BLEND_END_AROUND:g}: "
                    "higher leaves a halo of the old scene there, lower lets more change.",
                    **ADVANCED,
                ),
                _percent(
                    "threshold",
                    BLEND.threshold,
                    "How much attention a place needs to change, between the mean of the background, 0, and that of "
                    f"the thing, 1. {THRESHOLD_FOR_ADDITION:g} for something added.",
                    **ADVANCED,
                ),
                _percent(
                    "softness",
                    BLEND.softness,
                    "How soft the edge of the place that may change is. "
                    f"Start with {BLEND.softness:g}; lower cuts sharper, 0 hard, higher spreads the change into what "
                    "is around it.",
                    **ADVANCED,
                ),
            ],
            outputs=[
                PerfusionEdit.Output(display_name="edit", tooltip="For an input edit of Edit with Prompt-to-Prompt.")
            ],
        )

    @classmethod
    @as_declared
    def execute(
        cls,
        text: str,
        cross_end: float,
        self_end: float,
        words: str,
        changes: str,
        blend_words: str,
        cross_start: float = EDIT.cross[0],
        self_start: float = EDIT.own[0],
        blend_start: float = BLEND.window[0],
        blend_end: float = BLEND.window[1],
        threshold: float = BLEND.threshold,
        softness: float = BLEND.softness,
    ) -> io.NodeOutput:
        place = None
        if changes != EVERYWHERE:
            around, window = changes == AROUND_THE_WORDS, (blend_start, blend_end)
            place = LocalBlend(read_phrases(blend_words), around, threshold, softness, window)
        cross, own = (cross_start, cross_end), (self_start, self_end)
        return io.NodeOutput(PromptEdit(text, cross, own, read_words(words), place))
