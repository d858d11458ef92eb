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
import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from open_pack import open_pack

BIAS, TEMPERATURE, CFG, PICTURES_A_SCENE = 0.85, 0.15, 3.0, 3
TRAINED = {
    "own": {"form": "unlocked"},
    "locked": {"form": "lockable", "lock": 1.0},
    "drawn": {"form": "lockable"},
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
    """The demo model, its recogniser, and the folder of what was made."""

    def __init__(self, steps: int, folder: Path) -> None:
        from perfusion_pack.demo.load import load_demo_model, world_captions
        from perfusion_pack.demo.making.candidates import candidate_pictures
        from perfusion_pack.demo.making.measure_concepts import reconstruct
        from perfusion_pack.demo.making.recogniser import load_recogniser
        from perfusion_pack.nodes.host.text.statistics import measure_statistics

        self.steps, self.folder, self.recogniser = steps, folder, load_recogniser()
        with torch.inference_mode():
            self.model, self.clip, self.vae = load_demo_model()
            shown = {name: reconstruct(self.vae, pictures) for name, pictures in candidate_pictures().items()}
            self.candidates = self.recogniser.candidates(shown)
            self.statistics = measure_statistics(self.clip, world_captions(), lambda done, total: None)

    def fill(self, cell: Cell) -> None:
        """Make what is missing of a cell: its concept, and the readings of every use."""
        from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept

        read = readings(self.folder, cell)
        if all(use in read for use in USES):
            return
        path = self.folder / f"{cell.name}.safetensors"
        if not path.exists():
            save_concept(path, self.train(cell))
        concept = load_concept(path)
        for use in USES:
            if use not in read:
                read[use] = list(self.measure(concept, cell.thing, use))
                (self.folder / f"{cell.name}.json").write_text(json.dumps(read))

    def train(self, cell: Cell) -> Any:
        from perfusion_pack.demo.making.candidates import thing_tensors
        from perfusion_pack.demo.world.things import THINGS
        from perfusion_pack.nodes.host.training.job import TrainingJob
        from perfusion_pack.nodes.host.training.request import TrainingRequest
        from perfusion_pack.nodes.training_settings import training_settings

        settings = training_settings("Standard", cell.seed, flip=True, validate_every=25, custom={})
        changes = {"steps": self.steps, "relative_word_rate": cell.rate, **TRAINED[cell.trained]}
        pictures, masks = thing_tensors(cell.thing)
        with torch.inference_mode():
            request = TrainingRequest(
                model=self.model, clip=self.clip, vae=self.vae, images=pictures.movedim(1, -1), masks=masks,
                word=f"<{cell.thing}>", superclass=THINGS[cell.thing].category, statistics=self.statistics,
                settings=dataclasses.replace(settings, **changes),
            )  # fmt: skip
            result = TrainingJob(request).train()
        print(f"trained {cell.name} in {result.seconds:.0f} s, took step {result.chosen_step}", flush=True)
        return result.concept

    def measure(self, concept: Any, thing: str, use: str) -> Iterator[tuple[bool, bool]]:
        """Is it the thing, and is the scene right, of every picture."""
        from perfusion_pack.demo.making.measure_concepts import SCENES, other_category
        from perfusion_pack.demo.world.things import THINGS
        from perfusion_pack.nodes.host.gate.patch import apply_concepts
        from perfusion_pack.nodes.host.text.words import add_words
        from perfusion_pack.nodes.host.training.sampling import sample_pictures
        from perfusion_pack.perfusion_core.concept import GatedConcept

        lock, key_lock, bias = USES[use]
        stack = (GatedConcept(concept, bias, TEMPERATURE, lock=lock),)
        with torch.inference_mode():
            patched, clip = apply_concepts(self.model, stack, key_lock), add_words(self.clip, stack, key_lock)
            for scene, asked in SCENES.items():
                prompt = scene.format(f"<{thing}>", other=other_category(THINGS[thing].category))
                painted = sample_pictures(
                    patched, clip, self.vae, [prompt] * PICTURES_A_SCENE, (4, 16, 16), seed=100, cfg=CFG
                ).float().cpu()  # fmt: skip
                nearest = self.recogniser.nearest(painted, self.candidates)
                for name, reading in zip(nearest, self.recogniser.read(painted), strict=True):
                    yield name == thing, bool(asked(reading))


def readings(folder: Path, cell: Cell) -> dict[str, list]:
    """What was read so far of a cell's pictures, by use."""
    path = folder / f"{cell.name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


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
            found = {cell: read for cell in of_row if len(read := readings(folder, cell)) == len(USES)}
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
