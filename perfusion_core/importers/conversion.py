"""From a peer's concept to ours.

Both peers compute h = W (e - s i*) + g o* with s = e . C^-1 i* / (i* . C^-1 i*): our "paper" form. The scale of C does
not matter. Their keys o_K become the superclass encoding that yields them; all else is taken over as it is.
"""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor

from ..concept import Concept, normalise_word, unit_energy
from ..errors import PerfusionError
from .base_model import BaseModel, superclass_encoding
from .peer import PeerConcept

# The defaults of both peers at inference.
BIAS, TEMPERATURE = 0.70, 0.15

# Relative distance between the file's keys and the nearest that a superclass encoding gives. Keys of another checkpoint
# or of swapped layers are near 1; rounding to half precision is below a thousandth.
KEYS_DIFFER, KEYS_FOREIGN = 0.01, 0.5
# Values nearer than this to W_V e_super, where training starts, were never trained.
VALUES_UNTRAINED = 0.01


def convert(
    peer: PeerConcept,
    base: BaseModel,
    source: str | os.PathLike[str],
    word: str,
    superclass: str,
    *,
    bias: float = BIAS,
    temperature: float = TEMPERATURE,
    clip_layer: int | None = None,
) -> tuple[Concept, list[str]]:
    """Return the concept, of the form "paper", and notes for the user on what does not carry over.

    source: the peer's file, for sentences.  clip_layer: as in `Concept`.
    Raises PerfusionError where the file's keys cannot be those of the checkpoint, or a part does not fit.
    """
    encoding, distance = superclass_encoding(peer.key_targets, base.key_weights)
    if not distance < KEYS_FOREIGN:
        raise PerfusionError(
            f"{source} has keys that no superclass gives in this checkpoint (they differ by {distance:.0%}), so it was"
            " trained on another kind of model or its layers are in another order; choose the checkpoint it was trained"
            " on."
        )
    notes = list(peer.notes)
    if distance > KEYS_DIFFER:
        notes.append(
            f"The file's keys differ by {distance:.1%} from the nearest that a superclass gives: they were trained, or"
            " made with another checkpoint; the concept locks its keys to the nearest."
        )
    if _untrained(peer, base, encoding):
        notes.append(
            "The file's values are those that training starts from: what it learned, if anything, is only the word."
        )
    concept = Concept(
        word=normalise_word(word),
        superclass=superclass,
        base_model=base.family,
        encoding_width=base.encoding_width,
        clip_layer=clip_layer,
        form="paper",
        bias=bias,
        temperature=temperature,
        statistics_hash=peer.statistics_hash,
        training={**peer.training, "imported_from": peer.program, "file": Path(source).name},
        target_input=peer.target_input,
        inverse_target_input=unit_energy(peer.target_input, peer.inverse_target_input),
        superclass_encoding=encoding,
        word_vectors={base.embedding_key: peer.word_vectors},
        superclass_vectors={base.embedding_key: base.superclass_vectors},
        value_targets=peer.value_targets,
    )
    return concept, notes


def _untrained(peer: PeerConcept, base: BaseModel, encoding: Tensor) -> bool:
    """Say whether every layer's value is still about W_V e_super."""
    for layer, value in peer.value_targets.items():
        start = base.value_weights[layer] @ encoding
        if (value - start).norm() > VALUES_UNTRAINED * start.norm():
            return False
    return True
