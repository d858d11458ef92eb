"""Makes the pictures of the help pages with the demo model: every one is painted or plotted, none is drawn by hand.

    python benchmarks/help_pictures.py                                          those that the pages show
    python benchmarks/help_pictures.py --only masks training_bias --thing hugsy some, of another thing
    python benchmarks/help_pictures.py --steps 20 --output pictures             a quick try

Each shows what one setting does: the same seeds in every row, and all other settings those of the preset Standard.  A
heading says only what was set.  What is to be seen there stands in the pages: with other weights, look at the pictures
and correct what the pages say.  A picture on which a setting makes no difference is not shown: the page says it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from open_pack import open_pack
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = REPOSITORY / "web" / "docs"

SCENES = (
    "a photo of a {} on the beach",
    "a photo of a {} with a hat in the snow",
    "a photo of a {} beside a red {other} in a pink room",
)
SEED, CFG = 100, 3.0
LATENT_SHAPE = (4, 16, 16)
BIAS, TEMPERATURE = 0.85, 0.15  # the gate's defaults in Load Perfusion Concept

# What an input of the preset Custom needs to act where Standard has something else, with the form that Custom has.
AS_CUSTOM = {"form": "unlocked", "difference_cap": None, "relative_value_rate": None, "relative_word_rate": None}

CELL, GAP, HEADING = 128, 4, 20  # three cells are about as wide as the help panel of a small window
INK, PAPER = (30, 30, 36), (250, 250, 248)
REPORT_WIDTH = 640
MOST_BYTES = 60_000

Row = tuple[str, Sequence[Image.Image]]


class Studio:
    """The demo model with what it has learned so far; trainings with the same settings are made once.

    thing: of the demo world.  steps: of a training in the preset Standard.
    """

    def __init__(self, thing: str, steps: int) -> None:
        from perfusion_pack.demo.load import load_demo_model, world_captions
        from perfusion_pack.demo.making.candidates import thing_tensors
        from perfusion_pack.demo.world.things import THINGS
        from perfusion_pack.nodes.host.text.statistics import measure_statistics

        self.thing, self.steps, self.category = thing, steps, THINGS[thing].category
        with torch.inference_mode():
            self.model, self.clip, self.vae = load_demo_model()
            self.statistics = measure_statistics(self.clip, world_captions(), lambda done, total: None)
        pictures, self.masks = thing_tensors(thing)
        self.pictures = pictures.movedim(1, -1)

    def train(
        self,
        pictures: Tensor,
        masks: Tensor | None,
        automatic_mask: bool = False,
        resume: bool = False,
        watch: Callable[[Any], None] | None = None,
        every: int = 0,
        **changes: Any,
    ) -> Any:
        """A training and its result; `changes` to the settings of the preset Standard.  watch: is given the concept
        `every` so many steps.  resume: go on with the one that was made last, which is kept on disk for that."""
        from perfusion_pack.nodes.host.training.files import TrainingFiles
        from perfusion_pack.nodes.host.training.job import TrainingJob
        from perfusion_pack.nodes.host.training.request import TrainingHooks, TrainingRequest

        settings = dataclasses.replace(standard_settings(self.steps, validate_every=0), **changes)
        what = ", ".join(f"{name} {value}" for name, value in changes.items())
        print(f"training: {what or 'preset Standard'} ...", flush=True)
        with torch.inference_mode():
            request = TrainingRequest(
                model=self.model,
                clip=self.clip,
                vae=self.vae,
                images=pictures,
                masks=masks,
                word=f"<{self.thing}>",
                superclass=self.category,
                settings=settings,
                statistics=self.statistics,
                automatic_mask=automatic_mask,
            )
            hooks = TrainingHooks(on_preview=watch, preview_every=every) if watch else TrainingHooks()
            result = TrainingJob(request, hooks, TrainingFiles(self.thing, resume)).train()
        print(f"  {result.seconds:.0f} s, effect {result.effect:.0%}", flush=True)
        return result

    @functools.cached_property
    def standard(self) -> tuple[Any, dict[int, Any]]:
        """The training with the preset Standard, validated as usual, and its concepts by their steps."""
        found: dict[int, Any] = {}

        def watch(concept: Any) -> None:
            found[concept.training["steps"]] = concept

        result = self.train(self.pictures, self.masks, watch=watch, every=max(1, self.steps // 6), validate_every=25)
        return result, found

    def changed(self, **changes: Any) -> Any:
        """The concept of a training with other settings."""
        return self.train(self.pictures, self.masks, **changes).concept

    def paint(self, concept: Any, scenes: Sequence[str] = SCENES, bias: float = BIAS) -> list[Image.Image]:
        """Pictures of the concept in the scenes, or of its plain kind for None; always with the same seeds."""
        from perfusion_pack.nodes.host.gate.patch import apply_concepts
        from perfusion_pack.nodes.host.text.words import add_words
        from perfusion_pack.nodes.host.training.sampling import sample_pictures
        from perfusion_pack.nodes.pictures import to_image
        from perfusion_pack.perfusion_core.concept import GatedConcept

        model, clip, name = self.model, self.clip, self.category
        if concept is not None:
            stack = (GatedConcept(concept, bias, TEMPERATURE),)
            model, clip, name = apply_concepts(model, stack), add_words(clip, stack), concept.word
        prompts = [scene.format(name, other="ball" if self.category == "cup" else "cup") for scene in scenes]
        return [to_image(p) for p in sample_pictures(model, clip, self.vae, prompts, LATENT_SHAPE, SEED, cfg=CFG)]

    def thing_row(self) -> Row:
        """Three of the training pictures."""
        from perfusion_pack.nodes.pictures import to_image

        return f"<{self.thing}>: three of the five training pictures", [to_image(p) for p in self.pictures[:3]]

    def plain_row(self) -> Row:
        return f"no concept: “{self.category}”", self.paint(None)


def standard_settings(steps: int = 300, validate_every: int = 25) -> Any:
    """Those of the preset Standard on the demo model."""
    from perfusion_pack.nodes.training_settings import training_settings

    settings = training_settings("Standard", seed=0, flip=True, validate_every=validate_every, custom={})
    return dataclasses.replace(settings, steps=steps)


def report(studio: Studio) -> Image.Image:
    """The trainer's own report of the training with the preset Standard, as it stands beside the concept."""
    from perfusion_pack.nodes.pictures import to_image
    from perfusion_pack.nodes.training_report import TrainingReport, under_masks
    from perfusion_pack.nodes.training_samples import TrainingSamples
    from perfusion_pack.nodes.training_settings import settings_text

    result, concepts = studio.standard
    settings = standard_settings(studio.steps)
    painted = TrainingSamples(studio.model, studio.clip, studio.vae, LATENT_SHAPE, 0, CFG)
    painted.preview(concepts[sorted(concepts)[1]])
    painted.final(result.concept, 4)
    drawn = TrainingReport(
        f"{result.concept.word}, a {studio.category}: step {result.chosen_step} of {len(result.losses)},"
        f" {result.seconds:.0f} s, {result.path.name}, {result.path.stat().st_size / 1000:.1f} kB,"
        f" effect {result.effect:.0%}",
        settings_text("Standard" if settings == standard_settings() else "Custom", settings, len(studio.pictures)),
        [to_image(picture) for picture in studio.pictures],
        result.losses,
        under_masks(studio.pictures, result.masks),
        "the masks input",
        result.validations,
        result.chosen_step,
        painted.rows,
    ).draw()
    return drawn.resize((REPORT_WIDTH, round(drawn.height * REPORT_WIDTH / drawn.width)), Image.Resampling.LANCZOS)


