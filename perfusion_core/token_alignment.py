"""Which tokens of two prompts correspond, and how much of each token's attention goes to which.

Prompt-to-Prompt (Hertz et al., 2022, arXiv 2208.01626) gives the attention map of a prompt's token to the corresponding
token of an edited prompt.  Its own code aligns words one to one, or token lists of a single length; here both prompts
may have any length and any number of chunks:

    the same token in both   takes the map of its counterpart (longest common subsequence)
    a replaced block         a block of as many tokens takes it one to one, any other shares the sum evenly
    an inserted token        has no counterpart, and keeps its own map
    begin and end of chunks  one to one; where the chunks are not as many, the last ones share
    padding                  counted from the end, where the text encoder saw the whole prompt
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# The tokens that are no content, as `align` wants them.
BEGIN, END, PADDING = "<begin>", "<end>", "<padding>"
_SPECIAL = (BEGIN, END, PADDING)


@dataclass(frozen=True, eq=False)
class Alignment:
    """How the tokens of an edited prompt, E, get the attention of those of its source, S.

    shares: [S, E] float32, the share of the attention of a source token that goes to an edited one; a row adds up to 1,
    or to 0 where the token was deleted.  has_source: bool [E].
    changed_source, changed_edited: content tokens that are not the same in the other prompt.
    """

    shares: Tensor
    has_source: Tensor
    changed_source: tuple[int, ...]
    changed_edited: tuple[int, ...]

    def repeated(self, source: int, edited: int) -> Alignment:
        """The alignment of prompts that stand in their encodings so many times one after the other.

        Repeating a prompt leaves what attention finds in it as it is, since each copy gets its part of the attention.
        """
        length_s, length_e = self.shares.shape
        return Alignment(
            self.shares.repeat(source, edited) / edited,
            self.has_source.repeat(edited),
            tuple(i + n * length_s for n in range(source) for i in self.changed_source),
            tuple(j + n * length_e for n in range(edited) for j in self.changed_edited),
        )


def align(source: Sequence[Hashable], edited: Sequence[Hashable]) -> Alignment:
    """Align two token lists; tokens are anything that can be compared, and BEGIN, END and PADDING."""
    shares = torch.zeros(len(source), len(edited))
    for special in (BEGIN, END):
        _one_to_one_the_last_shared(shares, _places(source, special), _places(edited, special))
    for i, j in zip(reversed(_places(source, PADDING)), reversed(_places(edited, PADDING)), strict=False):
        shares[i, j] = 1.0

    content_s = [i for i, token in enumerate(source) if token not in _SPECIAL]
    content_e = [j for j, token in enumerate(edited) if token not in _SPECIAL]
    matches = common_subsequence([source[i] for i in content_s], [edited[j] for j in content_e])
    changed_s, changed_e = [], []
    last_s = last_e = -1
    for match_s, match_e in [*matches, (len(content_s), len(content_e))]:
        block_s, block_e = content_s[last_s + 1 : match_s], content_e[last_e + 1 : match_e]
        changed_s += block_s
        changed_e += block_e
        if len(block_s) == len(block_e):
            shares[block_s, block_e] = 1.0
        else:
            for i in block_s:
                shares[i, block_e] = 1.0 / max(len(block_e), 1)
        if match_s < len(content_s):
            shares[content_s[match_s], content_e[match_e]] = 1.0
        last_s, last_e = match_s, match_e
    return Alignment(shares, shares.sum(dim=0) > 0, tuple(changed_s), tuple(changed_e))


def common_subsequence(one: Sequence[Hashable], other: Sequence[Hashable]) -> list[tuple[int, int]]:
    """The pairs of places of a longest common subsequence, in order; of several, the one nearest to the end."""
    lengths = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, token in enumerate(one):
        for j, candidate in enumerate(other):
            longer = lengths[i][j] + 1 if token == candidate else max(lengths[i][j + 1], lengths[i + 1][j])
            lengths[i + 1][j + 1] = longer
    pairs: list[tuple[int, int]] = []
    i, j = len(one), len(other)
    while i and j:
        if one[i - 1] == other[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif lengths[i - 1][j] >= lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def places_of(phrase: Sequence[Hashable], tokens: Sequence[Hashable]) -> list[int]:
    """All places in the tokens that belong to an occurrence of the phrase, in order; none where it is empty."""
    starts = range(len(tokens) - len(phrase) + 1) if phrase else ()
    found = {i + n for i in starts if list(tokens[i : i + len(phrase)]) == list(phrase) for n in range(len(phrase))}
    return sorted(found)


def _places(tokens: Sequence[Hashable], special: str) -> list[int]:
    return [i for i, token in enumerate(tokens) if token == special]


def _one_to_one_the_last_shared(shares: Tensor, places_s: list[int], places_e: list[int]) -> None:
    """Pair the n-th with the n-th; those without a partner go to the last on the other side."""
    if not places_s or not places_e:
        return
    for n in range(max(len(places_s), len(places_e))):
        shares[places_s[min(n, len(places_s) - 1)], places_e[min(n, len(places_e) - 1)]] = 1.0
    shares[places_s] /= shares[places_s].sum(dim=1, keepdim=True)
