"""Sweep Gate Bias and Label Grid: lists and tables of settings, and their pictures under their labels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from perfusion_pack.nodes.drawing import THEMES
from perfusion_pack.nodes.grid_picture import GAP, labelled_grid, swept_grid
from perfusion_pack.nodes.host.gate.patch import applied_concepts, apply_concepts
from perfusion_pack.nodes.label_grid import LabelGrid
from perfusion_pack.nodes.sweep import AXES, MOST_NUMBERS, Sweep, read_numbers, read_sweep
from perfusion_pack.nodes.sweep_bias import GateSweep
from perfusion_pack.perfusion_core.errors import PerfusionError
from tiny_models import encode, gated, sample

PAPER = THEMES["light"].paper


def read_biases(text: str) -> list[float]:
    return read_numbers(AXES[0], text)


@given(st.lists(st.integers(-100, 200), min_size=1, max_size=MOST_NUMBERS), st.sampled_from([",", ", ", " ", ";\n"]))
def test_biases_are_read_however_they_are_separated(hundredths, separator):
    biases = [number / 100 for number in hundredths]
    assert read_biases(separator.join(f"{bias:.2f}" for bias in biases)) == biases


@pytest.mark.parametrize("text", ["", " , ", "0.5, wide", "nan", "inf", "2.5", "-1.01", "0.5 " * (MOST_NUMBERS + 1)])
def test_other_texts_are_refused_with_a_sentence(text):
    with pytest.raises(PerfusionError, match="The input biases expected"):
        read_biases(text)
    assert "The input biases expected" in GateSweep.validate_inputs(biases=text)


def test_the_node_gives_one_model_for_each_bias(model, hugsy):
    models, labels, seeds, *_ = GateSweep.execute(
        apply_concepts(model, (gated(hugsy),)), "0.4, 1.25", " <hugsy> "
    ).result
    assert [applied_concepts(one).stack[0].bias for one in models] == [0.4, 1.25]
    assert labels == ["bias 0.4", "bias 1.25"] and seeds == [0, 0]
    assert GateSweep.validate_inputs() is True and GateSweep.validate_inputs(biases="0.4") is True


def plain(count: int, value: float, height: int = 40, width: int = 60) -> torch.Tensor:
    return torch.full((count, height, width, 3), value)


def test_the_grid_has_a_column_for_each_label_and_a_row_for_each_picture():
    batches = [plain(2, 0.0), plain(2, 0.2), plain(1, 0.4)]
    grid = labelled_grid(batches, ["a", "b", "c"])
    assert grid.width == 3 * 60 + 2 * GAP
    for column, level in enumerate((0, 51, 102)):
        left = column * (60 + GAP) + 30
        lower, upper = grid.getpixel((left, grid.height - 20)), grid.getpixel((left, grid.height - 20 - 40 - GAP))
        assert upper == (level,) * 3
        assert lower == ((level,) * 3 if column < 2 else PAPER)
    heading = grid.crop((0, 0, 60, grid.height - 2 * 40 - GAP))
    assert heading.getextrema() != tuple((level, level) for level in PAPER), "no label was written"


def test_lines_and_sizes_of_the_grid():
    grid = labelled_grid([plain(1, 0.0), plain(1, 0.5, 80, 60), plain(1, 0.2)], ["a", "b", "c"], columns=2)
    assert grid.width == 2 * 60 + GAP
    line = (grid.height + GAP) // 2
    assert grid.getpixel((60 + GAP + 30, line - GAP - 20)) == (128,) * 3  # half as wide as the first, in its middle
    assert grid.getpixel((60 + GAP + 5, line - GAP - 20)) == PAPER
    assert grid.getpixel((30, grid.height - 20)) == (51,) * 3 and grid.getpixel((100, grid.height - 20)) == PAPER


def test_labels_of_another_list_are_refused():
    with pytest.raises(PerfusionError, match="one text for each of the 2 batches of images, but found 1"):
        labelled_grid([plain(1, 0.0), plain(1, 0.0)], ["a"])


def test_lists_become_a_table():
    sweep = read_sweep({"biases": "0.5, 1", "strengths": "", "locks": "0 1", "seeds": "3; 18446744073709551615"})
    assert sweep.across == ("bias 0.5", "bias 1")
    assert sweep.down == ("lock 0, seed 3", f"lock 0, seed {2**64 - 1}", "lock 1, seed 3", f"lock 1, seed {2**64 - 1}")
    assert sweep.labels[3] == f"bias 1, lock 0, seed {2**64 - 1}" and len(sweep.runs) == 8
    assert sweep.runs[4] == {"bias": 0.5, "lock": 1.0, "seed": 3}
    other = read_sweep({"biases": " , ", "temperatures": "0.1 0.2"})
    assert other.across == ("temperature 0.1", "temperature 0.2") and other.down == ("",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("strengths", "2.1"), ("temperatures", "0"), ("locks", "-0.1"), ("seeds", "1.5"), ("seeds", "-1")),
        *(("seeds", str(2**64)), ("locks", "wide")),
    ],
)
def test_numbers_that_may_not_be_swept_are_refused_by_their_input(name, text):
    with pytest.raises(PerfusionError, match=f"The input {name} expected numbers from .* but found '{text}'"):
        read_sweep({"biases": "0.5", name: text})
    assert name in GateSweep.validate_inputs(biases="0.5", **{name: text})


def test_too_many_runs_are_refused():
    numbers = " ".join(map(str, range(17)))
    with pytest.raises(PerfusionError, match="biases, seeds expected at most 256 runs together, but found 272"):
        read_sweep({"biases": "1 " * 16, "seeds": numbers})


def test_each_run_of_a_table_is_that_setting_from_the_start(model, clip, hugsy, cuppy):
    """Strength 0 is the base model, bit for bit; the others are what a loader with these settings gives."""
    stack = (gated(hugsy, bias=0.5), gated(cuppy, bias=0.5))
    patched = apply_concepts(model, stack)
    models, _, seeds, across, down, sweep = GateSweep.execute(
        patched, "0.3, 0.6", "", strengths="0, 0.7", temperatures="0.2", locks="0.4", seeds="8"
    ).result
    assert len(models) == len(seeds) == len(across) * len(down) == 4 and seeds == [8] * 4
    from perfusion_pack.nodes.host.text.words import add_words

    prompts = encode(add_words(clip, stack), "a <hugsy> and a <cuppy>"), encode(clip, "")
    assert sweep.seconds == [None] * 4
    for number, (swept, bias, strength) in enumerate(zip(models, (0.3, 0.6) * 2, (0.0, 0.0, 0.7, 0.7), strict=True)):
        settings = {"bias": bias, "strength": strength, "temperature": 0.2, "lock": 0.4}
        wanted = apply_concepts(model, tuple(gated(concept, **settings) for concept in (hugsy, cuppy)))
        assert torch.equal(sample(swept, *prompts), sample(wanted, *prompts))
        assert (applied_concepts(swept) is None) == (strength == 0)
        assert sweep.seconds[number] > 0
    assert torch.equal(sample(models[0], *prompts), sample(model, *prompts))
    assert sweep.row_of_seconds(1) == sweep.seconds[2] + sweep.seconds[3]
    one = GateSweep.execute(patched, "", "<cuppy>", strengths="0").result[0][0]
    assert [each.concept.word for each in applied_concepts(one).stack] == ["<hugsy>"]


def test_the_table_is_aligned():
    """Every picture in its column and row, whatever its size and however long the names are."""
    runs = tuple({"bias": b, "seed": s} for s in range(3) for b in range(2))
    sweep = Sweep(("bias 0", "bias 1"), ("seed 0", "seed 1", "temperature 0.15, seed 2"), runs, [1.0] * 6)
    levels = [30 * (number + 1) / 255 for number in range(6)]
    batches = [plain(2 if number < 2 else 1, level) for number, level in enumerate(levels)]
    batches[3] = plain(1, levels[3], 80, 120)
    grid = swept_grid(batches, sweep)
    side = grid.width - 2 * (60 + GAP) + GAP
    right = [side + 30, side + 60 + GAP + 30]
    bottom = grid.height - 20
    tops = {tuple(grid.getpixel((x, y)) for x in right): y for y in range(grid.height - 1, 0, -1)}
    for row in range(3):
        wanted = tuple((round(levels[2 * row + column] * 255),) * 3 for column in range(2))
        assert wanted in tops, f"row {row} is not aligned"
    assert (
        tops[tuple((round(level * 255),) * 3 for level in levels[:2])]
        < tops[tuple((round(level * 255),) * 3 for level in levels[4:])]
    )
    assert grid.getpixel((right[0], bottom)) in ((round(levels[4] * 255),) * 3, PAPER)
    names = grid.crop((0, 0, side - 2, grid.height))
    dark = sum(count for count, colour in names.getcolors(1 << 24) if sum(colour) < 300)
    assert dark > 100, "rows have their names"
    untimed = swept_grid(batches, Sweep(sweep.across, sweep.down, runs, [None] * 6))
    assert untimed.crop((0, 0, side - 2, grid.height)) != names, "and their times"
    assert swept_grid(batches, sweep, "dark").getpixel((1, 1)) == THEMES["dark"].paper


def test_the_grid_node_takes_a_sweep():
    sweep = read_sweep({"biases": "0.5 1", "seeds": "1 2"})
    images = [plain(1, 0.2 * number) for number in range(4)]
    table = LabelGrid.execute(images, sweep.labels, [0], [sweep]).result[0]
    line = LabelGrid.execute(images, sweep.labels, [0]).result[0]
    assert table.shape[2] < line.shape[2] and table.shape[1] > line.shape[1]
    with pytest.raises(PerfusionError, match="one batch for each of the 4 runs of the sweep, but found 3"):
        LabelGrid.execute(images[:3], sweep.labels, [0], [sweep])


def test_a_long_label_is_written_in_lines():
    label = "bias 0.5, temperature 0.15, seed 12345678"
    one, several = labelled_grid([plain(1, 0.0)], ["a"]), labelled_grid([plain(1, 0.0)], [label])
    assert several.height > one.height and several.width == one.width
