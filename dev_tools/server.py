"""A private ComfyUI server that has this pack mounted and changes nothing of the user's installation."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import DevError
from .interpreters import Interpreter
from .paths import REPOSITORY
from .processes import group_options, stop

PACK_FOLDER = "perfusion"
# A cold start on a slow disk reads torch and transformers once; a warm one takes about ten seconds.
START_SECONDS = 300

# The server is on this machine: a proxy from the environment must not be asked for it.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# Where links may not be made (Windows without the right to), the folder holds this instead of a link.
_REDIRECT = '''"""Loads the pack from where it is, for systems on which no link could be made."""
import importlib.util
import sys

_FOLDER = {folder!r}
_SPEC = importlib.util.spec_from_file_location(__name__, _FOLDER + "/__init__.py", submodule_search_locations=[_FOLDER])
__path__ = [_FOLDER]
__file__ = _SPEC.origin
_SPEC.loader.exec_module(sys.modules[__name__])
'''


@dataclass(frozen=True)
class Server:
    """A running server: its address, its base directory and the file with what it says."""

    url: str
    base_directory: Path
    log: Path
    process: subprocess.Popen

    def get(self, path: str, timeout: float = 30.0) -> object:
        """The JSON answer to GET `path`."""
        with _DIRECT.open(self.url + path, timeout=timeout) as answer:
            return json.load(answer)

    def post(self, path: str, body: object, timeout: float = 30.0) -> None:
        """POST `body` as JSON to `path`; the answer's status must be a good one."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        _DIRECT.open(request, timeout=timeout).close()


def choose_port(wanted: int | None) -> int:
    """`wanted`, or a free port of 127.0.0.1. Raises DevError when `wanted` is taken or is no port."""
    if wanted is not None and not 0 < wanted < 65536:
        raise DevError(f"--port expects a number from 1 to 65535 and got {wanted}: leave it out to take a free one.")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name != "nt":
            # A port whose last connection is only waiting to be forgotten is free; on Windows the flag means less.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise DevError(
                f"Port {wanted} on 127.0.0.1 cannot be used ({error.strerror}): close the program that has it, name "
                "another with --port, or leave --port out to take a free one."
            ) from None
        return probe.getsockname()[1]


def mount(custom_nodes: Path, repository: Path = REPOSITORY) -> Path:
    """Make the pack appear in `custom_nodes` and return its place: a link, a junction, or a redirecting folder."""
    custom_nodes.mkdir(parents=True, exist_ok=True)
    place = custom_nodes / PACK_FOLDER
    unmount(place)
    try:
        place.symlink_to(repository, target_is_directory=True)
        return place
    except OSError:
        if os.name == "nt":
            # Junctions need no special right.
            command = ["cmd", "/c", "mklink", "/J", str(place), str(repository)]
            if subprocess.run(command, capture_output=True).returncode == 0:
                return place
    place.mkdir()
    (place / "__init__.py").write_text(_REDIRECT.format(folder=repository.as_posix()), encoding="utf-8")
    # The host reads these by folder, not by import.
    for name in ("workflows", "subgraphs", "locales", "web"):
        if (repository / name).is_dir():
            shutil.copytree(repository / name, place / name)
    if (repository / "pyproject.toml").is_file():
        shutil.copy(repository / "pyproject.toml", place)
    return place


def unmount(place: Path) -> None:
    """Take away what `mount` made, and never anything behind a link."""
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        try:
            # Removes a junction or an empty folder, and fails on a real one that holds something.
            place.rmdir()
        except OSError:
            if _REDIRECT.split("\n", 1)[0] in (place / "__init__.py").read_text(encoding="utf-8"):
                shutil.rmtree(place)
            else:
                raise DevError(f"{place} is not a link that dev.py made: move it away.") from None


def command(
    host: Path, interpreter: Interpreter, base_directory: Path, port: int, options: Sequence[str] = ()
) -> list[str]:
    """The command line of the server.  options: more of the host's own."""
    line = [str(interpreter.python), str(host / "main.py"), "--listen", "127.0.0.1", "--port", str(port)]
    line += ["--base-directory", str(base_directory), "--disable-auto-launch", "--disable-api-nodes"]
    # The database would otherwise be the one in the host's own folder, which a running ComfyUI has locked.
    line += ["--database-url", "sqlite:///:memory:"]
    # extra_model_paths.yaml may name a folder with the user's packs: they are not part of this.
    line += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK_FOLDER]
    if interpreter.device == "cpu":
        line.append("--cpu")
    return [*line, *options]


@contextlib.contextmanager
def running(
    host: Path,
    interpreter: Interpreter,
    base_directory: Path,
    port: int | None = None,
    repository: Path = REPOSITORY,
    options: Sequence[str] = (),
) -> Iterator[Server]:
    """A server that answers and has loaded the pack, for the length of a `with` block; it is stopped however that ends.

    `base_directory` gets the models, input, output and user folders and server.log. Raises DevError on failure.
    """
    port = choose_port(port)
    base_directory.mkdir(parents=True, exist_ok=True)
    for name in ("models", "input", "output", "temp", "user"):
        (base_directory / name).mkdir(exist_ok=True)
    log = base_directory / "server.log"
    place = mount(base_directory / "custom_nodes", repository)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    # Test tools belong to the tests, not into the host's process.
    environment.pop("PYTHONPATH", None)
    process = None
    try:
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command(host, interpreter, base_directory, port, options),
                cwd=host,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **group_options(),
            )
        server = Server(f"http://127.0.0.1:{port}", base_directory, log, process)
        _wait_until_it_answers(server)
        _check_that_the_pack_is_loaded(server)
        yield server
    finally:
        if process is not None:
            stop(process)
        unmount(place)


def check_alive(server: Server) -> None:
    """Raise DevError with the server's last words when it is no longer running."""
    code = server.process.poll()
    if code is not None:
        raise DevError(f"ComfyUI's server ended by itself (exit code {code}); {last_words(server.log)}")


def _wait_until_it_answers(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        check_alive(server)
        try:
            server.get("/system_stats", timeout=5)
            return
        except (OSError, ValueError):
            time.sleep(0.3)
    raise DevError(f"ComfyUI's server did not answer within {START_SECONDS} s; {last_words(server.log)}")


def _check_that_the_pack_is_loaded(server: Server) -> None:
    text = server.log.read_text(encoding="utf-8", errors="replace")
    failed = [line for line in text.splitlines() if "IMPORT FAILED" in line and PACK_FOLDER in line]
    if failed or f"Cannot import {server.base_directory / 'custom_nodes' / PACK_FOLDER}" in text:
        raise DevError(f"ComfyUI started but could not load this pack; {last_words(server.log, 'Cannot import')}")


def last_words(log: Path, about: str | None = None) -> str:
    """The end of the log (or the lines from the last one that holds `about`), and where the whole log is."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace"))
    lines = [line for line in text.splitlines() if line.strip()]
    start = max((number for number, line in enumerate(lines) if about and about in line), default=None)
    chosen = lines[-8:] if start is None else lines[max(0, start - 8) : start + 1]
    quoted = "\n".join("    " + line[:200] for line in chosen) or "    (it said nothing)"
    return f"its log is {log} and says:\n{quoted}"
