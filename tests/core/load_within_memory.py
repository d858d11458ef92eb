"""Loads the files of a folder, smallest first, with a limit on address space.

    python tests/core/load_within_memory.py FOLDER

A process of its own, because the limit holds for all that a process does, and its parent's memory is not to be counted.
Prints what each file ends in, as JSON by the file's name. Linux only.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from by_location import load_package

# JSON of a header becomes Python objects of up to some hundred bytes for two signs ("{}," or "9,").
MEMORY_PER_BYTE, MEMORY_AT_LEAST = 64, 2_000_000
LOADED = "loaded"


def memory_for(file_bytes: int) -> int:
    """Bytes that may be asked of the system to load a file of this size."""
    return MEMORY_AT_LEAST + MEMORY_PER_BYTE * file_bytes


def address_space() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def limit_to(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


def outcome(path: Path) -> str:
    from perfusion_core.concept_file import load_concept
    from perfusion_core.errors import PerfusionError

    try:
        load_concept(path)
    except PerfusionError as problem:
        return str(problem)
    return LOADED


def main(folder: Path) -> None:
    load_package("perfusion_core", "perfusion_core")
    files = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    # What Python, torch and safetensors set up on their first use, and the stack up to Python's own bound.
    outcome(folder / "whole.safetensors")
    with contextlib.suppress(RecursionError):
        json.loads("[" * 100_000)

    start = address_space()  # once: whatever a file leaves behind counts against the next
    ends = {}
    for path in files:
        limit_to(start + memory_for(path.stat().st_size))
        ends[path.name] = outcome(path)
    with contextlib.suppress(MemoryError):
        bytearray(2 * memory_for(files[-1].stat().st_size))
        sys.exit("The limit on address space does not hold here, so this run shows nothing.")
    print(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
