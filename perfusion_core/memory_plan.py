"""How many pictures go through the model at once, and how: by what one of them takes and what is free.

What is learned does not depend on it beyond the rounding of sums, only time and memory do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# By how much the steps may take more than so many times one picture: an allocator cannot use every gap.
HEADROOM = 1.1


@dataclass(frozen=True)
class PictureCost:
    """What forward and backward pass of one picture take, beyond the models: bytes at most, and seconds."""

    memory: int
    seconds: float = 0.0


@dataclass(frozen=True)
class MemoryPlan:
    """How the pictures of a step go through the model.

    micro_batch: pictures at once, out of batch_size.  free: bytes that they may take.
    plain, checkpointed: what one takes without and with gradient checkpointing; None where that was not tried, or was
    more than is free.
    """

    micro_batch: int
    batch_size: int
    gradient_checkpointing: bool
    free: int
    plain: PictureCost | None = None
    checkpointed: PictureCost | None = None

    @property
    def fits(self) -> bool:
        """Whether a picture finds room at all."""
        return pictures_in(self.free, self.cost) > 0

    @property
    def cost(self) -> PictureCost | None:
        """Of one picture, as they go through the model."""
        return self.checkpointed if self.gradient_checkpointing else self.plain

    def text(self) -> str:
        """What was decided and why, in a line."""
        number, size = self.micro_batch, self.batch_size
        many = "one picture at a time" if number == 1 else f"{number} pictures at a time"
        many = f"all {size} pictures at once" if number == size > 1 else many
        how = " with gradient checkpointing" if self.gradient_checkpointing else ""
        advice = "" if self.fits else "; that may be too much: close other programs or take a smaller type of model"
        return f"{many}{how} ({self._reason()}){advice}"

    def _reason(self) -> str:
        free = f"{_gigabytes(self.free)} free"
        if self.cost is None:
            return f"more than the {free} for one"
        without = f", {_gigabytes(self.plain.memory)} without it" if self.gradient_checkpointing and self.plain else ""
        return f"{_gigabytes(self.cost.memory)} for one{without}; {free}"


def pictures_in(free: int, cost: PictureCost | None) -> int:
    """How many pictures find room in so many bytes."""
    return 0 if cost is None or free <= 0 else int(free / max(1.0, cost.memory * HEADROOM))


def memory_plan(
    batch_size: int,
    free: int,
    plain: PictureCost | None,
    checkpointed: PictureCost | None = None,
    at_most: int | None = None,
) -> MemoryPlan:
    """The plan for pictures of these costs: see `MemoryPlan`.  at_most: pictures at once, whatever room there is.

    Fewer pictures at once cost little time and gradient checkpointing a third more arithmetic, so it is taken only
    where not even one picture finds room without it.
    """
    checkpointing = pictures_in(free, plain) == 0
    wanted = batch_size if at_most is None else min(batch_size, at_most)
    room = max(1, min(wanted, pictures_in(free, checkpointed if checkpointing else plain)))
    passes = math.ceil(batch_size / room)
    return MemoryPlan(math.ceil(batch_size / passes), batch_size, checkpointing, free, plain, checkpointed)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e9:.2f} GB"
