"""perfusion_core.attention_maps: soft masks from attention, on maps that are made by hand."""

from __future__ import annotations

import math

import pytest
import torch

from perfusion_core.attention_maps import AttentionMaps, map_size, two_levels, word_attention
from perfusion_core.errors import PerfusionError


def test_word_attention_is_the_share_of_the_words_tokens_averaged_over_the_heads():
    queries, keys = torch.randn(2, 6, 8), torch.randn(2, 5, 8)
    positions = torch.tensor([False, True, False, True, False])
    found = word_attention(queries, keys, heads=2, positions=positions)
    for b in range(2):
        for place in range(6):
            share = 0.0
            for part in (slice(0, 4), slice(4, 8)):
                weights = [math.exp(float(queries[b, place, part] @ keys[b, n, part]) / 2) for n in range(5)]
                share += (weights[1] + weights[3]) / sum(weights) / 2
            assert found[b, place].item() == pytest.approx(share, rel=1e-5)


def test_word_attention_over_all_tokens_is_one():
    found = word_attention(torch.randn(1, 4, 8).half(), torch.randn(1, 3, 8).half(), 4, torch.ones(3, dtype=torch.bool))
    assert found.dtype == torch.float32 and torch.allclose(found, torch.ones(1, 4))


@pytest.mark.parametrize(
    ("length", "latent_size", "expected"),
    [
        (4096, (64, 64), (64, 64)),
        (256, (64, 64), (16, 16)),
        (96, (64, 96), (8, 12)),
        (35, (19, 27), (5, 7)),  # 19 -> 10 -> 5, 27 -> 14 -> 7: odd sides are rounded up
        (1, (4, 4), (1, 1)),
        (77, (64, 64), None),
        (5000, (64, 64), None),
    ],
)
def test_map_size(length, latent_size, expected):
    assert map_size(length, latent_size) == expected


def planted(height: int = 16) -> torch.Tensor:
    """Maps of two pictures with a square in which the attention is high, with noise."""
    maps = 0.1 + 0.02 * torch.rand(2, 1, height, height, generator=torch.Generator().manual_seed(1))
    maps[0, 0, 4:10, 4:10] += 0.5
    maps[1, 0, 8:12, 2:6] += 0.05
    return maps


def test_two_levels_finds_a_thing_however_strong_the_attention():
    found = two_levels(planted())
    assert found.min() == 0 and found.max() == 1
    for mask, rows, columns in ((found[0, 0], slice(4, 10), slice(4, 10)), (found[1, 0], slice(8, 12), slice(2, 6))):
        outside = torch.ones(16, 16, dtype=torch.bool)
        outside[rows, columns] = False
        assert mask[rows, columns].min() > 0.6 and mask[outside].max() < 0.3


def test_two_levels_does_not_depend_on_scale_and_offset():
    assert torch.allclose(two_levels(planted()), two_levels(7 * planted() + 3), atol=1e-3)


def test_a_map_of_one_value_gives_ones():
    assert torch.equal(two_levels(torch.full((1, 1, 4, 4), 0.3)), torch.ones(1, 1, 4, 4))
    assert torch.equal(two_levels(torch.zeros(1, 1, 4, 4)), torch.ones(1, 1, 4, 4))


def test_maps_of_several_sizes_add_up_and_other_layers_are_passed_over():
    maps = AttentionMaps(2, (16, 16))
    maps.add(planted().flatten(1))
    maps.add(planted(16)[:, :, ::2, ::2].flatten(1))
    maps.add(torch.rand(2, 77))
    maps.add(planted()[1:].flatten(1), slice(1, 2))
    found = maps.masks()
    assert found.shape == (2, 1, 16, 16)
    assert found[0, 0, 5:9, 5:9].min() > 0.8 and found[0, 0, :2].max() < 0.2


def test_nothing_to_go_by_is_an_error():
    with pytest.raises(PerfusionError, match="no layer whose positions.*connect masks") as caught:
        AttentionMaps(1, (16, 16)).masks()
    assert "\n" not in str(caught.value)
    maps = AttentionMaps(1, (4, 4))
    maps.add(torch.full((1, 16), torch.nan))
    with pytest.raises(PerfusionError, match="not finite"):
        maps.masks()
