"""Should a concept have more than one value in a layer?  By the noise, or chosen by the query.

    python benchmarks/several_values.py                        four things, five pictures and one: 40 trainings
    python benchmarks/several_values.py --only-table           what is there

By the noise (T-LoRA: single pictures are learned by heart where noise is high): a difference of its own for each half
of the schedule, or one for the half of low noise alone, where the other half has the word alone (`two_values.py`).  By
the query (Nested Attention): further tokens of the concept, each with values of its own (`more_values.py`).

Trains demo things with the preset Standard (anchored, cap .5) on true masks, as it is and so.  Pictures are painted and
read as `better_than_a_word.py` does it.  Trainings and readings are kept (--cache)."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from better_than_a_word import BIASES, ROWS, Bench, Cell, by_row, table
from demo_trainings import keep_readings, readings
from open_pack import open_pack

ONE = "one"
HIGH_TOO = {"one for each half of the noise": True, "low noise alone": False}
FURTHER = {"one further token": 1, "three further tokens": 3}
KINDS = (ONE, *FURTHER, *HIGH_TOO)
HELD = ROWS["anchored, cap .5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--things", nargs="+", default=["finny", "hugsy", "zippy", "sippy"])
    parser.add_argument("--rows", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="ROW")
    parser.add_argument("--pictures", type=int, nargs="+", default=[5, 1], help="of each thing")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/perfusion-benchmarks/several_values")
    parser.add_argument("--only-table", action="store_true", help="print what is there")
    arguments = parser.parse_args()
    for pictures in arguments.pictures:
        folder = arguments.cache / f"{arguments.steps}-steps-{pictures}-pictures"
        folder.mkdir(parents=True, exist_ok=True)
        cells = [Cell(thing, row, 0) for row in arguments.rows for thing in arguments.things]
        if not arguments.only_table:
            open_pack()
            bench = SeveralValuesBench(arguments.steps, folder, pictures)
            for cell in cells:
                bench.fill(cell)
        print(f"pictures: {pictures}\n\n{table(by_row(cells), folder)}\n", flush=True)


class SeveralValuesBench(Bench):
    """The trainings and uses of concepts with more than one value in a layer."""

    def fill(self, cell: Cell) -> None:
        folder = self.trainings.folder
        read = readings(folder, cell.name)
        if all(str(bias) in read for bias in BIASES):
            return
        concept, using = self.trained(cell)
        read["difference"] = self.difference(concept)
        with using:
            read |= {str(bias): self.measure(concept, cell, bias) for bias in BIASES}
        keep_readings(folder, cell.name, read)

    def trained(self, cell: Cell) -> tuple[Any, AbstractContextManager[None]]:
        """The concept, and the context in which it has all its values."""
        from more_values import learning_more_values, using_more_values
        from two_values import learning_two_values, using_two_values

        arguments = cell.name, cell.thing, cell.seed, HELD
        if cell.row == ONE:
            return self.trainings.concept(*arguments), nullcontext()
        if cell.row in FURTHER:
            with learning_more_values(FURTHER[cell.row]) as more:
                result = self.trainings.train(*arguments)
            return result.concept, using_more_values(more[0].more_values(result.chosen_step))
        high_too = HIGH_TOO[cell.row]
        with learning_two_values(high_too) as two:
            result = self.trainings.train(*arguments)
        return result.concept, using_two_values(two[0].low_values(result.chosen_step), high_too)


if __name__ == "__main__":
    main()
