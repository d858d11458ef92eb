"""A folder of photos as people have them: ten of mixed sizes, drawn, one of them damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROTATED_BY_EXIF = 6  # the camera was held upright
SIZES = {
    "IMG_1.jpg": (4000, 3000),
    "IMG_2.jpg": (3000, 4000),
    "IMG_3.png": (512, 512),
    "IMG_4.jpg": (300, 300),
    "IMG_5.webp": (1920, 1080),
    "IMG_6.png": (640, 480),
    "IMG_7.jpg": (1200, 800),
    "IMG_8.png": (200, 260),
    "IMG_10.jpg": (1600, 1200),
}
DAMAGED = "IMG_9.jpg"


def draw_photos(folder: Path, thing: tuple[int, int, int] = (200, 40, 60)) -> None:
    """Each shows a disc before a coloured ground.  IMG_6 has an alpha channel, IMG_7 a mask and a caption beside it,
    IMG_10 is turned by its EXIF."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        ground = tuple(int(value) for value in np.random.default_rng(number).integers(60, 255, 3))
        photo, disc = Image.new("RGB", (width, height), ground), _disc(width, height)
        photo.paste(thing, mask=disc)
        if name == "IMG_6.png":
            photo.putalpha(disc)
        if name == "IMG_7.jpg":
            disc.save(folder / "IMG_7.mask.png")
            (folder / "IMG_7.txt").write_text("a photo of {} on a plain ground", encoding="utf-8")
        exif = photo.getexif()
        if name == "IMG_10.jpg":
            exif[0x0112] = ROTATED_BY_EXIF
        photo.save(folder / name, **({} if name.endswith(".png") else {"exif": exif, "quality": 90}))
    damaged = (folder / "IMG_1.jpg").read_bytes()[:5000]
    (folder / DAMAGED).write_bytes(b"\0" * 30 + damaged)


def _disc(width: int, height: int) -> Image.Image:
    disc, radius = Image.new("L", (width, height)), min(width, height) // 4
    x, y = width // 3, height // 2
    ImageDraw.Draw(disc).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return disc
