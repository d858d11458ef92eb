"""The file that carries a concept: safetensors, 12 to 160 kB, readable by name, checked before it is read.

Tensors: "target_input", "inverse_target_input", "superclass_encoding"; the word's vectors under their plain embedding
key ("clip_l"), so that other programs can use the file as a textual inversion; "superclass.clip_l"; "value.<layer>".
Settings are texts in the header, under "perfusion."; the fields under "modelspec." are those that file managers show.

A concept for a model of many wide layers (SDXL, Anima) is kept smaller: its values in 12 bits (`twelve_bits`), all else
in half precision.  Its header says so under "perfusion.value_bits".

Where the word's encoding has an offset, "encoding_offset" is one tensor more, and the header says of how many
positions.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .concept import MAX_TEXT_LENGTH, Concept
from .encoding_offset import OFFSET
from .errors import PerfusionError, quoted
from .tensor_file import WITH_BYTES, TensorHeader, read_tensor_header, read_tensors, write_tensors
from .twelve_bits import from_twelve_bits, in_twelve_bits, to_twelve_bits, width_of_bytes

FORMAT = "perfusion-concept"
VERSION = 1
# Of forms that came later; packs that do not know one say that they need an update.  With lockable the header also
# says the lock.
VERSION_OF_FORM = {"lockable": 2, "residual": 3, "anchored": 5}
# Of small files, and of concepts with an offset, where nothing else asks for more.
VERSION_IN_TWELVE_BITS, VERSION_WITH_OFFSET = 4, 6
VALUE_BITS = "12"
KIND = "Perfusion concept"

# Bytes of values in half precision above which a file is kept smaller; SD1 and SD2 have less than half of it.
MOST_PLAIN_VALUES = 61_440
# How far half precision may put i . C^-1 i from 1; beyond it the text side stays float32.
HALF_ENERGY_TOLERANCE = 5e-4

# Of the training settings, which other programs may add to; Python itself gives up at some hundred levels.
MAX_NESTING = 32

PICTURE_PREFIX = "data:image/jpeg;base64,"
TEXT_SIDE = ("target_input", "inverse_target_input", "superclass_encoding")
VALUE = "value."
SUPERCLASS = "superclass."

# Names of the model families in the modelspec convention; a family that is not listed stands for itself.
ARCHITECTURES = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2",
    "sdxl": "stable-diffusion-xl-v1-base",
    "sdxl_refiner": "stable-diffusion-xl-v1-refiner",
}


def is_large(value_widths: Iterable[int]) -> bool:
    """Whether a model with layers of these widths has so many, or so wide ones, that its files are kept smaller."""
    return 2 * sum(value_widths) > MOST_PLAIN_VALUES


def round_for_file(concept: Concept) -> Concept:
    """Return the concept as a file will give it back.

    Target values are rounded to half precision, 2^-11 of each number, which is far below what the training leaves
    undetermined; the text side decides the gate and stays float32.  Where the values alone exceed `MOST_PLAIN_VALUES`
    they are rounded to 12 bits and the text side to half precision (benchmarks/file_precision.md).
    """
    values = round_values(concept.value_targets)
    if not _is_large(concept):
        return replace(concept, value_targets=values)
    text_side = {name: getattr(concept, name).half().float() for name in TEXT_SIDE}
    energy = (text_side["target_input"].double() * text_side["inverse_target_input"].double()).sum().item()
    if not (abs(energy - 1) <= HALF_ENERGY_TOLERANCE and text_side["superclass_encoding"].isfinite().all()):
        text_side = {}
    if concept.encoding_offset is not None and (offset := concept.encoding_offset.half().float()).isfinite().all():
        text_side[OFFSET] = offset
    return replace(
        concept,
        value_targets=values,
        **{
            name: {key: vectors.half().float() for key, vectors in getattr(concept, name).items()}
            for name in ("word_vectors", "superclass_vectors")
        },
        **text_side,
    )


def round_values(targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the target values of all layers, [d_out] each, as a file will give them back, float32."""
    large = is_large(map(len, targets.values()))
    return {name: in_twelve_bits(target) if large else target.half().float() for name, target in targets.items()}


