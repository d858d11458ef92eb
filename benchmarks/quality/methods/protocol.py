"""What every method is to the experiments: a training, and a way to use what was learned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..workbench import Lesson, Workbench


@dataclass(frozen=True, eq=False)
class Artefact:
    """What a training leaves: the word, its superclass, and the tensors that the method needs."""

    word: str
    superclass: str
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """A way of teaching the model a thing.

    name: in tables.  training: methods of one training share their artefacts.  version, applied: raised when the code
    changes what comes out of a training or of a painting, so that old results are not taken for new ones.
    Samples seen = steps x batch_size, the same for all methods of a comparison."""

    name: str
    training: str
    version: int
    applied: int

    def complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with all defaults, so that changed defaults are not taken for the old ones."""

    def train(self, bench: Workbench, lesson: Lesson, settings: Mapping[str, Any], seed: int) -> Any:
        """Learn the thing; the workbench's models keep their values."""

    def apply(self, bench: Workbench, artefacts: Sequence[Any], knob: float) -> tuple[Any, Any]:
        """MODEL and CLIP with what was learned of one or several things, at one setting of the method's knob."""

    def phrase(self, artefact: Any, knob: float) -> str:
        """What stands in a prompt for the thing."""

    def altered(self) -> AbstractContextManager:
        """What has to be in force while the method trains and paints."""

    def save(self, artefact: Any, path: Path) -> None:
        """Write an artefact into one file."""

    def load(self, path: Path) -> Any:
        """Read an artefact from its file."""

    def renamed(self, artefact: Any, word: str) -> Any:
        """The artefact under another word, so that one thing can be loaded twice."""


class TensorMethod:
    """A method whose artefacts are tensors in a safetensors file."""

    version = applied = 2
    defaults: Mapping[str, Any] = {}

    def complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(settings) - set(self.defaults))
        if unknown:
            raise ValueError(f"The settings {unknown} are unknown to this method; there are {sorted(self.defaults)}.")
        return {**self.defaults, **settings}

    def altered(self) -> AbstractContextManager:
        return nullcontext()

    def save(self, artefact: Artefact, path: Path) -> None:
        about = {"about": json.dumps({"word": artefact.word, "superclass": artefact.superclass})}
        save_file({name: tensor.contiguous() for name, tensor in artefact.tensors.items()}, path, metadata=about)

    def load(self, path: Path) -> Artefact:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            return Artefact(**about, tensors={name: file.get_tensor(name) for name in file.keys()})

    def renamed(self, artefact: Artefact, word: str) -> Artefact:
        return Artefact(word, artefact.superclass, artefact.tensors)
