"""Finding the ComfyUI to use, and saying which it is and why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from .errors import DevError
from .paths import OWN_HOSTS, REPOSITORY

# main.py alone would also match many other programs.
_LANDMARKS = ("main.py", "nodes.py", "comfy", "comfy_extras")


def is_comfyui(folder: Path) -> bool:
    """Whether `folder` holds a ComfyUI source tree."""
    return all((folder / name).exists() for name in _LANDMARKS)


def version(host: Path) -> str:
    """ComfyUI's version as it says itself, or "of unknown version"."""
    try:
        text = (host / "comfyui_version.py").read_text(encoding="utf-8")
        return text.split('__version__ = "')[1].split('"')[0]
    except (OSError, IndexError):
        return "of unknown version"


def _usual_places(repository: Path, home: Path) -> Iterator[tuple[Path, str]]:
    # Both as written and resolved: the pack is often a link inside custom_nodes.
    for path in dict.fromkeys((repository, repository.resolve())):
        if path.parent.name == "custom_nodes":
            yield path.parent.parent, "it contains this folder"
    yield home / "comfy" / "ComfyUI", "it is where ComfyUI usually is"


def locate(
    wanted: str | None = None,
    environment: Mapping[str, str] | None = None,
    repository: Path = REPOSITORY,
    home: Path | None = None,
    own_hosts: Mapping[str, Path] = OWN_HOSTS,
) -> tuple[Path, str] | None:
    """The ComfyUI to use and why it is that one, or None when one has to be installed.

    wanted: --host: a folder, or "official" or "index" for the one that was installed here from there; None for the
    first of: COMFYUI_PATH, the one that contains this folder, ~/comfy/ComfyUI, one that was installed here earlier.
    Raises DevError when a place that the user named is no ComfyUI: silently taking another would be a surprise.
    """
    environment = os.environ if environment is None else environment
    if wanted in own_hosts:
        folder = own_hosts[wanted]
        return (folder.resolve(), f"--host {wanted}, installed earlier") if is_comfyui(folder) else None
    for source, value in {"--host": wanted, "COMFYUI_PATH": environment.get("COMFYUI_PATH")}.items():
        if value:
            folder = Path(value).expanduser().resolve()
            if not is_comfyui(folder):
                raise DevError(
                    f"{source} names {folder}, which is not a ComfyUI folder (no {_missing_landmark(folder)} in it): "
                    "give the folder that contains ComfyUI's main.py."
                )
            return folder, f"{source} names it"
    earlier = [(folder, f"it was installed here earlier ({source})") for source, folder in own_hosts.items()]
    for folder, why in (*_usual_places(repository, home or Path.home()), *earlier):
        if is_comfyui(folder):
            return folder.resolve(), why
    return None


def find(wanted: str | None = None, **options: object) -> Path | None:
    """The ComfyUI to use, as `locate` finds it."""
    found = locate(wanted, **options)  # type: ignore[arg-type]
    return None if found is None else found[0]


def _missing_landmark(folder: Path) -> str:
    return next(name for name in _LANDMARKS if not (folder / name).exists())
