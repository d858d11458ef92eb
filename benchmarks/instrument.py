"""Is it this one among 200 others of its kind, and are its colours right?  See instrument.md.

    python benchmarks/instrument.py                                            real pictures of all things: the ceiling
    python benchmarks/instrument.py --concepts hugsy=demo/concepts/demo_hugsy.safetensors --sheet sheet.jpg

Paints each concept in the scenes of `demo/making/measure_concepts.py` at bias 0.85, 18 pictures, and reads them with
today's question (the nearest of twelve things and the looks that words describe) and with the strict one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from open_pack import open_pack
from PIL import Image, ImageDraw
from torch import Tensor

BIAS, TEMPERATURE, CFG, PICTURES_A_SCENE = 0.85, 0.15, 3.0, 3
SIDE, TEXT, LABEL = 128, 28, 110  # of the sheet, in pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--things", nargs="*", help="whose ceilings to measure; all")
    parser.add_argument("--concepts", nargs="*", default=[], metavar="THING=FILE", help="trained concepts to paint")
    parser.add_argument("--sheet", type=Path, help="draw what was painted into this file, with what was found")
    arguments = parser.parse_args()
    open_pack()
    from perfusion_pack.demo.making.instrument import load_instrument
    from perfusion_pack.demo.world.things import THINGS

    instrument = load_instrument()
    if not arguments.concepts:
        print(ceilings(instrument, arguments.things or list(THINGS)))
        return
    painter, lines, strips = Painter(instrument), [], []
    for name, file in (text.split("=", 1) for text in arguments.concepts):
        pictures = painter.paint(name, Path(file))
        judged = instrument.judge(pictures, name)
        lines.append((name, painter.right(pictures, name), judged))
        strips.append((name, pictures, judged))
    print(concepts(instrument, lines))
    if arguments.sheet:
        sheet(instrument, strips).save(arguments.sheet, quality=88)


class Painter:
    """The demo model, which paints concepts, and the question that was asked of its pictures before."""

    def __init__(self, instrument: Any) -> None:
        from perfusion_pack.demo.load import load_demo_model
        from perfusion_pack.demo.making.candidates import candidate_pictures

        self.recogniser = instrument.recogniser
        shown = {name: instrument.reconstruct(pictures) for name, pictures in candidate_pictures().items()}
        self.candidates = self.recogniser.candidates(shown)
        with torch.inference_mode():
            self.model, self.clip, self.vae = load_demo_model()

    def paint(self, thing: str, file: Path) -> Tensor:
        """Pictures [18, 3, SIDE, SIDE] of the thing, by the concept in the file."""
        from perfusion_pack.demo.making.measure_concepts import painted_scenes
        from perfusion_pack.demo.world.things import THINGS
        from perfusion_pack.nodes.host.gate.patch import apply_concepts
        from perfusion_pack.nodes.host.text.words import add_words
        from perfusion_pack.perfusion_core.concept import GatedConcept
        from perfusion_pack.perfusion_core.concept_file import load_concept

        concept = load_concept(file)
        stack = (GatedConcept(concept, BIAS, TEMPERATURE),)
        with torch.inference_mode():
            models = apply_concepts(self.model, stack), add_words(self.clip, stack), self.vae
            scenes = painted_scenes(models, concept.word, THINGS[thing].category, PICTURES_A_SCENE, CFG)
            painted = [pictures for _, _, pictures in scenes]
        return torch.cat(painted).movedim(-1, 1).clone()

    def right(self, pictures: Tensor, thing: str) -> float:
        """Share of the pictures that are nearer to the thing than to the other things and the looks that words
        describe."""
        return float(self.recogniser.is_thing(pictures, thing, self.candidates).float().mean())


def ceilings(instrument: Any, things: list[str]) -> str:
    """What is found in real pictures, as Markdown."""
    from perfusion_pack.demo.making.part_colours import PARTS

    lines = ["| thing | first of 200 | alike too | median rank | distance | look-alike | " + " | ".join(PARTS) + " |"]
    lines.append("|---|---|---|---|---|---|" + "---|" * len(PARTS))
    for name in things:
        found = instrument.ceiling(name)
        lines.append(
            f"| {name} | {found.first:.2f} | {share_right(found):.2f} | {found.median_rank:g} | "
            f"{found.distances.median():.0f} | {float(found.look_alike):.0f} | {errors(found)} |"
        )
    return "\n".join(lines)


def concepts(instrument: Any, rows: list[tuple[str, float, Any]]) -> str:
    """What was found in painted pictures beside the ceilings, as Markdown.  rows: thing, share that is right by the old
    question, and what the instrument found."""
    from perfusion_pack.demo.making.part_colours import PARTS

    heads = ("thing", "thing right (old)", "first of 200", "share of ceiling", "alike too", "share of ceiling")
    heads += ("median rank", "distance (look-alike)")
    lines = ["| " + " | ".join((*heads, *(f"{part} (real)" for part in PARTS))) + " |"]
    lines.append("|---" * (len(heads) + len(PARTS)) + "|")
    for name, right, judged in rows:
        real = instrument.ceiling(name)
        lines.append(
            f"| {name} | {right:.2f} | {judged.first:.2f} | {judged.first / real.first:.2f} | "
            f"{share_right(judged):.2f} | {share_right(judged) / share_right(real):.2f} | {judged.median_rank:g} | "
            f"{judged.distances.median():.0f} ({float(judged.look_alike):.0f}) | {errors(judged, real)} |"
        )
    return "\n".join(lines)


def share_right(judged: Any) -> float:
    """Share of the pictures that are first of 200 and alike too."""
    return float(judged.right.float().mean())


def errors(judged: Any, real: Any = None) -> str:
    """The cells of the mean errors; those of real pictures in brackets."""
    cells = [f"{error:.0f}" if error == error else "" for error in judged.mean_errors]
    if real is not None:
        cells = [f"{cell} ({error:.0f})" if cell else "" for cell, error in zip(cells, real.mean_errors, strict=True)]
    return " | ".join(cells)


def sheet(instrument: Any, strips: list[tuple[str, Tensor, Any]]) -> Image.Image:
    """For each concept a row of its pictures with rank and errors, and below them the thing as drawn in the same
    pose."""
    columns = max(len(pictures) for _, pictures, _ in strips)
    drawn = Image.new("RGB", (LABEL + columns * (SIDE + 2), len(strips) * (2 * SIDE + TEXT + 8)), "white")
    canvas = ImageDraw.Draw(drawn)
    for row, (name, pictures, judged) in enumerate(strips):
        top = row * (2 * SIDE + TEXT + 8)
        canvas.multiline_text((2, top + 4), f"{name}\n\npainted\n\n\n\n\n\n\n\n\n\nthe thing,\nsame pose", "black")
        for column, (picture, real) in enumerate(zip(pictures, instrument.same_pose(pictures, name), strict=True)):
            left = LABEL + column * (SIDE + 2)
            for place, shown in ((top, picture), (top + SIDE + TEXT, real)):
                pixels = (shown.movedim(0, -1) * 255).round().byte().numpy()
                drawn.paste(Image.fromarray(pixels), (left, place))
            found = " ".join(f"{error:.0f}" if error == error else "-" for error in judged.errors[column].tolist())
            rank = int(judged.ranks[column])
            text = f"rank {rank}, distance {judged.distances[column]:.0f}\noff {found}"
            colour = "black" if judged.right[column] else "red"
            canvas.multiline_text((left + 2, top + SIDE), text, colour, font_size=11)
    return drawn


if __name__ == "__main__":
    main()
