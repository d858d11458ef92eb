"""The quality benchmark's measures, cache, tables and plot: what needs neither the host nor the demo world."""

from __future__ import annotations

import csv
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quality import answers, cache, measures, plan, plot, tables
from quality.measures import Interval, Point

shares = st.floats(0, 2, allow_nan=False)


def test_obedience_is_in_units_of_the_superclass_word():
    assert measures.attribute_share({"background": True, "second": False, "size": True, "place": True}) == 0.75
    assert measures.obedience(np.array([0.4, 0.8]), 0.8).tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match="at least one attribute"):
        measures.attribute_share({})
    with pytest.raises(ValueError, match="must find some"):
        measures.obedience(np.array([0.5]), 0.0)


def test_likeness_runs_from_the_superclass_to_the_real_thing():
    assert measures.likeness(np.array([0.2, 0.9, 0.55]), 0.2, 0.9) == pytest.approx([0, 1, 0.5])
    with pytest.raises(ValueError, match="cannot tell them apart"):
        measures.likeness(np.array([0.5]), 0.5, 0.51)


@given(shares, shares)
@settings(deadline=None)
def test_the_harmonic_mean_lies_between_and_buys_nothing_off(one, other):
    mean = float(measures.harmonic_mean(one, other))
    cut = sorted((min(one, 1), min(other, 1)))
    assert cut[0] - 1e-9 <= mean <= cut[1] + 1e-9
    assert mean <= 2 * cut[0] + 1e-9  # a method that lacks one of the two stays low
    assert measures.harmonic_mean(-0.3, 0.9) == 0


def test_bootstrap_is_seeded_and_covers_the_mean():
    rng = np.random.default_rng(3)
    samples = rng.normal(0.6, 0.1, size=(8, 6, 2))
    first = measures.bootstrap(samples, lambda means: means[..., 0])
    assert first == measures.bootstrap(samples, lambda means: means[..., 0])
    assert first.value == pytest.approx(samples[..., 0].mean())
    assert first.low < first.value < first.high
    assert measures.bootstrap(np.full((3, 2, 1), 0.5), lambda means: means[..., 0]) == Interval(0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="finite samples"):
        measures.bootstrap(np.full((3, 2, 1), np.nan), lambda means: means[..., 0])


def test_a_paired_difference_is_known_better_than_two_apart():
    """Things differ far more than methods do; side by side that cancels."""
    things = np.random.default_rng(1).normal(0.5, 0.2, size=(12, 1, 1))
    samples = np.concatenate([things + 0.05, things], axis=2).repeat(4, axis=1)
    samples += np.random.default_rng(2).normal(0, 0.01, size=samples.shape)
    apart = measures.bootstrap(samples, lambda means: means[..., 0])
    paired = measures.bootstrap(samples, lambda means: means[..., 0] - means[..., 1])
    assert paired.low > 0.03
    assert paired.high - paired.low < (apart.high - apart.low) / 5


def test_curves_are_compared_where_both_reach():
    curve = [Point(0.4, 0.8, 0.9), Point(0.6, 0.9, 0.7), Point(0.8, 1.0, 0.3)]
    assert measures.likeness_at(curve, 0.95) == pytest.approx(0.5)
    assert measures.likeness_at(curve, 0.5) == pytest.approx(0.9)
    assert measures.likeness_at(curve, 1.01) is None
    below = [Point(1, 0.8, 0.5), Point(0.5, 1.0, 0.2)]
    assert measures.smallest_lead(curve, below) == pytest.approx(0.1)
    assert measures.smallest_lead(below, curve) < 0
    assert measures.smallest_lead(curve[:2], curve) == -np.inf
    assert measures.smallest_lead(curve, [Point(1, 0.6, 0.95)]) is None
    assert measures.best_point(curve) == curve[0]


def test_two_things_in_one_picture():
    asked = (("teddy", "hugsy"), ("cup", "sippy"))
    assert measures.both_right(asked, asked) == {"right": True, "swapped": False, "lost": False}
    swapped = (("teddy", "sippy"), ("cup", "sippy"))
    assert measures.both_right(swapped, asked) == {"right": False, "swapped": True, "lost": False}
    lost = (("teddy", "hugsy"), ("none", "bruno"))
    assert measures.both_right(lost, asked) == {"right": False, "swapped": False, "lost": True}


