"""Child processes that are always gone when they should be, on every system."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


def group_options() -> dict[str, object]:
    """Popen options that put a child into a group of its own, so that Ctrl+C reaches us first and we end the child."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def stop(process: subprocess.Popen, patience: float = 10.0) -> None:
    """End `process` and what it started: politely, and after `patience` seconds by force. Never raises."""
    if process.poll() is None:
        _signal_group(process, force=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    _signal_group(process, force=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)


def _signal_group(process: subprocess.Popen, force: bool) -> None:
    if os.name == "nt":
        if process.poll() is None:
            # terminate() ends one process only; taskkill takes its children along.
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)


def run_bounded(command: Sequence[str], seconds: float, cwd: Path, env: Mapping[str, str] | None = None) -> int | None:
    """Run `command` with our own input and output and return its exit code, or None when it had to be stopped."""
    process = subprocess.Popen(list(command), cwd=cwd, env=dict(env) if env else None, **group_options())
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            # Long enough for a test run to stop a server of its own first.
            stop(process, patience=25.0)


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM and a closed terminal into KeyboardInterrupt, so that `finally` blocks stop what we started."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), interrupt) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
