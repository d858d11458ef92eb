"""The loss that draws the word's attention into the mask: by hand, and where the trainer asks for it."""

from __future__ import annotations

import pytest
import torch
from toy_training import ToyTask, assert_same_state, start

from perfusion_core.attention_aim import share_outside
from perfusion_core.attention_maps import word_attention
from perfusion_core.errors import PerfusionError
from perfusion_core.training import TrainingSettings
from perfusion_core.training_run import train

HEADS, SIDE, TOKENS, DIM = 2, 4, 5, 6


def drawn(seed: int, batch: int = 2):
    draw = torch.Generator().manual_seed(seed)
    queries = torch.randn(batch, SIDE * SIDE, HEADS * DIM, generator=draw)
    keys = torch.randn(batch, TOKENS, HEADS * DIM, generator=draw)
    positions = torch.zeros(batch, TOKENS, dtype=torch.bool)
    positions[0, 1], positions[1, 3:] = True, True
    return queries, keys, positions


def test_it_is_what_of_the_words_attention_lies_outside():
    queries, keys, positions = drawn(1)
    masks = torch.zeros(2, 1, SIDE, SIDE)
    masks[0, 0, :2], masks[1, 0, 1:3, 1:3] = 1.0, 0.5
    shares = []
    for row in range(2):
        attention = word_attention(queries[row, None], keys[row, None], HEADS, positions[row])[0]
        shares.append(1 - (attention * masks[row].flatten()).sum() / attention.sum())
    assert share_outside(queries, keys, HEADS, positions, masks).item() == pytest.approx(sum(shares).item() / 2)


def test_masks_come_down_to_the_layers_size_and_other_layers_have_none():
    queries, keys, positions = drawn(2)
    masks = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    large = masks.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
    one, other = (share_outside(queries, keys, HEADS, positions, m) for m in (masks, large))
    assert one.item() == pytest.approx(other.item(), rel=1e-6)
    assert share_outside(queries[:, :7], keys, HEADS, positions, masks) is None


def test_a_mask_of_everything_asks_for_nothing():
    queries, keys, positions = drawn(4)
    keys.requires_grad_()
    outside = share_outside(queries, keys, HEADS, positions, torch.ones(2, 1, SIDE, SIDE))
    outside.backward()
    assert outside.abs().item() < 1e-6 and keys.grad.abs().max() < 1e-6


def test_following_the_gradient_brings_the_attention_inside():
    queries, keys, positions = drawn(5)
    keys.requires_grad_()
    masks = torch.zeros(2, 1, SIDE, SIDE)
    masks[..., :2, :2] = 1.0
    losses = []
    for _ in range(40):
        outside = share_outside(queries, keys, HEADS, positions, masks)
        (gradient,) = torch.autograd.grad(outside, keys)
        keys.data -= 20 * gradient
        losses.append(outside.item())
    assert losses[-1] < 0.5 * losses[0]


class AimedTask(ToyTask):
    """Notes what is asked of the attention."""

    def loss(self, batch, edited, value_targets, generator, aim=None):
        self.asked = [*getattr(self, "asked", []), None if aim is None else (aim.weight, aim.positions.shape)]
        return super().loss(batch, edited, value_targets, generator)


def test_steps_are_asked_and_validations_are_not():
    task = AimedTask()
    train(start(task, steps=5, attention_weight=0.3, validate_every=5), lambda report: None)
    assert [asked for asked in task.asked if asked] == [(0.3, torch.Size([8, 4]))] * 5
    assert task.asked[0] is task.asked[-1] is None


@pytest.mark.parametrize("weight", [None, 0.0])
def test_without_a_weight_everything_is_as_it_was(weight):
    task, usual = AimedTask(), ToyTask()
    trainers = start(task, attention_weight=weight), start(usual)
    for trainer in trainers:
        train(trainer, lambda report: None)
    assert set(task.asked) == {None}
    assert_same_state(*trainers)


def test_a_weight_below_0_is_refused():
    with pytest.raises(PerfusionError, match="attention_weight must be 0 or more, but it is -0.1"):
        TrainingSettings(attention_weight=-0.1)
