"""Train Perfusion Concept: a few pictures and a word become a concept."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..perfusion_core.concept import Concept, GatedConcept, normalise_word
from ..perfusion_core.statistics import TextStatistics
from ..perfusion_core.training import StepReport
from ..perfusion_core.training_status import TrainingStatus
from .host.concept_words import warn_of_ordinary_word
from .host.old_hosts import ADVANCED, choice, search_aliases
from .host.progress import NodeProgress, memory_in_use, progress_over
from .host.text_statistics import cached_statistics
from .host.train_concept import train_concept
from .host.training_files import TrainingFiles
from .pictures import thumbnail, to_image, to_tensor
from .training_report import ERROR, LIKENESS, TrainingReport, joined, under_masks
from .training_samples import SCENES, TrainingSamples
from .training_settings import (
    CUSTOM,
    DEFAULTS,
    PRESET_TOOLTIP,
    PRESETS,
    custom_inputs,
    settings_text,
    training_settings,
    uses_checkpointing,
)
from .types import ALIASES, CATEGORY, PerfusionConcept, PerfusionStatistics


class TrainConcept(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionTrainConcept",
            display_name="Train Perfusion Concept",
            category=CATEGORY,
            description="Learns a new word for the thing in your pictures, in minutes: one small vector for each "
            "cross-attention layer and one word embedding. Saves a file of tens of kilobytes to output/perfusion "
            "before it returns, and on Cancel what was learned so far.",
            **search_aliases(*ALIASES, "train", "dreambooth", "lora training", "textual inversion", "train face"),
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to learn the concept for, from before any gate node. It stays as it is."
                ),
                io.Clip.Input("clip", tooltip="The CLIP of that model, from before any gate node too."),
                io.Vae.Input("vae", tooltip="The VAE of that model."),
                io.Image.Input(
                    "images",
                    tooltip="Pictures of the thing: start with five, all of one size (the model's own), before "
                    "different backgrounds. One works but learns its pose too; with many more, doubtful ones do harm.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="White where the thing is: one mask a picture, or one for all. Start with none: the model "
                    "finds the thing itself (automatic_mask); connect some where the report shows the wrong place. Too "
                    "tight a mask cuts off what is outside, such as ears; too wide a one lets backgrounds in.",
                ),
                io.String.Input(
                    "word",
                    default="<my-thing>",
                    tooltip="The new word, as you will write it in prompts: <hugsy>. Not a word that exists.",
                ),
                io.String.Input(
                    "superclass",
                    default="",
                    tooltip="The plain word for its kind: start with one that the model paints well, such as teddy, "
                    "dog or cup. Too wide a word (toy) loses shape, too narrow a one loses freedom.",
                ),
                choice("preset", options=[*PRESETS, CUSTOM], default="Standard", tooltip=PRESET_TOOLTIP),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="Fixes everything random in the training and in its samples. Start with 0; try another "
                    "one where a concept came out badly, before you change settings.",
                ),
                io.Int.Input(
                    "samples",
                    default=4,
                    min=0,
                    max=len(SCENES),
                    tooltip="Pictures to make with the concept at the end, for the report. Start with 4; more take "
                    "longer (20 sampler steps each); 0 saves their time, but then the report does not show what was "
                    "learned.",
                ),
                io.String.Input(
                    "file_name",
                    default="",
                    tooltip="Name of the saved file; empty takes the word. A number is added if it is taken.",
                ),
                PerfusionStatistics.Input(
                    "statistics",
                    optional=True,
                    tooltip="From Measure Text Statistics; left open, the trainer measures its own once for each CLIP.",
                ),
                io.Boolean.Input(
                    "flip",
                    default=DEFAULTS.flip,
                    optional=True,
                    **ADVANCED,
                    tooltip="Mirror half of the pictures at random. Start with on; off for things with writing or a "
                    "left and right, which would be learned both ways round.",
                ),
                io.Float.Input(
                    "sample_cfg",
                    default=3.0,
                    min=1.0,
                    max=30.0,
                    step=0.5,
                    optional=True,
                    **ADVANCED,
                    tooltip="CFG of the samples and previews: start with 3 for the demo model, 7 for SD1.5. Too low "
                    "hardly follows the prompt, too high burns colours; the concept is the same.",
                ),
                *custom_inputs(),
                io.Boolean.Input(
                    "resume",
                    default=False,
                    optional=True,
                    tooltip="Go on where the last training of this file name stopped (Cancel, an error, a power cut), "
                    "with the same inputs; steps may be raised. Start with off. Off after a Cancel begins again from "
                    "step 1, in another file; on with changed inputs is refused; with nothing to resume it starts "
                    "anew.",
                ),
                io.Boolean.Input(
                    "automatic_mask",
                    default=True,
                    optional=True,
                    tooltip="Where no mask is connected, find the thing by the model's own attention to the superclass "
                    "(shown in the report). Start with on; off for a style or a whole scene, and where the report "
                    "shows the wrong place. With it off, backgrounds are learned with the thing.",
                ),
                io.Int.Input(
                    "validate_every",
                    default=DEFAULTS.validate_every,
                    min=0,
                    max=1000,
                    optional=True,
                    **ADVANCED,
                    tooltip="Steps between validations; the best validated step is saved, not the last. Start with 25 "
                    "(at most 5 % of the time). Lower costs time, higher misses the best step, 0 takes the last one.",
                ),
                io.Int.Input(
                    "preview_every",
                    default=100,
                    min=0,
                    max=10_000,
                    optional=True,
                    tooltip="Steps between previews in the node: two pictures of the same seeds each time. Start with "
                    "100; lower takes longer (each as long as a few steps), higher shows mistakes late, 0 makes none. "
                    "The concept stays the same.",
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=False,
                    optional=True,
                    **ADVANCED,
                    tooltip="Less memory, same concept: each block is computed again on the way back. Start with "
                    "off; on for cards where even one picture at a time runs out of memory (always on in the preset "
                    "Low memory). For SD1.5 at 512 px it saves about 0.3 of 0.8 GB a picture, for a third more "
                    "arithmetic (counted, not timed).",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="The vision model of this CLIP (Load CLIP Vision), to choose the best step as the paper "
                    "does: by how like the thing and like the prompt pictures are. Needs a CLIP with its text "
                    "projection and takes longer. Left open, the validation error chooses.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                PerfusionConcept.Output(display_name="concept", tooltip="The concept, ready for the gate node."),
                io.LossMap.Output(display_name="loss_map", tooltip="The loss of every step, for Plot Loss Graph."),
                io.Image.Output(
                    display_name="report",
                    tooltip="Training pictures, masks, loss, samples over the steps and settings in one picture; also "
                    "saved beside the concept.",
                ),
                io.String.Output(display_name="path", tooltip="The saved concept file."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        clip: io.Clip.Type,
        vae: io.Vae.Type,
        images: torch.Tensor,
        word: str,
        superclass: str,
        preset: str,
        seed: int,
        samples: int,
        file_name: str,
        flip: bool = DEFAULTS.flip,
        sample_cfg: float = 3.0,
        masks: torch.Tensor | None = None,
        statistics: TextStatistics | None = None,
        resume: bool = False,
        automatic_mask: bool = True,
        validate_every: int = DEFAULTS.validate_every,
        preview_every: int = 100,
        gradient_checkpointing: bool = False,
        clip_vision: io.ClipVision.Type | None = None,
        **custom: object,
    ) -> io.NodeOutput:
        warn_of_ordinary_word(clip, word, superclass)
        settings = training_settings(preset, seed, flip, validate_every, custom)
        gradient_checkpointing = uses_checkpointing(preset, gradient_checkpointing)
        statistics = statistics or cached_statistics(clip, progress_over(cls.hidden.unique_id))
        files = TrainingFiles(file_name or normalise_word(word), resume)
        latent_shape = model.model.latent_format.latent_channels, images.shape[1] // 8, images.shape[2] // 8
        painted = TrainingSamples(model, clip, vae, latent_shape, seed, sample_cfg)
        progress, status = NodeProgress(settings.steps, cls.hidden.unique_id), TrainingStatus(settings)

        def show(report: StepReport) -> None:
            progress.show(report.step, status.line(report, memory_in_use()))

        def preview(concept: Concept) -> None:
            progress.show(concept.training["steps"], preview=joined(painted.preview(concept)))

        result = train_concept(
            model,
            clip,
            vae,
            images,
            masks,
            word,
            superclass,
            settings,
            statistics,
            show,
            files,
            thumbnail(images[0]),
            automatic_mask,
            preview,
            preview_every,
            gradient_checkpointing,
            clip_vision,
            sample_cfg,
        )
        concept, path = result.concept, result.path
        painted.final(concept, samples)
        title = (
            f"{concept.word}, a {concept.superclass}: step {result.chosen_step} of {len(result.losses)},"
            f" {result.seconds:.0f} s, {path.name}, {path.stat().st_size / 1000:.1f} kB, effect {result.effect:.0%}"
        )
        report = TrainingReport(
            title,
            f"{settings_text(preset, settings, len(images), gradient_checkpointing)}; text statistics:"
            f" {statistics.summary()}",
            [to_image(image) for image in images],
            result.losses,
            [] if result.masks is None else under_masks(images, result.masks),
            {"given": "the mask input", "attention": "automatic"}.get(concept.training["masks"], ""),
            result.validations,
            result.chosen_step,
            painted.rows,
            ERROR if clip_vision is None else LIKENESS,
        ).draw()
        files.save_report(report)
        stack = (GatedConcept(concept, concept.bias, concept.temperature),)
        shown = to_tensor(report)
        return io.NodeOutput(stack, {"loss": result.losses}, shown, str(path), ui=ui.PreviewImage(shown, cls=cls))
