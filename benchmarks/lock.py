"""What the lock of the keys does, by how a concept was trained and how far the word moves in a step.

    python benchmarks/lock.py                                 zippy and finny, 12 trainings of a minute or two
    python benchmarks/lock.py --things zippy finny moka hugsy --seeds 0 1

Trains each demo thing with the trainer's own function and the preset Standard but for what the rows say, on true masks,
and paints it in new scenes at every lock with the host's sampler, three pictures a scene; the recogniser reads them, as
for `demo/making/measure_concepts.py`.  "Own": form unlocked.  "Locked": form lockable, lock 1 in every sample.
"Drawn": form lockable, 0 or 1 for each sample.  "Whole prompt": the gate node's key_lock *global* in place of a lock.

A table can be had at any time: trained concepts and readings are kept (--cache), and what is missing is said below it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from demo_trainings import DemoTrainings, keep_readings, readings
from open_pack import open_pack

BIAS, TEMPERATURE, CFG, PICTURES_A_SCENE = 0.85, 0.15, 3.0, 3
TRAINED = {
    "own": {"form": "unlocked", "difference_cap": None},
    "locked": {"form": "lockable", "difference_cap": None, "lock": 1.0},
    "drawn": {"form": "lockable", "difference_cap": None},
}
# What a concept is used with: the name of the column, the lock, the gate node's key_lock, and the bias.
USES = {
    "lock 0": (0.0, "local", BIAS),
    "lock .5": (0.5, "local", BIAS),
    "lock 1": (1.0, "local", BIAS),
    "whole prompt, bias .85": (None, "global", BIAS),
    "whole prompt, bias .45": (None, "global", 0.45),
}


@dataclass(frozen=True)
class Cell:
    """One training: its thing, the word's rate in units of the word's size, how it was trained, and its seed."""

    thing: str
    rate: float
    trained: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.thing}-{self.rate:g}-{self.trained}-{self.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--things", nargs="+", default=["zippy", "finny"])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.012, 0.41], help="relative rates of the word")
    parser.add_argument("--trained", nargs="+", default=list(TRAINED), choices=list(TRAINED))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "perfusion-benchmarks" / "lock")
    parser.add_argument("--only-table", action="store_true", help="print what is there")
    arguments = parser.parse_args()
    cells = [
        Cell(thing, rate, trained, seed)
        for seed in arguments.seeds
        for rate in arguments.rates
        for thing in arguments.things
        for trained in arguments.trained
    ]
    folder = arguments.cache / f"{arguments.steps}-steps"
    folder.mkdir(parents=True, exist_ok=True)
    if not arguments.only_table:
        open_pack()
        bench = Bench(arguments.steps, folder)
        for cell in cells:
            bench.fill(cell)
    print(table(cells, arguments.rates, arguments.trained, folder))


class Bench:
    """The trainings, and the recogniser that reads what they paint."""

    def __init__(self, steps: int, folder: Path) -> None:
        from perfusion_pack.demo.making.recogniser import load_recogniser

        self.recogniser = load_recogniser()
        self.trainings = DemoTrainings(folder, steps, self.recogniser)

    def fill(self, cell: Cell) -> None:
        """Make what is missing of a cell: its concept, and the readings of every use."""
        folder = self.trainings.folder
        read = readings(folder, cell.name)
        if all(use in read for use in USES):
            return
        changes = {"relative_word_rate": cell.rate, **TRAINED[cell.trained]}
        concept = self.trainings.concept(cell.name, cell.thing, cell.seed, changes)
        for use in USES:
            if use not in read:
                read[use] = list(self.measure(concept, cell.thing, use))
                keep_readings(folder, cell.name, read)

    def measure(self, concept: Any, thing: str, use: str) -> Iterator[tuple[bool, bool]]:
        """Is it the thing, and is the scene right, of every picture."""
        from perfusion_pack.demo.making.measure_concepts import painted_scenes
        from perfusion_pack.demo.world.things import THINGS
        from perfusion_pack.nodes.host.gate.patch import apply_concepts
        from perfusion_pack.nodes.host.text.words import add_words
        from perfusion_pack.perfusion_core.concept import GatedConcept

        lock, key_lock, bias = USES[use]
        stack, of = (GatedConcept(concept, bias, TEMPERATURE, lock=lock),), self.trainings
        with torch.inference_mode():
            models = apply_concepts(of.model, stack, key_lock), add_words(of.clip, stack, key_lock), of.vae
            scenes = painted_scenes(models, f"<{thing}>", THINGS[thing].category, PICTURES_A_SCENE, CFG)
            for _, asked, painted in scenes:
                nearest = self.recogniser.nearest(painted, of.candidates)
                for name, reading in zip(nearest, self.recogniser.read(painted), strict=True):
                    yield name == thing, bool(asked(reading))


def table(cells: Sequence[Cell], rates: Sequence[float], trained: Sequence[str], folder: Path) -> str:
    """Thing right / scene right as Markdown, over what is there, and what is missing."""
    lines = [
        "| word's rate | trained with keys | things | " + " | ".join(USES) + " |",
        "|---|---|---|" + "---|" * len(USES),
    ]
    missing = []
    for rate in rates:
        for kind in trained:
            of_row = [cell for cell in cells if (cell.rate, cell.trained) == (rate, kind)]
            found = {cell: read for cell in of_row if len(read := readings(folder, cell.name)) == len(USES)}
            missing += [cell.name for cell in of_row if cell not in found]
            shares = []
            for use in USES:
                pictures = [picture for read in found.values() for picture in read[use]]
                right, scene = (
                    (sum(column) / len(pictures) for column in zip(*pictures, strict=True)) if pictures else ("", "")
                )
                shares.append(f"{right:.2f} / {scene:.2f}" if pictures else "")
            things = ", ".join(dict.fromkeys(cell.thing for cell in found))
            lines.append(f"| {rate:g} | {kind} | {things} | " + " | ".join(shares) + " |")
    return "\n".join([*lines, "", f"missing: {', '.join(missing) or 'nothing'}"])


if __name__ == "__main__":
    main()
