"""What one picture takes, measured before the first step, and the plan that is made of it.

On CUDA (and ROCm) torch's own statistics say it; elsewhere the bytes of all tensors are added up as they come and go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ....perfusion_core.live_memory import LiveMemory
from ....perfusion_core.memory_plan import MemoryPlan, PictureCost, memory_plan, pictures_in
from ....perfusion_core.out_of_memory import is_out_of_memory
from ....perfusion_core.training import ConceptTrainer
from ....perfusion_core.training_trial import try_one_picture
from .denoising_task import HostDenoisingTask


class TooMuchError(Exception):
    """A picture takes more than it may."""


def plan_memory(trainer: ConceptTrainer, task: HostDenoisingTask, checkpointing: bool = False) -> MemoryPlan:
    """Try one picture, and let the training go on as the plan says.

    checkpointing: whether gradient checkpointing is taken even where there is room without it.
    No more pictures are taken at once than the trainer says: one that goes on so goes on bit for bit as it began.
    Nothing fails here for want of memory: a picture that finds no room is one that the first step will speak of.
    """
    size, free = trainer.micro_batch, free_memory(task.device)
    plain = None if checkpointing else picture_cost(trainer, task, False, free)
    if not checkpointing and pictures_in(free, plain) < size:
        # Others make room, as far as they can.
        task.memory_of_a_step = size * (plain.memory if plain else free)
        task.load()
        more = free_memory(task.device)
        if plain is None and more > free:
            plain = picture_cost(trainer, task, False, more)
        free = more
    checkpointed = None
    if pictures_in(free, plain) == 0:
        checkpointed = picture_cost(trainer, task, True, None)
    plan = memory_plan(trainer.settings.batch_size, free, plain, checkpointed, at_most=size)
    trainer.micro_batch, task.gradient_checkpointing = plan.micro_batch, plan.gradient_checkpointing
    task.memory_of_a_step = plan.micro_batch * plan.cost.memory if plan.cost else 0
    return plan


def free_memory(device: torch.device) -> int:
    """Bytes that the training may take; some of a card the host keeps for others (its --reserve-vram)."""
    free: Any = comfy.model_management.get_free_memory(device)  # a number, unless it is asked for more
    kept = 0 if device.type == "cpu" else comfy.model_management.extra_reserved_memory()
    return max(0, int(free - kept))


def memory_in_use() -> str:
    """How much of the memory that models run in is in use, by whatever program: "memory 5.2 of 24.0 GB"."""
    device = comfy.model_management.get_torch_device()
    total: Any = comfy.model_management.get_total_memory(device)  # as above
    free: Any = comfy.model_management.get_free_memory(device)
    used = total - free
    return f"memory {used / 2**30:.1f} of {total / 2**30:.1f} GB"


def picture_cost(
    trainer: ConceptTrainer, task: HostDenoisingTask, checkpointing: bool, limit: int | None
) -> PictureCost | None:
    """What a picture of the largest size takes; None where memory ran out, or where it would be more than `limit`.

    It is given up as soon as it holds more, so that no driver moves memory elsewhere instead of failing."""
    picture = max(range(task.picture_count), key=lambda number: task.latents[number].numel())
    before, task.gradient_checkpointing = task.gradient_checkpointing, checkpointing
    try:
        with peak_memory(task.device, limit) as peak:
            try_one_picture(trainer, picture)
        started = time.monotonic()  # of a second one: the first also waits for what is made once
        try_one_picture(trainer, picture)
        return PictureCost(max(1, peak()), time.monotonic() - started)
    except Exception as error:
        if not (isinstance(error, TooMuchError) or is_out_of_memory(error)):
            raise
    finally:
        task.gradient_checkpointing = before
    comfy.model_management.soft_empty_cache()
    return None


@contextmanager
def peak_memory(device: torch.device, limit: int | None = None) -> Iterator[Callable[[], int]]:
    """Gives the function that says, afterwards, how many bytes more than before were taken at most in the block.

    Raises TooMuchError in it as soon as the tensors kept for a backward pass make it more than `limit`."""
    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        with keeping_less_than(limit, lambda: torch.cuda.memory_allocated(device) - held):
            yield lambda: torch.cuda.max_memory_allocated(device) - held
    else:
        counted = LiveMemory()
        with counted, keeping_less_than(limit, lambda: counted.now):
            yield lambda: counted.peak


@contextmanager
def keeping_less_than(limit: int | None, held: Callable[[], int]) -> Iterator[None]:
    """Raise TooMuchError in the block as soon as something is kept for a backward pass while more than `limit` is
    held."""
    if limit is None:
        yield
        return

    def keep(tensor: Tensor) -> Tensor:
        if held() > limit:
            raise TooMuchError
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield
