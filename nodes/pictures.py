"""Pictures as the nodes need them: the host's tensors as Pillow images and back, and thumbnails for files."""

from __future__ import annotations

import io as bytes_io
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..perfusion_core.concept_file import is_large

THUMBNAIL = 160
MAX_THUMBNAIL_BYTES = 8192
LARGE_FILE_THUMBNAIL_BYTES = 4096  # where the rest of a concept file is large already


def to_image(picture: Tensor) -> Image.Image:
    """A picture of the host, [H, W, 3] in 0..1, as a Pillow image."""
    return Image.fromarray((picture[..., :3].clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy())


def to_tensor(image: Image.Image) -> Tensor:
    """A Pillow image as a batch of one picture of the host, [1, H, W, 3] in 0..1."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).astype(np.float32) / 255)[None]


def opened(picture: bytes | None) -> Image.Image | None:
    """The picture of a concept, a JPEG file; None where there is none that can be read, which is no fault of the
    concept."""
    try:
        return None if picture is None else Image.open(bytes_io.BytesIO(picture)).convert("RGB")
    except Exception:  # Pillow raises whatever the reader of a format does
        return None


def thumbnail_room(value_widths: Iterable[int]) -> int:
    """How many bytes the thumbnail of a concept may have for a model with layers of these widths."""
    return LARGE_FILE_THUMBNAIL_BYTES if is_large(value_widths) else MAX_THUMBNAIL_BYTES


def thumbnail(picture: Tensor, most_bytes: int = MAX_THUMBNAIL_BYTES) -> bytes:
    """A small JPEG of a picture [H, W, 3], of at most so many bytes, for the header of a concept file."""
    image = to_image(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    for quality in range(90, 9, -10):
        buffer = bytes_io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= most_bytes:
            break
    return buffer.getvalue()
