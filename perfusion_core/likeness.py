"""How well pictures painted with a concept keep both promises: like the thing, and like what the prompt says.

Both are measured by CLIP's text and vision models, and one number chooses the best step of a training: their harmonic
mean, which is low where either is, as in the paper.  The text similarity counts relative to that of the superclass' own
pictures: raw ones are so low that their harmonic mean hardly sees the thing (docs/method.md, "Training").
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Likeness:
    """Mean similarities of some pictures.

    image: to the training pictures, -1 to 1.  text: to their prompts, relative to the superclass' own pictures, for
    which it is 1.
    """

    image: float
    text: float

    @property
    def harmonic_mean(self) -> float:
        """See `harmonic_mean`."""
        return harmonic_mean(self.image, self.text)


def harmonic_mean(one: float, other: float) -> float:
    """2 ab / (a + b), with similarities below 0 taken as 0; 0 where both are.  Not a number where either is not."""
    if one != one or other != other:
        return float("nan")
    one, other = max(one, 0.0), max(other, 0.0)
    return 2 * one * other / (one + other) if one + other > 0 else 0.0


def mean_similarity(pictures: Tensor, others: Tensor) -> float:
    """Mean cosine over all pairs of an embedding [P, d] and another one [Q, d]."""
    return (_unit(pictures) @ _unit(others).T).mean().item()


def paired_similarity(pictures: Tensor, texts: Tensor) -> float:
    """Mean cosine of each embedding [P, d] and its own text's [P, d]."""
    return (_unit(pictures) * _unit(texts)).sum(dim=-1).mean().item()


def _unit(embeddings: Tensor) -> Tensor:
    return functional.normalize(embeddings.double(), dim=-1)
