"""The one exception that ends a command with a sentence instead of a traceback."""

from __future__ import annotations

import errno

DISK_FULL_WORDS = ("no space left on device", "errno 28", "not enough space on the disk")


class DevError(Exception):
    """Something the user can put right; the message is one sentence that says what and how."""


class DiskFullError(DevError):
    """No room is left, so that trying another way is of no use."""


def disk_full(doing: str) -> str:
    """The sentence for a disk that got full while `doing` something."""
    return f"The disk is full while {doing}: free some space and start the command again."


def disk_full_sentence(error: OSError) -> str | None:
    """The sentence for a full disk, or None when `error` is something else."""
    # 112 is Windows' ERROR_DISK_FULL, which does not always arrive as ENOSPC.
    if error.errno != errno.ENOSPC and getattr(error, "winerror", None) != 112:
        return None
    return disk_full(f"writing {error.filename or 'a file'}")
