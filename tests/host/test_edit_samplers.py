"""Every sampler and scheduler of the host edits: noise is the same for a source and its edits, whoever draws it."""

import comfy.samplers
import pytest
import torch
from edits import SOURCE, Edited, apart, drawn, empty
from perfusion_pack.nodes.host.editing.shared_noise import SharedNoise, shared
from perfusion_pack.perfusion_core.prompt_edit import PromptEdit
from tiny_models import encode

DOG = "a photo of a red dog on the grass"

# The size of its steps depends on the whole batch.
JOINT_STEPS = {"dpm_adaptive"}


@pytest.fixture(scope="module")
def negative(clip):
    return encode(clip, "blurry")


@pytest.fixture(scope="module")
def edited(model, clip):
    """A source with the same prompt once more, and with another one."""
    return Edited(model, clip, PromptEdit(blend=None), PromptEdit(DOG, blend=None))


def check(edited, clip, negative, **settings):
    source, same, other = edited.draw(negative, **settings)
    assert torch.equal(same, source)
    assert apart(other, source) > 1e-3
    if settings.get("sampler_name") not in JOINT_STEPS:
        alone = drawn(edited.base, encode(clip, SOURCE), negative, empty(), **settings)[0]
        assert apart(source, alone) <= 1e-4


@pytest.mark.parametrize("sampler", comfy.samplers.SAMPLER_NAMES)
def test_every_sampler(edited, clip, negative, sampler):
    check(edited, clip, negative, sampler_name=sampler)


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
def test_every_scheduler(edited, clip, negative, scheduler):
    check(edited, clip, negative, scheduler=scheduler)


def test_draws_of_the_shape_are_shared_and_others_are_not():
    shape = (4, 2, 3, 3)
    expected = torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(1)).repeat_interleave(2, 0)
    draws = (
        lambda g: torch.randn(*shape, generator=g),
        lambda g: torch.randn(shape, generator=g),
        lambda g: torch.randn(size=shape, generator=g),
        lambda g: torch.randn(torch.Size(shape), generator=g, dtype=torch.float32),
    )
    mode = SharedNoise(shape, 2)
    for draw in draws:
        with mode:
            got = draw(torch.Generator().manual_seed(1))
        assert torch.equal(got, expected)
    with mode:
        like = torch.randn_like(torch.zeros(shape))
        other = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
        with mode.paused():
            whole = torch.randn(shape, generator=torch.Generator().manual_seed(1))
            with torch.device("cpu"), mode.paused():  # somebody else's mode above it stays
                assert torch.zeros(1).device.type == "cpu"
    assert torch.equal(like, shared(like, 2))
    assert torch.equal(other, torch.randn(3, 2, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(whole, shared(whole, 2))
