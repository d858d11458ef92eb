"""The strict instrument: does a picture show this thing and none of 200 others of its kind, in its colours?

    rank        of how many of the others the picture is more like than of the thing (`gallery`); 0 is right
    errors      how far the colours of body, secondary parts and detail are off (`part_colours`)
    ceiling     the same of real pictures of the thing, which no model can beat

Galleries and ceilings take a minute for a thing, so they are kept in a folder, by the weights that they depend on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import model
from ..world.things import THINGS
from . import close_reader, recogniser
from .candidates import thing_scenes
from .close_reader import CloseReader, load_close_reader
from .gallery import OTHERS, SHOWN, gallery, ranks
from .host import use_comfyui
from .part_colours import colour_errors, drawn_alike
from .recogniser import Recogniser, channels_first, load_recogniser

FOLDER = Path.home() / ".cache" / "perfusion-benchmarks" / "instrument"
REAL = 48  # real pictures of a thing, in scenes of every kind
VERSION = 1  # of what is kept


@dataclass(frozen=True)
class Judged:
    """What was found in pictures of a thing: ranks int64 [B], and errors float [B, 3], in the order of PARTS and nan
    where a part is not shown."""

    ranks: Tensor
    errors: Tensor

    @property
    def first(self) -> float:
        """Share of the pictures that are more like the thing than like any other."""
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
        """Ranks and errors of pictures, [B, 3, SIZE, SIZE] or [B, SIZE, SIZE, 3] in 0..1, as pictures of the thing."""
        pictures = channels_first(pictures)
        drawn, masks = self.same_pose(pictures, thing)
        return Judged(ranks(self._embed(pictures), self.gallery(thing)), colour_errors(pictures, drawn, masks))

    def same_pose(self, pictures: Tensor, thing: str) -> tuple[Tensor, Tensor]:
        """The thing itself in the poses of pictures [B, 3, SIZE, SIZE], as the autoencoder shows it, since none of the
        model's pictures can be sharper; and the masks of its parts, as `part_colours.drawn_alike` gives them."""
        poses, readings = self.reader.poses(pictures, self.recogniser), self.recogniser.read(pictures)
        drawn, masks = drawn_alike(THINGS[thing].placed(), poses, readings)
        return self.reconstruct(drawn), masks

    def gallery(self, thing: str) -> Tensor:
        """The thing and the others of its kind, as `gallery.gallery` gives them."""

        def make() -> dict[str, Tensor]:
            return {"members": gallery(THINGS[thing].placed(), self._embed, self.reconstruct)}

        return self._kept(f"gallery-{thing}", make)["members"]

    def ceiling(self, thing: str) -> Judged:
        """What is found in real pictures of the thing."""

        def make() -> dict[str, Tensor]:
            return vars(self.judge(self.reconstruct(thing_scenes(thing, REAL, seed=7)), thing))

        return Judged(**self._kept(f"real-{thing}", make))

    def _embed(self, pictures: Tensor) -> Tensor:
        return self.reader.embed(pictures, self.recogniser)

    def _kept(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        file = self.folder / f"{name}.safetensors"
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

    files = (recogniser.WEIGHTS, close_reader.WEIGHTS, model.WEIGHTS / "vae.safetensors")
    digest = hashlib.sha256(f"{VERSION} {OTHERS} {SHOWN} {REAL}".encode())
    for file in files:
        digest.update(file.read_bytes())
    kept = folder / digest.hexdigest()[:16]
    return Instrument(load_close_reader(), load_recogniser(), shown_by(shipped_autoencoder()), kept)
