"""One pip at a time in this repository, also when an earlier one outlived the command that started it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO

from .paths import LOCK

try:
    import fcntl
except ImportError:  # Windows, where two pips at once stay the user's own affair
    fcntl = None


@contextlib.contextmanager
def locked() -> Iterator[IO[bytes]]:
    """Hold the lock, an open file, for the length of a `with` block; a child that inherits the file holds it too."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with open(LOCK, "ab") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print("Another installation is at work here, perhaps one that was interrupted: waiting.", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield file
