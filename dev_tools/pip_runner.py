"""pip, with what it does shown as it goes, and its failures told in one sentence."""

from __future__ import annotations

import collections
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .errors import DISK_FULL_WORDS, DevError, DiskFullError, disk_full
from .lock import locked
from .paths import REPOSITORY

# pip unpacks a torch of several gigabytes without a word.
SILENT_SECONDS = 20

_SHOWN = ("Downloading", "Installing collected", "ERROR")


def pip_command(python: Path) -> list[str]:
    """A command that is pip acting on `python`, which need not have a pip of its own (those made by uv have none)."""
    if subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return [str(python), "-m", "pip"]
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return [sys.executable, "-m", "pip", "--python", str(python)]
    raise DevError(
        f"Neither {python} nor {sys.executable} has pip: install it (`{sys.executable} -m ensurepip`, or the package "
        "python3-pip of your system) and start the command again."
    )


def install(python: Path, requirements: Sequence[str], *options: str) -> None:
    """`pip install` into the environment of `python`. Raises DevError with pip's last error."""
    failure = f"pip could not install {' '.join(requirements)} for {python}"
    _run(python, "install", [*options, *requirements], failure)


def download(python: Path, requirement: str, folder: Path) -> None:
    """Fetch one package, without what it requires, into `folder`. Raises DevError with pip's last error."""
    _run(python, "download", ["--no-deps", "--dest", str(folder), requirement], f"pip could not download {requirement}")


def _run(python: Path, verb: str, arguments: Sequence[str], failure: str) -> None:
    line = [*pip_command(python), verb, "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    tail: collections.deque[str] = collections.deque(maxlen=60)
    with locked() as lock:
        # The lock is pip's standard input: should we be killed, a pip that outlives us holds it until it is done.
        process = subprocess.Popen(
            [*line, *arguments],
            cwd=REPOSITORY,
            stdin=lock,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        try:
            with _signs_of_life() as said_something:
                for text in process.stdout:
                    tail.append(text.rstrip())
                    if _is_worth_showing(text):
                        said_something()
                        print("  " + text.strip()[:120], flush=True)
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
    if process.returncode == 0:
        return
    if any(words in "\n".join(tail).lower() for words in DISK_FULL_WORDS):
        raise DiskFullError(disk_full("installing packages"))
    said = [text for text in tail if text.startswith("ERROR")] or [text for text in tail if text][-1:] or ["nothing"]
    last_words = " ".join(said)
    raise DevError(f"{failure}; its last words: {last_words[:400]}")


def _is_worth_showing(line: str) -> bool:
    """Whether pip's line tells of something that takes time, or went wrong; of small files there are a hundred."""
    return line.lstrip().startswith(_SHOWN) and not line.rstrip().endswith((" kB)", " bytes)"))


@contextlib.contextmanager
def _signs_of_life() -> Iterator[Callable[[], None]]:
    """Print a line whenever nothing was said for a while; the block calls what it is given as often as it speaks."""
    started = last = time.monotonic()
    done = threading.Event()

    def said_something() -> None:
        nonlocal last
        last = time.monotonic()

    def watch() -> None:
        while not done.wait(1):
            if time.monotonic() - last >= SILENT_SECONDS:
                print(f"  ... still at work after {time.monotonic() - started:.0f} s", flush=True)
                said_something()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield said_something
    finally:
        done.set()
        watcher.join()
