"""Vectors in 12 bits a number: what is lost, and that nothing more is lost by writing again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfusion_core import twelve_bits
from perfusion_core.live_memory import LiveMemory
from perfusion_core.twelve_bits import from_twelve_bits, in_twelve_bits, to_twelve_bits, width_of_bytes

vectors = st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=40).map(torch.tensor)


@given(vectors)
def test_no_number_is_further_off_than_half_a_step(vector):
    found = in_twelve_bits(vector)
    assert found.shape == vector.shape and found.dtype == torch.float32
    assert (found - vector).abs().max() <= vector.abs().max() / 4094 * 1.0001 + 2.0**-80


@given(vectors)
def test_what_was_read_gives_the_same_bytes(vector):
    packed = to_twelve_bits(vector)
    assert torch.equal(to_twelve_bits(from_twelve_bits(packed)), packed)


@given(vectors, st.integers(1, 4))
def test_numbers_that_are_read_in_parts_are_the_same(vector, at_once):
    packed, whole = to_twelve_bits(vector), in_twelve_bits(vector)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twelve_bits, "_TRIPLES_AT_ONCE", at_once)
        assert torch.equal(from_twelve_bits(packed), whole)


def test_a_large_vector_takes_little_more_memory_than_it_has():
    packed = to_twelve_bits(torch.linspace(-1, 1, 1_000_001))
    with LiveMemory() as memory:
        vector = from_twelve_bits(packed)
    assert vector.nbytes < memory.peak < vector.nbytes + 2_000_000 < 4 * packed.nbytes + 2_000_000


@given(vectors)
def test_three_bytes_for_two_numbers(vector):
    packed = to_twelve_bits(vector)
    assert len(packed) == 4 + -(-3 * len(vector) // 2) and width_of_bytes(len(packed)) == len(vector)


def test_numbers_of_bytes_that_no_vector_has():
    assert [count for count in range(17) if width_of_bytes(count) is None] == [0, 1, 2, 3, 4, 5, 8, 11, 14]


def test_known_bytes():
    """The layout is part of the file format."""
    packed = to_twelve_bits(torch.tensor([2047.0, -2047.0, 1.0]))
    assert packed.tolist() == [0, 0, 128, 63, 0xFF, 0x1F, 0x00, 0x01, 0x08]


@pytest.mark.parametrize("width", [1, 4])
def test_nothing_stays_nothing(width):
    assert torch.equal(in_twelve_bits(torch.zeros(width)), torch.zeros(width))
