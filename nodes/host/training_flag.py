"""Newer hosts take fused and in-place paths, which have no backward pass, unless a flag says that a training runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management

from .old_hosts import has_training_flag


@contextmanager
def host_in_training() -> Iterator[None]:
    """Tell the host that a training runs while the block is open; afterwards the flag is what it was."""
    if not has_training_flag():
        yield
        return
    before = comfy.model_management.in_training
    comfy.model_management.in_training = True
    try:
        yield
    finally:
        comfy.model_management.in_training = before
