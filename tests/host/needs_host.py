"""Skips what an old ComfyUI lacks, and nothing on a new one."""

from __future__ import annotations

import inspect

import pytest
from perfusion_pack.nodes.host.host_version import host_version, is_supported


def needs_host(version: str, what: str, has_it: bool) -> pytest.MarkDecorator:
    """Mark tests that use `what` of the host, which came with `version`: skipped where `has_it` is false.

    has_it: whether it is there, found by looking.  Raises AssertionError where a host of that version or a newer one
    seems to lack it: then the look is wrong, or the host has taken it away, and the tests must not vanish unseen.
    """
    assert has_it or not is_supported(host_version(), version), (
        f"ComfyUI {host_version()} lacks {what}, expected from {version} on"
    )
    return pytest.mark.skipif(not has_it, reason=f"needs ComfyUI {version}: {what}")


def takes(called: object, parameter: str) -> bool:
    """Whether a function or class of the host has a parameter of this name."""
    return parameter in inspect.signature(called).parameters


def train_lora_takes(parameter: str) -> bool:
    """Whether the host's Train LoRA node, once a V1 node, has this input."""
    from comfy_extras.nodes_train import TrainLoraNode

    return hasattr(TrainLoraNode, "execute") and takes(TrainLoraNode.execute, parameter)
