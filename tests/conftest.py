"""pytest puts the folder of this file on sys.path, where the tests of every group find `by_location`."""

from __future__ import annotations

import signal

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Let a process among several that share the tests end its servers too when it is stopped from outside."""
    if hasattr(config, "workerinput"):
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
