"""`dev.py demo`: a private server with this pack, the tour through it, and the path of the picture."""

from __future__ import annotations

import subprocess
import time
import webbrowser
from pathlib import Path

from . import install_host, interpreters
from .errors import DevError
from .paths import DEMO_FOLDER, REPOSITORY
from .processes import group_options, stop
from .server import Server, check_alive, choose_port, running

TOUR = REPOSITORY / "demo" / "making" / "tour.py"
PICTURES = DEMO_FOLDER / "pictures"
_SUFFIXES = {".png", ".jpg", ".webp"}


def run(wanted_host: str | None, port: int | None, leave_open: bool, quick: bool = False) -> int:
    """Draw the tour picture and return the exit code. Raises DevError when something is in the way.

    quick: the small tour, whose pictures the recogniser checks.
    """
    start = time.monotonic()
    if not TOUR.is_file():
        raise DevError(f"This copy of the repository has no {TOUR.relative_to(REPOSITORY)}: get a complete copy.")
    if port is not None:
        # Before anything is installed: a taken port is quickly put right.
        choose_port(port)
    host = install_host.find_or_install(wanted_host)
    interpreter = interpreters.for_host(host)
    ready = time.monotonic()
    print(f"Python  {interpreter.python} (device {interpreter.device})")
    with running(host, interpreter, DEMO_FOLDER / "comfyui", port) as server:
        answered = time.monotonic()
        print(f"Server  {server.url}, log {server.log} (started in {answered - ready:.0f} s)\n", flush=True)
        picture = _tour(interpreter.python, server, quick)
        done = time.monotonic()
        print(f"\nPicture: {picture}")
        parts = {"finding and installing": ready - start, "server": answered - ready, "pictures": done - answered}
        spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in parts.items())
        print(f"Time: {done - start:.0f} s ({spent})", flush=True)
        if leave_open:
            _stay(server)
    return 0


def _tour(python: Path, server: Server, quick: bool) -> Path:
    PICTURES.mkdir(parents=True, exist_ok=True)
    before = _times(PICTURES)
    command = [str(python), str(TOUR.with_name("run.py")), TOUR.stem, "--server", server.url, "--output", str(PICTURES)]
    command += ["--quick"] if quick else []
    process = subprocess.Popen(command, cwd=REPOSITORY, **group_options())
    try:
        while process.poll() is None:
            # A tour that waits for a dead server would wait for ever.
            check_alive(server)
            time.sleep(0.3)
    finally:
        stop(process)
    if process.returncode != 0:
        check_alive(server)
        raise DevError(
            f"The tour ended with exit code {process.returncode} (its own words are above); the "
            f"server's log is {server.log}."
        )
    made = [path for path, changed in _times(PICTURES).items() if before.get(path) != changed]
    if not made:
        raise DevError(f"The tour made no picture in {PICTURES}; the server's log is {server.log}.")
    return max(made, key=lambda path: path.stat().st_mtime_ns)


def _times(folder: Path) -> dict[Path, int]:
    files = (path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    return {path: path.stat().st_mtime_ns for path in files}


def _stay(server: Server) -> None:
    """Open the browser and keep the server until Ctrl+C."""
    print(f"\nThe server stays at {server.url}; press Ctrl+C here to stop it.", flush=True)
    if not webbrowser.open(server.url):
        print("No browser could be opened: open that address yourself.", flush=True)
    try:
        while True:
            check_alive(server)
            time.sleep(0.5)
    except KeyboardInterrupt:
        print("\nStopped.", flush=True)
