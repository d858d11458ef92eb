"""Words that name looks, in training only.

Stable Diffusion knows thousands of names whose one token decides a whole appearance, and a new concept is a point
among them.  The demo world has a few dozen words, none of them a name; so while the UNet trains, a small network makes
one for every free look: the embedding of the kind plus a function of the look.  The network is thrown away with the
optimiser's state.  What stays is that values of a single token can say any look.
"""

from __future__ import annotations

from dataclasses import dataclass

import dataset
import numpy as np
import torch
from text import CaptionTokens
from text_model import encode
from torch import Tensor, nn
from world.looks import EARS, PATTERNS, SCHEMES, Look

WIDTH_OF_LOOK = 3 * 3 + len(SCHEMES) + len(PATTERNS) + len(EARS) + 3


def look_features(look: Look) -> list[float]:
    """A free look as WIDTH_OF_LOOK numbers in about -1..1."""
    colours = [value / 127.5 - 1 for colour in (look.primary, look.secondary, look.accent) for value in colour]
    kinds = ((look.scheme, SCHEMES), (look.pattern, PATTERNS), (look.ears, EARS))
    one_of = [float(kind == other) for kind, others in kinds for other in others]
    return [*colours, *one_of, float(look.odd), look.patch[0] * 3.5, look.patch[1] * 3]


class LookWords(nn.Module):
    """The network that names looks: features [B, WIDTH_OF_LOOK] to what is added to a kind's embedding [B, width]."""

    def __init__(self, width: int, hidden: int = 256, noise: float = 0.05) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH_OF_LOOK, hidden), nn.SiLU(), nn.Linear(hidden, width))
        self.noise = noise  # so that near looks have near words

    def forward(self, features: Tensor) -> Tensor:
        named = self.layers(features)
        return named + self.noise * torch.randn_like(named)


@dataclass(frozen=True)
class Named:
    """Of each sample: its look [B, WIDTH_OF_LOOK], the row of its noun [B] or -1 where the look stays unnamed, and
    whether the noun's token alone names it [B]."""

    look: Tensor
    noun: Tensor
    alone: Tensor

    def chunk(self, parts: int) -> list[Named]:
        """The samples in `parts` parts."""
        pieces = zip(*(tensor.chunk(parts) for tensor in (self.look, self.noun, self.alone)), strict=True)
        return [Named(*tensors) for tensors in pieces]


class FreeLooks:
    """All pictures with free looks, for samples that name them: captions that pass over the look, and the look."""

    def __init__(self, pictures: int, tokens: CaptionTokens, device: torch.device) -> None:
        scenes = {number: dataset.scene_number(number) for number in range(pictures)}
        self.numbers = np.array([number for number, scene in scenes.items() if not scene.main.colour])
        captions = [dataset.captions_of(number, free_looks=False) for number in self.numbers]
        self.rows = torch.stack([tokens.rows(several) for several in captions]).to(device)
        mains = [scenes[number].main for number in self.numbers]
        self.looks = torch.tensor([look_features(main.look) for main in mains], device=device)
        self.nouns = torch.tensor([tokens.row_of(main.category) for main in mains], device=device)

    def named(self, which: np.ndarray, whether: np.ndarray, rng: np.random.Generator) -> Named:
        """The names of the free looks `which` [B] for the samples where `whether` [B] holds."""
        marked, alone = (
            torch.from_numpy(flags).to(self.nouns.device) for flags in (whether, rng.random(len(which)) < 0.5)
        )
        return Named(self.looks[which], torch.where(marked, self.nouns[which], -1), alone)


def encode_named(both: nn.ModuleDict, rows: Tensor, named: Named) -> Tensor:
    """Encodings [B, tokens, width] of captions in which the noun of some samples is the name of their look.

    Where named.alone holds, all other tokens are encoded as if the noun were a plain one: padding would otherwise
    carry half of the look, and a concept's values stand at its own token only.
    """
    at_noun = (rows == named.noun[:, None])[..., None]
    plain = encode(both["text"], rows)
    with_name = encode(both["text"], rows, at_noun * both["look"](named.look)[:, None])
    return torch.where(named.alone[:, None, None] & ~at_noun, plain, with_name)
