"""Reading and writing safetensors files without trusting them and without ever leaving half a file behind.

A file is: 8 bytes with the length of the header, the header (JSON: name -> dtype, shape, place), the numbers.
The header is checked against the size of the file before a single number is read.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor

from .errors import PerfusionError, quoted

STALE_SECONDS = 3600  # of a temporary file; writing one takes less than a second

MAX_HEADER_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 28

# Far above what any file of ours has; they keep what a header says countable, and sentences that quote it readable.
MAX_NAME_LENGTH = 200
MAX_DIMENSIONS = 8
MAX_NUMBER = 1 << 63

# What the pack itself writes. Other types of number are refused: no file of ours has them. Bytes are for whom asks.
ITEM_BYTES = {"F16": 2, "F32": 4, "F64": 8}
WITH_BYTES = {**ITEM_BYTES, "U8": 1}


@dataclass(frozen=True)
class TensorHeader:
    """The checked header of a file: texts of the metadata, and name -> (dtype, shape) of each tensor."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]


HeaderCheck = Callable[[TensorHeader], None]


def read_tensor_header(
    path: str | os.PathLike[str], kind: str, item_bytes: Mapping[str, int] = ITEM_BYTES
) -> TensorHeader:
    """Return the header of the file; `kind` names what it should be, for the errors ("Perfusion concept").

    item_bytes: the types of number that it may have, and their sizes.

    Raises PerfusionError where the file is missing, no safetensors file, damaged, or another well-known kind of file.
    """
    with _opened(path, kind) as file:
        return _read_header(file, path, kind, item_bytes)[1]


def read_tensors(
    path: str | os.PathLike[str],
    kind: str,
    check: HeaderCheck | None = None,
    item_bytes: Mapping[str, int] = ITEM_BYTES,
) -> tuple[TensorHeader, dict[str, Tensor]]:
    """Return header and tensors; `check` sees the header before the first number is read. Errors as above."""
    with _opened(path, kind) as file:
        raw, header = _read_header(file, path, kind, item_bytes)
        if check is not None:
            check(header)
        try:
            # The whole file and no memory map: a mapped file cannot be replaced on Windows. Not inside the host's
            # inference mode: tensors made there could never take part in a training.
            with torch.inference_mode(False):
                return header, tensors_of(raw + file.read())
        except Exception as problem:  # safetensors raises types of its own, none of which it documents
            raise _damaged(path, kind, f"safetensors says {str(problem)!r}") from None


class NameTakenError(PerfusionError):
    """There is a file of that name already."""


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str], replace: bool = True
) -> None:
    """Write the file in one step: whatever happens, the path holds either the old file or the whole new one.

    The same content gives the same bytes.  replace: whether an old file may go; if not, NameTakenError is raised where
    there is anything, also what another process has just put there.
    Raises PerfusionError where the system refuses to write.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = _with_sorted_metadata(bytes_of(contiguous, dict(metadata)))
    target = Path(path)
    # The same folder, because only a rename inside one file system is a single step.
    temporary = temporary_path(target)
    try:
        _write_whole(temporary, content)
        if replace:
            os.replace(temporary, target)
        else:
            _rename_to_new(temporary, target)
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        if isinstance(problem, PerfusionError):
            raise
        reason = getattr(problem, "strerror", None) or problem
        raise PerfusionError(
            f"{target} could not be written ({reason}); free some space or choose another folder,"
            " what was there before is unchanged."
        ) from problem
    finally:
        with contextlib.suppress(OSError, ValueError):  # the failure that brought us here is the one to tell
            temporary.unlink(missing_ok=True)


def check_replacing(path: str | os.PathLike[str], replace: bool) -> None:
    """Raise NameTakenError where a command would write over a file without having been told to."""
    if not replace and os.path.lexists(path):
        raise NameTakenError(
            f"{os.fspath(path)} was expected to be free, but there is a file of that name; choose another name for"
            " --out, or give --replace."
        )


def check_room(folder: Path, size: int) -> None:
    """Raise PerfusionError where a file of `size` bytes cannot be written in the folder; afterwards all is as before.

    Only writing tells: rights, quotas and mounts have rules of their own.  What is written is random, so that it fills.
    """
    temporary, was_there = temporary_path(folder / "room"), folder.exists()
    try:
        _write_whole(temporary, os.urandom(size))
    except OSError as problem:
        raise PerfusionError(
            f"The folder {folder} must take a file of {size / 1e6:.0f} MB, but nothing can be saved there"
            f" ({problem.strerror or problem}); free some space, or start ComfyUI with another --output-directory."
        ) from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
            if not was_there:
                folder.rmdir()


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _rename_to_new(temporary: Path, target: Path) -> None:
    """Give a whole file its name unless that is taken; one step, so that of two processes only one succeeds."""
    taken = NameTakenError(f"{target} was expected to be free, but there is a file of that name; choose another name.")
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise taken from None
    except OSError:  # a file system without links: claim the name, then fill it
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            raise taken from None
        try:
            os.replace(temporary, target)
        except OSError:
            target.unlink(missing_ok=True)
            raise


def temporary_path(target: Path) -> Path:
    """A hidden path in the target's folder, to write to before the rename; `sweep_temporaries` knows it by its name."""
    return target.with_name(f".{uuid.uuid4().hex}.tmp")


def sweep_temporaries(folder: Path) -> None:
    """Delete the temporary files that a killed process left in the folder, an hour ago or earlier.

    Younger ones may be those of another process that is writing now.
    """
    with contextlib.suppress(OSError):  # tidying up must not stop anything
        for path in folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                old = time.time() - path.stat().st_mtime > STALE_SECONDS
                if old and re.fullmatch(r"\.[0-9a-f]{32}\.tmp", path.name) and path.is_file():
                    path.unlink()


