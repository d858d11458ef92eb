"""Reading a folder of pictures below the host's input folder, with the masks and captions that lie beside them."""

from __future__ import annotations

import fnmatch
import hashlib
import mimetypes
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import folder_paths
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...perfusion_core.errors import PerfusionError, quoted
from ...perfusion_core.picture_inputs import NO_MASK_SIZE

INPUT_FOLDER = "(input folder)"  # what the input folder itself is called in the list
MASK_ENDING, CAPTION_ENDING = ".mask.png", ".txt"

# More than any of the models sees; larger pictures are made smaller while they are read, which photos are faster by,
# and a hundred of them fit into memory.
MOST_PIXELS = 2048**2


@dataclass
class LoadedPictures:
    """What was read: pictures [1, H, W, 3] and masks [1, h, w] in 0..1, and captions, "" where there is none; a picture
    without a mask has the host's stand-in, NO_MASK_SIZE zeros.  skipped: what was not read, and why."""

    names: list[str] = field(default_factory=list)
    pictures: list[Tensor] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """All of it in one line."""
        masked = sum(bool(mask.any()) for mask in self.masks)
        captioned = sum(map(bool, self.captions))
        text = f"{_count(len(self.pictures), 'picture')}, {_count(masked, 'mask')}, {_count(captioned, 'caption')}"
        return text + (f" · skipped: {'; '.join(self.skipped)}" if self.skipped else "")


def whole_input_folder(folder: Path, patterns: str, count: int) -> str:
    """Says, where no names choose among the pictures of the input folder itself, what that takes; else nothing."""
    if patterns.strip() or folder != picture_folder(INPUT_FOLDER):
        return ""
    return (
        f"taken from the input folder: {_count(count, 'picture')}, which is all that was ever uploaded, so write the"
        " names of yours into names or choose a folder"
    )


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def picture_folders() -> list[str]:
    """What can be chosen: the input folder, and all folders below it."""
    return [INPUT_FOLDER, *folder_paths.get_input_subfolders()]


def picture_folder(name: object) -> Path:
    """The path of a folder of the list.  Raises PerfusionError for one that is not there, or not below the input
    folder once all links are followed, and for no name."""
    if not isinstance(name, str):
        raise PerfusionError(
            f"The input folder expected the name of a folder below ComfyUI's input folder, but found {quoted(name)};"
            " choose one."
        )
    root = Path(os.path.realpath(folder_paths.get_input_directory()))
    path = root if name == INPUT_FOLDER else Path(os.path.realpath(root / name))
    if not path.is_relative_to(root):
        raise PerfusionError(
            f"The folder {name!r} leads outside of ComfyUI's input folder, and nothing is read from there; copy the"
            " pictures to a folder below input."
        )
    if not path.is_dir():
        raise PerfusionError(
            f"The folder {name!r} was not found in {root}; make it, copy pictures into it, and press R in ComfyUI."
        )
    return path


def picture_names(folder: Path, patterns: str = "") -> list[str]:
    """The names of the pictures in a folder, in the order in which people count: IMG_2 before IMG_10.

    patterns: names, one a line, in which * stands for anything; empty takes all."""
    wanted = [line.strip() for line in patterns.splitlines() if line.strip()]
    names = [entry.name for entry in os.scandir(folder) if entry.is_file() and _is_picture(entry.name)]
    if wanted:
        names = [name for name in names if any(fnmatch.fnmatch(name.lower(), one.lower()) for one in wanted)]
    return sorted(names, key=_natural)


def _is_picture(name: str) -> bool:
    kind = mimetypes.guess_type(name)[0] or ""
    known = kind.startswith("image/") or name.lower().endswith((".heic", ".heif", ".avif", ".webp"))
    return known and not name.lower().endswith((MASK_ENDING, ".svg"))


