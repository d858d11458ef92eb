"""The issue's questions, answered by number from the rows of the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .plan import PERFUSION

Rows = Sequence[Mapping[str, Any]]


def answers(comparison: Rows, several: Rows, harm: Rows, one_shot: Rows, bias: float | None) -> list[dict[str, str]]:
    """One row for each bar: what was asked, what was measured, whether it is met.  Rows not measured are left out.

    comparison: of the held-out things where there are any.  bias: at which Perfusion local is reported."""
    found = []
    if comparison:
        worst = min(comparison, key=lambda row: row["lead in harmonic mean"].value)
        lead = worst["lead in harmonic mean"]
        found.append(_answer("best harmonic mean at least .05 above every other method's",
                             f"{lead} above {worst['method']}", lead.value >= 0.05))  # fmt: skip
        curves = [row for row in comparison if isinstance(row["smallest lead of the curve"], float)]
        if curves:
            nearest = min(curves, key=lambda row: row["smallest lead of the curve"])
            least = nearest["smallest lead of the curve"]
            found.append(_answer("curve above every other method's where obedience is .85 or more",
                                 f"smallest lead {least:.2f}, over {nearest['method']}", least > 0))  # fmt: skip
    for loaded, bar in ((2, 0.80), (3, 0.60)):
        rows = [row for row in several if row["loaded"] == loaded]
        mine = _best_right(row for row in rows if row["method"] == PERFUSION)
        if mine is None:
            continue
        all_of_mine = ", ".join(f"{row['right']:.2f} at {row['knob']:g}" for row in rows if row["method"] == PERFUSION)
        found.append(_answer(f"{loaded} concepts loaded: both things right in at least {bar:.2f} of pictures",
                             f"by bias: {all_of_mine}", mine["right"] >= bar))  # fmt: skip
        lora = _best_right(row for row in rows if "LoRA" in row["method"])
        if lora is not None:
            found.append(_answer(f"{loaded} concepts loaded: twice as often right as stacked LoRAs, each at its best",
                                 f"{mine['right']:.2f} against {lora['right']:.2f} (strength {lora['knob']:g})",
                                 mine["right"] > 0 and mine["right"] >= 2 * lora["right"]))  # fmt: skip
    own = [row for row in harm if row["method"] == PERFUSION and bias in (None, row["knob"])]
    for row in own:
        equal = row["attributes equal"]
        found.append(_answer(f"{row['loaded']} concepts loaded, bias {row['knob']:g}: attributes equal in .99",
                             f"{equal:.3f}", equal >= 0.99))  # fmt: skip
    reached = [
        row["behind 5 pictures at equal obedience"]
        for row in one_shot
        if row["method"].startswith(PERFUSION) and isinstance(row["behind 5 pictures at equal obedience"], float)
    ]
    if reached:
        found.append(_answer("one picture: likeness within .15 of five pictures at equal obedience",
                             f"at most {max(reached):.2f} behind", max(reached) <= 0.15))  # fmt: skip
    return found


def _best_right(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return max(rows, key=lambda row: row["right"], default=None)


def _answer(bar: str, measured: str, met: bool) -> dict[str, str]:
    return {"bar": bar, "measured": measured, "met": "yes" if met else "no"}
