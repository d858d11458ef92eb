"""One call of the model under a patch: projections run other functions for its length, and find it by its thread.

The gate, the recorder of attention and the edits are such patches; each says what a call of its own is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from .cross_attention import Forward
from .projection_swap import Replacement, swapped_forwards


class ModelCall(NamedTuple):
    """What the host gives its APPLY_MODEL wrappers: the arguments of the model, by the host's order."""

    executor: Any
    latents: Tensor
    timestep: Tensor
    concat: Tensor | None
    context: Tensor | None
    control: Any
    options: Mapping[str, Any]
    conds: Mapping[str, Any]

    @property
    def base_model(self) -> Any:
        """The model that is running, which may be another object in the next call."""
        return self.executor.class_obj

    def run(self) -> Any:
        """Run the model and what other packs put around it."""
        _, *arguments, conds = self
        return self.executor(*arguments, **conds)


# Given a call and what the patch added to its conditioning: what the projections find as `current.call`, and what they
# run meanwhile; None leaves the call alone.
Begin = Callable[[ModelCall, Any], tuple[Any, Iterable[Replacement]] | None]


def around_calls(added: str, current: threading.local, begin: Begin) -> Callable[..., Any]:
    """Return a patch's APPLY_MODEL wrapper.

    added: the name of what the patch put into the conditioning, which no model would know what to do with.
    A call inside a call is already under the patch, and is left alone.
    """

    def apply_model(
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] = MappingProxyType({}),
        **conds: Any,
    ) -> Any:
        taken = conds.pop(added, None)
        call = ModelCall(executor, x, t, c_concat, c_crossattn, control, transformer_options, conds)
        begun = begin(call, taken) if getattr(current, "call", None) is None else None
        if begun is None:
            return call.run()
        current.call, replacements = begun
        try:
            with swapped_forwards(replacements):
                return call.run()
        finally:
            current.call = None

    return apply_model


def stand_in(current: threading.local, *place: Any) -> Forward:
    """Return the function that stands in for the projection of a place: `current.call.project(*place, states)`.

    It has to stay the same object from step to step and from run to run, since torch.compile compiles again for a new
    one; what changes is found through `current`, which holds one call per thread (the host runs several devices at
    once).  torch.compile calls it as it is: what is looked up and remembered there differs from call to call, and
    tracing it would compile every layer anew until the compiler gives up.
    """

    def forward(states: Tensor) -> Tensor:
        return current.call.project(*place, states)

    return cast(Forward, torch.compiler.disable(forward))
