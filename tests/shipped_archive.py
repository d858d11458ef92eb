"""The archive that the registry publishes, rebuilt: every file that git knows without those that .comfyignore names."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from by_location import REPOSITORY


def git_files(*options: str) -> set[str]:
    """What `git ls-files` lists with these options; skips the test in a copy that is no git checkout."""
    command = ["git", "ls-files", "-z", *options]
    listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, encoding="utf-8")
    if listing.returncode != 0:
        pytest.skip("this copy is not a git checkout")
    return {path for path in listing.stdout.split("\0") if path}


def shipped_files() -> set[str]:
    """The files of the archive.  Git reads the patterns of .comfyignore as the registry's tool does, which takes them
    for those of a .gitignore."""
    left_out = git_files("--cached", "--ignored", "--exclude-from=.comfyignore")
    return {path for path in git_files() - left_out if (REPOSITORY / path).is_file()}


def waiting_files() -> set[str]:
    """The files that the archive will hold as soon as they are known to git."""
    return git_files("--others", "--exclude-standard", "--exclude-from=.comfyignore")


def write_archive(path: Path) -> Path:
    """Write the archive as the registry's tool does, and return its path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(shipped_files()):
            archive.write(REPOSITORY / name, name)
    return path


def copy_shipped(folder: Path) -> Path:
    """Put into the folder what unpacking the archive would, with the files that wait to be known to git; returns it."""
    for name in shipped_files() | waiting_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, folder / name)
    return folder
