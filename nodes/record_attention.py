"""Record Attention: a MODEL whose sampling runs tell where they looked at each word of the prompt."""

from __future__ import annotations

from comfy_api.latest import io

from .declared import as_declared
from .host.attention.recording import record_attention
from .host.attention.run_prompts import speaking_of_words
from .host.old_hosts import search_aliases
from .types import CATEGORY, PerfusionMaps


class RecordAttention(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionRecordAttention",
            display_name="Record Attention",
            category=CATEGORY,
            description="Records where in the picture the model looks at each word of the prompt, while any sampler "
            "paints. The picture stays the same bit for bit; Show Attention Maps draws what was recorded.",
            **search_aliases("attention maps", "cross attention", "heat map", "daam"),
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with, with concepts, LoRAs and all."),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Where there is no Apply Perfusion Concepts (Gate): the CLIP for your prompts.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The same model; sample with it."),
                PerfusionMaps.Output(display_name="maps", tooltip="The maps of its last run, for Show Attention Maps."),
                io.Clip.Output(
                    display_name="clip", tooltip="The CLIP that was connected; encode the prompts with this one."
                ),
            ],
        )

    @classmethod
    @as_declared
    def execute(cls, model: io.Model.Type, clip: io.Clip.Type | None = None) -> io.NodeOutput:
        if clip is not None:
            clip, model = speaking_of_words(clip, model)
        return io.NodeOutput(*record_attention(model), clip)
