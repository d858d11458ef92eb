"""Operations of the host's transformers that autograd cannot go back through, and what is done in their place.

    comfy_kitchen's kernels     run as they are; the backward pass goes through the same function in torch's own words
    results with `out=`         which autograd refuses, are new tensors

Nothing of the host is changed: torch asks whoever is in its way about each operation, as long as the block is open.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.overrides import TorchFunctionMode

_KERNELS = "comfy_kitchen"


class DifferentiableOperations(TorchFunctionMode):
    """While it is open, gradients pass through such operations too; values stay what they were, bit for bit."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if not torch.is_grad_enabled() or not any(_needs_gradient(value) for value in (*args, *kwargs.values())):
            return func(*args, **kwargs)
        if isinstance(kwargs.get("out"), Tensor):
            del kwargs["out"]
        in_torch = _in_torch(func) if isinstance(func, torch._ops.OpOverloadPacket) else None
        if in_torch is None or kwargs:
            return func(*args, **kwargs)
        made = _Recomputed.apply(func, in_torch, *args)
        return made[0] if len(made) == 1 else made


def differentiable_operations(diffusion_model: Module) -> AbstractContextManager:
    """What lets gradients pass through the operations of this kind of model; UNets need nothing."""
    return nullcontext() if hasattr(diffusion_model, "input_blocks") else DifferentiableOperations()


def _needs_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _in_torch(operation: torch._ops.OpOverloadPacket) -> Callable[..., Any] | None:
    """A kernel as a function in torch's own words; None for other operations."""
    kind, _, name = str(operation).partition(".")
    return _torch_form(name) if kind == _KERNELS else None


@functools.cache
def _torch_form(name: str) -> Callable[..., Any] | None:
    return getattr(importlib.import_module(f"{_KERNELS}.backends.eager"), name, None)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, operation: Callable[..., Any], in_torch: Callable[..., Any], *args: Any) -> tuple:
        context.in_torch = in_torch
        context.others = [None if isinstance(value, Tensor) else value for value in args]
        context.save_for_backward(*(value for value in args if isinstance(value, Tensor)))
        context.is_tensor = [isinstance(value, Tensor) for value in args]
        made = operation(*args)
        return made if isinstance(made, tuple) else (made,)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple:
        saved = iter(context.saved_tensors)
        args = [
            next(saved).detach() if is_tensor else other
            for is_tensor, other in zip(context.is_tensor, context.others, strict=True)
        ]
        wanted = [index for index, needed in enumerate(context.needs_input_grad[2:]) if needed]
        with torch.enable_grad():
            for index in wanted:
                args[index].requires_grad_()
            made = context.in_torch(*args)
            made = made if isinstance(made, tuple) else (made,)
            found = torch.autograd.grad(made, [args[index] for index in wanted], gradients, allow_unused=True)
        by_index = dict(zip(wanted, found, strict=True))
        return (None, None, *(by_index.get(index) for index in range(len(args))))
