"""perfusion_core.text_statistics: the streamed second moment, an inverse that is never blind, and its file."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from core_examples import make_concept, random, second_moment
from hypothesis import given, settings
from hypothesis import strategies as st

from perfusion_core.concept_file import save_concept
from perfusion_core.errors import PerfusionError
from perfusion_core.text_statistics import (
    MAX_CONDITION,
    SecondMoment,
    load_statistics,
    save_statistics,
    statistics_from_moment,
)

WIDTH = 12


# --- the moment ----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_streaming_equals_one_go(seed, sizes):
    encodings = random((sum(sizes), WIDTH), seed, torch.float32)
    moment = SecondMoment(WIDTH)
    for batch in encodings.split(sizes):
        moment.add(batch)
    assert moment.count == len(encodings)
    expected = encodings.double().T @ encodings.double() / len(encodings)
    assert torch.allclose(moment.matrix(), expected, rtol=0, atol=1e-12)


def test_weights_and_masks():
    encodings = random((2, 5, WIDTH), 1, torch.float32)
    mask = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 1, 1, 0]], dtype=torch.bool)
    masked, chosen, weighted = SecondMoment(WIDTH), SecondMoment(WIDTH), SecondMoment(WIDTH)
    masked.add(torch.where(mask[..., None], encodings, math.nan), mask)  # what is masked may be anything
    chosen.add(encodings[mask])
    weighted.add(encodings, 3.0 * mask)
    assert masked.count == chosen.count == 5
    assert torch.equal(masked.matrix(), chosen.matrix())
    assert torch.allclose(weighted.matrix(), chosen.matrix())


def test_uncentered():
    moment = SecondMoment(2)
    moment.add(torch.tensor([[2.0, 0.0], [2.0, 0.0]]))
    assert moment.matrix().tolist() == [[4.0, 0.0], [0.0, 0.0]]


def test_what_the_moment_refuses():
    moment = SecondMoment(WIDTH)
    with pytest.raises(PerfusionError, match="at least one caption"):
        moment.matrix()
    with pytest.raises(PerfusionError, match="width 12"):
        moment.add(torch.ones(3, 13))
    with pytest.raises(PerfusionError, match="one weight for each token"):
        moment.add(torch.ones(3, WIDTH), torch.ones(4))
    for bad in (math.nan, math.inf):
        with pytest.raises(PerfusionError, match="finite encodings"):
            moment.add(torch.full((3, WIDTH), bad))
    with pytest.raises(PerfusionError, match="weights above 0"):
        moment.add(torch.ones(3, WIDTH), torch.tensor([1.0, 1.0, -1.0]))
    assert moment.count == 0


# --- the inverse ---------------------------------------------------------------------------------------------------


def test_well_measured_statistics_are_inverted_as_they_are():
    moment = second_moment(WIDTH)
    statistics = statistics_from_moment(moment, 1000, "hash")
    assert statistics.shrinkage == 0
    assert torch.allclose(statistics.inverse.double(), torch.linalg.inv(moment), rtol=1e-5, atol=1e-9)
    assert torch.equal(statistics.second_moment, moment.float())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 2 * WIDTH), st.floats(1.5, 1e6))
def test_shrinkage_is_just_enough(seed, tokens, bound):
    """Also with fewer tokens than dimensions, the condition number ends at the bound or below it without shrinkage."""
    encodings = random((tokens, WIDTH), seed)
    moment = encodings.T @ encodings / tokens
    statistics = statistics_from_moment(moment, tokens, "hash", max_condition=bound)
    condition = torch.linalg.cond(statistics.inverse.double()).item()
    if statistics.shrinkage > 0:
        assert condition == pytest.approx(bound, rel=1e-2 + 1e-6 * bound)
    else:
        assert condition <= bound * 1.01
    assert (torch.linalg.eigvalsh(statistics.inverse.double()) > 0).all()


def test_one_single_encoding():
    encoding = random((WIDTH,), 1)
    statistics = statistics_from_moment(torch.outer(encoding, encoding), 1, "hash")
    assert 0 < statistics.shrinkage < 0.01
    assert torch.linalg.cond(statistics.inverse.double()).item() == pytest.approx(MAX_CONDITION, rel=0.05)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.full((3, 3), math.nan), "finite"),
        (torch.ones(3, 4), "square"),
        (torch.ones(3), "square"),
        (torch.ones(0, 0), "square"),
        (torch.zeros(3, 3), "positive trace"),
        (-torch.eye(3), "positive trace"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
    ],
)
def test_what_is_never_inverted(matrix, message):
    with pytest.raises(PerfusionError, match=message):
        statistics_from_moment(matrix, 1, "hash")


def test_bound_of_the_condition_number():
    for bound in (1.0, 0.0, math.nan, math.inf):
        with pytest.raises(PerfusionError, match="above 1"):
            statistics_from_moment(torch.eye(3), 1, "hash", max_condition=bound)


# --- hash and file -------------------------------------------------------------------------------------------------


def test_hash_tells_statistics_apart():
    statistics = statistics_from_moment(second_moment(WIDTH), 1000, "encoder")
    others = [
        statistics_from_moment(second_moment(WIDTH, seed=1), 1000, "encoder"),
        replace(statistics, encoder_hash="other"),
        replace(statistics, shrinkage=0.5),
    ]
    assert len({s.hash() for s in (statistics, *others)}) == 4
    assert statistics.hash() == statistics_from_moment(second_moment(WIDTH), 1000, "encoder").hash()
    assert len(statistics.hash()) == 16


def test_the_user_is_told_how_much_was_shrunk():
    well = statistics_from_moment(second_moment(WIDTH), 1234, "encoder")
    assert well.summary().startswith("1,234 captions, 12 x 12, condition number ")
    assert well.summary().endswith("well measured, not shrunk")
    poorly = statistics_from_moment(second_moment(WIDTH), 1234, "encoder", max_condition=2.0)
    assert f"{poorly.shrinkage:.2%} of it shrunk towards its mean, condition number 2" in poorly.summary()


def test_round_trip(tmp_path):
    statistics = statistics_from_moment(second_moment(WIDTH), 1000, "encoder", max_condition=10)
    save_statistics(tmp_path / "a.safetensors", statistics)
    loaded = load_statistics(tmp_path / "a.safetensors")
    assert torch.equal(loaded.second_moment, statistics.second_moment)
    assert torch.equal(loaded.inverse, statistics.inverse)
    assert (loaded.shrinkage, loaded.encoder_hash, loaded.captions) == (statistics.shrinkage, "encoder", 1000)
    assert loaded.hash() == statistics.hash()


def test_bad_files(tmp_path):
    statistics = statistics_from_moment(second_moment(WIDTH), 1000, "encoder")
    path = tmp_path / "a.safetensors"
    save_statistics(path, statistics)
    good = path.read_bytes()
    for content in (b"", good[:5], good[:300], good[:-1], good.replace(b'"captions"', b'"captionz"')):
        path.write_bytes(content)
        if content != good:
            with pytest.raises(PerfusionError, match="again|another"):
                load_statistics(path)
    path.write_bytes(good.replace(b'perfusion.version":"1"', b'perfusion.version":"2"'))
    with pytest.raises(PerfusionError, match="version '2'"):
        load_statistics(path)
    save_concept(path, make_concept())
    with pytest.raises(PerfusionError, match="perfusion-concept"):
        load_statistics(path)
    save_statistics(path, replace(statistics, inverse=torch.ones(3, 4)))
    with pytest.raises(PerfusionError, match="two square matrices"):
        load_statistics(path)
    save_statistics(path, replace(statistics, inverse=torch.full((WIDTH, WIDTH), math.nan)))
    with pytest.raises(PerfusionError, match="not finite"):
        load_statistics(path)
    path.write_bytes(good.replace(b'"perfusion.captions":"1000"', b'"perfusion.captions":"many"'))
    with pytest.raises(PerfusionError, match="incomplete"):
        load_statistics(path)
