"""Is it this one?  A thing among many others of its own kind, and how many of them a picture is more like.

The others have the thing's category, scheme and ears and are free in all else; like the thing they are known by a few
pictures each, as the autoencoder shows them.  (Gallery and rank are the words of re-identification.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..world.backgrounds import BACKGROUNDS
from ..world.scenes import Placed, Scene, render
from .close_looks import kind_of
from .recogniser_data import as_tensor

OTHERS = 200
SHOWN = 3  # pictures by which each of a gallery is known
SIZES, PLACES = ("", "big", ""), ("", "", "left")  # of the object in these


def others_like(placed: Placed, count: int = OTHERS, seed: int = 0) -> list[Placed]:
    """`count` objects of the same kind with free looks; another seed gives others."""
    kind = kind_of(placed)
    rng = np.random.default_rng([seed, 41, *f"{kind.category} {kind.scheme} {kind.ears}".encode()])
    return [Placed(kind.category, kind.free_look(rng)) for _ in range(count)]


def gallery_scenes(members: list[Placed], seed: int = 0) -> list[Scene]:
    """SHOWN scenes of each of the members, one member after the other."""
    scenes = []
    for number, placed in enumerate(members):
        rng = np.random.default_rng([seed, number, 42])
        backgrounds = rng.permutation(BACKGROUNDS)
        scenes += [
            Scene(placed, str(backgrounds[i]), size=SIZES[i], place=PLACES[i], seed=int(rng.integers(2**31)))
            for i in range(SHOWN)
        ]
    return scenes


def gallery(
    placed: Placed, embed: Callable[[Tensor], Tensor], reconstruct: Callable[[Tensor], Tensor], seed: int = 0
) -> Tensor:
    """Mean embeddings of length 1 of the object and of OTHERS like it, [1 + OTHERS, EMBEDDING]; its own come first.

    embed: pictures [B, 3, SIZE, SIZE] in 0..1 to embeddings [B, EMBEDDING].  reconstruct: pictures to what the
    autoencoder makes of them."""
    scenes = gallery_scenes([placed, *others_like(placed, seed=seed)], seed)
    embeddings = []
    for first in range(0, len(scenes), 16 * SHOWN):
        drawn = np.stack([np.asarray(render(scene)[0]) for scene in scenes[first : first + 16 * SHOWN]])
        embeddings.append(embed(reconstruct(as_tensor(drawn))))
    return F.normalize(torch.cat(embeddings).unflatten(0, (-1, SHOWN)).mean(dim=1), dim=-1)


def ranks(embeddings: Tensor, members: Tensor) -> Tensor:
    """Of how many of the others each picture is more like than of the first member, int64 [B], 0 where of none.

    embeddings [B, EMBEDDING], members [1 + OTHERS, EMBEDDING], both of length 1."""
    cosines = embeddings @ members.T
    return (cosines[:, 1:] > cosines[:, :1]).sum(dim=1)