def _with_sorted_metadata(content: bytes) -> bytes:
    """Sort the metadata, which safetensors writes in random order."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    packed = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    packed += b" " * (-len(packed) % 8)  # the numbers must stay aligned
    return len(packed).to_bytes(8, "little") + packed + content[8 + length :]


def _opened(path: str | os.PathLike[str], kind: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise PerfusionError(
            f"{path} was expected to be a {kind}, but there is no such file; choose another."
        ) from None
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        reason = getattr(problem, "strerror", None) or problem
        raise PerfusionError(
            f"{path} was expected to be a {kind}, but it cannot be opened ({reason}); choose another file."
        ) from None


def _damaged(path: str | os.PathLike[str], kind: str, found: str) -> PerfusionError:
    return PerfusionError(f"{path} was expected to be a whole {kind}, but {found}; get or make the file again.")


def _foreign(path: str | os.PathLike[str], kind: str, found: str) -> PerfusionError:
    return PerfusionError(f"{path} was expected to be a {kind}, but it is {found}; choose another file.")


def _read_header(
    file: BinaryIO, path: str | os.PathLike[str], kind: str, item_bytes: Mapping[str, int]
) -> tuple[bytes, TensorHeader]:
    """Return the raw bytes up to the end of the header, and the header as checked."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise _damaged(path, kind, "the file is empty")
    start = file.read(8)
    _refuse_well_known_beginnings(start, path, kind)
    length = int.from_bytes(start, "little")
    if size < 10 or not 2 <= length <= MAX_HEADER_BYTES:
        raise _foreign(path, kind, f"no safetensors file (its {size} bytes declare a header of {length} bytes)")
    if 8 + length > size:
        raise _damaged(path, kind, f"it ends after {size} bytes, inside its header of {length} bytes")
    raw = file.read(length)
    try:
        entries = json.loads(raw, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise _foreign(path, kind, "no safetensors file (its header is not the expected JSON)")
    metadata = entries.pop("__metadata__", {})
    texts = isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())
    if not texts:
        raise _damaged(path, kind, "its metadata are not texts")
    if not any(name.startswith("perfusion.") for name in metadata):
        _refuse_other_kinds(entries, path, kind)
    tensors = _checked_entries(entries, size - 8 - length, item_bytes, path, kind)
    return start + raw, TensorHeader(metadata, tensors)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _checked_entries(
    entries: dict[str, Any], data_bytes: int, item_bytes: Mapping[str, int], path: str | os.PathLike[str], kind: str
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Check that dtype, shape and place of every tensor agree with each other and with the size of the file."""
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    places: list[tuple[int, int, str]] = []
    for name, entry in entries.items():
        if len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise _damaged(path, kind, f"its header calls a tensor {quoted(name)}")
        try:
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        except (TypeError, KeyError, ValueError):
            raise _damaged(path, kind, f"its header does not say dtype, shape and place of {name!r}") from None
        if not isinstance(dtype, str) or dtype not in item_bytes:
            raise PerfusionError(
                f"{path} was expected to be a {kind} of numbers that this pack reads, but {name!r} is {quoted(dtype)};"
                " update the pack or choose another file."
            )
        numbers = (*shape, begin, end)
        if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and 0 <= n < MAX_NUMBER for n in numbers):
            raise _damaged(path, kind, f"its header gives {name!r} an impossible shape or place")
        if end - begin != math.prod(shape) * item_bytes[dtype]:
            raise _damaged(path, kind, f"its header gives {name!r} the shape {list(shape)} in {end - begin} bytes")
        tensors[name] = (dtype, shape)
        places.append((begin, end, name))
    reached = 0
    for begin, end, name in sorted(places):
        if begin != reached:
            raise _damaged(path, kind, f"its header leaves a gap or an overlap before {name!r}")
        reached = end
    if reached != data_bytes:
        raise _damaged(path, kind, f"its header declares {reached} bytes of numbers and the file has {data_bytes}")
    if reached > MAX_FILE_BYTES:
        raise _foreign(path, kind, f"far larger than any ({reached} bytes)")
    return tensors


def _refuse_well_known_beginnings(start: bytes, path: str | os.PathLike[str], kind: str) -> None:
    """Name the files that people take for one of ours. A pickle can run code, so it is never opened."""
    beginnings = {
        b"PK\x03\x04": "a zip or PyTorch pickle file, which is never opened because it can run code",
        b"\x80\x02": "a PyTorch pickle file, which is never opened because it can run code",
        b"version ": "a Git LFS pointer instead of the file itself",
        b"\xff\xd8\xff": "a JPEG picture",
        b"\x89PNG": "a PNG picture",
        b"<!DOCTYP": "a web page",
        b"<html": "a web page",
    }
    for beginning, found in beginnings.items():
        if start.startswith(beginning):
            raise _foreign(path, kind, found)


def _refuse_other_kinds(entries: Mapping[str, Any], path: str | os.PathLike[str], kind: str) -> None:
    """Name other safetensors files by their tensors."""
    names = list(entries)
    if any("lora_" in name or "lokr_" in name or "hada_" in name for name in names):
        raise _foreign(path, kind, "a LoRA file")
    if any(name in ("emb_params", "clip_l", "clip_g", "clip_h", "string_to_param") for name in names):
        raise _foreign(path, kind, "a textual inversion (embedding) file")
    if any(name.startswith(("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")) for name in names):
        raise _foreign(path, kind, "a checkpoint of a whole model")
    raise _foreign(path, kind, "a safetensors file of another kind, without perfusion.* fields in its header")
