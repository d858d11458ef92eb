"""Telling that memory ran out from other errors, and saying so in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import PerfusionError

# What helps wherever too much else is in memory.
CLOSE_OTHERS = "close other programs that use the device, or load the model in a smaller type (bf16 or fp8)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device; some have no exception of their own for it, only a text."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    )


@contextmanager
def memory_for(doing: str, what_helps: str = CLOSE_OTHERS) -> Iterator[None]:
    """Inside it, memory that runs out becomes a PerfusionError: "Memory ran out while `doing`; `what_helps`."."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise PerfusionError(f"Memory ran out while {doing}; {what_helps}.") from None
