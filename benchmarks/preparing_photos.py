"""What does it take to prepare a folder of photos?

    python benchmarks/preparing_photos.py      (half a minute)
    python benchmarks/preparing_photos.py --photos 100 --width 4000 --height 3000

Draws photos of ten mixed sizes (4000 x 3000 to 200 x 260; one turned by EXIF, one with an alpha channel, one damaged),
or many of one size, reads them as *Load Concept Pictures* does and brings them to a model's sizes as *Train Perfusion
Concept* does.  Printed are seconds, and by how much the highest memory of the process lies above that before.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from open_pack import open_pack

RESOLUTIONS = {"demo, 128": (128, 128), "SD1.5, 512": (512, 64), "SDXL, 1024": (1024, 64)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=0, help="so many of one size instead")
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--height", type=int, default=3000)
    arguments = parser.parse_args()
    open_pack()
    from perfusion_pack.nodes.host.picture_files import picture_names, read_pictures
    from perfusion_pack.perfusion_core.training_pictures import training_pictures

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder, arguments.photos, (arguments.width, arguments.height))
        print("| what | seconds | highest memory, above the start |\n|---|---|---|")
        start = peak()
        began = time.perf_counter()
        found = read_pictures(folder, picture_names(folder))
        print(row(f"{len(found.pictures)} photos read", began, start), flush=True)
        for label, (resolution, step) in RESOLUTIONS.items():
            began = time.perf_counter()
            made = training_pictures(found.pictures, found.masks, resolution, step)
            print(row(f"{label}: {made.described()}", began, start), flush=True)
            del made


def draw(folder: Path, photos: int, size: tuple[int, int]) -> None:
    """The ten of the tests, or many of one size."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "host"))
    import numpy as np
    from photos import draw_photos
    from PIL import Image

    if not photos:
        draw_photos(folder)
    for number in range(photos):
        small = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)


def peak() -> float:
    """Highest memory of the process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def row(what: str, began: float, start: float) -> str:
    """One row of the table."""
    return f"| {what} | {time.perf_counter() - began:.1f} | {peak() - start:.0f} MB |"


if __name__ == "__main__":
    main()
