"""Weights in eight bits: what is lost is bounded, and what ships is made of what was trained."""

from __future__ import annotations

import pytest
import torch
from by_location import REPOSITORY, load_package
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

load_package("demo", "demo")
from demo.eight_bits import FEW, LARGEST, SCALE, expanded, read_weights, reduced  # noqa: E402

SHIPPED, TRAINED = REPOSITORY / "demo" / "weights", REPOSITORY / "demo" / "making" / "weights"


def weights(seed: int, size: float = 1.0) -> dict[str, torch.Tensor]:
    """A kernel with channels of very different sizes, one of them empty, a matrix, a small matrix and a norm."""
    random = torch.Generator().manual_seed(seed)
    kernel = torch.randn(40, 30, 3, 3, generator=random) * size * torch.logspace(-3, 1, 40).view(-1, 1, 1, 1)
    kernel[3] = 0
    others = {"matrix": (120, 100), "small": (4, 8), "norm": (64,)}
    return {"kernel": kernel, **{name: torch.randn(shape, generator=random) * size for name, shape in others.items()}}


@given(st.integers(0, 2**31), st.floats(1e-2, 1e2))
def test_no_number_is_off_by_more_than_half_a_step_of_its_channel(seed, size):
    given_, found = weights(seed, size), expanded(reduced(weights(seed, size)))
    for name in ("kernel", "matrix"):
        largest = given_[name].abs().flatten(1).amax(dim=1)
        off = (found[name] - given_[name]).abs().flatten(1).amax(dim=1)
        # Half a step, and what rounding the scale to half precision moves the largest number by.
        assert (off <= largest / LARGEST / 2 + largest * 2**-10 + 1e-4).all()
    for name in ("small", "norm"):
        assert torch.equal(found[name], given_[name].half().float())


@given(st.integers(0, 2**31))
def test_names_shapes_and_types_come_back_and_nothing_else(seed):
    given_ = weights(seed)
    found = expanded(reduced(given_))
    assert {name: tensor.shape for name, tensor in found.items()} == {n: t.shape for n, t in given_.items()}
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in found.values())
    assert (found["kernel"][3] == 0).all()


@given(st.integers(0, 2**31))
def test_what_was_reduced_once_loses_nothing_more(seed):
    once = expanded(reduced(weights(seed)))
    again = expanded(reduced(once))
    assert all(torch.allclose(again[name], once[name], rtol=1e-3, atol=0) for name in once)


def test_weights_in_half_precision_are_read_too():
    half = {name: tensor.half() for name, tensor in weights(0).items()}
    assert all(torch.equal(tensor, half[name].float()) for name, tensor in expanded(half).items())


@pytest.mark.parametrize("name", ["unet.safetensors", "vae.safetensors"])
def test_what_ships_is_made_of_what_was_trained(name):
    shipped, trained = load_file(SHIPPED / name), load_file(TRAINED / name)
    made = reduced(trained)
    assert shipped.keys() == made.keys() and all(torch.equal(shipped[key], made[key]) for key in made)
    assert {shipped[key].dtype for key in trained if trained[key].numel() >= FEW} == {torch.int8}
    assert read_weights(SHIPPED / name).keys() == trained.keys() and not any(key.endswith(SCALE) for key in trained)
