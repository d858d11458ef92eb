"""Gradients through operations of the host that have none: values bit for bit, gradients those of torch's own words."""

from __future__ import annotations

import pytest
import torch
from perfusion_pack.nodes.host.training.fused_operations import DifferentiableOperations

kitchen = pytest.importorskip("comfy_kitchen", reason="needs a ComfyUI with comfy_kitchen")
if not hasattr(kitchen, "rms_rope_split_half"):
    pytest.skip("needs a comfy_kitchen that normalises and rotates at once", allow_module_level=True)


def inputs():
    draw = torch.Generator().manual_seed(1)
    queries, keys = (torch.randn(2, 16, 4, 16, generator=draw, requires_grad=True) for _ in range(2))
    angles = torch.randn(1, 16, 1, 8, generator=draw)
    turn = torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], dim=-1).unflatten(-1, (2, 2))
    return queries, keys, turn, torch.rand(16, generator=draw) + 0.5, torch.rand(16, generator=draw) + 0.5


def gradients(made, queries, keys):
    weights = [torch.randn(one.shape, generator=torch.Generator().manual_seed(2)) for one in made]
    return torch.autograd.grad(sum((one * w).sum() for one, w in zip(made, weights, strict=True)), (queries, keys))


def test_a_kernel_without_a_backward_pass():
    queries, keys, *others = inputs()
    plain = kitchen.rms_rope_split_half(queries.detach(), keys.detach(), *others)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        gradients(kitchen.rms_rope_split_half(queries, keys, *others), queries, keys)
    with DifferentiableOperations():
        made = kitchen.rms_rope_split_half(queries, keys, *others)
    assert all(torch.equal(one, other) for one, other in zip(made, plain, strict=True))
    found = gradients(made, queries, keys)
    step = 1e-3
    direction = torch.randn(queries.shape, generator=torch.Generator().manual_seed(3))
    weights = [torch.randn(one.shape, generator=torch.Generator().manual_seed(2)) for one in made]
    ahead, behind = (
        sum(
            (one.double() * w).sum()
            for one, w in zip(
                kitchen.rms_rope_split_half((queries + sign * step * direction).detach(), keys.detach(), *others),
                weights,
                strict=True,
            )
        )
        for sign in (1, -1)
    )
    torch.testing.assert_close(
        ((ahead - behind) / (2 * step)).float(), (found[0] * direction).sum(), rtol=1e-2, atol=1e-2
    )


def test_a_result_that_is_written_over_an_input():
    one, other = torch.ones(3, requires_grad=True), torch.full((3,), 2.0)
    over = torch.zeros(3)
    with pytest.raises(RuntimeError, match="out="):
        torch.add(one, other, out=over)
    with DifferentiableOperations():
        made = torch.add(one, other, out=over)
    assert made.tolist() == [3.0] * 3 and over.tolist() == [0.0] * 3
    assert torch.autograd.grad(made.sum(), one)[0].tolist() == [1.0] * 3


def test_without_gradients_nothing_is_done():
    over = torch.zeros(3)
    with DifferentiableOperations(), torch.no_grad():
        torch.add(torch.ones(3, requires_grad=True), 1.0, out=over)
    assert over.tolist() == [2.0] * 3
