"""What a bug report needs, in the log where PERFUSION_DEBUG=1 is set: versions, the inputs of nodes, concepts.

    Perfusion debug: PerfusionLoadConcept: concept_file one of 3 files, bias 0.85, word text of 0 letters, ...

None of it is what somebody wrote, painted or named: of a text its length is told, of a picture its size, of a file that
it is one, of a word how many tokens it has.
"""

from __future__ import annotations

import logging
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from comfy_api.latest import io
from torch import Tensor

from ...perfusion_core.concept import Concept, GatedConcept
from .host_version import host_name

SWITCH = "PERFUSION_DEBUG"
# Of a training's settings, the texts that the pack itself chose.
_OWN_TEXTS = ("chosen_by", "date", "form", "masks")
_NUMBERS = re.compile(r"[-+\d.,eE\s]*")
_MOST = 8  # of what a list holds

logger = logging.getLogger(__name__)


def debugging() -> bool:
    """Whether the switch is on."""
    return os.environ.get(SWITCH, "0").strip().lower() not in ("", "0", "false", "no", "off")


def tell_versions() -> None:
    """Log what the pack runs on and in, where the switch is on."""
    if debugging():
        logger.info("Perfusion debug: %s", versions())


def tell_inputs(schema: io.Schema, inputs: Mapping[str, Any], file_choices: set[str]) -> None:
    """Log the inputs of a node that is about to run, where the switch is on.

    file_choices: names of the inputs whose choices are files, which are not told."""
    if not debugging():
        return
    try:
        told = [f"{one.id} {_told(one, inputs[one.id], file_choices)}" for one in schema.inputs if one.id in inputs]
        logger.info("Perfusion debug: %s: %s", schema.node_id, ", ".join(told) or "no inputs")
    except Exception:  # a node that runs is worth more than what is said of it
        logger.exception("Perfusion debug: the inputs of %s could not be told.", schema.node_id)


def versions() -> str:
    """Versions of ComfyUI, this pack, torch and Python, the system, and the device with its memory."""
    device = comfy.model_management.get_torch_device()
    total: Any = comfy.model_management.get_total_memory(device)  # a number, unless it is asked for more
    facts = {
        "": host_name(),
        "pack": pack_version(),
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "device": comfy.model_management.get_torch_device_name(device),
        "memory": f"{total / 2**30:.1f} GB, {comfy.model_management.vram_state.name}",
    }
    return ", ".join(f"{name} {fact}".strip() for name, fact in facts.items())


def pack_version() -> str:
    """The pack's version as pyproject.toml says it."""
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'(?m)^version = "([^"]+)"', text)
    return found[1] if found else "of unknown version"


def _told(one: io.Input, value: Any, file_choices: set[str]) -> str:
    if isinstance(value, list) and value:
        entries = [_told(one, entry, file_choices) for entry in value[:_MOST]]
        return entries[0] if len(value) == 1 else f"[{len(value)}: {'; '.join(entries)}]"
    if isinstance(one, io.Combo.Input) and isinstance(value, str):
        options = [*(one.options or ())]
        shown = value if one.id not in file_choices and value in options else f"one of {len(options)} choices"
        return shown
    return described(value)


def described(value: Any) -> str:
    """What a value is, without what anybody wrote, painted or named in it."""
    if value is None or isinstance(value, bool | int | float):
        return f"{value}"
    if isinstance(value, str):
        return f"'{value.strip()}'" if value and _NUMBERS.fullmatch(value) else f"text of {len(value)} letters"
    if isinstance(value, Tensor):
        return f"{' x '.join(map(str, value.shape))} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, GatedConcept):
        return described_concept(value)
    if isinstance(value, tuple | list):
        return f"[{len(value)}: {'; '.join(map(described, value[:_MOST]))}]"
    if isinstance(value, dict):  # a LATENT, or the sockets of an input that grows
        return f"{{{', '.join(f'{name} {described(entry)}' for name, entry in [*value.items()][:_MOST])}}}"
    return _described_model(value)


def described_concept(gated: GatedConcept) -> str:
    """The header of a concept's file, and how it is used."""
    concept: Concept = gated.concept
    widths = sorted({len(target) for target in concept.value_targets.values()})
    used = {name: getattr(gated, name) for name in ("bias", "temperature", "strength", "lock")}
    header = {name: getattr(concept, name) for name in ("base_model", "form", "encoding_width", "clip_layer", "lock")}
    header |= {
        "recommends": (concept.bias, concept.temperature),
        "statistics": concept.statistics_hash,
        "word": {key: f"{len(vectors)} x {vectors.shape[1]}" for key, vectors in concept.word_vectors.items()},
        "superclass": {
            key: f"{len(vectors)} x {vectors.shape[1]}" for key, vectors in concept.superclass_vectors.items()
        },
        "offset": None if concept.encoding_offset is None else f"{len(concept.encoding_offset)} positions",
        "layers": f"{len(concept.value_targets)} of widths {widths}",
        "picture": concept.picture is not None,
        "training": {name: value for name, value in sorted(concept.training.items()) if _is_told(name, value)},
    }
    return f"concept {header} used with {used} from {gated.start_percent} to {gated.end_percent}"


def _is_told(name: str, value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float) or (name in _OWN_TEXTS and isinstance(value, str))


def _described_model(value: Any) -> str:
    """Classes of a MODEL, a CLIP or anything else, and what is on it."""
    if isinstance(value, ModelPatcher):
        network = getattr(value.model, "diffusion_model", None)
        kinds = f"{type(value).__name__} of {type(value.model).__name__} of {type(network).__name__}"
        options = value.model_options.get("transformer_options", {})
        wrappers = sorted({str(kind) for kind, keyed in options.get("wrappers", {}).items() if keyed})
        return f"{kinds} in {value.model_dtype()}, {len(value.patches)} weights patched, wrappers {wrappers}"
    if isinstance(value, CLIP):
        return f"CLIP of {type(value.cond_stage_model).__name__}, {len(value.patcher.patches)} weights patched"
    return type(value).__name__
