"""Train Perfusion Concept: a few pictures and a word become a concept."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..perfusion_core.concept import GatedConcept, normalise_word
from ..perfusion_core.statistics import TextStatistics
from ..perfusion_core.training import StepReport
from .host.concept_words import add_words
from .host.gate_patch import apply_concepts
from .host.progress import NodeProgress, progress_over
from .host.sampling import sample_pictures
from .host.text_statistics import cached_statistics
from .host.train_concept import train_concept
from .host.training_files import TrainingFiles
from .pictures import thumbnail, to_image, to_tensor, training_report
from .training_settings import CUSTOM, DEFAULTS, PRESETS, custom_inputs, training_settings
from .types import ALIASES, CATEGORY, PerfusionConcept, PerfusionStatistics

SCENES = ("a photo of a {}", "a {} on the beach", "a {} in the snow", "a {} with a hat")


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
            search_aliases=[*ALIASES, "train", "dreambooth", "lora training", "textual inversion", "train face"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to learn the concept for, from before any gate node. It stays as it is."
                ),
                io.Clip.Input("clip", tooltip="Its CLIP."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.Image.Input(
                    "images",
                    tooltip="Pictures of the thing, about five, before different backgrounds, all of one size (the "
                    "model's own).",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="White where the thing is: one mask a picture. Keeps backgrounds out of the concept.",
                ),
                io.String.Input(
                    "word",
                    default="<my-thing>",
                    tooltip="The new word, as you will write it in prompts: <hugsy>. Not a word that exists.",
                ),
                io.String.Input(
                    "superclass",
                    default="",
                    tooltip="The plain word for its kind, such as teddy, dog or cup. Too wide a word (toy) loses"
                    " shape, too narrow a one loses freedom.",
                ),
                io.Combo.Input(
                    "preset",
                    options=[*PRESETS, CUSTOM],
                    default="Standard",
                    tooltip="Quick: 150 steps of 4. Standard: 300 steps of 8. Paper: the paper's 400 steps of 16 and "
                    "its form of the edit. Custom: the advanced inputs.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="Fixes everything random in the training.",
                ),
                io.Int.Input(
                    "samples",
                    default=4,
                    min=0,
                    max=len(SCENES),
                    tooltip="Pictures to make with the concept at the end, for the report.",
                ),
                io.String.Input(
                    "file_name",
                    default="",
                    tooltip="Name of the saved file; empty takes the word. A number is added if it is taken.",
                ),
                PerfusionStatistics.Input(
                    "statistics",
                    optional=True,
                    tooltip="From Measure Text Statistics; left open, the trainer measures its own once.",
                ),
                io.Boolean.Input(
                    "flip",
                    default=DEFAULTS.flip,
                    optional=True,
                    advanced=True,
                    tooltip="Mirror half of the pictures at random. Off for things with writing or a left and right.",
                ),
                io.Float.Input(
                    "sample_cfg",
                    default=3.0,
                    min=1.0,
                    max=30.0,
                    step=0.5,
                    optional=True,
                    advanced=True,
                    tooltip="CFG of the samples in the report: about 3 for the demo model, 7 for SD1.5.",
                ),
                *custom_inputs(),
                io.Boolean.Input(
                    "resume",
                    default=False,
                    optional=True,
                    tooltip="Go on where the last training of this file name stopped (Cancel, an error, a power cut), "
                    "with the same inputs; steps may be raised. With nothing to resume it starts anew.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                PerfusionConcept.Output(display_name="concept", tooltip="The concept, ready for the gate node."),
                io.LossMap.Output(display_name="loss_map", tooltip="The loss of every step, for Plot Loss Graph."),
                io.Image.Output(
                    display_name="report", tooltip="Training pictures, loss curve and samples in one picture."
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
        **custom: object,
    ) -> io.NodeOutput:
        settings = training_settings(preset, seed, flip, custom)
        statistics = statistics or cached_statistics(clip, progress_over(cls.hidden.unique_id))
        progress = NodeProgress(settings.steps, cls.hidden.unique_id)

        def show(report: StepReport) -> None:
            progress.show(
                report.step,
                f"step {report.step}/{report.steps}, loss {report.loss:.4f}, gate at the word {report.gate:.2f}",
            )

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
            TrainingFiles(file_name or normalise_word(word), resume),
            thumbnail(images[0]),
        )
        concept, path = result.concept, result.path
        stack = (GatedConcept(concept, concept.bias, concept.temperature),)

        prompts = [scene.format(concept.word) for scene in SCENES[:samples]]
        latent = model.model.latent_format.latent_channels, images.shape[1] // 8, images.shape[2] // 8
        pictures = (
            sample_pictures(
                apply_concepts(model, stack), add_words(clip, stack), vae, prompts, latent, seed, cfg=sample_cfg
            )
            if prompts
            else []
        )
        title = (
            f"{concept.word}, a {concept.superclass}: {len(result.losses)} steps, {result.seconds:.0f} s,"
            f" {path.name}, {path.stat().st_size / 1000:.1f} kB, effect {result.effect:.0%}"
        )
        report = to_tensor(
            training_report(
                [to_image(image) for image in images],
                list(zip(prompts, map(to_image, pictures), strict=True)),
                result.losses,
                title,
            )
        )
        return io.NodeOutput(stack, {"loss": result.losses}, report, str(path), ui=ui.PreviewImage(report, cls=cls))
