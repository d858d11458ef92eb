"""Replacing the forward of modules for the length of one call, leaving nothing behind.

Why the instance's `forward` and neither hooks, nor another module in its place, nor a patch of the class: the weights
stay where LoRA, low VRAM and fp8 look for them, torch.compile guards an instance's forward but not its hooks, and
other instances of the class never notice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from .cross_attention import Half

Replacement = tuple[Module | Half, Callable[[Tensor], Tensor]]

_ABSENT = object()

logger = logging.getLogger(__name__)


@contextmanager
def swapped_forwards(replacements: Iterable[Replacement]) -> Iterator[None]:
    """Let every module of (module, function) run the function as its forward inside the with block.

    On leaving, also through an exception, every module gets back the forward it had, in reverse order, so that a
    module may be named twice. Keep the block open until after the backward pass when gradient checkpointing is on.
    """
    swapped: list[tuple[Module, Callable[[Tensor], Tensor], Any]] = []
    try:
        for module, function in _of_modules(replacements):
            swapped.append((module, function, module.__dict__.get("forward", _ABSENT)))
            module.forward = function
        yield
    finally:
        foreign = False
        for module, function, previous in reversed(swapped):
            foreign = foreign or module.__dict__.get("forward") is not function
            if previous is not _ABSENT:
                module.forward = previous
            elif "forward" in module.__dict__:
                del module.forward
        if foreign:
            logger.warning("Other code replaced the forward of a projection that was swapped; it may run on by itself.")


def _of_modules(replacements: Iterable[Replacement]) -> Iterator[tuple[Module, Callable[[Tensor], Tensor]]]:
    """The replacements with the halves of a fused projection put together again."""
    fused: dict[int, tuple[Half, list[Callable[[Tensor], Tensor]]]] = {}
    for module, function in replacements:
        if isinstance(module, Half):
            # What is not replaced stays what it was.
            both = [Half(module.whole, second).forward for second in (False, True)]
            fused.setdefault(id(module.whole), (module, both))[1][module.second] = function
        else:
            yield module, function
    for half, both in fused.values():
        yield half.whole, lambda encoding, both=both: torch.cat([project(encoding) for project in both], dim=-1)
