"""What a run still costs: cells done and to do of each part of the plan, and the core-hours they take.

A cost is the mean of what the cache has measured of a unit; before that, what this machine measured once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from .cache import key
from .jobs import phases
from .workbench import Workbench

# Core seconds of one thread of an AMD EPYC with AVX-512, shared with other work, on 2026-11-21: of a step of 8 samples
# of a training, of painting a picture in the sizes' sampler, and of decoding and reading one.
MEASURED_ONCE = {
    "training: perfusion": 0.27,
    "training: textual inversion": 0.29,
    "training: host LoRA": 1.56,
    "training: custom diffusion": 0.38,
    "training: full fine-tuning": 0.63,
    "painting, bfloat16": 0.19,
    "painting, float32": 0.35,
    "reading": 0.05,
}


def unit_of(kind: str, facts: Mapping[str, Any]) -> tuple[str, int]:
    """Of what the cost of a cell is known, and how much of it the cell holds: steps of a training, or pictures."""
    if kind == "artefact":
        return f"training: {facts['method']}", facts["settings"].get("steps", 0)
    if kind in ("painting", "harm", "harm-base", "pair"):
        return f"painting, {facts['precision']}", _pictures(facts)
    if kind in ("reading", "pair-reading"):
        return "reading", _pictures(facts["painting"])
    if kind == "harm-reading":
        return "reading", 2 * _pictures(facts["painting"])
    if kind == "pair-real":
        return "reading", len(facts["asked"]) * facts["scenes"]
    return ("reading", len(facts["asked"])) if kind == "real" else ("", 0)


def _pictures(painting: Mapping[str, Any]) -> int:
    if "captions" in painting:
        return len(painting["captions"])
    loaded = len(painting.get("trainings", ()))  # every ordered pair of these is painted
    return len(painting["texts"]) * (loaded * (loaded - 1) if loaded else 1)


def table(bench: Workbench, size: Any, stages: Collection[str]) -> list[dict[str, Any]]:
    """One row for each part of the plan, in the order in which the parts are done, and their sum.

    What the tuning has not chosen yet is counted as its first settings and knobs.  A cell that two parts need counts
    in the first."""
    costs, rows, seen = unit_costs(bench), [], set()
    for phase in phases(bench, size, stages):
        for part, jobs in phase.jobs.items():
            done: Counter[str] = Counter()
            to_do: Counter[str] = Counter()
            hours = 0.0
            for cell in (cell for job in jobs for cell in job.cells):
                name = (cell.kind, key(cell.facts))
                if name in seen:
                    continue
                seen.add(name)
                finished, (unit, amount) = cell.is_done(bench.cache), unit_of(cell.kind, cell.facts)
                if amount:
                    column = unit.split(":")[0].split(",")[0]
                    (done if finished else to_do)[column] += 1 if column == "training" else amount
                if not finished:
                    hours += amount * costs.get(unit, costs["training: perfusion"]) / 3600
            row: dict[str, Any] = {"part": part}
            for column, title in (("training", "trainings"), ("painting", "painted"), ("reading", "read")):
                row |= {f"{title}: done": done[column], f"{title}: to do": to_do[column]}
            rows.append({**row, "core-hours to do": hours})
    total = {name: sum(row[name] for row in rows) for name in list(rows[0])[1:]}
    return [*rows, {"part": "all", **total}]


def unit_costs(bench: Workbench) -> dict[str, float]:
    """Core seconds of one of each unit: of a step of a training, or of a picture."""
    seconds, amounts = defaultdict(float), defaultdict(int)
    for note in bench.cache.notes():
        unit, amount = unit_of(note["kind"], note["facts"])
        if amount:
            seconds[unit] += note["core seconds"]
            amounts[unit] += amount
    return MEASURED_ONCE | {unit: seconds[unit] / amount for unit, amount in amounts.items()}
