"""What a run still costs: cells done and to do of each part of the plan, and the core-hours they take.

A cost is the mean of what the cache has measured of a unit; before that, what this machine measured once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from .cache import key
from .jobs import Cell
from .schedule import phases
from .workbench import Workbench

# Core seconds of one thread of an AMD EPYC with AVX-512: of a step of 8 samples of a training, of a step of the sampler
# for one picture with CFG, of decoding and reading a picture, without and with the strict instrument, and of a thing's
# gallery and ceiling.  Trainings, painting and reading: means of the run whose numbers are in results/.
MEASURED_ONCE = {
    "training: perfusion": 0.21,
    "training: textual inversion": 0.18,
    "training: host LoRA": 0.35,
    "training: custom diffusion": 0.34,
    "training: full fine-tuning": 0.52,
    "painting: bfloat16": 0.0090,
    "painting: float32": 0.018,
    "reading": 0.029,
    "reading, strictly": 0.26,
    "background": 0.06,
    "ceiling of a thing": 30.0,
}


WHOLE = "core-hours in all"


class Amount(NamedTuple):
    """How much work a cell is.

    unit: that of which the cost is known.  count: trainings or pictures.  units: steps of 8 samples of the training or,
    over all pictures, steps of the sampler; pictures where they are read."""

    unit: str
    count: int
    units: float


def amount_of(kind: str, facts: Mapping[str, Any]) -> Amount | None:
    """The work in a cell; None for those that cost next to nothing."""
    if kind == "artefact" and "steps" in facts["settings"]:
        settings = facts["settings"]
        return Amount(f"training: {facts['method']}", 1, settings["steps"] * settings.get("batch_size", 8) / 8)
    if kind in ("painting", "harm", "harm-base", "pair"):
        pictures = _pictures(facts)
        return Amount(f"painting: {facts['precision']}", pictures, pictures * facts["steps"])
    if kind == "ceiling":
        return Amount("ceiling of a thing", 0, 1)
    if kind == "background":
        return Amount("background", 0, _pictures(facts["painting"]))
    read = {"reading": 1, "pair-reading": 1, "harm-reading": 2}
    if kind in read:
        pictures = read[kind] * _pictures(facts["painting"])
    elif kind in ("real", "pair-real"):
        pictures = len(facts["asked"]) * facts.get("scenes", 1)
    else:
        return None
    return Amount("reading, strictly" if "instrument" in facts else "reading", pictures, pictures)


def _pictures(painting: Mapping[str, Any]) -> int:
    if "captions" in painting:
        return len(painting["captions"])
    loaded = len(painting.get("trainings", ()))  # every ordered pair of these is painted
    return len(painting["texts"]) * (loaded * (loaded - 1) if loaded else 1)


def table(bench: Workbench, size: Any, stages: Collection[str]) -> list[dict[str, Any]]:
    """One row for each part of the plan, in the order in which the parts are done, and their sum.

    What the tuning has not chosen yet is counted as its first settings and knobs.  A cell that two parts need counts
    in the first."""
    costs, rows, parts = unit_costs(bench), [], _cells_of_parts(bench, size, stages)
    for part, cells in parts.items():
        done: Counter[str] = Counter()
        to_do: Counter[str] = Counter()
        hours = whole = 0.0
        for cell, finished in cells:
            amount = amount_of(cell.kind, cell.facts)
            if amount is None:
                continue
            (done if finished else to_do)[amount.unit.replace(",", ":").split(":")[0]] += amount.count
            # An altered Perfusion costs as much as Perfusion.
            took = amount.units * costs.get(amount.unit, costs["training: perfusion"]) / 3600
            whole += took
            hours += 0 if finished else took
        row: dict[str, Any] = {"part": part}
        for column, title in (("training", "trainings"), ("painting", "painted"), ("reading", "read")):
            row |= {f"{title}: done": done[column], f"{title}: to do": to_do[column]}
        rows.append({**row, "core-hours to do": hours, WHOLE: whole})
    total = {name: sum(row[name] for row in rows) for name in list(rows[0])[1:]}
    return [*rows, {"part": "all", **total}]


def _cells_of_parts(bench: Workbench, size: Any, stages: Collection[str]) -> dict[str, list[tuple[Cell, bool]]]:
    """The cells of each part, each in the first part that has it, and whether nothing is left to do about it.

    A job whose reading is there needs no training or painting any more, wherever these were made."""
    parts: dict[str, dict[tuple[str, str], Cell]] = {}
    needed, seen = set(), set()
    for phase in phases(bench, size, stages):
        for part, jobs in phase.jobs.items():
            cells = parts.setdefault(part, {})
            for job in jobs:
                finished = job.cells[-1].is_done(bench.cache)
                for cell in job.cells:
                    name = (cell.kind, key(cell.facts))
                    if not finished and not cell.is_done(bench.cache):
                        needed.add(name)
                    if name not in seen:
                        seen.add(name)
                        cells[name] = cell
    return {part: [(cell, name not in needed) for name, cell in cells.items()] for part, cells in parts.items()}


def unit_costs(bench: Workbench) -> dict[str, float]:
    """Core seconds of one of each unit: of a step of a training, of a step of the sampler, of a picture read."""
    seconds, units = defaultdict(float), defaultdict(float)
    for note in bench.cache.notes():
        amount = amount_of(note["kind"], note["facts"])
        if amount is not None:
            seconds[amount.unit] += note["core seconds"]
            units[amount.unit] += amount.units
    return MEASURED_ONCE | {unit: seconds[unit] / count for unit, count in units.items()}
