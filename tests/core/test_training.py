"""perfusion_core.training: the loop on a toy model in which everything can be computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_training import ToyTask, assert_same_state, start

from perfusion_core.errors import PerfusionError
from perfusion_core.learned_tensors import mean_encoding
from perfusion_core.training import TrainingSettings
from perfusion_core.training_batch import Batch, masked_mean
from perfusion_core.training_run import train


def test_starts_at_the_superclass():
    trainer = start()
    encodings, positions = trainer.task.encode(trainer.word_vectors, trainer.settings.templates)
    expected = encodings[positions].mean(dim=0)
    assert torch.equal(trainer.target_input, trainer.superclass_encoding)
    assert torch.allclose(trainer.superclass_encoding, expected)
    assert torch.allclose(trainer.value_targets["layer.attn2"], trainer.task.values @ expected)


def test_learns():
    losses = train(start(steps=200, value_learning_rate=0.03), lambda report: None)
    assert sum(losses[-20:]) < 0.2 * sum(losses[:20])


def test_same_seed_gives_the_same_bits_and_another_seed_does_not():
    first, second, other = start(), start(), start(seed=1)
    losses = [train(trainer, lambda report: None) for trainer in (first, second, other)]
    assert losses[0] == losses[1] != losses[2]
    for one, two in zip(first.learned().value_targets.values(), second.learned().value_targets.values(), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(first.learned().target_input, second.learned().target_input)


def test_learns_the_word_and_the_values_and_nothing_else():
    trainer = start()
    before = trainer.learned()
    superclass, inverse = trainer.superclass_encoding.clone(), trainer.inverse.clone()
    train(trainer, lambda report: None)
    after = trainer.learned()
    assert not torch.equal(before.word_vectors["clip_l"], after.word_vectors["clip_l"])
    assert not torch.equal(before.value_targets["layer.attn2"], after.value_targets["layer.attn2"])
    assert torch.equal(superclass, trainer.superclass_encoding)  # the key lock
    assert torch.equal(inverse, trainer.inverse)
    assert not trainer.target_input.requires_grad


@pytest.mark.parametrize("accumulation", [1, 3])
def test_target_input_is_a_moving_average_moved_once_per_step(accumulation):
    task = ToyTask()
    trainer = start(task, accumulation=accumulation, word_learning_rate=0.0)
    expected = trainer.target_input.clone()
    for _ in range(5):
        task.batches.clear()
        trainer.step()
        assert len(task.batches) == accumulation
        seen = []
        for batch in task.batches:
            encodings, positions = task.encode(
                trainer.word_vectors, [trainer.settings.templates[i] for i in batch.templates]
            )
            seen.append(mean_encoding(encodings.detach(), positions))
        expected = 0.99 * expected + 0.01 * torch.stack(seen).mean(dim=0)
    assert torch.allclose(trainer.target_input, expected, atol=1e-6)


def test_the_optimiser_is_adam_without_weight_decay():
    """Paper, section 4.4; AdamW is a subclass of Adam."""
    trainer = start(value_learning_rate=0.03, word_learning_rate=0.006)
    optimiser = trainer.optimiser
    assert type(optimiser) is torch.optim.Adam
    assert [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups] == [(0.03, 0.0), (0.006, 0.0)]
    values, word = (group["params"] for group in optimiser.param_groups)
    assert values == list(trainer.value_targets.values()) and word == list(trainer.word_vectors.values())
    # One step of Adam moves every number by its rate, in the direction of the gradient only.
    before = trainer.learned()
    trainer.step()
    after = trainer.learned()
    moved = (after.value_targets["layer.attn2"] - before.value_targets["layer.attn2"]).abs()
    assert torch.allclose(moved, torch.full_like(moved, 0.03), rtol=1e-3)


def test_four_times_four_is_sixteen():
    """Accumulation gives the loss, the gradients and the moving average of one large batch of the same samples."""
    draws = [start(seed=seed, batch_size=4)._draw() for seed in range(4)]
    together = Batch(*(torch.cat([getattr(d, name) for d in draws]) for name in ("pictures", "mirrored", "templates")))
    found = {}
    for size, accumulation, drawn in ((4, 4, draws), (16, 1, [together])):
        trainer = start(ToyTask(noise=0.0), batch_size=size, accumulation=accumulation)
        trainer._draw = iter(drawn).__next__
        loss = trainer.step().loss
        gradients = [parameter.grad for parameter in trainer.parameters().values()]
        found[size] = loss, [*gradients, trainer.target_input, *trainer.parameters().values()]
        assert len(trainer.task.batches) == accumulation and trainer.step_number == 1
    (small, parts), (large, whole) = found[4], found[16]
    assert small == pytest.approx(large, rel=1e-6)
    assert all(gradient.abs().sum() > 0 for gradient in whole[:2])
    assert all(torch.allclose(part, one, rtol=1e-5, atol=1e-7) for part, one in zip(parts, whole, strict=True))


def test_learned_is_scaled_to_unit_energy():
    trainer = start()
    train(trainer, lambda report: None)
    learned = trainer.learned()
    assert math.isclose((learned.target_input * learned.inverse_target_input).sum().item(), 1.0, abs_tol=1e-5)


def test_draws_every_picture_and_mirrors_only_when_asked():
    mirrored, straight = ToyTask(), ToyTask()
    train(start(mirrored, flip=True), lambda report: None)
    train(start(straight, flip=False), lambda report: None)
    assert {i for batch in mirrored.batches for i in batch.pictures.tolist()} == {0, 1, 2}
    share = torch.cat([batch.mirrored for batch in mirrored.batches]).float().mean()
    assert 0.3 < share < 0.7
    assert not any(batch.mirrored.any() for batch in straight.batches)


def test_whoever_follows_the_steps_may_stop_them():
    trainer = start()

    def stop_at_five(report):
        if report.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(trainer, stop_at_five)
    assert trainer.step_number == 5
    assert all(torch.isfinite(value).all() for value in trainer.learned().value_targets.values())


def test_a_loss_that_is_not_finite_stops_with_the_last_good_step():
    task = ToyTask()
    trainer = start(task)
    trainer.step()
    good = start()
    good.restore(trainer.state())
    task.spoil = float("nan")
    with pytest.raises(PerfusionError, match="nan at step 2"):
        trainer.step()
    assert_same_state(trainer, good)


def test_an_overflow_behind_a_finite_loss_stops_with_the_last_good_step():
    """A gradient of 1e30 has a square that float32 cannot hold: from then on Adam would stand still, silently."""
    task = ToyTask()
    trainer = start(task)
    trainer.step()
    good = start()
    good.restore(trainer.state())
    task.spoil = 1e30
    with pytest.raises(PerfusionError, match="infinite or not a number at step 2"):
        trainer.step()
    assert_same_state(trainer, good)
    task.spoil = 1.0
    trainer.step()


@pytest.mark.parametrize("name", ["steps", "batch_size", "accumulation"])
def test_settings_below_one_are_refused(name):
    with pytest.raises(PerfusionError, match=name):
        TrainingSettings(**{name: 0})


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_of_noise_alone_outside_0_to_1_is_refused(share):
    with pytest.raises(PerfusionError, match="noise_alone must be a share from 0 to 1"):
        TrainingSettings(noise_alone=share)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_samples_is_noise_alone(share):
    task = ToyTask()
    trainer = start(task, noise_alone=share, steps=40)
    for _ in range(40):
        trainer.step()
    marked = [batch.noise_alone for batch in task.batches]
    if share:
        assert abs(torch.cat(marked).float().mean() - share) < 0.1
    else:
        assert marked == [None] * 40


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_masked_mean_does_not_depend_on_the_scale_of_the_mask(seed, scale):
    draw = torch.Generator().manual_seed(seed)
    errors, masks = torch.rand(2, 4, 3, 3, generator=draw), torch.rand(2, 1, 3, 3, generator=draw) + 0.01
    assert torch.allclose(masked_mean(errors, masks), masked_mean(errors, scale * masks), rtol=1e-5)
    assert torch.allclose(masked_mean(errors, torch.ones_like(masks)), masked_mean(errors, None))


def test_masked_mean_does_not_depend_on_the_area_of_the_mask():
    errors = torch.full((2, 4, 8, 8), 3.0)
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, :, 0, 0], masks[1] = 1.0, 1.0
    assert masked_mean(errors, masks).item() == pytest.approx(3.0)
    errors[0, :, 4:] = 99.0  # outside the first picture's mask
    assert masked_mean(errors, masks).item() == pytest.approx(3.0)
