"""Is a concept better than its word alone?  Values as a difference, and attention held to the thing.

    python benchmarks/better_than_a_word.py                        zippy and finny, a training of minutes for each row
    python benchmarks/better_than_a_word.py --things hugsy sippy --rows "values whole" --each     a line for each thing
    python benchmarks/better_than_a_word.py --pictures 1 --rows "anchored, cap .5" "anchored, cap 1"    from one picture

Trains each demo thing with the trainer's own function and the preset Standard but for what the row changes, on true
masks, and paints it in new scenes with the host's sampler, three pictures a scene, at every bias.  The recogniser reads
them as for `demo/making/measure_concepts.py`, and the strict instrument says whether it is this one among 200 others of
its kind, nearer than look-alikes come (strictly right), and how far its colours are off.  "Word alone" is textual
inversion: the form residual with a value rate of 0.

A table can be had at any time: trained concepts, pictures and readings are kept (--cache), and what is missing is said
below it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from demo_trainings import DemoTrainings, keep_readings, readings
from open_pack import open_pack
from torch import Tensor

BIASES, TEMPERATURE, CFG, PICTURES_A_SCENE = (0.65, 0.85), 0.15, 3.0, 3


def _row(form: str, cap: float | None = None, **changes: Any) -> dict[str, Any]:
    return {"form": form, "difference_cap": cap, **changes}


# What each row changes in the preset Standard.
ROWS = {
    "word alone": _row("residual", relative_value_rate=0.0),
    "word alone, rate .04": _row("residual", relative_value_rate=0.0, relative_word_rate=0.04),
    "values whole": _row("unlocked"),
    "residual": _row("residual"),
    "residual, decay .01": _row("residual", difference_decay=0.01),
    "residual, decay .03": _row("residual", difference_decay=0.03),
    "residual, cap .5": _row("residual", 0.5),
    "residual, cap 1": _row("residual", 1.0),
    "anchored, cap .5": _row("anchored", 0.5),
    "anchored, cap .25": _row("anchored", 0.25),
    "anchored, cap 1": _row("anchored", 1.0),
    "attention .1": _row("unlocked", attention_weight=0.1),
    "attention .3": _row("unlocked", attention_weight=0.3),
}


@dataclass(frozen=True)
class Cell:
    """One training: its thing, its row, and its seed."""

    thing: str
    row: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.thing}-{self.row.replace(', ', '-').replace(' ', '_')}-{self.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--things", nargs="+", default=["zippy", "finny"])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pictures", type=int, default=5, help="of each thing, on which it is trained")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/perfusion-benchmarks/better_than_a_word")
    parser.add_argument("--only-table", action="store_true", help="print what is there")
    parser.add_argument("--each", action="store_true", help="a line for each thing instead of one for all")
    arguments = parser.parse_args()
    cells = [Cell(thing, row, seed) for seed in arguments.seeds for row in arguments.rows for thing in arguments.things]
    few = "" if arguments.pictures == 5 else f"-{arguments.pictures}-pictures"
    folder = arguments.cache / f"{arguments.steps}-steps{few}"
    folder.mkdir(parents=True, exist_ok=True)
    if not arguments.only_table:
        open_pack()
        bench = Bench(arguments.steps, folder, arguments.pictures)
        for cell in cells:
            bench.fill(cell)
    print(table([[cell] for cell in cells] if arguments.each else by_row(cells), folder))


class Bench:
    """The trainings, and the instrument that reads what they paint."""

    def __init__(self, steps: int, folder: Path, pictures: int = 5) -> None:
        from perfusion_pack.demo.making.instrument import load_instrument

        self.instrument = load_instrument()
        self.recogniser = self.instrument.recogniser
        self.trainings = DemoTrainings(folder, steps, self.recogniser, pictures)

    def fill(self, cell: Cell) -> None:
        """Make what is missing of a cell: its concept, and the readings at every bias."""
        folder = self.trainings.folder
        read = readings(folder, cell.name)
        if all(str(bias) in read for bias in BIASES):
            return
        concept = self.trainings.concept(cell.name, cell.thing, cell.seed, ROWS[cell.row])
        read["difference"] = self.difference(concept)
        for bias in BIASES:
            if str(bias) not in read:
                read[str(bias)] = self.measure(concept, cell, bias)
                keep_readings(folder, cell.name, read)

    def difference(self, concept: Any) -> float | None:
        """The norm of the learned difference over that of the superclass' values, mean over the layers."""
        from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers, values_of

        if concept.form not in ("residual", "anchored"):
            return None
        layers = cross_attention_layers(self.trainings.model.model.diffusion_model, concept.encoding_width)
        with torch.inference_mode():
            shares = [
                concept.value_targets[name].norm() / values_of(layer, concept.superclass_encoding).norm()
                for name, layer in layers.items()
            ]
        return float(torch.stack(shares).mean())

    def measure(self, concept: Any, cell: Cell, bias: float) -> dict[str, list]:
        """Of every picture: is it the thing, is the scene right, its rank, and how far the colours are off."""
        from perfusion_pack.demo.making.measure_concepts import painted_scenes
        from perfusion_pack.demo.world.things import THINGS
        from perfusion_pack.nodes.host.gate.patch import apply_concepts
        from perfusion_pack.nodes.host.text.words import add_words
        from perfusion_pack.perfusion_core.concept import GatedConcept

        found: dict[str, list] = {"right": [], "scene": []}
        stack, strip, of = (GatedConcept(concept, bias, TEMPERATURE),), [], self.trainings
        with torch.inference_mode():
            models = apply_concepts(of.model, stack), add_words(of.clip, stack), of.vae
            category = THINGS[cell.thing].category
            for _, asked, painted in painted_scenes(models, f"<{cell.thing}>", category, PICTURES_A_SCENE, CFG):
                found["right"] += [name == cell.thing for name in self.recogniser.nearest(painted, of.candidates)]
                found["scene"] += [bool(asked(reading)) for reading in self.recogniser.read(painted)]
                strip.append(painted)
        pictures = torch.cat(strip).clone()
        keep_strip(of.folder / f"{cell.name}-{bias:g}.jpg", pictures)
        judged = self.instrument.judge(pictures, cell.thing)
        strict = {"strict": judged.right.tolist(), "ranks": judged.ranks.tolist(), "errors": judged.errors.tolist()}
        return {**found, **strict}


