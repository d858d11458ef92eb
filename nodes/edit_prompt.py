"""Edit with Prompt-to-Prompt: a picture and its edits side by side, in one run of any sampler."""

from __future__ import annotations

from comfy_api.latest import io

from ..perfusion_core.errors import PerfusionError
from ..perfusion_core.prompt_edit import PromptEdit
from .advice import REAL_END_FOR_A_CONCEPT
from .declared import as_declared
from .host.editing.edit_masks import LATENT_KEY, EditMasks
from .host.editing.edit_patch import apply_edits
from .host.editing.edit_run import RealPicture
from .host.editing.edited_latents import in_rows
from .host.editing.edited_prompts import plan_edits
from .host.node_text import say
from .host.old_hosts import ADVANCED, GrowingInput, search_aliases
from .types import CATEGORY, PerfusionEdit

EDITS = GrowingInput("edits", "edit", most=16)


class EditPrompt(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionEditPrompt",
            display_name="Edit with Prompt-to-Prompt",
            category=CATEGORY,
            description="The same picture with other words: the source and its edits are painted side by side from the "
            "same noise, and the edits take over the source's attention. Works with any sampler, with concepts, and on "
            "pictures that you have.",
            **search_aliases(
                "prompt to prompt", "p2p", "edit image", "replace object", "attention control", "inversion"
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model to paint with, with or without concepts."),
                io.Clip.Input("clip", tooltip="Its CLIP; with concepts the one that comes out of the gate node."),
                io.Latent.Input(
                    "latent",
                    tooltip="Empty latents, or those of pictures with real_picture on. The sampler gets the LATENT "
                    "that comes out.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt of the source. Leave open what an edit shall keep from it: a prompt that "
                    "states everything needs no edit.",
                ),
                io.String.Input(
                    "edit",
                    multiline=True,
                    dynamic_prompts=True,
                    optional=True,
                    tooltip="Words to replace, such as teddy -> <hugsy>, one replacement on each line; or the whole "
                    "new prompt. Empty where only connected edits shall be painted.",
                ),
                *EDITS.inputs(
                    PerfusionEdit.Input("edit", tooltip="An edit with settings of its own."),
                    tooltip="Edits with settings of their own; each gives one more picture.",
                ),
                io.Boolean.Input(
                    "real_picture",
                    default=False,
                    optional=True,
                    tooltip="The latent is a picture that you have, and the edits are of it. Sample with denoise 1; "
                    "euler keeps it best.",
                ),
                io.Float.Input(
                    "real_strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    **ADVANCED,
                    tooltip="How much of the picture that the model cannot paint by itself the edits keep.",
                ),
                io.Float.Input(
                    "real_end",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    **ADVANCED,
                    tooltip="Until when the edits keep what the model cannot paint by itself. "
                    f"Start with 1, the last step; lower where a large edit keeps too much, {REAL_END_FOR_A_CONCEPT:g} "
                    "for a concept in the place of the subject.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model that edits; sample with it."),
                io.Conditioning.Output(
                    display_name="positive", tooltip="The source and its edits as one prompt; the negative is your own."
                ),
                io.Latent.Output(
                    display_name="latent", tooltip="Each picture once for the source and once for each edit."
                ),
            ],
        )

    @classmethod
    @as_declared
    @EDITS.gathered
    def execute(
        cls,
        model: io.Model.Type,
        clip: io.Clip.Type,
        latent: io.Latent.Type,
        text: str,
        edit: str = "",
        edits: dict[str, PromptEdit] | None = None,
        real_picture: bool = False,
        real_strength: float = 1.0,
        real_end: float = 1.0,
    ) -> io.NodeOutput:
        asked = [PromptEdit(edit)] if edit.strip() else []
        asked += (edits or {}).values()
        if real_picture and not latent["samples"].any():
            raise PerfusionError(
                "The socket latent expected a picture, since real_picture is on, but found empty latents; connect VAE"
                " Encode, or turn real_picture off."
            )
        plan, conditioning = plan_edits(clip, text, asked)
        masks = EditMasks()
        edited = apply_edits(model, plan, masks, RealPicture(real_strength, real_end) if real_picture else None)
        rows = in_rows(latent, plan.rows)
        say("source · " + (" · ".join(one.text for one in plan.edits) or "no edit"), cls.hidden.unique_id)
        return io.NodeOutput(edited, conditioning, {**rows, LATENT_KEY: masks})
