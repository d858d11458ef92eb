"""The second moment of text encodings, C, and its inverse: the metric in which similarity is measured.

C = mean of e e^T over the tokens of many captions, uncentered (Perfusion, Appendix C; ROME). It belongs to a text
encoder, not to a concept. The edit does not depend on the scale of C, only on its shape.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import PerfusionError
from .tensor_file import TensorHeader, read_tensors, write_tensors

FORMAT = "perfusion-text-statistics"
VERSION = 1
KIND = "file of Perfusion text statistics"

# A larger condition number means directions that the captions did not cover, where the inverse would be noise. That of
# well-measured statistics of CLIP-L is below, so they stay as they are (benchmarks/text_statistics.md).
MAX_CONDITION = 1e4


class SecondMoment:
    """Accumulator of the uncentered second moment of encodings that arrive in batches, in float64 on the CPU."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.count = 0.0
        self._sum = torch.zeros(width, width, dtype=torch.float64)

    def add(self, encodings: Tensor, weights: Tensor | None = None) -> None:
        """Add encodings [..., d], each counted with its weight [...] (a boolean mask is fine; none = 1 each).

        Raises PerfusionError for a wrong width, weights that do not fit, or numbers that are not finite.
        """
        if encodings.shape[-1] != self.width:
            raise PerfusionError(
                f"The text statistics need encodings of width {self.width}, but these have width {encodings.shape[-1]};"
                " use one text encoder for all captions."
            )
        rows = encodings.detach().reshape(-1, self.width).to("cpu", torch.float64)
        if weights is None:
            factors = torch.ones(len(rows), dtype=torch.float64)
        elif weights.shape == encodings.shape[:-1]:
            factors = weights.detach().reshape(-1).to("cpu", torch.float64)
        else:
            raise PerfusionError(
                f"The weights of the text statistics need the shape {list(encodings.shape[:-1])} of the tokens, but"
                f" have {list(weights.shape)}; give one weight for each token."
            )
        counted = factors != 0  # before the product, so that a masked token may hold anything
        rows, factors = rows[counted], factors[counted]
        if not torch.isfinite(rows).all() or not torch.isfinite(factors).all() or (factors < 0).any():
            raise PerfusionError(
                "The text statistics need finite encodings and weights above 0, but some are not;"
                " check the text encoder's precision."
            )
        self._sum += rows.T @ (rows * factors[:, None])
        self.count += factors.sum().item()

    def matrix(self) -> Tensor:
        """Return C = sum of w e e^T / sum of w, [d, d], float64. Raises PerfusionError before anything was added."""
        if self.count == 0:
            raise PerfusionError("The text statistics need at least one caption, but none was given; add captions.")
        return self._sum / self.count


