"""Sweep Gate Bias and Label Grid: a list of biases, and the pictures of a list under their labels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from perfusion_pack.nodes.host.gate.patch import applied_concepts, apply_concepts
from perfusion_pack.nodes.label_grid import GAP, PAPER, labelled_grid
from perfusion_pack.nodes.sweep_bias import MOST_BIASES, GateSweep, read_biases
from perfusion_pack.perfusion_core.errors import PerfusionError
from tiny_models import gated


@given(st.lists(st.integers(-100, 200), min_size=1, max_size=MOST_BIASES), st.sampled_from([",", ", ", " ", ";\n"]))
def test_biases_are_read_however_they_are_separated(hundredths, separator):
    biases = [number / 100 for number in hundredths]
    assert read_biases(separator.join(f"{bias:.2f}" for bias in biases)) == biases


@pytest.mark.parametrize("text", ["", " , ", "0.5, wide", "nan", "inf", "2.5", "-1.01", "0.5 " * (MOST_BIASES + 1)])
def test_other_texts_are_refused_with_a_sentence(text):
    with pytest.raises(PerfusionError, match="The input biases expected"):
        read_biases(text)
    assert "The input biases expected" in GateSweep.validate_inputs(biases=text)


def test_the_node_gives_one_model_for_each_bias(model, hugsy):
    models, labels = GateSweep.execute(apply_concepts(model, (gated(hugsy),)), "0.4, 1.25", " <hugsy> ").result
    assert [applied_concepts(one).stack[0].bias for one in models] == [0.4, 1.25]
    assert labels == ["bias 0.4", "bias 1.25"]
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