def test_work_is_done_once_and_only_whole_pieces_are_kept(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"right": 0.5}

    for _ in range(2):
        assert cache.Cache(tmp_path).numbers("cell", {"thing": "hugsy", "seed": 1}, make) == {"right": 0.5}
    assert len(made) == 1
    assert cache.Cache(tmp_path).numbers("cell", {"thing": "hugsy", "seed": 2}, make) and len(made) == 2
    assert [note["facts"]["seed"] for note in cache.Cache(tmp_path).notes()].count(1) == 1

    def stop(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.Cache(tmp_path).file("cell", {"seed": 3}, ".numbers.json", stop)
    assert not [path for path in tmp_path.rglob("*") if "part" in path.name]
    assert cache.Cache(tmp_path).numbers("cell", {"seed": 3}, make) and len(made) == 3


def test_after_the_time_nothing_new_is_begun(tmp_path):
    cache.Cache(tmp_path).numbers("cell", {"seed": 1}, lambda: 1)
    late = cache.Cache(tmp_path, minutes=-1)
    assert late.numbers("cell", {"seed": 1}, lambda: 2) == 1
    with pytest.raises(cache.OutOfTimeError):
        late.numbers("cell", {"seed": 2}, lambda: 2)


def test_a_closed_cache_gives_only_what_is_there(tmp_path):
    store = cache.Cache(tmp_path)
    store.numbers("cell", {"seed": 1}, lambda: 1)
    with store.closed():
        assert store.numbers("cell", {"seed": 1}, lambda: 2) == 1
        with pytest.raises(cache.OutOfTimeError):
            store.numbers("cell", {"seed": 2}, lambda: 2)
    assert store.has("cell", {"seed": 1}) and not store.has("cell", {"seed": 2})
    assert store.numbers("cell", {"seed": 2}, lambda: 2) == 2


def test_the_time_of_a_piece_is_without_that_of_the_pieces_inside(tmp_path):
    store = cache.Cache(tmp_path)

    def compute(seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return 0

    store.numbers("outer", {}, lambda: compute(0.02) + store.numbers("inner", {}, lambda: compute(0.2)))
    seconds = {note["kind"]: note["core seconds"] for note in store.notes()}
    assert seconds["inner"] >= 0.19 and seconds["outer"] < 0.15


def test_what_another_process_is_at_is_asked_for_again(tmp_path):
    pytest.importorskip("fcntl")
    store, asked = cache.Cache(tmp_path), []
    (tmp_path / "cell").mkdir()
    lock = tmp_path / "cell" / f"cell-{cache.key({'seed': 1})}.lock"
    with cache._locked(lock), pytest.raises(cache.BusyError):
        store.numbers("cell", {"seed": 1}, lambda: 1)

    def busy_once():
        asked.append(1)
        if len(asked) == 1:
            raise cache.BusyError
        return "late"

    assert cache.finish([busy_once, lambda: "early"], pause=0) == ["late", "early"]


def test_tables_and_plot(tmp_path):
    rows = [{"method": "a", "obedience": Interval(0.9, 0.8, 1.0), "right": 0.5}]
    text = tables.markdown(rows)
    assert text.splitlines()[2] == "| a | 0.90 [0.80, 1.00] | 0.50 |"
    tables.write_csv(tmp_path / "rows.csv", rows)
    with (tmp_path / "rows.csv").open() as file:
        assert next(csv.DictReader(file))["obedience high"] == "1.0"
    lines = {"a": [plot.Dot(0.9, 0.2, ".5")], "b": [plot.Dot(1.1, -0.3), plot.Dot(0, 1)]}
    plot.draw(tmp_path / "plot.png", lines, "title", "x", "y")
    assert (tmp_path / "plot.png").stat().st_size > 1000


@given(st.lists(st.floats(-1e3, 1e3, allow_nan=False), min_size=1, max_size=9))
@settings(deadline=None)
def test_ticks_enclose_the_values(values):
    ticks = plot.ticks(values)
    assert 2 <= len(ticks) <= 11
    assert ticks[0] <= min(values) and ticks[-1] >= max(values)


def test_answers_name_the_worst_case():
    compared = [
        {"method": "a", "lead in harmonic mean": Interval(0.2, 0.1, 0.3), "smallest lead of the curve": 0.1},
        {"method": "b", "lead in harmonic mean": Interval(0.04, 0.0, 0.1), "smallest lead of the curve": -0.2},
    ]
    found = ((plan.PERFUSION, 0.65, 0.5), (plan.PERFUSION, 0.95, 0.9), ("host LoRA", 1.0, 0.1), ("host LoRA", 0.5, 0.4))
    pairs = [{"method": name, "loaded": 2, "knob": knob, "right": share} for name, knob, share in found]
    harm = [{"method": plan.PERFUSION, "loaded": 1, "knob": 0.65, "attributes equal": 0.995}]
    rows = answers.answers(compared, pairs, harm, [], 0.65)
    assert [row["met"] for row in rows] == ["no", "no", "yes", "yes", "yes"]
    assert "above b" in rows[0]["measured"]
    assert rows[2]["measured"] == "by bias: 0.50 at 0.65, 0.90 at 0.95", "every bias is said, not the best alone"
    assert "0.90 against 0.40 (strength 0.5)" in rows[3]["measured"]


def test_the_plan_is_as_large_as_the_issue_asks():
    full = plan.FULL
    assert len(full.tuning) >= 8 and len(full.held_out) >= 4 and full.prompts >= 24 and full.seeds >= 4
    assert len(full.pair_things) == 6 and full.harm_captions >= 200 and full.harm_counts == (1, 4, 16)
    assert set(full.pair_things) <= set(full.tuning) and full.triples > 0 and full.tune_rounds[-1] <= len(full.tuning)
    labels = {variant.label for variant in plan.METHODS}
    assert {variant.tuned_as for variant in (*plan.METHODS, *plan.ABLATIONS, *plan.ONE_SHOT)} <= labels | {""}
    for one in (one for grid in plan.GRIDS.values() for one in grid):
        assert one.get("steps", 300) * one.get("batch_size", 8) == 2400, "not as many samples as the others"
    assert set(plan.GRIDS) == labels - {plan.SUPERCLASS, plan.GLOBAL, plan.LOCKED}
