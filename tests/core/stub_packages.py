"""Wheels of packages that hold next to nothing, for tests that let the real pip install something."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, files: Mapping[str, str], requires: Sequence[str] = ()) -> Path:
    """Write a wheel with `files` (path: text) into `folder` and return it."""
    distribution = name.replace("-", "_")
    information = f"{distribution}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    content = {
        **files,
        f"{information}/METADATA": "\n".join(metadata) + "\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in content.items()]
    content[f"{information}/RECORD"] = "\n".join([*record, f"{information}/RECORD,,"]) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{distribution}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return wheel


def make_trio(folder: Path, torch: Sequence[str], torchaudio: Mapping[str, Sequence[str]]) -> None:
    """Wheels of torch in these versions, a torchvision for each, and torchaudio by the torch it loads beside."""
    for version in torch:
        make_wheel(folder, "torch", version, {"torch/__init__.py": f"__version__ = {version!r}\n"})
        vision = f"0.{int(version.split('.')[1]) + 15}.{version.split('.')[2]}"
        make_wheel(folder, "torchvision", vision, {"torchvision/__init__.py": ""}, [f"torch=={version}"])
    for version, fitting in torchaudio.items():
        text = f"import torch\nif torch.__version__ not in {tuple(fitting)!r}:\n    raise OSError('undefined symbol')\n"
        make_wheel(folder, "torchaudio", version, {"torchaudio/__init__.py": text})


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