def _natural(name: str) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def read_pictures(folder: Path, names: Sequence[str]) -> LoadedPictures:
    """The pictures of these names.  Raises PerfusionError where none can be read."""
    loaded = LoadedPictures()
    for name in names:
        try:
            picture, alpha = _read(_inside(folder, folder / name))
        except Exception as problem:  # Pillow's readers raise what their formats' libraries do
            loaded.skipped.append(f"{name} ({_reason(problem)})")
            continue
        loaded.names.append(name)
        loaded.pictures.append(picture)
        loaded.masks.append(_mask_beside(folder, name, picture, alpha, loaded.skipped))
        loaded.captions.append(_caption_beside(folder, name, loaded.skipped))
    if not loaded.pictures:
        why = f"; skipped: {'; '.join(loaded.skipped)}" if loaded.skipped else ""
        raise PerfusionError(
            f"The folder {folder.name} was expected to hold pictures (PNG, JPEG, WebP), but none was found that can be"
            f" read{why}; copy pictures into it, or choose another."
        )
    return loaded


def _inside(folder: Path, path: Path) -> Path:
    """The path, if its file lies in the folder once links are followed.  Raises OSError otherwise."""
    if Path(os.path.realpath(path)).parent != Path(os.path.realpath(folder)):
        raise OSError("a link to another folder")
    return path


def _reason(problem: Exception) -> str:
    if isinstance(problem, Image.UnidentifiedImageError):
        return "no format that can be read"
    text = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
    return text if len(text) < 60 else "damaged"


def _read(path: Path) -> tuple[Tensor, Tensor | None]:
    """A picture [1, H, W, 3], upright, and its alpha channel [1, H, W], if that marks anything."""
    with Image.open(path) as image:
        image.draft("RGB", (2048, 2048))  # a JPEG is decoded at a half, a quarter or an eighth where that suffices
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off
            upright = Image.fromarray((np.asarray(upright).astype(np.float32) / 257).round().clip(0, 255).astype("u1"))
        transparent = "A" in upright.getbands() or "transparency" in upright.info
        upright = upright.convert("RGBA" if transparent else "RGB")
        shrink = (MOST_PIXELS / (upright.width * upright.height)) ** 0.5
        if shrink < 1:
            upright = upright.resize(
                (round(upright.width * shrink), round(upright.height * shrink)), Image.Resampling.LANCZOS
            )
    pixels = torch.from_numpy(np.asarray(upright).astype(np.float32) / 255)[None]
    alpha = pixels[..., 3] if transparent and pixels[..., 3].min() < 1 else None
    return pixels[..., :3].contiguous(), alpha


def _mask_beside(folder: Path, name: str, picture: Tensor, alpha: Tensor | None, skipped: list[str]) -> Tensor:
    path = folder / f"{Path(name).stem}{MASK_ENDING}"
    height, width = picture.shape[1:3]
    if path.exists():
        try:
            with Image.open(_inside(folder, path)) as image:
                drawn = image.convert("L").resize((width, height))
            return torch.from_numpy(np.asarray(drawn).astype(np.float32) / 255)[None]
        except Exception as problem:
            skipped.append(f"{path.name} ({_reason(problem)})")
    if alpha is not None:
        return alpha
    # Black in the picture's own size would be a mask that marks nothing.
    return torch.zeros(1, *((1, 1) if (height, width) == NO_MASK_SIZE else NO_MASK_SIZE))


def _caption_beside(folder: Path, name: str, skipped: list[str]) -> str:
    path = folder / f"{Path(name).stem}{CAPTION_ENDING}"
    if not path.exists():
        return ""
    try:
        return " ".join(_inside(folder, path).read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as problem:
        skipped.append(f"{path.name} ({'not UTF-8' if isinstance(problem, UnicodeDecodeError) else _reason(problem)})")
        return ""


def folder_state(folder: Path, patterns: str) -> str:
    """Names what lies in the folder; another one for every change of a picture, a mask or a caption."""
    digest = hashlib.sha256(patterns.encode())
    endings = (MASK_ENDING, CAPTION_ENDING)
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.is_file() and (_is_picture(entry.name) or entry.name.lower().endswith(endings)):
                state = entry.stat()
                digest.update(f"{entry.name} {state.st_mtime_ns} {state.st_size} ".encode())
    return digest.hexdigest()
