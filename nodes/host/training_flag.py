"""Newer hosts take fused and in-place paths, which have no backward pass, unless a flag says that a training runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management

_FLAG = "in_training"


@contextmanager
def host_in_training() -> Iterator[None]:
    """Tell the host that a training runs while the block is open; afterwards the flag is what it was."""
    before = getattr(comfy.model_management, _FLAG, None)
    if before is None:  # older hosts have neither the flag nor those paths
        yield
        return
    setattr(comfy.model_management, _FLAG, True)
    try:
        yield
    finally:
        setattr(comfy.model_management, _FLAG, before)