def steps(studio: Studio) -> Image.Image:
    """From the plain kind to twice the steps of the preset Standard: the same training, which then goes on."""
    result, concepts = studio.standard
    longer = studio.train(studio.pictures, studio.masks, resume=True, steps=2 * studio.steps, validate_every=25)
    rows = [(f"after step {step}", studio.paint(concepts[step])) for step in sorted(concepts)[:3:2]]
    rows.append((f"after step {result.chosen_step}, the best of {studio.steps}", studio.paint(result.concept)))
    rows.append((f"after step {longer.chosen_step}, the best of {2 * studio.steps}", studio.paint(longer.concept)))
    return sheet([studio.thing_row(), studio.plain_row(), *rows])


def value_learning_rate(studio: Studio) -> Image.Image:
    """Far too low, as it should be, far too high."""
    return _compared(studio, "value_learning_rate", "value_learning_rate", (0.0015, 0.03, 0.6), **AS_CUSTOM)


def training_bias(studio: Studio) -> Image.Image:
    """With a gate that is open for every word, as it should be, and one that hardly opens."""
    return _compared(studio, "training_bias", "bias", (0.0, 0.75, 1.3))


def masks(studio: Studio) -> Image.Image:
    """Training pictures that all have one background, with masks given, found and none."""
    from perfusion_pack.demo.world.scenes import Scene, render
    from perfusion_pack.demo.world.things import THINGS
    from perfusion_pack.nodes.pictures import to_image, to_tensor
    from perfusion_pack.nodes.training_report import under_masks

    drawn = [
        render(Scene(THINGS[studio.thing].placed(), "grass", place=place, seed=seed))
        for seed, place in enumerate(("", "", "left", "right", ""))
    ]
    pictures = torch.cat([to_tensor(picture) for picture, _ in drawn])
    true_masks = torch.cat([to_tensor(mask)[..., 0] for _, mask in drawn])
    none = studio.train(pictures, None)
    found = studio.train(pictures, None, automatic_mask=True)
    given = studio.train(pictures, true_masks)
    scenes = ("a photo of a {}", *SCENES[:2])
    return sheet(
        [
            ("training pictures, all in the same place", [to_image(p) for p in pictures[:3]]),
            ("automatic_mask off, no masks", studio.paint(none.concept, scenes)),
            ("automatic_mask: what it found", under_masks(pictures[:3], found.masks[:3])),
            ("automatic_mask on", studio.paint(found.concept, scenes)),
            ("masks given", studio.paint(given.concept, scenes)),
        ]
    )