def save_concept(path: str | os.PathLike[str], concept: Concept, replace: bool = True) -> None:
    """Write the concept in one step; the same concept gives the same bytes.  replace: as for `write_tensors`.

    Raises PerfusionError where the file cannot be written or a number exceeds the range of half precision.
    """
    rounded, large = round_for_file(concept), _is_large(concept)
    tensors = {name: getattr(rounded, name) for name in TEXT_SIDE}
    tensors |= dict(rounded.word_vectors)
    tensors |= {SUPERCLASS + key: vectors for key, vectors in rounded.superclass_vectors.items()}
    tensors |= {} if rounded.encoding_offset is None else {OFFSET: rounded.encoding_offset}
    if large:
        tensors = {name: _in_half_where_exact(tensor) for name, tensor in tensors.items()}
    as_kept = to_twelve_bits if large else Tensor.half
    tensors |= {VALUE + layer: as_kept(target) for layer, target in rounded.value_targets.items()}
    write_tensors(path, tensors, _metadata(rounded), replace)


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return all settings of the concept by the names of `Concept`, and "tensors": name -> shape; reads no numbers.

    Raises PerfusionError, one sentence, for every file that is not a concept of a version known here.
    """
    return _checked_settings(read_tensor_header(path, KIND, WITH_BYTES), path)


def load_concept(path: str | os.PathLike[str]) -> Concept:
    """Return the concept in the file. Raises PerfusionError, one sentence, for every file that is not one."""
    settings: dict[str, Any] = {}
    header, tensors = read_tensors(
        path, KIND, lambda header: settings.update(_checked_settings(header, path)), WITH_BYTES
    )
    del settings["tensors"]
    settings |= {name: tensors[name] for name in TEXT_SIDE}
    word_keys = [name.removeprefix(SUPERCLASS) for name in tensors if name.startswith(SUPERCLASS)]
    values = {n.removeprefix(VALUE): t for n, t in tensors.items() if n.startswith(VALUE)}
    if "perfusion.value_bits" in header.metadata:
        with torch.inference_mode(False):
            values = {layer: from_twelve_bits(packed) for layer, packed in values.items()}
    try:
        return Concept(
            **settings,
            word_vectors={key: tensors[key] for key in word_keys},
            superclass_vectors={key: tensors[SUPERCLASS + key] for key in word_keys},
            value_targets=values,
            encoding_offset=tensors.get(OFFSET),
        )
    except PerfusionError as problem:
        raise PerfusionError(f"{path} holds a concept that cannot be used: {problem}") from None


def _is_large(concept: Concept) -> bool:
    return is_large(map(len, concept.value_targets.values()))


def _in_half_where_exact(tensor: Tensor) -> Tensor:
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def _metadata(concept: Concept) -> dict[str, str]:
    plain_word = concept.word.strip("<>")
    metadata = {
        "perfusion.format": FORMAT,
        "perfusion.version": "",  # below, by all the others
        "perfusion.word": concept.word,
        "perfusion.superclass": concept.superclass,
        "perfusion.base_model": concept.base_model,
        "perfusion.encoding_width": str(concept.encoding_width),
        "perfusion.clip_layer": json.dumps(concept.clip_layer),
        "perfusion.form": concept.form,
        "perfusion.bias": repr(float(concept.bias)),
        "perfusion.temperature": repr(float(concept.temperature)),
        "perfusion.statistics_hash": concept.statistics_hash,
        "perfusion.training": json.dumps(concept.training, sort_keys=True),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": f"{plain_word} ({concept.superclass})",
        "modelspec.architecture": f"{ARCHITECTURES.get(concept.base_model, concept.base_model)}/perfusion",
        "modelspec.implementation": FORMAT,
        "modelspec.trigger_phrase": concept.word,
    }
    if concept.encoding_offset is not None:
        metadata["perfusion.encoding_offset"] = str(len(concept.encoding_offset))
    if concept.form == "lockable":
        metadata["perfusion.lock"] = repr(concept.lock)
    if _is_large(concept):
        metadata["perfusion.value_bits"] = VALUE_BITS
    metadata["perfusion.version"] = str(_version(metadata))
    if isinstance(concept.training.get("date"), str):  # from the training, so that saving again changes nothing
        metadata["modelspec.date"] = concept.training["date"]
    if concept.picture is not None:
        metadata["modelspec.thumbnail"] = PICTURE_PREFIX + base64.b64encode(concept.picture).decode()
    return metadata


def _checked_settings(header: TensorHeader, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings in the header, after checking format, version and the list of tensors."""
    metadata = header.metadata
    if metadata.get("perfusion.format") != FORMAT:
        raise PerfusionError(
            f"{path} was expected to be a {KIND}, but its header says it is"
            f" {quoted(metadata.get('perfusion.format', 'another kind of Perfusion file'))}; choose another file."
        )
    bits = metadata.get("perfusion.value_bits")
    _check_version(metadata.get("perfusion.version", ""), _version(metadata), path)
    try:
        settings = {
            **{name: _text(metadata, name) for name in ("word", "superclass", "base_model", "form", "statistics_hash")},
            "encoding_width": _whole_number(metadata["perfusion.encoding_width"]),
            "clip_layer": _layer_number(metadata["perfusion.clip_layer"]),
            "bias": float(metadata["perfusion.bias"]),
            "temperature": float(metadata["perfusion.temperature"]),
            "lock": float(metadata["perfusion.lock"]) if metadata["perfusion.form"] == "lockable" else None,
            "training": _json_object(metadata["perfusion.training"]),
            "picture": _picture(metadata.get("modelspec.thumbnail")),
        }
        positions = metadata.get("perfusion.encoding_offset")
        offset = () if positions is None else (_whole_number(positions), settings["encoding_width"])
        if bits not in (None, VALUE_BITS):
            raise ValueError(f"its values have {quoted(bits)} bits")
    except KeyError as missing:
        raise PerfusionError(f"{path} is a {KIND} whose header lacks {missing}; get or train the file again.") from None
    except (ValueError, RecursionError) as problem:
        raise PerfusionError(
            f"{path} is a {KIND} whose header holds a setting of the wrong kind ({str(problem)[:MAX_TEXT_LENGTH]});"
            " get or train it again."
        ) from None
    settings["tensors"] = _checked_shapes(header, settings["encoding_width"], offset, bits is not None, path)
    return settings