@dataclass(frozen=True, eq=False)
class TextStatistics:
    """The statistics of one text encoder.

    second_moment: C as measured, [d, d], float32.  inverse: of C after the shrinkage, [d, d], float32.
    shrinkage: part of C that was replaced by (trace C / d) I before inverting, 0 = none.
    encoder_hash: of the text encoder's weights.  captions: how many were measured.
    """

    second_moment: Tensor
    inverse: Tensor
    shrinkage: float
    encoder_hash: str
    captions: int

    def hash(self) -> str:
        """Return 16 hexadecimal digits that differ for statistics that differ in any way that matters."""
        digest = hashlib.sha256(f"{FORMAT} {self.encoder_hash} {self.captions} {self.shrinkage!r} ".encode())
        digest.update(self.inverse.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def summary(self) -> str:
        """One line for the user: size, condition number as measured, and how much was shrunk."""
        values = torch.linalg.eigvalsh(self.second_moment.double())
        condition = values[-1].item() / max(values[0].item(), 1e-12 * values[-1].item())
        width = len(values)
        measured = f"{self.captions:,} captions, {width} x {width}, condition number {condition:,.0f}"
        if self.shrinkage == 0:
            return f"{measured}: well measured, not shrunk"
        used = torch.linalg.cond(self.inverse.double()).item()
        return f"{measured}: {self.shrinkage:.2%} of it shrunk towards its mean, condition number {used:,.0f}"


def statistics_from_moment(
    matrix: Tensor, count: int, encoder_hash: str, max_condition: float = MAX_CONDITION
) -> TextStatistics:
    """Return the statistics of a measured second moment [d, d] over `count` captions.

    The inverse is that of (1 - x) C + x (trace C / d) I, where x is the smallest number from 0 on for which the
    condition number is at most `max_condition`: well-measured statistics are inverted exactly as they are.
    Raises PerfusionError for a matrix that is not square, not symmetric, not finite, or zero.
    """
    moment = matrix.detach().to("cpu", torch.float64)
    width = moment.shape[0] if moment.dim() == 2 else 0
    if moment.shape != (width, width) or width == 0 or not torch.isfinite(moment).all():
        raise PerfusionError(
            f"The text statistics need a square matrix of finite numbers, but got one of shape {list(matrix.shape)}"
            f" of which {int((~torch.isfinite(moment)).sum())} numbers are not finite; measure the captions again."
        )
    asymmetry = (moment - moment.T).abs().max().item()
    if asymmetry > 1e-4 * moment.abs().max().item() or moment.trace().item() <= 0:
        raise PerfusionError(
            "The text statistics need a symmetric matrix with a positive trace, as a second moment has, but the trace"
            f" is {moment.trace().item():.3g} and the asymmetry {asymmetry:.3g}; measure the captions again."
        )
    values, vectors = torch.linalg.eigh((moment + moment.T) / 2)
    mean = values.mean().item()
    shrinkage = _shrinkage(values[0].item(), values[-1].item(), mean, max_condition)
    shrunk = (1 - shrinkage) * values + shrinkage * mean
    inverse = (vectors / shrunk) @ vectors.T
    return TextStatistics(moment.float(), inverse.float(), shrinkage, encoder_hash, int(count))


def _shrinkage(smallest: float, largest: float, mean: float, max_condition: float) -> float:
    """Return the smallest x in [0, 1] with (1-x) largest + x mean <= max_condition ((1-x) smallest + x mean)."""
    if not 1 < max_condition < math.inf:
        raise PerfusionError(f"The bound of the condition number must be above 1, but it is {max_condition}.")
    excess = largest - max_condition * smallest
    if excess <= 0:
        return 0.0
    return excess / (excess + mean * (max_condition - 1))


def save_statistics(path: str | os.PathLike[str], statistics: TextStatistics) -> None:
    """Write the statistics in one step. Raises PerfusionError where the system refuses to write."""
    metadata = {
        "perfusion.format": FORMAT,
        "perfusion.version": str(VERSION),
        "perfusion.shrinkage": repr(float(statistics.shrinkage)),
        "perfusion.encoder_hash": statistics.encoder_hash,
        "perfusion.captions": str(statistics.captions),
    }
    tensors = {"second_moment": statistics.second_moment.float(), "inverse": statistics.inverse.float()}
    write_tensors(path, tensors, metadata)


def load_statistics(path: str | os.PathLike[str]) -> TextStatistics:
    """Return the statistics in the file. Raises PerfusionError, one sentence, for every file that holds none."""
    header, tensors = read_tensors(path, KIND, lambda header: _check_header(header, path))
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise PerfusionError(f"{path} is a {KIND} with numbers that are not finite; measure the statistics again.")
    return TextStatistics(
        second_moment=tensors["second_moment"],
        inverse=tensors["inverse"],
        shrinkage=float(header.metadata["perfusion.shrinkage"]),
        encoder_hash=header.metadata["perfusion.encoder_hash"],
        captions=int(header.metadata["perfusion.captions"]),
    )


def _check_header(header: TensorHeader, path: str | os.PathLike[str]) -> None:
    found = (header.metadata.get("perfusion.format"), header.metadata.get("perfusion.version"))
    if found != (FORMAT, str(VERSION)):
        raise PerfusionError(
            f"{path} was expected to be a {KIND} of version {VERSION}, but its header says {found[0]!r}, version"
            f" {found[1]!r}; measure the statistics again or update the pack."
        )
    try:
        for name, kind in (("shrinkage", float), ("captions", int), ("encoder_hash", str)):
            kind(header.metadata[f"perfusion.{name}"])
    except (KeyError, ValueError):
        raise PerfusionError(f"{path} is a {KIND} whose header is incomplete; measure the statistics again.") from None
    shapes = {name: shape for name, (_, shape) in header.tensors.items()}
    width = max(shapes.get("inverse", (0,)), default=0)
    if shapes != {"second_moment": (width, width), "inverse": (width, width)}:
        raise PerfusionError(
            f"{path} is a {KIND} that should hold two square matrices, but it holds {shapes}; measure them again."
        )
