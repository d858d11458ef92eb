"""One file for each finished piece of work, named by a hash of all that determines it.

A run that was stopped therefore continues, and several processes on one folder share the work: each takes what no
other is at.  The code itself is not part of the hash (a new comment would throw hours away); each method has a version
number that is, and the commit is kept beside every result."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class BusyError(Exception):
    """Another process is making this piece right now."""


class OutOfTimeError(Exception):
    """The time given to this run is over."""


class Cache:
    """The folder.  minutes: after which no new piece is begun (None = never)."""

    def __init__(self, folder: Path, minutes: float | None = None) -> None:
        self.folder = folder
        self.seconds_spent: dict[str, list[float]] = {}
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._commit = _commit()
        folder.mkdir(parents=True, exist_ok=True)

    def numbers(self, kind: str, facts: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """The JSON value that `make` gives, made at most once for these facts."""

        def write(path: Path) -> None:
            path.write_text(json.dumps(make()), encoding="utf-8")

        return json.loads(self.file(kind, facts, ".numbers.json", write).read_text(encoding="utf-8"))

    def file(self, kind: str, facts: Mapping[str, Any], suffix: str, make: Callable[[Path], None]) -> Path:
        """The file that `make` writes to the path it is given, made at most once for these facts.

        Raises BusyError where another process is at it, OutOfTimeError where it is missing and the time is over."""
        name = f"{kind}-{key(facts)}"
        path = self.folder / kind / (name + suffix)
        if path.exists():
            return path
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise OutOfTimeError
        path.parent.mkdir(exist_ok=True)
        with _locked(path.parent / f"{name}.lock"):
            if path.exists():  # finished by another process in the meantime
                return path
            started = time.monotonic()
            unfinished = path.with_name(f"{name}.{os.getpid()}.part{suffix}")
            try:
                make(unfinished)
                seconds = time.monotonic() - started
                note = {"facts": facts, "seconds": round(seconds, 2), "commit": self._commit}
                path.with_name(f"{name}.facts.json").write_text(json.dumps(note, indent=1), encoding="utf-8")
                os.replace(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)
        self.seconds_spent.setdefault(kind, []).append(seconds)
        return path

    def notes(self) -> Iterator[dict[str, Any]]:
        """Facts, seconds and commit of every finished piece."""
        for path in sorted(self.folder.glob("*/*.facts.json")):
            yield {"kind": path.parent.name, **json.loads(path.read_text(encoding="utf-8"))}


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
