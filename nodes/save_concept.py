"""Save Perfusion Concept: a concept becomes a file that can be loaded and shared."""

from __future__ import annotations

import dataclasses

import torch
from comfy_api.latest import io

from ..perfusion_core.concept import ConceptStack
from ..perfusion_core.errors import PerfusionError
from .concept_card import used_otherwise
from .declared import as_declared
from .host.concept_folders import save_new_concept
from .host.old_hosts import search_aliases
from .pictures import thumbnail, thumbnail_room
from .shown import shown
from .types import CATEGORY, PerfusionConcept


class SaveConcept(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionSaveConcept",
            display_name="Save Perfusion Concept",
            category=CATEGORY,
            description="Saves a concept to output/perfusion, where the loader finds it at once. Never overwrites a "
            "file.",
            **search_aliases("save concept", "export"),
            is_output_node=True,
            inputs=[
                PerfusionConcept.Input("concept", tooltip="The concept to save; of a stack, the last one is saved."),
                io.String.Input(
                    "name", default="my_concept", tooltip="Name of the file; a number is added if it is taken."
                ),
                io.Image.Input(
                    "picture",
                    optional=True,
                    tooltip="A picture to show what the concept is; a small copy travels in the file.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[io.String.Output(display_name="path", tooltip="Where the file was written.")],
        )

    @classmethod
    @as_declared
    def execute(cls, concept: ConceptStack, name: str, picture: torch.Tensor | None = None) -> io.NodeOutput:
        if not concept:
            raise PerfusionError(
                "The concept input holds an empty stack where a concept was expected; connect a trainer or a loader."
            )
        saved, gated = concept[-1].concept, concept[-1]
        # The file recommends the gate that its maker chose.
        saved = dataclasses.replace(saved, bias=gated.bias, temperature=gated.temperature)
        if picture is not None:
            room = thumbnail_room(map(len, saved.value_targets.values()))
            saved = dataclasses.replace(saved, picture=thumbnail(picture[0], room))
        path = save_new_concept(name, saved)
        size = f"{path.stat().st_size / 1000:.1f} kB"
        gate = f"recommends bias {saved.bias:g}, temperature {saved.temperature:g}"
        text = f"Saved {saved.word} ({saved.superclass}) as {path.name} · {size} · {gate}"
        if left_out := used_otherwise(dataclasses.replace(gated, concept=saved)):
            text += f" · the file does not keep {left_out}, so set that in the loader again"
        return io.NodeOutput(str(path), ui=shown(text, saved.picture, cls))
