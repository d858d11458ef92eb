"""The lines of the quality benchmark's tables, from samples whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest
from quality import curves, plan, single

LOCK0, LOCK1 = plan.LOCKED[0.0], plan.LOCKED[1.0]


def samples(obedience: float, likeness: float, things: int = 3) -> np.ndarray:
    """[things, 2, COLUMNS], the same everywhere; the detail shows in no picture."""
    found = np.zeros((things, 2, len(single.COLUMNS)))
    found[:, :, 0], found[:, :, 1], found[:, :, single.BY_LABELS] = obedience, likeness, 1.0
    found[:, :, single.COLUMNS.index("off: detail")] = np.nan
    return found


MEASURED = {
    plan.SUPERCLASS: {0.0: samples(1.0, 0.0)},
    plan.PERFUSION: {0.85: samples(1.0, 0.6), 0.65: samples(0.5, 0.9)},
    LOCK0: {0.85: samples(0.9, 0.8), 0.65: samples(0.8, 0.8)},
    LOCK1: {0.85: samples(0.95, 0.5), 0.65: samples(0.9, 0.5)},
    plan.LORA: {1.0: samples(0.8, 0.8), 0.5: samples(1.0, 0.4)},
    plan.LORA + plan.WITH_MASKS: {1.0: samples(0.9, 0.9)},
}


def test_each_method_is_told_at_its_best_knob_and_perfusion_also_at_the_best_of_all_its_rows() -> None:
    rows = {row["method"]: row for row in curves.best_rows(MEASURED)}
    assert list(rows) == [curves.BEST, *list(MEASURED)[1:]], "without the superclass word"
    assert rows[curves.BEST]["knob"] == f"{LOCK0} 0.85" and rows[plan.LORA]["knob"] == "1"
    mine, best = 2 * 1.0 * 0.6 / 1.6, 2 * 0.9 * 0.8 / 1.7
    assert rows[curves.BEST]["harmonic mean"].value == pytest.approx(best)
    assert rows[plan.LORA]["Perfusion's lead"].value == pytest.approx(mine - 0.8)
    assert rows[plan.LORA]["lead at its best"].value == pytest.approx(best - 0.8)
    assert rows[plan.LORA + plan.WITH_MASKS]["Perfusion's lead"].value == pytest.approx(mine - 0.9)
    assert rows[plan.LORA]["lead at one knob"].value == pytest.approx(mine - 0.8)
    assert rows[plan.LORA]["lead by labels"].value == pytest.approx(2 * 1.0 * 0.9 / 1.9 - 2 * 1.0 * 0.8 / 1.8)
    assert rows[plan.PERFUSION]["Perfusion's lead"] == "" and rows[plan.LORA]["off: detail"] == ""
    assert len({tuple(row) for row in rows.values()}) == 1, "one set of columns"


def test_the_curve_over_bias_and_lock_counts_where_both_are_obedient() -> None:
    """Lock 0 is ahead at .9; from the next of 31 levels on own keys are, by the least right there."""
    rows = {row["method"]: row for row in curves.best_rows(MEASURED)}
    level = 0.9 + 0.1 / 30
    own, lora = 0.9 - 0.6 * (level - 0.5), 0.8 - 2 * (level - 0.8)  # both curves are straight between their two knobs
    assert rows[plan.LORA]["least lead of the curve"] == pytest.approx(own - lora)
    assert rows[plan.LORA + plan.WITH_MASKS]["least lead of the curve"] == pytest.approx(-0.1)


def test_one_knob_for_all_things_is_chosen_anew_in_every_drawing():
    """Two things, each at its best with another knob: together .5 with either, drawn alone 1."""
    one, other = samples(1.0, 1.0, things=2), samples(1.0, 1.0, things=2)
    one[0, :, 1], other[1, :, 1] = 0.0, 0.0
    lead = curves.lead_at_one_knob({1.0: one, 2.0: other}, {1.0: samples(1.0, 0.0, things=2)})
    assert (lead.value, lead.low, lead.high) == (pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(1.0))


def test_the_lock_is_told_against_lock_0_at_one_bias() -> None:
    rows = curves.lock_rows(plan.ENTANGLED, MEASURED)
    assert [row["lock"] for row in rows] == [0.0, 1.0]
    assert rows[1]["obedience gained"].value == pytest.approx(0.05)
    assert rows[1]["likeness gained"].value == pytest.approx(-0.3)
    assert {row["condition"] for row in rows} == {plan.ENTANGLED}


def test_columns_of_pictures() -> None:
    """Two of three pictures are first; the detail shows in one, the secondary parts in none."""
    found = [
        {"found": {"accessory": True}, "category": True, "rank": rank, "alike": alike, "off": [9.0, None, off],
         "nearest": nearest, "by labels": {"accessory": True}, "background off": None}
        for rank, alike, off, nearest in ((0, True, None, "moka"), (0, False, 30.0, "moka"), (7, False, None, "sippy"))
    ]  # fmt: skip
    columns = dict(zip(single.COLUMNS, single.raw_columns(found, "moka"), strict=True))
    assert columns["first of 200"] == columns["thing right"] == pytest.approx(2 / 3)
    assert columns["likeness"] == columns["alike too"] == pytest.approx(1 / 3) and columns["median rank"] == 0
    assert np.isnan(columns["off: background"]) and columns["obedience by labels"] == 1
    assert columns["off: body"] == 9 and columns["off: detail"] == 30 and np.isnan(columns["off: secondary parts"])


def test_a_background_counts_only_in_its_colours() -> None:
    labels = {"background": True, "size": True}
    found = single.in_its_colours([{"found": labels}] * 3, [0.9, 1.1, None])
    assert [row["found"]["background"] for row in found] == [True, False, True]
    assert all(row["by labels"] == labels and row["found"]["size"] for row in found)
