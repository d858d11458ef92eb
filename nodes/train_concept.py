"""Train Perfusion Concept: a few pictures and a word become a concept."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..perfusion_core.concept import alone
from ..perfusion_core.errors import PerfusionError
from .advice import (
    CFG_OF_THE_FAMILY,
    DEMO_CFG,
    KEEP_EVERY,
    PREVIEW_EVERY,
    SD15_CFG,
    SDXL_CFG,
    TRAINING_PICTURES,
)
from .declared import as_declared
from .host.old_hosts import ADVANCED, choice, search_aliases
from .host.progress import progress_over
from .host.text.statistics import MEASURING
from .host.text.words import warn_of_ordinary_word
from .host.training.files import TrainingFiles
from .host.training.job import TrainingJob
from .pictures import thumbnail, thumbnail_room, to_tensor
from .resume_text import differences
from .trainer_inputs import TrainerInputs, check_texts
from .training_display import TrainingDisplay
from .training_report import TrainingReport
from .training_samples import SCENES, TrainingSamples
from .training_settings import (
    CUSTOM,
    DEFAULTS,
    PRESET_TOOLTIP,
    PRESETS,
    custom_inputs,
    held_inputs,
    offset_input,
    relative_rate_inputs,
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
            "cross-attention layer and one word embedding. Saves a small file (SD1.5: 60 kB, SDXL: up to 170 kB) to "
            "output/perfusion before it returns, and on Cancel what was learned so far.",
            **search_aliases(*ALIASES, "train", "dreambooth", "lora training", "textual inversion", "train face"),
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to learn the concept for, from before any gate node. It stays as it is."
                ),
                io.Clip.Input("clip", tooltip="The CLIP of that model, from before any gate node too."),
                io.Vae.Input("vae", tooltip="The VAE of that model."),
                io.Image.Input(
                    "images",
                    tooltip=f"Pictures of the thing, a batch or a list, of any sizes: start with {TRAINING_PICTURES} "
                    "before different backgrounds. One works, but its pose is learned too; with many more, doubtful "
                    "ones do harm.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="White where the thing is, one mask a picture or one for all; start with none, since "
                    "automatic_mask finds the thing. Load Image's own mask is white around it: put Invert Mask "
                    "between.",
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
                choice("preset", options=[*PRESETS, CUSTOM], default="Standard", tooltip=PRESET_TOOLTIP),
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
                    tooltip="Pictures painted with the concept at the end, for the report. Start with 4, the most "
                    "there are: more take longer than fewer, 0 shows nothing of what was learned.",
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
                    default=CFG_OF_THE_FAMILY,
                    min=CFG_OF_THE_FAMILY,
                    max=30.0,
                    step=0.5,
                    optional=True,
                    **ADVANCED,
                    tooltip="CFG of samples and previews; the concept depends on it only with CLIP Vision. Start with "
                    f"{CFG_OF_THE_FAMILY:g}: below 1 it is the family's own, {SD15_CFG:g} (SD1.5, SD2), {SDXL_CFG:g} "
                    f"(SDXL) or {DEMO_CFG:g} (demo); too low hardly follows the prompt, too high burns colours.",
                ),
                *custom_inputs(),
                io.Boolean.Input(
                    "resume",
                    default=False,
                    optional=True,
                    tooltip="Goes on where the last training of this file name stopped, with the same inputs; only "
                    "steps may be raised. Start with off, which begins again in another file; an unfinished "
                    "training refuses other inputs.",
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
                    default=PREVIEW_EVERY,
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
                    tooltip="Less memory for about a third more arithmetic, and the same concept. Start with off, for "
                    "which the trainer takes it where memory asks for it; on takes it always.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="The vision model of this CLIP (Load CLIP Vision), to choose the best step by painted "
                    "pictures as the paper does, which takes longer. Left open, the validation error chooses.",
                ),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=2048,
                    step=64,
                    optional=True,
                    **ADVANCED,
                    tooltip="Pictures are scaled to the area of its square and keep their ratio. Start with 0, the "
                    "model's own (512 for SD1.5, 1024 for SDXL and Anima, 640 for Wan); lower is faster and coarser, "
                    "too high runs out of memory.",
                ),
                io.String.Input(
                    "captions",
                    optional=True,
                    force_input=True,
                    tooltip="What each picture shows, one line a picture, with the word, or a pair of braces, in it: "
                    "<hugsy> on a red sofa. What a caption says beside the word is not learned; start with none.",
                ),
                *relative_rate_inputs(),
                io.Int.Input(
                    "keep_every",
                    default=KEEP_EVERY,
                    min=0,
                    max=10_000,
                    optional=True,
                    **ADVANCED,
                    tooltip="Steps between concepts that are kept beside the saved one; Load Kept Steps compares them. "
                    f"Start with {KEEP_EVERY}; lower keeps more small files, higher misses the best step, 0: none.",
                ),
                io.Boolean.Input(
                    "pooled_lock",
                    default=DEFAULTS.pooled_lock,
                    optional=True,
                    **ADVANCED,
                    tooltip="SDXL is told a summary of the prompt too: on, it is that of the superclass, here and "
                    "wherever the concept is used. Start with off; on for freer scenes with less likeness.",
                ),
                *held_inputs(),
                offset_input(),
            ],
            hidden=[io.Hidden.unique_id],
            is_input_list=True,
            is_output_node=True,
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
    def validate_inputs(cls, superclass: Any = None) -> bool | str:
        """An empty superclass, which is what a new node has; of one that is linked nothing is known yet.

        The host repeats what is said here once for each input that is asked for, so it is one."""
        try:
            check_texts(None, superclass, None)
        except PerfusionError as problem:
            return str(problem)
        return True

    @classmethod
    @as_declared
    def execute(cls, **given: Any) -> io.NodeOutput:
        inputs, node_id = TrainerInputs.of(given), cls.hidden.unique_id
        warn_of_ordinary_word(inputs.clip, inputs.word, inputs.superclass)
        check_texts(inputs.word, inputs.superclass, inputs.file_name)
        files = TrainingFiles(inputs.name_of_file, inputs.resume, inputs.keep_every, inputs.preset, differences)
        request = inputs.request(inputs.settings())
        request.check()
        display = TrainingDisplay(request, node_id)
        display.first_look(inputs.overview(request))
        statistics = request.text_statistics(progress_over(node_id, MEASURING))
        room = thumbnail_room(request.value_widths)
        request = request.with_statistics(statistics, thumbnail(request.pictures.pictures[0], room))
        painted = TrainingSamples.of(request)
        with display.saying_what_is_kept(files):
            result = TrainingJob(request, display.hooks(inputs.preview_every, painted), files).train()
        count = inputs.samples
        display.say(f"painting {count} sample{'s' if count > 1 else ''}" if count else "drawing the report")
        painted.final(result.concept, count, files.kept_steps())
        report = TrainingReport.of(inputs.preset, request, result, painted.rows).draw()
        files.save_report(report)
        # As the last preview and not as an output of the node: the front end shows previews in the place of outputs,
        # and its newer way of drawing nodes shows both, which would be the last preview twice.
        display.finished(result, report)
        losses = {"loss": result.losses}
        return io.NodeOutput(alone(result.concept), losses, to_tensor(report), str(result.path))
