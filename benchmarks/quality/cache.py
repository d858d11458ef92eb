"""One file for each finished piece of work, named by a hash of all that determines it.

A run that was stopped therefore continues, and several processes on one folder share the work: each takes what no
other is at.  The code itself is not part of the hash (a new comment would throw hours away); each method has a version
number that is, and the commit is kept beside every result."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
NUMBERS = ".numbers.json"


class BusyError(Exception):
    """Another process is making this piece right now."""


class OutOfTimeError(Exception):
    """The time given to this run is over."""


class Cache:
    """The folder.  minutes: after which no new piece is begun (None = never)."""

    def __init__(self, folder: Path, minutes: float | None = None) -> None:
        self.folder = folder
        self._within = 0.0  # core seconds of the pieces that were made inside the one that is being made
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._commit = _commit()
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """While the block runs only finished pieces are given; a missing one raises OutOfTimeError at once."""
        deadline, self._deadline = self._deadline, -math.inf
        try:
            yield
        finally:
            self._deadline = deadline

    def has(self, kind: str, facts: Mapping[str, Any], suffix: str = NUMBERS) -> bool:
        """Whether the piece is finished."""
        return self._path(kind, facts, suffix).exists()

    def numbers(self, kind: str, facts: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """The JSON value that `make` gives, made at most once for these facts."""

        def write(path: Path) -> None:
            short = json.loads(json.dumps(make()), parse_float=shortened)
            path.write_text(json.dumps(short), encoding="utf-8")

        return json.loads(self.file(kind, facts, NUMBERS, write).read_text(encoding="utf-8"))

    def file(self, kind: str, facts: Mapping[str, Any], suffix: str, make: Callable[[Path], None]) -> Path:
        """The file that `make` writes to the path it is given, made at most once for these facts.

        Raises BusyError where another process is at it, OutOfTimeError where it is missing and the time is over."""
        path = self._path(kind, facts, suffix)
        name = path.name.removesuffix(suffix)
        if path.exists():
            return path
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise OutOfTimeError
        path.parent.mkdir(exist_ok=True)
        with _locked(path.parent / f"{name}.lock"):
            if path.exists():  # finished by another process in the meantime
                return path
            started, core_started, outside = time.monotonic(), time.process_time(), self._within
            self._within = 0.0
            unfinished = path.with_name(f"{name}.{os.getpid()}.part{suffix}")
            try:
                make(unfinished)
                note = {
                    "facts": facts, "seconds": round(time.monotonic() - started, 2),
                    "core seconds": round(time.process_time() - core_started - self._within, 2),
                    "commit": self._commit,
                }  # fmt: skip
                path.with_name(f"{name}.facts.json").write_text(json.dumps(note, indent=1), encoding="utf-8")
                os.replace(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)
                self._within = outside + time.process_time() - core_started
        return path

    def _path(self, kind: str, facts: Mapping[str, Any], suffix: str) -> Path:
        return self.folder / kind / f"{kind}-{key(facts)}{suffix}"

    def notes(self) -> Iterator[dict[str, Any]]:
        """Facts, seconds and commit of every finished piece.

        "core seconds" are those that the process computed for this piece alone: without what was made inside it, and
        whatever else the machine was doing."""
        for path in sorted(self.folder.glob("*/*.facts.json")):
            yield {"kind": path.parent.name, **json.loads(path.read_text(encoding="utf-8"))}


def shortened(text: str) -> float:
    """A number with more digits than any table shows, which halves the size of the file in which numbers travel."""
    return float(f"{float(text):.5g}")


def key(facts: Mapping[str, Any]) -> str:
    """Twenty hexadecimal digits that differ for facts that differ in any way that JSON can write down."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, allow_nan=False).encode()).hexdigest()[:20]


def finish(tasks: Sequence[Callable[[], T]], pause: float = 2.0) -> list[T]:
    """The results of all tasks, in their order; those at which other processes are busy are asked again."""
    results: dict[int, T] = {}
    while len(results) < len(tasks):
        before = len(results)
        for index, task in enumerate(tasks):
            if index in results:
                continue
            try:
                results[index] = task()
            except BusyError:
                continue
        if len(results) == before:
            time.sleep(pause)
    return [results[index] for index in range(len(tasks))]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file while the block runs; the system releases it when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: one process at a time
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError from None
        yield


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
