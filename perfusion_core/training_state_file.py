"""The file from which a training goes on after Cancel, an error or a power cut: safetensors, written in one step.

It holds the state between two steps, the inputs that must be the same for going on, and the values at step 0, by which
another model is recognised even where it bears the same name.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import PerfusionError
from .step_choice import Validation
from .tensor_file import TensorHeader, read_tensor_header, read_tensors, write_tensors
from .training_state import TrainingState

FORMAT = "perfusion-training-state"
VERSION = 1
KIND = "Perfusion training state"

# Names of inputs that were not noted at first.  States from before go on, with what these are now; their mirrored
# pictures were mirrored latents, which are worse.
NEW_INPUTS = ("VAE", "model", "mirrored pictures")

START = "start."
LOSSES = "losses"

# Relative difference of the values at step 0 up to which two models are one: above the rounding of half precision on
# another device, far below what tells two checkpoints of one family apart.
SAME_MODEL = 0.02


@dataclass(frozen=True, eq=False)
class KeptTraining:
    """A training on disk.

    state: to go on from.  inputs: what it was made with, name for the user -> JSON value.  start: see ConceptTrainer.
    finished: whether all its steps were made and its concept was found good.  name, preset: with which it was started,
    "" in states of earlier versions; of a preset the inputs say what counts, since another one may have the same.
    """

    state: TrainingState
    inputs: Mapping[str, Any]
    start: Mapping[str, Tensor]
    finished: bool = False
    name: str = ""
    preset: str = ""

    def differing_inputs(self, inputs: Mapping[str, Any]) -> list[str]:
        """The names of the inputs that are not the same here and there."""
        names = [*inputs, *(name for name in self.inputs if name not in inputs)]
        # States of earlier versions do not know the new ones, and still go on.
        names = [name for name in names if name in self.inputs or name not in NEW_INPUTS]
        return [name for name in names if self.inputs.get(name) != inputs.get(name)]

    def not_noted(self, inputs: Mapping[str, Any]) -> list[str]:
        """The names of the inputs that this state of an earlier version does not know."""
        return [name for name in NEW_INPUTS if name in inputs and name not in self.inputs]

    def starts_like(self, start: Mapping[str, Tensor]) -> bool:
        """Whether a training that starts at these values is one of the same model."""
        if {name: t.shape for name, t in self.start.items()} != {name: t.shape for name, t in start.items()}:
            return False
        mine, other = (torch.cat([d[n].flatten().float().cpu() for n in sorted(d)]) for d in (self.start, start))
        return bool((mine - other).norm() <= SAME_MODEL * mine.norm())


def save_training(path: str | os.PathLike[str], kept: KeptTraining, replace: bool = True) -> None:
    """Write the training in one step.  replace: as for `write_tensors`.

    Raises PerfusionError where the file cannot be written.
    """
    state = kept.state
    tensors = {**state.tensors, **{START + name: tensor for name, tensor in kept.start.items()}}
    tensors[LOSSES] = torch.tensor(state.losses, dtype=torch.float64)
    metadata = {
        "perfusion.format": FORMAT,
        "perfusion.version": str(VERSION),
        "perfusion.step": str(state.step),
        "perfusion.micro_batch": str(state.micro_batch),
        "perfusion.validations": json.dumps([[v.step, v.error] for v in state.validations]),
        "perfusion.generator": base64.b64encode(state.generator.cpu().numpy().tobytes()).decode(),
        "perfusion.inputs": json.dumps(dict(kept.inputs), sort_keys=True),
        "perfusion.finished": json.dumps(kept.finished),
        "perfusion.name": kept.name,
        "perfusion.preset": kept.preset,
    }
    write_tensors(path, tensors, metadata, replace)


def is_finished(path: str | os.PathLike[str]) -> bool:
    """Whether the file holds a training that was finished, by its header alone; False for one that cannot be read."""
    try:
        header = read_tensor_header(path, KIND)
        _check_header(header, path)
        return json.loads(header.metadata["perfusion.finished"]) is True
    except (PerfusionError, KeyError, ValueError, RecursionError):
        return False


def load_training(path: str | os.PathLike[str]) -> KeptTraining:
    """Return the training in the file. Raises PerfusionError, one sentence, for every file that holds none."""
    header, tensors = read_tensors(path, KIND, lambda header: _check_header(header, path))
    metadata = header.metadata
    try:
        generator = torch.frombuffer(
            bytearray(base64.b64decode(metadata["perfusion.generator"], validate=True)), dtype=torch.uint8
        )
        torch.Generator().set_state(generator)  # refuses what is no state
        step, micro_batch = int(metadata["perfusion.step"]), int(metadata["perfusion.micro_batch"])
        inputs, finished = json.loads(metadata["perfusion.inputs"]), json.loads(metadata["perfusion.finished"])
        noted = json.loads(metadata["perfusion.validations"])
        validations = tuple(Validation(int(at), float(error)) for at, error in noted)
        losses = tuple(tensors.pop(LOSSES).tolist())
        if step != len(losses) or micro_batch < 1 or not isinstance(inputs, dict) or not isinstance(finished, bool):
            raise ValueError(f"step {step} with {len(losses)} losses and a micro-batch of {micro_batch}")
    except (KeyError, ValueError, TypeError, RuntimeError, RecursionError, binascii.Error) as problem:
        raise PerfusionError(f"{path} is a {KIND} with a wrong header ({problem}); train anew.") from None
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise PerfusionError(f"{path} is a {KIND} with numbers that are not finite; train anew.")
    start = {name.removeprefix(START): tensors.pop(name) for name in list(tensors) if name.startswith(START)}
    state = TrainingState(step, micro_batch, losses, generator, tensors, validations)
    names = [metadata.get(f"perfusion.{of}", "") for of in ("name", "preset")]
    return KeptTraining(state, inputs, start, finished, *names)


def _check_header(header: TensorHeader, path: str | os.PathLike[str]) -> None:
    found = (header.metadata.get("perfusion.format"), header.metadata.get("perfusion.version"))
    if found != (FORMAT, str(VERSION)):
        raise PerfusionError(
            f"{path} was expected to be a {KIND} of version {VERSION}, but its header says {found[0]!r}, version"
            f" {found[1]!r}; train anew or update the pack."
        )
