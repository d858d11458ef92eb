"""The strict instrument: does a picture show this thing and none of 200 others of its kind, in its colours?

    distance    how far the picture's object is from the thing, pixel by pixel in its own frame (`gallery`)
    rank        how many of the others it is nearer to than to the thing; 0 is right
    look-alike  how near real pictures of the thing come to the nearest other: what is farther than that from the thing
                is not a picture of it, whatever its rank
    errors      how far the colours of body, secondary parts and detail are off (`part_colours`)
    ceiling     the same of real pictures of the thing, which no model can beat

Galleries and ceilings take half a minute for a thing, so they are kept in a folder, by the weights and looks that they
depend on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..world.things import THINGS
from . import close_reader, recogniser
from .candidates import thing_scenes
from .close_reader import CloseReader, load_close_reader
from .gallery import OTHERS, Gallery, gallery, gallery_of, ranks
from .host import use_comfyui
from .part_colours import colour_errors, drawn_alike
from .recogniser import Recogniser, channels_first, load_recogniser
from .trained_weights import trained_file

FOLDER = Path.home() / ".cache" / "perfusion-benchmarks" / "instrument"
REAL = 48  # real pictures of a thing, in scenes of every kind
VERSION = 2  # of what is kept


@dataclass(frozen=True)
class Judged:
    """What was found in pictures of a thing.

    distances and others, float [B]: from the thing, and from the nearest of the others.  ranks int64 [B].  errors float
    [B, 3], in the order of PARTS and nan where a part is not shown.  look_alike: the distance within which a picture
    must be, [1]."""

    distances: Tensor
    others: Tensor
    ranks: Tensor
    errors: Tensor
    look_alike: Tensor

    @property
    def right(self) -> Tensor:
        """Whether each picture is nearer to the thing than to any other, and no farther than look-alikes, bool [B]."""
        return (self.ranks == 0) & (self.distances <= self.look_alike)

    @property
    def first(self) -> float:
        """Share of the pictures that are nearer to the thing than to any other."""
        return float((self.ranks == 0).float().mean())

    @property
    def median_rank(self) -> float:
        """The middle rank, or the mean of the two middle ones."""
        return float(self.ranks.double().quantile(0.5))

    @property
    def mean_errors(self) -> list[float]:
        """The mean error of each of PARTS over the pictures that show it; nan where none does."""
        return self.errors.nanmean(dim=0).tolist()


class Instrument:
    """Judges pictures of things.

    reconstruct: what the autoencoder makes of pictures [B, 3, SIZE, SIZE] in 0..1.  folder: for what is kept."""

    def __init__(
        self,
        reader: CloseReader,
        recogniser: Recogniser,
        reconstruct: Callable[[Tensor], Tensor],
        folder: Path,
    ) -> None:
        self.reader, self.recogniser, self.reconstruct, self.folder = reader, recogniser, reconstruct, folder

    def judge(self, pictures: Tensor, thing: str) -> Judged:
        """What is found in pictures, [B, 3, SIZE, SIZE] or [B, SIZE, SIZE, 3] in 0..1, taken for ones of the thing."""
        return self._judge(channels_first(pictures), thing, self.ceiling(thing).look_alike)

    def same_pose(self, pictures: Tensor, thing: str) -> Tensor:
        """The thing itself in the poses of pictures [B, 3, SIZE, SIZE], as the autoencoder shows it, since none of the
        model's pictures can be sharper."""
        return self._laid_upon(pictures, thing)[1]

    def gallery(self, thing: str) -> Gallery:
        """The thing and the others of its kind, as `gallery.gallery` gives them."""
        placed = THINGS[thing].placed()

        def make() -> dict[str, Tensor]:
            made = gallery(placed, self.reconstruct)
            return {"looks": made.looks, "seen": made.seen}

        return gallery_of(self._kept("gallery", thing, make), placed.category)

    def ceiling(self, thing: str) -> Judged:
        """What is found in real pictures of the thing."""

        def make() -> dict[str, Tensor]:
            found = self._judge(self.reconstruct(thing_scenes(thing, REAL, seed=7)), thing, torch.zeros(1))
            return asdict(found) | {"look_alike": found.others.median()[None]}

        return Judged(**self._kept("real", thing, make))

    def _judge(self, pictures: Tensor, thing: str, look_alike: Tensor) -> Judged:
        distances, drawn, masks = self._laid_upon(pictures, thing)
        others = distances[:, 1:].amin(dim=1)
        errors = colour_errors(pictures, drawn, masks)
        return Judged(distances[:, 0].clone(), others, ranks(distances), errors, look_alike)

    def _laid_upon(self, pictures: Tensor, thing: str) -> tuple[Tensor, Tensor, Tensor]:
        """Distances from the gallery [B, 1 + OTHERS]; the thing drawn in the poses where it comes nearest, and the
        masks of its parts, as `drawn_alike` gives them."""
        gallery, readings = self.gallery(thing), self.recogniser.read(pictures)
        read = zip(pictures, self.reader.poses(pictures, self.recogniser), readings, strict=True)
        found = [gallery.nearest_pose(picture, guesses, reading.accessory) for picture, guesses, reading in read]
        distances, poses = zip(*found, strict=True)
        drawn, masks = drawn_alike(THINGS[thing].placed(), poses, readings)
        return torch.stack(distances), self.reconstruct(drawn), masks

    def _kept(self, what: str, thing: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        look = hashlib.sha256(repr(THINGS[thing].placed()).encode()).hexdigest()[:8]
        file = self.folder / f"{what}-{thing}-{look}.safetensors"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file({key: tensor.contiguous() for key, tensor in make().items()}, file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)
        return load_file(file)


def load_instrument(folder: Path = FOLDER) -> Instrument:
    """The instrument on the shipped weights; what it keeps lies in `folder`, by those weights."""
    use_comfyui()
    from .recogniser_data import shown_by
    from .train_vae import shipped_autoencoder

    files = (recogniser.WEIGHTS, close_reader.WEIGHTS, trained_file("vae.safetensors"))
    digest = hashlib.sha256(f"{VERSION} {OTHERS} {REAL}".encode())
    for file in files:
        digest.update(file.read_bytes())
    kept = folder / digest.hexdigest()[:16]
    return Instrument(load_close_reader(), load_recogniser(), shown_by(shipped_autoencoder()), kept)
