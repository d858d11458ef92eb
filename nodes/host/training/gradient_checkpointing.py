"""Gradient checkpointing of a diffusion model's blocks: less memory for one more forward pass.

Every residual and transformer block keeps only its input for the backward pass and runs again there. The edited
projections must be edited then too, although the swap of their forwards is over by that time: torch opens it again
around every recomputation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import is_tensor
from torch.nn import Module
from torch.utils.checkpoint import checkpoint

from ..gate.projection_swap import swapped_forwards
from .fused_operations import differentiable_operations

Replacement = tuple[Module, Callable[..., Any]]


def checkpointed_forwards(diffusion_model: Module, swapped: Iterable[Replacement]) -> list[Replacement]:
    """What `swapped_forwards` needs for the model's blocks to run under gradient checkpointing.

    swapped: the replacements in force during the forward pass, which the recomputation needs as well.
    """
    swapped = list(swapped)
    edited = {module for module, _ in swapped}

    @contextmanager
    def again() -> Iterator[None]:
        with swapped_forwards(swapped), differentiable_operations(diffusion_model):
            yield

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), again()

    def under_checkpoint(block: Module) -> Callable[..., Any]:
        forward, learns = block.forward, any(module in edited for module in block.modules())

        def run(*args: Any, **kwargs: Any) -> Any:
            # Before the first edited layer there is nothing to go back to, and a checkpoint would keep the block's
            # input all the same.
            if not learns and not any(is_tensor(v) and v.requires_grad for v in (*args, *kwargs.values())):
                return forward(*args, **kwargs)
            # Nothing in the block draws random numbers, so there is no state of a generator to keep.
            options = {"use_reentrant": False, "preserve_rng_state": False, "context_fn": contexts}
            return checkpoint(forward, *args, **options, **kwargs)

        return run

    return [(block, under_checkpoint(block)) for block in _blocks(diffusion_model)]


def _blocks(diffusion_model: Module) -> list[Module]:
    """Transformer blocks (they have two attentions) and residual blocks (they have an embedding of the time)."""
    parts = [("attn1", "attn2"), ("self_attn", "cross_attn"), ("in_layers", "emb_layers", "out_layers")]
    modules = diffusion_model.modules()
    return [module for module in modules if any(all(hasattr(module, p) for p in names) for names in parts)]