def keep_strip(path: Path, pictures: Tensor) -> None:
    """The pictures [B, H, W, 3] in 0..1 side by side, to look at."""
    from PIL import Image

    row = torch.cat(list(pictures), dim=1).mul(255).round().byte().numpy()
    Image.fromarray(row).save(path, quality=88)


def by_row(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of each row together."""
    return [[cell for cell in cells if cell.row == row] for row in dict.fromkeys(cell.row for cell in cells)]


def table(lines_of: Sequence[Sequence[Cell]], folder: Path) -> str:
    """A line for each group of cells of one row at each bias, as Markdown, and what is missing."""
    lines = [
        "| row | size of the difference | bias | things | thing right | scene right | strictly right | "
        "first of 200 | median rank | "
        "body off | secondary parts off | detail off |",
        "|---" * 12 + "|",
    ]
    missing = []
    for group in lines_of:
        found = {cell: read for cell in group if all(str(b) in (read := readings(folder, cell.name)) for b in BIASES)}
        missing += [cell.name for cell in group if cell not in found]
        sizes = [read["difference"] for read in found.values() if read["difference"] is not None]
        size = f"{sum(sizes) / len(sizes):.2f}" if sizes else ""
        things = ", ".join(dict.fromkeys(cell.thing for cell in found))
        for bias in BIASES if found else ():
            cell_texts = cells_of([read[str(bias)] for read in found.values()])
            lines.append(f"| {group[0].row} | {size} | {bias:g} | {things} | {' | '.join(cell_texts)} |")
    return "\n".join([*lines, "", f"missing: {', '.join(missing) or 'nothing'}"])


def cells_of(read: Sequence[dict[str, list]]) -> list[str]:
    """The numbers of all these readings together, for a line of the table."""

    def all_of(name: str) -> list:
        return [value for one in read for value in one[name]]

    ranks, errors = torch.tensor(all_of("ranks")), torch.tensor(all_of("errors"))
    shares = [torch.tensor(all_of(name)).float().mean().item() for name in ("right", "scene", "strict")]
    shares.append(float((ranks == 0).float().mean()))
    off = ["" if math.isnan(error) else f"{error:.0f}" for error in errors.nanmean(dim=0).tolist()]
    return [*(f"{share:.2f}" for share in shares), f"{ranks.double().quantile(0.5).item():g}", *off]


if __name__ == "__main__":
    main()
