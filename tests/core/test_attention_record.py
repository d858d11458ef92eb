"""Running sums of attention maps: shares, where they lie, and what can be chosen afterwards."""

import torch
from torch.nn import functional

from perfusion_core.attention_record import PARTS, AttentionRecord, Place, token_attention

WHOLE = Place(0, None)


def test_shares_are_those_of_softmax_attention():
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, 6, 8, generator=generator), torch.randn(2, 5, 8, generator=generator)
    shares = token_attention(queries, keys, heads=2)
    assert shares.shape == (2, 6, 5)
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, 6))
    for head in range(2):
        q, k = queries[..., 4 * head : 4 * head + 4], keys[..., 4 * head : 4 * head + 4]
        values = functional.scaled_dot_product_attention(q, k, torch.eye(5).expand(2, 5, 5))
        shares = shares - values / 2
    torch.testing.assert_close(shares, torch.zeros(2, 6, 5), atol=1e-6, rtol=0)


def test_a_repeated_prompt_is_one_prompt():
    generator = torch.Generator().manual_seed(1)
    queries, keys = torch.randn(1, 4, 8, generator=generator), torch.randn(1, 3, 8, generator=generator)
    torch.testing.assert_close(
        token_attention(queries, keys.repeat(1, 2, 1), 1, tokens=3), token_attention(queries, keys, 1)
    )


def one_hot(positions: int, at: int, tokens: int = 4, token: int = 2, pictures: int = 1) -> torch.Tensor:
    maps = torch.zeros(pictures, positions, tokens)
    maps[:, at, token] = 1.0
    return maps


def test_maps_of_all_layers_lie_over_each_other():
    record = AttentionRecord(1, (4, 8))
    assert record.add(WHOLE, 0.0, one_hot(32, 31)) and record.add(WHOLE, 0.0, one_hot(8, 7))
    assert record.scales() == [1, 2] and record.parts() == [0]
    whole = record.word_maps(lambda prompt, picture: [2])
    assert whole.shape == (1, 4, 8) and whole.argmax() == 31
    fine = record.word_maps(lambda prompt, picture: [2], [1])
    assert fine.sum() == 1 and fine[0, 3, 7] == 1
    assert record.word_maps(lambda prompt, picture: [0, 1, 3]).sum() == 0
    torch.testing.assert_close(record.word_maps(lambda prompt, picture: [2, 0]), whole)


def test_steps_can_be_told_apart():
    record = AttentionRecord(1, (2, 2))
    for step in range(20):
        record.add(WHOLE, step / 20, one_hot(4, step // 5))
    assert record.parts() == list(range(PARTS))
    for quarter in range(4):
        chosen = record.word_maps(lambda prompt, picture: [2], start=quarter / 4, end=quarter / 4 + 0.2)
        assert chosen.argmax() == quarter
    torch.testing.assert_close(record.word_maps(lambda prompt, picture: [2]), torch.full((1, 2, 2), 0.25))


def test_a_prompt_for_an_area_lies_in_it():
    record = AttentionRecord(1, (4, 4))
    record.add(Place(0, (2, 0, 2, 4)), 0.0, one_hot(8, 0))
    record.add(Place(1, None), 0.0, one_hot(16, 15))
    maps = record.word_maps(lambda prompt, picture: [2])
    assert maps[0].nonzero().tolist() == [[2, 0], [3, 3]]
    of_second = record.word_maps(lambda prompt, picture: [2] if prompt == 1 else [])
    assert of_second[0].nonzero().tolist() == [[3, 3]]


def test_each_picture_has_its_own_tokens():
    record = AttentionRecord(2, (2, 2))
    maps = torch.cat([one_hot(4, 0, token=1), one_hot(4, 3, token=2)])
    record.add(WHOLE, 0.0, maps)
    found = record.word_maps(lambda prompt, picture: [1 + picture])
    assert found.flatten(1).argmax(dim=1).tolist() == [0, 3] and found.sum() == 2


def test_what_is_no_map_of_the_pictures_is_left_out():
    record = AttentionRecord(2, (4, 4))
    assert not record.add(WHOLE, 0.0, one_hot(16, 0))  # of one picture
    assert not record.add(WHOLE, 0.0, one_hot(7, 0, pictures=2))  # no grid
    assert record.add(WHOLE, 0.0, one_hot(16, 0, pictures=2))
    assert not record.add(WHOLE, 0.0, one_hot(16, 0, tokens=5, pictures=2))  # of another prompt
    assert record.word_maps(lambda prompt, picture: [2]).sum() == 2
    record.to_cpu()
    assert record.word_maps(lambda prompt, picture: [2]).device.type == "cpu"
