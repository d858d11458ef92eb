"""A swap lasts as long as its with block and leaves every module as it was."""

import logging

import pytest
import torch
from perfusion_pack.nodes.host.gate.projection_swap import swapped_forwards


@pytest.fixture
def linear():
    return torch.nn.Linear(2, 2)


def test_the_function_runs_inside_the_block_only(linear):
    x = torch.ones(1, 2)
    before = linear(x)
    with swapped_forwards([(linear, lambda x: x * 3)]):
        assert torch.equal(linear(x), x * 3)
    assert torch.equal(linear(x), before)
    assert "forward" not in linear.__dict__


def test_an_exception_restores_too(linear):
    with pytest.raises(RuntimeError), swapped_forwards([(linear, torch.neg)]):
        raise RuntimeError
    assert "forward" not in linear.__dict__


def test_a_failure_while_swapping_restores_what_was_swapped(linear):
    def replacements():
        yield linear, torch.neg
        raise RuntimeError

    with pytest.raises(RuntimeError), swapped_forwards(replacements()):
        pass
    assert "forward" not in linear.__dict__


def test_a_forward_that_was_there_comes_back_and_a_module_may_be_named_twice(linear):
    linear.forward = torch.abs
    with swapped_forwards([(linear, torch.neg), (linear, torch.sqrt)]):
        assert linear.forward is torch.sqrt
    assert linear.forward is torch.abs


def test_a_foreign_forward_is_reported_and_removed(linear, caplog):
    with caplog.at_level(logging.WARNING), swapped_forwards([(linear, torch.neg)]):
        linear.forward = torch.abs
    assert "forward" not in linear.__dict__
    assert "Other code" in caplog.text
