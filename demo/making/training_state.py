"""What the training scripts of the demo model share: seeds and device, threads, the optimiser of matrices, a state that
a stopped run resumes from, and the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn


def seeded(seed: int) -> tuple[np.random.Generator, torch.device]:
    """Seeds torch; returns a NumPy generator with the same seed and the device to train on."""
    torch.manual_seed(seed)
    return np.random.default_rng(seed), torch.device("cuda" if torch.cuda.is_available() else "cpu")


def batch_threads(count: int, device: torch.device) -> tuple[ThreadPoolExecutor, int]:
    """Threads that share a batch, and their number: `count` of Python with one of torch's each on a CPU, one elsewhere.

    At this size a core waiting for the others after every operation costs more than the second half of the
    interpreter's work.
    """
    if device.type == "cpu":
        torch.set_num_threads(1)
    else:
        count = 1
    return ThreadPoolExecutor(count), count


class MatrixOptimiser(torch.optim.Muon):
    """Muon over parameters of two or more dimensions, each flattened to a matrix after its first."""

    def __init__(self, parameters: list[nn.Parameter], rate: float) -> None:
        self.whole = parameters
        matrices = [nn.Parameter(parameter.data.view(len(parameter), -1)) for parameter in parameters]
        super().__init__(matrices, lr=rate, weight_decay=1e-2, adjust_lr_fn="match_rms_adamw")

    def step(self, closure: None = None) -> None:
        matrices = self.param_groups[0]["params"]
        for parameter, matrix in zip(self.whole, matrices, strict=True):
            matrix.grad = parameter.grad.view_as(matrix)
        super().step(closure)


def moving_average(module: nn.Module, decay: float, use_buffers: bool = False) -> torch.optim.swa_utils.AveragedModel:
    """The exponential moving average of a module's weights, over ever more of the last steps, at most 1 / (1 - decay):
    a run that starts from other weights, or from noise, has forgotten them at its end however short it was."""

    def update(averages: Sequence[torch.Tensor], values: Sequence[torch.Tensor], steps: torch.Tensor) -> None:
        steps = int(steps)
        share = 1 - min(decay, (1 + steps) / (10 + steps))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), share)
            else:
                average.copy_(value)

    return torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=torch.no_grad()(update), use_buffers=use_buffers)


def step_in_parts(
    pool: Executor,
    part_of_batch: Callable[..., tuple[float, Sequence[torch.Tensor]]],
    parts: Sequence[Sequence[object]],
    trained: Sequence[nn.Parameter],
    optimisers: Sequence[torch.optim.Optimizer],
) -> float:
    """One step from the mean of the gradients of a batch's parts, each computed by a thread; returns the mean loss.

    part_of_batch: gives a part's loss and its gradients of `trained`.  parts: for each of its arguments, that argument
    of every part.
    """
    losses, of_parts = zip(*pool.map(part_of_batch, *parts), strict=True)
    for parameter, *gradients in zip(trained, *of_parts, strict=True):
        parameter.grad = torch.stack(gradients).mean(dim=0)
    nn.utils.clip_grad_norm_(trained, 1.0)
    list(pool.map(lambda optimiser: optimiser.step(), optimisers))
    return sum(losses) / len(losses)


def save_state(
    path: Path, model: nn.Module, average: nn.Module, optimisers: Sequence[torch.optim.Optimizer], step: int
) -> None:
    """Write the state in one step, so that a run that dies while writing leaves the last one."""
    part = path.with_suffix(".part")
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "step": step,
    }
    torch.save(state, part)
    part.replace(path)


def load_state(path: Path, model: nn.Module, average: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> int:
    """Load the state if there is one, and return the number of steps made so far."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    for optimiser, kept in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(kept)
    return state["step"]


def set_learning_rate(
    optimisers: Sequence[torch.optim.Optimizer], highest: float, step: int, warm_up: int, progress: float, last: float
) -> None:
    """A linear start over `warm_up` steps, then half a cosine from `highest` down to `last` times it at progress 1.

    math.cos, not NumPy's: a state with a NumPy number in it cannot be loaded with weights_only.
    """
    rate = highest * min(1, (step + 1) / warm_up) * (last + (1 - last) * (0.5 + 0.5 * math.cos(math.pi * progress)))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate
