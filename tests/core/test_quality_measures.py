"""The quality benchmark's measures, cache, tables and plot: what needs neither the host nor the demo world."""

from __future__ import annotations

import csv
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
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


def test_likeness_is_a_share_of_what_real_pictures_reach():
    assert measures.share_of_ceiling(np.array([0.0, 0.4, 0.8]), 0.8).tolist() == [0, 0.5, 1]
    with pytest.raises(ValueError, match="must come first"):
        measures.share_of_ceiling(np.array([0.5]), 0.0)


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
    assert measures.smallest_lead([curve], below) == pytest.approx(0.1)
    assert measures.smallest_lead([below], curve) < 0
    assert measures.smallest_lead([curve[:2]], curve) == -np.inf
    assert measures.smallest_lead([below, curve], below) == pytest.approx(0.1), "the best curve counts"
    assert measures.smallest_lead([curve], [Point(1, 0.6, 0.95)]) is None
    assert measures.best_point(curve) == curve[0]


def test_no_thing_chooses_the_setting_that_it_is_measured_at():
    """Setting 1 is best on the first thing alone, 2 on the others; the first is measured at what the others chose."""
    of_first, of_others = [0.9, 0.9], [0.2, 0.2]
    samples = {
        1: np.array([[of_first], [of_others], [of_others]]),
        2: np.array([[[0.5, 0.5]], [[0.6, 0.6]], [[0.6, 0.6]]]),
    }
    chosen, found = measures.chosen_elsewhere(samples)
    assert chosen[0] == 2
    assert found[0].tolist() == [[0.5, 0.5]] and found.shape == (3, 1, 2)
    alone = measures.chosen_elsewhere({name: values[:1] for name, values in samples.items()})
    assert alone[0] == [1], "a single thing chooses for itself"


def test_two_things_in_one_picture():
    asked = (("teddy", "hugsy"), ("cup", "sippy"))
    assert measures.both_right(asked, asked) == {"right": True, "swapped": False, "lost": False}
    swapped = (("teddy", "sippy"), ("cup", "sippy"))
    assert measures.both_right(swapped, asked) == {"right": False, "swapped": True, "lost": False}
    lost = (("teddy", "hugsy"), ("none", "bruno"))
    assert measures.both_right(lost, asked) == {"right": False, "swapped": False, "lost": True}


def test_two_of_one_kind_in_one_picture():
    asked = (("teddy", "hugsy"), ("teddy", "mopsy"))
    right = {"right": True, "swapped": False, "lost": False}
    assert measures.both_right(asked, asked) == right
    assert measures.both_right(asked[::-1], asked) == right, "the prompt does not say which stands in front"
    twice = (asked[0], asked[0])
    assert measures.both_right(twice, asked) == {"right": False, "swapped": True, "lost": False}
    one_alone = (asked[0], ("none", "mopsy"))
    assert measures.both_right(one_alone, asked) == {"right": False, "swapped": False, "lost": True}


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


def test_a_line_with_masks_has_the_colour_of_its_method(tmp_path):
    lines = {"a": [plot.Dot(0, 0)], "b": [plot.Dot(1, 1)], "b, our masks": [plot.Dot(0.5, 0.5)]}
    plot.draw(tmp_path / "plot.png", lines, "title", "x", "y", hollow=plan.WITH_MASKS)
    with Image.open(tmp_path / "plot.png") as picture:
        colours = dict(map(reversed, picture.getcolors(10_000)))
    first, second, third = (colours.get(colour, 0) for colour in plot.COLOURS[:3])
    assert third == 0 and first > 0 and second > 1.2 * first


def test_the_first_of_the_bars_stands_out_and_is_as_high_as_its_share(tmp_path):
    def height(share):
        groups = {"varied": {"ours": Interval(share, 0, 0), "theirs": Interval(0.5, 0, 0)}, "clutter": {}}
        plot.bars(tmp_path / "bars.png", groups, "title")
        with Image.open(tmp_path / "bars.png") as picture:
            area = picture.crop((0, 84, *picture.size)).convert("RGB")
        columns = [[area.getpixel((x, y)) for y in range(area.height)] for x in range(44, 200)]
        return max(column.count(plot.FIRST) for column in columns)

    assert abs(height(0.4) - 2 * height(0.2)) <= 2 and height(0.2) > 20


@given(st.lists(st.floats(-1e3, 1e3, allow_nan=False), min_size=1, max_size=9))
@settings(deadline=None)
def test_ticks_enclose_the_values(values):
    ticks = plot.ticks(values)
    assert 2 <= len(ticks) <= 11
    assert ticks[0] <= min(values) and ticks[-1] >= max(values)


def lead_over(method, kind, value, least=0.1, at_one_knob=0.06):
    leads = {"Perfusion's lead": value, "lead at one knob": at_one_knob, "lead by labels": -0.3}
    intervals = {name: Interval(lead, lead - 0.01, lead + 0.01) for name, lead in leads.items()}
    return {"method": method, "kind": kind, **intervals, "least lead of the curve": least, "of the biases": least}


def test_answers_name_the_worst_case():
    ours = {"method": "perfusion at its best", "kind": plan.OURS}
    rows = [
        ours, lead_over(plan.LORA, plan.AS_USED, 0.2), lead_over(plan.INVERSION, plan.AS_USED, 0.04, -0.2),
        lead_over(plan.LORA + plan.WITH_MASKS, plan.MASKED, 0.03),
    ]  # fmt: skip
    found = ((plan.PERFUSION, 0.65, 0.5), (plan.PERFUSION, 0.95, 0.95), (plan.LORA, 1.0, 0.1), (plan.LORA, 0.5, 0.4))
    pairs = [{"method": name, "loaded": plan.DIFFERENT, "knob": knob, "right": share} for name, knob, share in found]
    harm = [
        {"method": plan.PERFUSION, "loaded": loaded, "knob": 0.65, "captions": 9, "largest latent difference": most}
        for loaded, most in ((1, 0.0), (16, 1e-6))
    ]
    none, some = Interval(0.0, -0.1, 0.1), Interval(-0.2, -0.3, -0.1)
    locks = [
        {"condition": plan.VARIED, "lock": lock, "obedience gained": none, "likeness gained": some} for lock in (0, 1)
    ]
    best = {plan.ENTANGLED: rows, plan.VARIED: rows, plan.CLUTTER: rows}
    answered = answers.answers(best, pairs, harm, locks, 0.65, 8.4)
    assert [row["met"] for row in answered] == ["no", "yes", "yes", "no", "yes", "yes", "yes", "no", "no", "no"]
    told = [row["measured"] for row in answered]
    assert f"above {plan.INVERSION}" in told[0] and f"above {plan.LORA}{plan.WITH_MASKS}" in told[1]
    assert "with one knob for all things 0.06" in told[0] and "by labels alone -0.30" in told[0]
    assert "-0.20" in told[3]
    assert told[4] == "by bias: 0.50 at 0.65, 0.95 at 0.95", "every bias is said, not the best alone"
    assert "0.95 against 0.40 (strength 0.5)" in told[5]
    assert told[8].startswith("0.00 [-0.10, 0.10] for -0.20") and told[9] == "8.4"


def test_a_bar_is_met_only_by_both_ways_of_choosing_the_knob():
    def met(*leads):
        rows = [lead_over(plan.LORA, plan.AS_USED, *leads), lead_over(plan.CUSTOM, plan.AS_USED, 0.3)]
        return [row["met"] for row in answers.answers({plan.ENTANGLED: rows}, [], [], [], None, None)]

    assert met(0.05, 0.1, 0.05) == ["yes"] and met(0.05, 0.1, 0.04) == met(0.04, 0.1, 0.05) == ["no"]


def test_the_plan_is_as_large_as_the_issue_asks():
    full = plan.FULL
    assert len(full.held_out) == 4 and full.prompts >= 24 and full.tune_rounds[-1] <= len(full.tuning)
    assert not set(full.tuning) & set(full.held_out)
    assert set(full.conditions) == {plan.VARIED, plan.SAME_PLACE, plan.ENTANGLED, plan.ONE_PICTURE, plan.CLUTTER}
    assert len(full.pair_things) == 6 and len(full.same_kind) >= 4 and len(full.triples) >= 4
    assert {thing for three in full.triples for thing in three} <= set(full.pair_things)
    assert full.harm_captions >= 200 and full.harm_counts == (1, 4, 16)
    labels = {variant.label for variant in plan.METHODS}
    assert {variant.tuned_as for variant in (*plan.METHODS, *plan.ABLATIONS)} <= labels | {""}
    assert {label for named in full.conditions.values() for label in named or ()} <= labels
    for one in (one for grid in plan.GRIDS.values() for one in grid):
        assert one.get("steps", 300) * one.get("batch_size", 8) == 2400, "not as many samples as the others"
    assert set(plan.GRIDS) == {v.label for v in plan.METHODS if v.kind == plan.AS_USED} | {plan.PERFUSION}


def test_every_other_method_is_there_with_our_masks_too():
    """The same settings, knobs and tuning but for the masks, in every condition that a bar asks about but once."""
    rows = {variant.label: variant for variant in plan.METHODS}
    for label, variant in rows.items():
        if variant.kind == plan.AS_USED:
            masked = rows[label + plan.WITH_MASKS]
            assert masked.kind == plan.MASKED and masked.tuned_as == variant.tuned_as == label
            assert masked.knobs == variant.knobs and (variant.settings, masked.settings) == (
                {"mask": False}, {"mask": True},
            )  # fmt: skip