def mask_files(studio: Studio) -> Image.Image:
    """The two ways in which a picture brings its mask, and what the training sees of each."""
    from perfusion_pack.nodes.pictures import to_image
    from perfusion_pack.nodes.training_report import under_mask

    photo, cut_out = studio.pictures[0], studio.pictures[1]
    beside, alpha = studio.masks[0], studio.masks[1]
    squares = (torch.arange(CELL) // 8)[:, None] + torch.arange(CELL) // 8
    board = (0.75 + 0.2 * (squares % 2))[..., None].expand(-1, -1, 3)  # as painting programs show what is transparent
    shown = cut_out * alpha[..., None] + board * (1 - alpha[..., None])
    return sheet(
        [
            (
                "photo.jpg, photo.mask.png, what is trained",
                [to_image(photo), to_image(beside[..., None].expand(-1, -1, 3)), under_mask(photo, beside[None])],
            ),
            (
                "cut-out.png, its alpha channel, what is trained",
                [to_image(shown), to_image(alpha[..., None].expand(-1, -1, 3)), under_mask(cut_out, alpha[None])],
            ),
        ]
    )


def gate_bias(studio: Studio) -> Image.Image:
    """The knob of the loader, on the concept of the thing that ships with the pack."""
    from perfusion_pack.perfusion_core.concept_file import load_concept

    concept = load_concept(REPOSITORY / "demo" / "concepts" / f"demo_{studio.thing}.safetensors")
    rows = [(f"bias {bias:g}", studio.paint(concept, bias=bias)) for bias in (0.5, BIAS, 1.0, 1.15)]
    return sheet([studio.thing_row(), *rows, studio.plain_row()])


# Which page each picture stands in.
PICTURES: dict[str, tuple[str, Callable[[Studio], Image.Image]]] = {
    "report": ("PerfusionTrainConcept", report),
    "mask_files": ("PerfusionLoadPictures", mask_files),
    "bias": ("PerfusionLoadConcept", gate_bias),
    "value_learning_rate": ("PerfusionTrainConcept", value_learning_rate),
    "masks": ("PerfusionTrainConcept", masks),
    "training_bias": ("PerfusionTrainConcept", training_bias),
    "steps": ("PerfusionTrainConcept", steps),
}


def _compared(studio: Studio, shown: str, setting: str, values: Sequence[float], **others: Any) -> Image.Image:
    """A row for each value of a setting, `shown` being the name of its input; the usual one is not trained again.

    others: what else is set."""
    usual = getattr(standard_settings(), setting)
    rows = [studio.thing_row()]
    for value in values:
        same = value == usual and not others
        concept = studio.standard[0].concept if same else studio.changed(**{setting: value}, **others)
        rows.append((f"{shown} {value:g}" + (" (to start with)" if value == usual else ""), studio.paint(concept)))
    return sheet(rows)


def sheet(rows: Sequence[Row]) -> Image.Image:
    """Rows of pictures, each under its heading."""
    columns = max(len(pictures) for _, pictures in rows)
    drawn = Image.new("RGB", (columns * (CELL + GAP) + GAP, len(rows) * (CELL + GAP + HEADING)), PAPER)
    for number, (heading, pictures) in enumerate(rows):
        top = number * (CELL + GAP + HEADING)
        ImageDraw.Draw(drawn).text((GAP, top + 1), heading, fill=INK, font=ImageFont.load_default(14))
        for column, picture in enumerate(pictures):
            drawn.paste(picture, (GAP + column * (CELL + GAP), top + HEADING))
    return drawn


def shown() -> list[str]:
    """The pictures that stand in a page."""
    pages = {page: (PAGES / f"{page}.md").read_text(encoding="utf-8") for page, _ in PICTURES.values()}
    return [name for name, (page, _) in PICTURES.items() if f"({page}/{name}.jpg)" in pages[page]]


def save(picture: Image.Image, path: Path) -> None:
    """Write a JPEG of at most MOST_BYTES, as good as that allows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for quality in range(90, 39, -5):
        picture.save(path, "JPEG", quality=quality, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size:,} bytes, quality {quality}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=PICTURES, default=shown(), help="those that the pages show if left out"
    )
    parser.add_argument("--thing", default="sippy", help="of the demo world; for bias one whose concept ships")
    parser.add_argument("--steps", type=int, default=300, help="of a training with the preset Standard")
    parser.add_argument("--output", type=Path, default=PAGES)
    arguments = parser.parse_args()
    open_pack()
    import folder_paths

    with tempfile.TemporaryDirectory() as kept:
        folder_paths.set_output_directory(kept)
        studio = Studio(arguments.thing, arguments.steps)
        for name in arguments.only:
            page, make = PICTURES[name]
            save(make(studio), arguments.output / page / f"{name}.jpg")


if __name__ == "__main__":
    main()
