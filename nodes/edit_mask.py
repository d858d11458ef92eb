"""Show Edit Mask: where an edit changed the picture."""

from __future__ import annotations

from comfy_api.latest import io

from .declared import as_declared
from .host.editing.edit_masks import masks_of
from .host.old_hosts import search_aliases
from .types import CATEGORY


class EditMask(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionEditMask",
            display_name="Show Edit Mask",
            category=CATEGORY,
            description="Where each edit was allowed to change the picture, as the model's attention to its words saw "
            "it at the end of the run.",
            **search_aliases("prompt to prompt", "local blend", "mask"),
            inputs=[
                io.Latent.Input(
                    "latent", tooltip="What comes out of the sampler that ran with Edit with Prompt-to-Prompt."
                ),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="mask",
                    tooltip="A mask for each picture of the batch, of the size of the latents; black for sources.",
                ),
            ],
        )

    @classmethod
    @as_declared
    def execute(cls, latent: io.Latent.Type) -> io.NodeOutput:
        return io.NodeOutput(masks_of(latent))
