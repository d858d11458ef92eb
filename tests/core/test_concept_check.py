"""perfusion_core.concept_check: a training that led to nothing is told from one that led to something."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from core_examples import make_concept

from perfusion_core.concept_check import check_learned, check_saved, relative_change
from perfusion_core.concept_file import MOST_PLAIN_VALUES, round_for_file, save_concept
from perfusion_core.errors import PerfusionError


def test_a_file_that_reads_back_is_good(tmp_path):
    concept = make_concept()
    save_concept(tmp_path / "a.safetensors", concept)
    check_saved(tmp_path / "a.safetensors", concept)


@pytest.mark.parametrize("name", ["bias", "value_targets", "superclass_encoding", "training"])
def test_what_differs_in_a_file_is_named(tmp_path, name):
    concept = make_concept()
    other = {
        "bias": 0.123,
        "value_targets": {key: value + 1 for key, value in concept.value_targets.items()},
        "superclass_encoding": concept.superclass_encoding * 2,
        "training": {"steps": 1},
    }
    save_concept(tmp_path / "a.safetensors", dataclasses.replace(concept, **{name: other[name]}))
    with pytest.raises(PerfusionError, match=f"read back it holds another {name} than was trained") as caught:
        check_saved(tmp_path / "a.safetensors", concept)
    assert "\n" not in str(caught.value)


def test_values_that_did_not_move_are_an_error():
    concept = make_concept()
    start = dict(concept.value_targets)
    with pytest.raises(PerfusionError, match="learned nothing"):
        check_learned(start, concept)
    with pytest.raises(PerfusionError, match="learned nothing"):  # a change that the file cannot hold is none
        check_learned({name: value.half().float() * (1 + 1e-6) for name, value in start.items()}, concept)
    moved = next(iter(start))
    check_learned({**start, moved: start[moved] + 0.1}, concept)


def test_values_that_did_not_move_are_an_error_in_large_files_too():
    """Their coarser rounding is no change of the training's."""
    concept = make_concept(value_widths={"blocks.0.cross_attn": MOST_PLAIN_VALUES, "blocks.1.cross_attn": 8})
    start = dict(concept.value_targets)
    with pytest.raises(PerfusionError, match="learned nothing"):
        check_learned(start, round_for_file(concept))
    check_learned({**start, "blocks.1.cross_attn": start["blocks.1.cross_attn"] + 0.1}, round_for_file(concept))


def test_relative_change_is_relative():
    one = torch.ones(1, 4, 2, 2)
    assert relative_change(one, one) == 0.0
    assert relative_change(3 * one, 3.3 * one) == pytest.approx(0.1)
