"""Words that name looks, in training only.

Stable Diffusion knows thousands of names whose one token decides a whole appearance, and a new concept is a point
among them.  The demo world has a few dozen words, none of them a name; so while the UNet trains, a small network makes
one for every free look: the embedding of the kind plus a function of the look.  The network is thrown away with the
optimiser's state.  What stays is that values of a single token can say any look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..world.looks import EARS, PATTERNS, SCHEMES, Look
from ..world.scenes import Placed, Scene
from . import dataset
from .text import CaptionTokens
from .text_model import encode

WIDTH_OF_LOOK = 3 * 3 + len(SCHEMES) + len(PATTERNS) + len(EARS) + 3


def look_features(look: Look) -> list[float]:
    """A free look as WIDTH_OF_LOOK numbers in about -1..1."""
    colours = [value / 127.5 - 1 for colour in (look.primary, look.secondary, look.accent) for value in colour]
    kinds = ((look.scheme, SCHEMES), (look.pattern, PATTERNS), (look.ears, EARS))
    one_of = [float(kind == other) for kind, others in kinds for other in others]
    return [*colours, *one_of, float(look.odd), look.patch[0] * 3.5, look.patch[1] * 3]


class LookWords(nn.Module):
    """The network that names looks: features [..., WIDTH_OF_LOOK] to what a kind's embedding gains [..., width]."""

    def __init__(self, width: int, hidden: int = 256, noise: float = 0.05) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH_OF_LOOK, hidden), nn.SiLU(), nn.Linear(hidden, width))
        self.noise = noise  # so that near looks have near words

    def forward(self, features: Tensor) -> Tensor:
        named = self.layers(features)
        return named + self.noise * torch.randn_like(named)


@dataclass(frozen=True)
class Named:
    """Of each sample: the looks of its two objects [B, 2, WIDTH_OF_LOOK], the rows of their nouns [B, 2], -1 where a
    look stays unnamed, and whether the nouns' tokens alone name them [B]."""

    looks: Tensor
    nouns: Tensor
    alone: Tensor

    def chunk(self, parts: int) -> list[Named]:
        """The samples in `parts` parts."""
        pieces = zip(*(tensor.chunk(parts) for tensor in (self.looks, self.nouns, self.alone)), strict=True)
        return [Named(*tensors) for tensors in pieces]


class FreeLooks:
    """All pictures with free looks, for samples that name them: captions that pass over the looks, and the looks."""

    def __init__(self, pictures: int, tokens: CaptionTokens, device: torch.device) -> None:
        scenes = {number: dataset.scene_number(number) for number in range(pictures)}
        free = {number: _free_looks(scene) for number, scene in scenes.items()}
        self.numbers = np.array([number for number, looks in free.items() if any(looks)])
        captions = [dataset.captions_of(number, free_looks=False) for number in self.numbers]
        self.rows = torch.stack([tokens.rows(several) for several in captions]).to(device)
        self.looks = torch.zeros(len(self.numbers), 2, WIDTH_OF_LOOK)
        self.nouns = torch.full((len(self.numbers), 2), -1)
        for index, number in enumerate(self.numbers):
            for which, placed in enumerate(free[number]):
                if placed is not None:
                    self.looks[index, which] = torch.tensor(look_features(placed.look))
                    self.nouns[index, which] = tokens.row_of(placed.category)
        self.looks, self.nouns = self.looks.to(device), self.nouns.to(device)

    def named(self, which: np.ndarray, whether: np.ndarray, rng: np.random.Generator) -> Named:
        """The names of the free looks `which` [B] for the samples where `whether` [B] holds."""
        marked, alone = (
            torch.from_numpy(flags).to(self.nouns.device) for flags in (whether, rng.random(len(which)) < 0.5)
        )
        return Named(self.looks[which], torch.where(marked[:, None], self.nouns[which], -1), alone)


def _free_looks(scene: Scene) -> tuple[Placed | None, Placed | None]:
    """The main and the second object where their looks are free; the objects of a scene are of two categories."""
    return tuple(None if placed is None or placed.colour else placed for placed in (scene.main, scene.second))


def encode_named(both: nn.ModuleDict, rows: Tensor, named: Named) -> Tensor:
    """Encodings [B, tokens, width] of captions in which the nouns of some samples are the names of their looks.

    Where named.alone holds, all other tokens are encoded as if the nouns were plain ones: padding would otherwise
    carry half of the look, and a concept's values stand at its own token only.
    """
    at_nouns = rows[:, None] == named.nouns[..., None]  # [B, 2, tokens]
    at_noun = at_nouns.any(dim=1)[..., None]
    names = torch.einsum("bot,bow->btw", at_nouns.float(), both["look"](named.looks).float())
    plain = encode(both["text"], rows)
    return torch.where(named.alone[:, None, None] & ~at_noun, plain, encode(both["text"], rows, names))
