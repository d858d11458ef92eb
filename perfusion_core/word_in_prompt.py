"""How similar a token is to a concept's word as it stands in this prompt.

A text encoder gives the same word another encoding at the start of a prompt, behind twenty other words, or before a
comma, so the similarity of the word itself to its target input differs from prompt to prompt, and with it the gate at
one and the same bias.  Where it is known which tokens are the word's own, everything is measured against them:

    r_j        similarity of word j where it stands, at weight 1, mean over its tokens
    s_j / r_j  of every token; of a token of the word itself with its own r_j, otherwise with the mean of the prompt's

So the word has a similarity of 1, its weight acts as before, and other tokens keep their distance to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# The least that is divided by: no other token counts more than twice, however little a word has of its concept.
LEAST_REFERENCE = 0.5


@dataclass(frozen=True, eq=False)
class WordsInPrompt:
    """Where the words of J concepts stand in prompts of N tokens.

    own: whether a token is one of the concept's word, bool [..., N, J].  similarities: r_j there, [..., N, J]; what
    stands at other tokens does not matter.
    """

    own: Tensor
    similarities: Tensor

    def of(self, concepts: Tensor) -> WordsInPrompt:
        """The same for some of the concepts.  concepts: their numbers, int64 [K]."""
        return WordsInPrompt(self.own.index_select(-1, concepts), self.similarities.index_select(-1, concepts))

    def without(self, concepts: Tensor) -> WordsInPrompt:
        """The same as if these were not known to stand anywhere.  concepts: bool [J]."""
        return WordsInPrompt(self.own & ~concepts, self.similarities)

    def references(self) -> Tensor:
        """What the similarities of every token are divided by, [..., N, J]; 1 where a prompt does not have the word."""
        at_words = torch.where(self.own, self.similarities, 0.0)
        count = self.own.sum(dim=-2, keepdim=True)
        of_the_prompt = at_words.sum(dim=-2, keepdim=True) / count.clamp(min=1)
        references = torch.where(self.own, self.similarities, of_the_prompt).clamp(min=LEAST_REFERENCE)
        return torch.where(count > 0, references, 1.0)

    def relative(self, similarities: Tensor) -> Tensor:
        """Similarities s, [..., N, J], measured against the words; 1 at the words themselves, whatever they are."""
        references = self.references()
        at_words = 1 + (similarities - self.similarities) / references
        return torch.where(self.own, at_words, similarities / references)
