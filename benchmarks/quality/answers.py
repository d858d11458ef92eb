"""The issue's bars, answered by number from the rows of the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .plan import (
    AS_USED,
    DIFFERENT,
    ENTANGLED,
    INVERSION,
    LORA,
    MASKED,
    ONE_PICTURE,
    PERFUSION,
    SAME,
    SAME_PLACE,
    THREE,
    VARIED,
)

Rows = Sequence[Mapping[str, Any]]
LEADS = {AS_USED: 0.05, MASKED: 0.02}  # over every other method where the pictures are hard
MOST_HOURS = 8.0
BY_LABELS = "lead by labels"
WAYS = {"Perfusion's lead": "", "lead at one knob": "with one knob for all things ", BY_LABELS: "so by labels alone "}


def answers(
    best: Mapping[str, Rows], several: Rows, harm: Rows, locks: Rows, bias: float | None, hours: float | None
) -> list[dict[str, str]]:
    """One row for each bar: what was asked, what was measured, whether it is met.  Rows not measured are left out.

    best: each method at its own best knob, by condition.  bias: at which Perfusion is reported where several things are
    loaded.  hours: core-hours that the whole run takes; None where something is missing."""
    return [
        *_leads(best),
        *_varied(best.get(VARIED, ())),
        *_several(several),
        *_harm([row for row in harm if row["method"] == PERFUSION and bias in (None, row["knob"])]),
        *_locks(locks),
        *_hours(hours),
    ]


def _hours(hours: float | None) -> Iterable[dict[str, str]]:
    if hours is not None:
        yield _answer(f"the full run within {MOST_HOURS:g} core-hours", f"{hours:.1f}", hours <= MOST_HOURS)


def _leads(best: Mapping[str, Rows]) -> Iterable[dict[str, str]]:
    for condition in (SAME_PLACE, ENTANGLED, ONE_PICTURE):
        for kind, bar in LEADS.items():
            rows = [row for row in best.get(condition, ()) if row["kind"] == kind]
            if rows:
                yield _answer(f"{condition}: harmonic mean at least {bar:.2f} above every other method {kind}",
                              *_least(rows, bar))  # fmt: skip


def _varied(rows: Rows) -> Iterable[dict[str, str]]:
    others = [row for row in rows if row["kind"] in (AS_USED, MASKED)]
    if others:
        yield _answer(f"{VARIED}: harmonic mean not below any method's by more than .01", *_least(others, -0.01))
    inversions = [row for row in rows if row["method"].startswith(INVERSION)]
    leads = {row["method"]: row["least lead of the curve"] for row in inversions}
    known = {name: least for name, least in leads.items() if isinstance(least, float)}
    if leads:
        told = ", ".join(f"{least:.2f} over {name}" for name, least in known.items()) or "never as obedient"
        yield _answer(f"{VARIED}: the curve over bias and lock nowhere below textual inversion's at obedience .9 to 1",
                      f"least lead {told}", all(least >= 0 for least in known.values()))  # fmt: skip


def _least(rows: Rows, bar: float) -> tuple[str, bool]:
    """The least leads over all these methods, and whether both ways of choosing the knob reach the bar."""
    least = {name: min(rows, key=lambda row: row[name].value) for name in WAYS}
    told = "; ".join(f"{WAYS[name]}{row[name]} above {row['method']}" for name, row in least.items())
    return told, all(least[name][name].value >= bar for name in WAYS if name != BY_LABELS)


def _several(rows: Rows) -> Iterable[dict[str, str]]:
    for loaded, bar in ((DIFFERENT, 0.94), (SAME, 0.70), (THREE, 0.85)):
        of = [row for row in rows if row["loaded"] == loaded]
        own = [row for row in of if row["method"] == PERFUSION]
        if not own:
            continue
        mine = max(own, key=lambda row: row["right"])
        shares = ", ".join(f"{row['right']:.2f} at {row['knob']:g}" for row in own)
        yield _answer(f"{loaded}: right in at least {bar:.2f} of pictures", f"by bias: {shares}", mine["right"] >= bar)
        lora = max((row for row in of if row["method"] == LORA), key=lambda row: row["right"], default=None)
        if lora is not None and loaded != THREE:
            yield _answer(f"{loaded}: twice as often right as stacked LoRAs, each at its best",
                          f"{mine['right']:.2f} against {lora['right']:.2f} (strength {lora['knob']:g})",
                          mine["right"] > 0 and mine["right"] >= 2 * lora["right"])  # fmt: skip


def _harm(rows: Rows) -> Iterable[dict[str, str]]:
    for row in rows:
        most = row["largest latent difference"]
        yield _answer(f"prompts without the word, {row['loaded']} loaded: difference exactly 0",
                      f"largest {most:g} in {row['captions']} prompts at bias {row['knob']:g}", most == 0)  # fmt: skip


def _locks(rows: Rows) -> Iterable[dict[str, str]]:
    locked = [row for row in rows if row["lock"] == 1]
    for row in locked:
        bought, gained = row["obedience gained"], row["likeness gained"]
        yield _answer(f"what lock 1 buys in obedience, {row['condition']}", f"{bought} for {gained} in likeness",
                      bought.low > 0)  # fmt: skip


def _answer(bar: str, measured: str, met: bool) -> dict[str, str]:
    return {"bar": bar, "measured": measured, "met": "yes" if met else "no"}
