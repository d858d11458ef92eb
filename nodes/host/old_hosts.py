"""All that the oldest supported ComfyUI does otherwise than today's, and from which version on each of it can go.

What a host offers is found out by looking at it, so that nightly builds and forks are served as well. Nothing of the
host is changed. Workflows and API prompts are the same on all hosts.

    what an old host lacks                                          it can go when the oldest host is
    a socket that grows (io.Autogrow)                               0.8.0     GrowingInput
    refusing a value that a list of choices does not have           0.8.0     choice
    inputs marked as advanced                                       0.10.0    ADVANCED
    search aliases of nodes                                         0.11.0    search_aliases
    dynamic VRAM: the class of its MODELs, and the question         0.12.0    core_patcher, is_dynamic
    a flag that says that a training runs                           0.14.0    has_training_flag
    loading a CLIP outside of dynamic VRAM                          0.16.0    outside_dynamic_memory
    the name of an embedding among what its look-up returns         0.33.0    embedding_lookup

Met where they arise, in words that hold for all hosts: Cancel is an ordinary Exception before 0.20.0 (training/job),
and LoRAs on fp8 weights are applied by operations without gradients, still in 0.20.1 (training/denoising_task).
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.model_patcher
from comfy.sd1_clip import SDTokenizer
from comfy_api.latest import io


def _takes(called: Callable[..., Any], parameter: str) -> bool:
    return parameter in inspect.signature(called).parameters


# For an input shown only on request, as `io.Float.Input("strength", ..., **ADVANCED)`; old hosts show it always.
ADVANCED: dict[str, bool] = {"advanced": True} if _takes(io.Float.Input, "advanced") else {}


def search_aliases(*words: str) -> dict[str, list[str]]:
    """Other words that a node is found by, as `io.Schema(..., **search_aliases("teddy"))`; old hosts search names."""
    return {"search_aliases": [*dict.fromkeys(words)]} if _takes(io.Schema, "search_aliases") else {}


class _ListedChoice(io.Combo.Input):
    """Its type is the list of its options, as in V1 nodes: old hosts check values against such a list alone."""

    def get_io_type(self) -> list[str]:
        return self.options


def choice(name: str, options: list[str], **settings: Any) -> io.Combo.Input:
    """An input for one of the options; any other value is refused before anything of a prompt runs."""
    kind = io.Combo.Input if hasattr(io, "Autogrow") else _ListedChoice  # both came in the same change of the host
    return kind(name, options=options, **settings)


@dataclass(frozen=True)
class GrowingInput:
    """Inputs `name.prefix0`, `name.prefix1`, ... of one kind, which `execute` gets as one dict `name` by `prefix0`, ...

    None of them is needed, nor any one before another, so that a node before them may be muted or bypassed.
    New hosts show one free input more than are connected. Old ones show a few of them from the start, and take the
    others, up to `most`, from API prompts and from workflows that were made on new hosts.
    """

    name: str
    prefix: str
    most: int
    shown: int = 4  # by hosts where it does not grow

    def inputs(self, template: io.Input, tooltip: str) -> list[io.Input]:
        """For the schema.  template: one of them; tooltip: of the whole, where it grows."""
        if hasattr(io, "Autogrow"):
            grown = io.Autogrow.TemplatePrefix(template, prefix=self.prefix, min=0, max=self.most)
            return [io.Autogrow.Input(self.name, tooltip=tooltip, template=grown)]
        inputs = [copy.copy(template) for _ in range(self.shown)]
        for number, one in enumerate(inputs):
            one.id, one.display_name, one.optional = self._id(number), f"{self.prefix}{number}", True
        return inputs

    def gathered(self, execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
        """Decorate a node's `execute`, under its `classmethod`, to get the dict on old hosts too."""
        if hasattr(io, "Autogrow"):
            return execute
        position = [*inspect.signature(execute).parameters].index(self.name) - 1  # behind the class

        @functools.wraps(execute)
        def with_dict(cls: type[io.ComfyNode], *values: Any, **inputs: Any) -> io.NodeOutput:
            numbers = [number for number in range(self.most) if self._id(number) in inputs]
            grown = {f"{self.prefix}{number}": inputs.pop(self._id(number)) for number in numbers}
            if len(values) <= position:  # else Python code gave the dict itself
                inputs.setdefault(self.name, grown)
            return execute(cls, *values, **inputs)

        return with_dict

    def _id(self, number: int) -> str:
        return f"{self.name}.{self.prefix}{number}"


def core_patcher() -> type[comfy.model_patcher.ModelPatcher]:
    """The class of the MODELs that the host's own loaders make, in dynamic VRAM where that is on."""
    return getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


def is_dynamic(patcher: comfy.model_patcher.ModelPatcher) -> bool:
    """Whether a MODEL, or the model in a CLIP, is in the host's dynamic VRAM."""
    return hasattr(patcher, "is_dynamic") and patcher.is_dynamic()


def outside_dynamic_memory(wanted: bool) -> dict[str, bool]:
    """What comfy.sd.CLIP is told to stay outside of dynamic VRAM; nothing where that is not asked for, as by old
    hosts, which do not know the argument."""
    return {"disable_dynamic": True} if wanted else {}


def has_training_flag() -> bool:
    """Whether the host takes paths without a backward pass unless model_management.in_training is set."""
    return hasattr(comfy.model_management, "in_training")


def embedding_lookup(host: Callable[[str], tuple], embeddings: Mapping[str, Any]) -> Callable[[str], tuple]:
    """Return the host tokenizer's look-up of an embedding by the text behind `embedding:`, which knows these too.

    It returns the embedding, its name (not in old hosts), and the text behind it."""

    def look_up(text: str) -> tuple:
        name, *behind = text.split()
        if name not in embeddings:
            return host(text)
        leftover = " ".join(behind)
        return (embeddings[name], name, leftover) if _LOOKUP_TELLS_NAME else (embeddings[name], leftover)

    return look_up


def _lookup_tells_name() -> bool:
    """Asked of the host's own class, with no folder to look in."""
    nowhere = SimpleNamespace(embedding_directory=[], embedding_size=0, embedding_key=None)
    return len(SDTokenizer._try_get_embedding(nowhere, "none")) == 3


_LOOKUP_TELLS_NAME = _lookup_tells_name()
