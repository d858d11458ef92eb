"""Finished numbers in one file of the repository, so that a run goes on where another machine stopped.

Readings are numbers of a few kilobytes and come into the file whole; of trainings and paintings, which are large and
can be made again from their facts, only the note comes along: what they took, and of which commit they are.  A job
whose reading is there asks for neither."""

from __future__ import annotations

import json
import lzma
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cache import NUMBERS, Cache, shortened

NAME = "cells.jsonl.xz"


def pack(cache: Cache, file: Path) -> int:
    """Write all finished pieces of the cache, in a fixed order, and return how many; the file is replaced whole."""
    lines = [json.dumps(line, sort_keys=True) for line in _pieces(cache.folder)]
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.part")
    unfinished.write_bytes(lzma.compress("".join(f"{line}\n" for line in lines).encode()))
    os.replace(unfinished, file)
    return len(lines)


def unpack(file: Path, cache: Cache) -> int:
    """Put the pieces of the file that the cache lacks into it and return how many; nothing where there is no file.

    Raises ValueError for a line that is no piece of this cache."""
    if not file.exists():
        return 0
    new = 0
    with lzma.open(file, "rt", encoding="utf-8") as text:
        for line in text:
            new += _restore(json.loads(line), cache.folder, file)
    return new


def _pieces(folder: Path) -> Iterator[dict[str, Any]]:
    for note in sorted(folder.glob("*/*.facts.json")):
        name = note.name.removesuffix(".facts.json")
        piece = {"kind": note.parent.name, "name": name, "note": json.loads(note.read_text(encoding="utf-8"))}
        numbers = note.with_name(name + NUMBERS)
        if numbers.exists():
            piece["numbers"] = json.loads(numbers.read_text(encoding="utf-8"), parse_float=shortened)
        yield piece


def _restore(piece: dict[str, Any], folder: Path, file: Path) -> bool:
    kind, name = piece["kind"], piece["name"]
    if not re.fullmatch(r"[a-z-]+", kind) or not re.fullmatch(re.escape(kind) + "-[0-9a-f]{20}", name):
        raise ValueError(f"{file} must hold pieces named kind-hash, but one is {kind}/{name}; take the committed file.")
    note = folder / kind / f"{name}.facts.json"
    if note.exists():
        return False
    note.parent.mkdir(exist_ok=True)
    if "numbers" in piece:  # first, as the cache does: a piece with numbers is finished
        _write(note.with_name(name + NUMBERS), piece["numbers"])
    _write(note, piece["note"])
    return True


def _write(path: Path, value: Any) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    unfinished.write_text(json.dumps(value), encoding="utf-8")
    os.replace(unfinished, path)
