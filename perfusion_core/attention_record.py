"""Where each token of the prompts of one sampling run was looked at: running sums of cross-attention maps.

For each image position a layer spreads a total of 1 over the tokens of a prompt.  These shares are summed up for all
tokens, over the layers of one size and a tenth of the run, so that words, layers and steps can be chosen afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .attention_maps import map_size

PARTS = 10  # of a run, by which its steps can be told apart


class Place(NamedTuple):
    """Where a prompt acts: a number that stands for the prompt, and the part of the latent that it is for.

    area: top, left, height and width, or None for the whole.
    """

    prompt: int
    area: tuple[int, int, int, int] | None


class _Key(NamedTuple):
    place: Place
    positions: int
    part: int


@dataclass
class _Sum:
    maps: Tensor  # [P, L, N]
    count: int


class AttentionRecord:
    """The maps of one sampling run.

    pictures: their number P.  latent_size: rows and columns of the whole latent.
    """

    def __init__(self, pictures: int, latent_size: tuple[int, int]) -> None:
        self.pictures = pictures
        self.latent_size = latent_size
        self._sums: dict[_Key, _Sum] = {}
        self._lock = threading.Lock()  # the host may run several devices at once

    def add(self, place: Place, progress: float, attention: Tensor) -> bool:
        """Add the maps [P, L, N] of one layer in one step.  progress: of the run, 0 to 1.

        Returns whether they could be placed: there must be a map for each picture, of positions that are a grid.
        """
        pictures, positions, _ = attention.shape
        if pictures != self.pictures or map_size(positions, self.size_of(place)) is None:
            return False
        key = _Key(place, positions, min(PARTS - 1, int(progress * PARTS)))
        with self._lock:
            known = self._sums.get(key)
            if known is not None and known.maps.shape != attention.shape:
                return False
            if known is None:
                self._sums[key] = _Sum(attention.clone(), 1)
            else:
                known.maps += attention.to(known.maps.device)
                known.count += 1
        return True

    def to_cpu(self) -> None:
        """Give the device its memory back."""
        for one in self._sums.values():
            one.maps = one.maps.to("cpu")

    def nbytes(self) -> int:
        """The memory that the maps take."""
        return sum(one.maps.nbytes for one in self._sums.values())

    def size_of(self, place: Place) -> tuple[int, int]:
        """Rows and columns of the part of the latent that a prompt is for."""
        return self.latent_size if place.area is None else (place.area[2], place.area[3])

    def scales(self) -> list[int]:
        """By how much the maps are smaller than the latent, 1, 2, 4, ..., finest first."""
        return sorted({self._scale(key) for key in self._sums})

    def parts(self) -> list[int]:
        """The tenths of the run in which anything was recorded."""
        return sorted({key.part for key in self._sums})

    def _scale(self, key: _Key) -> int:
        rows, columns = self.size_of(key.place)
        return 2 ** round(torch.tensor(rows * columns / key.positions).log2().item() / 2)

    def word_maps(
        self,
        tokens: Callable[[int, int], Sequence[int]],
        scales: Iterable[int] = (),
        start: float = 0.0,
        end: float = 1.0,
    ) -> Tensor:
        """Maps [P, h, w], at the size of the latent, of the share that a word got of all attention there.

        tokens: the positions of the word in the encoding, for a prompt and a picture.  scales: of the layers to use,
        all where empty.  start, end: of the part of the run to use, 0 to 1.  The mean over layers and steps; where a
        word stands in several prompts their maps are added up.
        """
        chosen, first, last = set(scales), round(start * PARTS), max(round(end * PARTS), round(start * PARTS) + 1)
        prompts: dict[Place, tuple[Tensor, int]] = {}
        for key, one in self._sums.items():
            if (chosen and self._scale(key) not in chosen) or not first <= key.part < last:
                continue
            size = self.size_of(key.place)
            grid = torch.stack(
                [one.maps[p][:, list(tokens(key.place.prompt, p))].float().sum(-1) for p in range(self.pictures)]
            )
            grid = grid.reshape(self.pictures, 1, *(map_size(key.positions, size) or ()))
            enlarged = functional.interpolate(grid, size=size, mode="bilinear", align_corners=False)[:, 0]
            total, count = prompts.get(key.place, (0.0, 0))
            prompts[key.place] = (total + enlarged, count + one.count)
        whole = torch.zeros(self.pictures, *self.latent_size)
        for place, (total, count) in prompts.items():
            top, left, height, width = place.area or (0, 0, *self.latent_size)
            whole[:, top : top + height, left : left + width] += total / count
        return whole


def token_attention(queries: Tensor, keys: Tensor, heads: int, tokens: int | None = None) -> Tensor:
    """The share of attention that each token gets at each position: [B, L, N], float32, mean over the heads.

    queries [B, L, heads * D] and keys [B, M, heads * D], as a cross-attention layer projects them.  tokens: N; where
    the host repeated a prompt to the length M of a longer one, its repetitions are added up.
    """
    q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (queries, keys))  # [B, heads, L or M, D]
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    shares = logits.softmax(dim=-1, dtype=torch.float32).mean(dim=1)
    if tokens is not None and tokens != shares.shape[-1]:
        shares = shares.unflatten(-1, (-1, tokens)).sum(dim=-2)
    return shares
