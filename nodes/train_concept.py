"""Train Perfusion Concept: a few pictures and a word become a concept."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..perfusion_core.concept import Concept, GatedConcept, normalise_word
from ..perfusion_core.statistics import TextStatistics
from ..perfusion_core.training import StepReport
from ..perfusion_core.training_status import TrainingStatus
from .advice import DEMO_CFG, PREVIEW_EVERY, SD15_CFG, SDXL_CFG, TRAINING_PICTURES
from .host.concept_words import warn_of_ordinary_word
from .host.old_hosts import ADVANCED, search_aliases
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
                    tooltip=f"Pictures of the thing: start with {TRAINING_PICTURES} of one size (the model's own), "
                    "before different backgrounds. One works, but its pose is learned too; with many more, doubtful "
                    "ones do harm.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="White where the thing is, one mask a picture or one for all; start with none, since "
                    "automatic_mask finds the thing. Too tight a mask cuts parts off, too wide a one lets the "
                    "background in.",
                ),
                io.String.Input(
                    "word",
                    default="<my-thing>",
                    tooltip="The new word as you will write it in prompts, such as <hugsy>. Not a word that exists.",
                ),
                io.String.Input(
                    "superclass",
                    default="",
                    tooltip="The plain word for what the thing is: start with one that the model paints well, such as "
                    "teddy, dog or cup. Too wide a word (toy) loses shape, too narrow a one loses freedom.",
                ),
                io.Combo.Input("preset", options=[*PRESETS, CUSTOM], default="Standard", tooltip=PRESET_TOOLTIP),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="Fixes everything random in the training and in its samples. Start with 0; where a concept "
                    "came out badly, try another one before you change settings.",
                ),
                io.Int.Input(
                    "samples",
                    default=4,
                    min=0,
                    max=len(SCENES),
                    tooltip="Pictures painted with the concept at the end, for the report. Start with 4; more take "
                    "longer, 0 shows nothing of what was learned.",
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
                    tooltip="Mirrors half of the pictures at random. Start with on; off for things with writing or a "
                    "clear left and right, which would be learned both ways round.",
                ),
                io.Float.Input(
                    "sample_cfg",
                    default=3.0,
                    min=1.0,
                    max=30.0,
                    step=0.5,
                    optional=True,
                    **ADVANCED,
                    tooltip="CFG of the samples and previews; the concept does not depend on it. "
                    f"Start with {DEMO_CFG:g} for the demo model, {SD15_CFG:g} for SD1.5, {SDXL_CFG:g} for SDXL; too "
                    "low hardly follows the prompt, too high burns colours.",
                ),
                *custom_inputs(),
                io.Boolean.Input(
                    "resume",
                    default=False,
                    optional=True,
                    tooltip="Goes on where the last training of this file name stopped, with the same inputs; only "
                    "steps may be raised. Start with off, which begins again in another file; on with changed inputs "
                    "is refused.",
                ),
                io.Boolean.Input(
                    "automatic_mask",
                    default=True,
                    optional=True,
                    tooltip="Where no mask is connected, finds the thing by the model's attention to the superclass; "
                    "the report shows what it found. Start with on; off learns the background too, as a style or a "
                    "whole scene needs.",
                ),
                io.Int.Input(
                    "validate_every",
                    default=DEFAULTS.validate_every,
                    min=0,
                    max=1000,
                    optional=True,
                    **ADVANCED,
                    tooltip="Steps between validations; the best validated step is saved, not the last. "
                    f"Start with {DEFAULTS.validate_every}; lower costs time, higher misses the best step, 0 takes the "
                    "last one.",
                ),
                io.Int.Input(
                    "preview_every",
                    default=100,
                    min=0,
                    max=10_000,
                    optional=True,
                    tooltip="Steps between previews in the node, two pictures of the same seeds; they never change the "
                    f"concept. Start with {PREVIEW_EVERY}; lower takes longer, higher shows mistakes late, 0 makes "
                    "none.",
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=False,
                    optional=True,
                    **ADVANCED,
                    tooltip="Less memory for about a third more arithmetic, and the same concept; always on in the "
                    "preset Low memory. Start with off; on where even one picture at a time runs out of memory.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="The vision model of this CLIP (Load CLIP Vision), to choose the best step by painted "
                    "pictures as the paper does, which takes longer. Left open, the validation error chooses.",
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
