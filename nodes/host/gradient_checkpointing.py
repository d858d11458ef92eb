"""Gradient checkpointing of a diffusion model's blocks: less memory for one more forward pass.

Every residual and transformer block keeps only its input for the backward pass and runs again there. The edited
projections must be edited then too, although the swap of their forwards is over by that time: torch opens it again
around every recomputation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch.nn import Module
from torch.utils.checkpoint import checkpoint

from .projection_swap import swapped_forwards

Replacement = tuple[Module, Callable[..., Any]]


def checkpointed_forwards(diffusion_model: Module, swapped: Iterable[Replacement]) -> list[Replacement]:
    """What `swapped_forwards` needs for the model's blocks to run under gradient checkpointing.

    swapped: the replacements in force during the forward pass, which the recomputation needs as well.
    """
    swapped = list(swapped)

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), swapped_forwards(swapped)

    def under_checkpoint(forward: Callable[..., Any]) -> Callable[..., Any]:
        # Nothing in the block draws random numbers, so there is no state of a generator to keep.
        return lambda *args, **kwargs: checkpoint(
            forward, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts, **kwargs
        )

    return [(block, under_checkpoint(block.forward)) for block in _blocks(diffusion_model)]


def _blocks(diffusion_model: Module) -> list[Module]:
    """Transformer blocks (they have two attentions) and residual blocks (they have an embedding of the time)."""
    parts = [("attn1", "attn2"), ("in_layers", "emb_layers", "out_layers")]
    modules = diffusion_model.modules()
    return [module for module in modules if any(all(hasattr(module, p) for p in names) for names in parts)]
