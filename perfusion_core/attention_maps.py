"""Where the thing is, as the model's own cross-attention to its superclass word sees it: soft masks without any other
model.

For each image position, a cross-attention layer spreads a total of 1 over the tokens of the prompt.  The share that the
superclass word gets is high where the model draws such a thing.  It is averaged over heads, layers and noise levels as
it is, neither scaled nor chosen by layer: a layer that hardly looks at the word then hardly counts, which gave as good
a mask as the best choice of layers by hand (benchmarks/attention_mask.md).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .errors import PerfusionError


def word_attention(queries: Tensor, keys: Tensor, heads: int, positions: Tensor) -> Tensor:
    """The share of attention that the marked tokens get together: [B, L], float32, in 0..1, mean over the heads.

    queries [B, L, heads * D] and keys [B, N, heads * D], as a cross-attention layer projects them.  positions: bool
    [N], or indices, the tokens of the word.
    """
    split = [t.float().unflatten(-1, (heads, -1)).transpose(1, 2) for t in (queries, keys)]  # [B, heads, L or N, D]
    logits = split[0] @ split[1].transpose(-1, -2) * split[0].shape[-1] ** -0.5
    return logits.softmax(dim=-1)[..., positions].sum(dim=-1).mean(dim=1)


def map_size(length: int, latent_size: tuple[int, int]) -> tuple[int, int] | None:
    """The rows and columns of a layer with so many image positions; None where they are no scaled-down latent.

    A UNet halves its latents from level to level and rounds odd sides up.
    """
    rows, columns = latent_size
    while rows * columns > length and max(rows, columns) > 1:
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    return (rows, columns) if rows * columns == length else None


class AttentionMaps:
    """The sum of attention maps of many layers and noise levels, at the size of the latents.

    pictures: their number P.  latent_size: rows and columns.
    """

    def __init__(self, pictures: int, latent_size: tuple[int, int], device: torch.device | str = "cpu") -> None:
        self._size = latent_size
        self._sum = torch.zeros(pictures, 1, *latent_size, device=device)
        self._added = False

    def add(self, attention: Tensor, pictures: slice = slice(None)) -> None:
        """Add the attention [B, L] of one layer to some of the pictures; a layer without a grid is passed over."""
        size = map_size(attention.shape[1], self._size)
        if size is None:
            return
        grid = attention.reshape(len(attention), 1, *size).to(self._sum)
        self._sum[pictures] += functional.interpolate(grid, size=self._size, mode="bilinear", align_corners=False)
        self._added = True

    @property
    def is_known(self) -> bool:
        """Whether `masks` has something to tell."""
        return self._added and bool(self._sum.isfinite().all())

    def masks(self) -> Tensor:
        """Soft masks [P, 1, h, w] in 0..1: see `two_levels`.

        Raises PerfusionError where no layer had a grid, or the numbers are not finite.
        """
        if not self.is_known:
            what = "numbers that are not finite" if self._added else "no layer whose positions are those of the picture"
            raise PerfusionError(
                f"The automatic mask needs the model's attention to the superclass, but found {what}; connect masks or"
                " turn automatic_mask off."
            )
        return two_levels(self._sum)


def two_levels(maps: Tensor) -> Tensor:
    """Maps [P, 1, h, w] scaled so that the mean of the background is 0 and the mean of the thing 1, cut to 0..1.

    What is background and what the thing is told by Otsu's threshold, which parts the values of a map into two classes
    with the most variance between them.  Scaling by lowest and highest value instead left the large background a fifth
    of the thing's weight at each place, hence more than half of the loss.  A map with one value throughout tells
    nothing and gives ones.
    """
    values = maps.flatten(1).sort(dim=1).values
    count = values.shape[1]
    below = torch.arange(1, count, device=maps.device)
    sums = values.cumsum(dim=1)
    low = sums[:, :-1] / below
    high = (sums[:, -1:] - sums[:, :-1]) / (count - below)
    best = (below * (count - below) * (high - low).square()).argmax(dim=1, keepdim=True)
    background, thing = (means.gather(1, best)[..., None, None] for means in (low, high))
    span = thing - background
    return torch.where(span > 1e-6 * thing.abs(), (maps - background) / span.clamp(min=1e-30), 1.0).clamp(0, 1)
