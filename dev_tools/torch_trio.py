"""Torch, torchvision and torchaudio that can be imported together, found by trying.

The three are released apart, and which belong together follows no rule that would hold for long; pip installs pairs
that cannot be loaded. So a set that the tests have passed with comes first, then what pip picks by itself, then older
ones, and each is imported before it is believed.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import DevError, DiskFullError
from .pip_runner import install
from .probing import probe, versions

TRIO = ("torch", "torchvision", "torchaudio")
TESTED_VERSIONS = Path(__file__).with_name("tested_versions.txt")
MOST_TRIES = 4


def index_options() -> list[str]:
    """pip options for another build of torch (CPU, ROCm, another CUDA): PERFUSION_TORCH_INDEX is its package index."""
    index = os.environ.get("PERFUSION_TORCH_INDEX")
    return ["--extra-index-url", index] if index else []


def download_sentence() -> str:
    """How much there is to download, and how it could be less."""
    if os.environ.get("PERFUSION_TORCH_INDEX"):
        return "torch comes from the index that PERFUSION_TORCH_INDEX names; the rest is about 0.3 GB to download."
    if sys.platform != "linux":
        return "About 0.5 GB have to be downloaded."
    sentence = "About 3 GB have to be downloaded, 2.7 of them torch's default build, with CUDA."
    if shutil.which("nvidia-smi") is None:
        sentence += (
            " No NVIDIA card was found: for the CPU build, about 0.2 GB in place of 2.7, or for another card's, stop "
            "this, set PERFUSION_TORCH_INDEX to the package index that pytorch.org's installation page shows for it, "
            "and start again."
        )
    return sentence


def install_with_trio(python: Path, requirements: Sequence[str], options: Sequence[str] = ()) -> None:
    """Install `requirements` and a trio that can be imported into the environment of `python`.

    A trio that works there already is kept. Otherwise at most four sets are tried, and between the tries only the three
    are installed anew. Raises DevError, which names the tries, when none can be imported.
    """
    if probe(python, TRIO)[0] is None:
        kept = [f"{name}=={version}" for name, version in versions(python, TRIO).items()]
        install(python, [*kept, *requirements], *options)
        return
    failures: list[str] = []
    rest = list(requirements)
    for number, (what, trio, more_options) in enumerate(_tries(python), start=1):
        if failures:
            print(f"Try {number} of {MOST_TRIES}: {what}.", flush=True)
        try:
            install(python, [*trio, *rest], *options, *more_options)
        except DiskFullError:
            raise
        except DevError as error:
            if "from versions: none" in str(error):
                raise DevError(
                    f"The package index cannot be reached, or has nothing for Python {sys.version_info[0]}."
                    f"{sys.version_info[1]} ({error}): check the network, or start dev.py with another Python."
                ) from None
            failures.append(f"{what}: {error}")
            continue
        rest = []
        wrong = probe(python, TRIO)[0]
        found = ", ".join(f"{name} {version}" for name, version in versions(python, TRIO).items())
        if wrong is None:
            print(f"Taken: {found}.", flush=True)
            return
        print(f"{found} are installed but cannot be imported together ({wrong}).", flush=True)
        failures.append(f"{what}, {found}: {wrong}")
    tries = "; ".join(f"({number}) {failure}" for number, failure in enumerate(failures, start=1))
    raise DevError(
        f"No torch, torchvision and torchaudio that can be imported together were found for {python} in "
        f"{len(failures)} tries: {tries}. Start dev.py with a Python that runs your ComfyUI, or install the three "
        "into that environment yourself."
    )


def _tries(python: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """What each try is called, its requirements, and pip's options for it; asked for one after the other."""
    yield "the versions of the last full run of the tests", list(TRIO), ["--constraint", str(TESTED_VERSIONS)]
    yield "what pip picks by itself", list(TRIO), ["--upgrade"]
    for _ in range(MOST_TRIES - 2):
        found = versions(python, TRIO)
        older = [f"{name}<{minor}" for name in ("torch", "torchaudio") if (minor := _minor(found.get(name)))]
        if not older:
            return
        yield "one minor version back", [*older, "torchvision"], ["--upgrade"]


def _minor(version: str | None) -> str | None:
    """ "2.11" of "2.11.1+cpu"."""
    match = re.match(r"\d+\.\d+", version or "")
    return match.group() if match else None