def _version(metadata: Mapping[str, str]) -> int:
    """The version of a file by what else its header says: form, kind of values, and whether there is an offset."""
    of_form = VERSION_OF_FORM.get(metadata.get("perfusion.form", ""), VERSION)
    of_values = VERSION_IN_TWELVE_BITS if "perfusion.value_bits" in metadata else VERSION
    return max(of_form, of_values, VERSION_WITH_OFFSET if "perfusion.encoding_offset" in metadata else VERSION)


def _check_version(version: str, expected: int, path: str | os.PathLike[str]) -> None:
    if version.isascii() and version.isdigit() and 0 < len(version) < 10 and int(version) > expected:
        raise PerfusionError(
            f"{path} is a {KIND} of version {version}, but this pack reads versions up to {expected}; update the pack."
        )
    if version != str(expected):
        raise PerfusionError(
            f"{path} is a {KIND} of version {expected} by its format, but its header says version {quoted(version)};"
            " get or train the file again."
        )


def _layer_number(text: str) -> int | None:
    return None if text == "null" else _whole_number(text)


def _whole_number(text: str) -> int:
    """Python's int() alone takes other scripts' digits, underscores, blanks, and thousands of digits."""
    if not re.fullmatch("-?[0-9]{1,6}", text):
        raise ValueError(f"a whole number is {quoted(text)}")
    return int(text)


def _text(metadata: Mapping[str, str], name: str) -> str:
    text = metadata[f"perfusion.{name}"]
    if len(text) > MAX_TEXT_LENGTH or not text.isprintable():
        raise ValueError(f"its {name} is {quoted(text)}")
    return text


def _json_object(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("the training settings are not an object")
    if _nested_deeper(value, MAX_NESTING):
        raise ValueError(f"the training settings are nested deeper than {MAX_NESTING} levels")
    return value


def _nested_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_nested_deeper(item, levels - 1) for item in inner)


def _picture(text: str | None) -> bytes | None:
    """Return the JPEG in the header. A picture of another kind is no reason to refuse a concept; it is left out."""
    if text is None or not text.startswith(PICTURE_PREFIX):
        return None
    try:
        return base64.b64decode(text.removeprefix(PICTURE_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("the picture is not base64") from None


def _checked_shapes(
    header: TensorHeader, width: int, offset: tuple[int, ...], in_bytes: bool, path: str | os.PathLike[str]
) -> dict[str, tuple[int, ...]]:
    """Check that the file has exactly the tensors of a concept, in shapes that fit each other, and return these.

    offset: shape of the offset of the word's encoding; () for none.  in_bytes: whether each value is bytes, for which
    the shape is that of the vector they are.
    """
    shapes = {name: shape for name, (_, shape) in header.tensors.items()}
    word_keys = {name.removeprefix(SUPERCLASS) for name in shapes if name.startswith(SUPERCLASS)}
    layers = {name for name in shapes if name.startswith(VALUE)}
    of_the_text = dict.fromkeys(TEXT_SIDE, (width,)) | ({OFFSET: offset} if offset else {})
    expected = {*of_the_text, *word_keys, *(SUPERCLASS + key for key in word_keys), *layers}
    problem = None
    if missing := sorted(expected - set(shapes)):
        problem = f"lacks the tensor {missing[0]!r}"
    elif unknown := sorted(set(shapes) - expected):
        problem = f"has the unknown tensor {unknown[0]!r}"
    elif not word_keys or not layers:
        problem = "has no vectors of its word or no target values"
    else:
        for name, shape in shapes.items():
            wanted = of_the_text.get(name, ("any",) * (1 if name in layers else 2))
            bytes_here = in_bytes and name in layers
            if len(shape) != len(wanted) or any(
                w not in ("any", s) or s == 0 for s, w in zip(shape, wanted, strict=True)
            ):
                problem = f"gives {name!r} the shape {list(shape)} instead of {list(wanted)}"
            elif (header.tensors[name][0] == "U8") != bytes_here:
                problem = f"has {'numbers' if bytes_here else 'bytes'} for {name!r} instead of the other"
            elif bytes_here and (number := width_of_bytes(shape[0])) is not None:
                shapes[name] = (number,)
            elif bytes_here:
                problem = f"gives {name!r} {shape[0]} bytes, which no vector of 12 bits a number has"
    if problem is not None:
        raise PerfusionError(f"{path} is a {KIND} whose header {problem}; get or train the file again.")
    return shapes
