"""Should a concept have other values at high noise than at low?  (T-LoRA: single pictures are learned by heart there.)

    python benchmarks/values_by_noise.py                        four things, five pictures and one: 24 trainings
    python benchmarks/values_by_noise.py --only-table           what is there

Trains demo things with the preset Standard (anchored, cap .5) on true masks, as it is, with a difference of its own for
each half of the schedule, and with one for the half of low noise alone, where the other half has the word alone.
Pictures are painted and read as `better_than_a_word.py` does it.  Trainings and readings are kept (--cache)."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from better_than_a_word import BIASES, ROWS, Bench, Cell, by_row, table
from demo_trainings import keep_readings, readings
from open_pack import open_pack

ONE, BOTH, LOW_ALONE = "one for all noise", "one for each half", "low noise alone"
PICTURES = (5, 1)
HELD = ROWS["anchored, cap .5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--things", nargs="+", default=["finny", "rusty", "bubbles", "hugsy"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/perfusion-benchmarks/values_by_noise")
    parser.add_argument("--only-table", action="store_true", help="print what is there")
    arguments = parser.parse_args()
    for pictures in PICTURES:
        folder = arguments.cache / f"{arguments.steps}-steps-{pictures}-pictures"
        folder.mkdir(parents=True, exist_ok=True)
        cells = [Cell(thing, row, 0) for row in (ONE, BOTH, LOW_ALONE) for thing in arguments.things]
        if not arguments.only_table:
            open_pack()
            bench = NoiseBench(arguments.steps, folder, pictures)
            for cell in cells:
                bench.fill(cell)
        print(f"pictures: {pictures}\n\n{table(by_row(cells), folder)}\n", flush=True)


class NoiseBench(Bench):
    """The trainings and uses of concepts with one value or two."""

    def fill(self, cell: Cell) -> None:
        from two_values import learning_two_values, using_two_values

        folder = self.trainings.folder
        read = readings(folder, cell.name)
        if all(str(bias) in read for bias in BIASES):
            return
        if cell.row == ONE:
            concept, in_use = self.trainings.concept(cell.name, cell.thing, cell.seed, HELD), None
        else:
            with learning_two_values(cell.row == BOTH) as trainers:
                result = self.trainings.train(cell.name, cell.thing, cell.seed, HELD)
            concept, low = result.concept, trainers[0].low_values(result.chosen_step)
            in_use = low, cell.row == BOTH
        read["difference"] = self.difference(concept)
        with using_two_values(*in_use) if in_use else nullcontext():
            read |= {str(bias): self.measure(concept, cell, bias) for bias in BIASES}
        keep_readings(folder, cell.name, read)


if __name__ == "__main__":
    main()
