"""The directions by which the coefficients of several concepts are read off an encoding (Perfusion, Appendix B).

A concept alone has the coefficient s = D_j . e with D_j = C^-1 i_j / (i_j . C^-1 i_j). Together they have
a = G^-1 D e with G_jk = D_j . i_k, so that e - sum_j a_j i_j is C^-1-orthogonal to every i_k.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import DependentConceptsError

# Two concepts whose correlation in the C^-1 metric is 1 - 1e-5 or more are one concept for float32 encodings.
INDEPENDENCE = 1e-5


def single_directions(target_inputs: Tensor, inverses: Tensor, indices: Sequence[int]) -> Tensor:
    """Return D, [J, d], one row for each concept by itself, whatever scale its C^-1 i was stored with.

    target_inputs: i_j, inverses: C^-1 i_j, both [J, d].  indices: numbers of the concepts, for messages.
    Raises DependentConceptsError for a concept whose i . C^-1 i is no positive number.
    """
    energies = (target_inputs * inverses).sum(-1, keepdim=True)
    for index, energy in zip(indices, energies.flatten().tolist(), strict=True):
        if not 0 < energy < float("inf"):
            raise DependentConceptsError(
                f"Concept {index} has a target input of energy i.C^-1 i = {energy:.3g} where a positive number is"
                " needed; its file is damaged or it was made with faulty text statistics, so train it again.",
                [index],
            )
    return inverses / energies


def joint_directions(directions: Tensor, target_inputs: Tensor, indices: Sequence[int]) -> Tensor:
    """Return G^-1 D, [J, d], whose rows give the joint coefficients a of an encoding.

    directions: of `single_directions`, target_inputs: i_j, both [J, d], float64 on the CPU: not every accelerator has
    float64 and a solver, and the J x J system is tiny.
    Raises DependentConceptsError for concepts that cannot be told apart.
    """
    if len(directions) == 1:
        return directions
    gram = directions @ target_inputs.T
    _check_independence(gram.detach(), indices)
    return torch.linalg.solve(gram, directions)


def _check_independence(gram: Tensor, indices: Sequence[int]) -> None:
    """Refuse a Gram matrix with unit diagonal that is singular for practical purposes.

    It is similar to the matrix of correlations G_jk / sqrt(G_jj G_kk), so it has the same eigenvalues; for two
    concepts the smaller one is 1 - |correlation|. Three concepts can also depend on each other without any two
    being parallel.
    """
    if torch.linalg.eigvals(gram).abs().min().item() > INDEPENDENCE:
        return
    correlation = (gram * gram.T).abs().sqrt().fill_diagonal_(0)
    row, column = divmod(int(correlation.argmax()), len(indices))
    if correlation[row, column].item() >= 1 - INDEPENDENCE:
        culprits = sorted([indices[row], indices[column]])
    else:
        culprits = list(indices)
    names = ", ".join(str(index) for index in culprits)
    raise DependentConceptsError(
        f"Concepts {names} have target inputs that depend on each other, so the text encoder cannot tell them apart;"
        " remove one of them or set its strength to 0.",
        culprits,
    )
