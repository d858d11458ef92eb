"""The text encoders inside a CLIP: their tokenizers, embedding tables, and where a word's vectors land.

The host names an encoder once in the tokenizer and in the model ("clip_l", "clip_g", "clip_h"), and that name is also
the key of its vectors in embedding files; the token lists leave the "clip_" out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from comfy.sd import CLIP
from torch import Tensor
from torch.nn import Embedding

from ....perfusion_core.errors import PerfusionError

# Attributes by which a token list tells which of its vectors belong to which concept, and what that concept asks for.
WORD, SUPERCLASS, LAYER = "perfusion_word", "perfusion_superclass", "perfusion_layer"
IDENTITY, POOLED_LOCK = "perfusion_word_hash", "perfusion_pooled_lock"

# Of a word that asks for no layer of the text encoder; the host counts its layers from the end, -1, -2, ...
ANY_LAYER = 0


class TextEncoder(NamedTuple):
    """One encoder of a CLIP: its tokenizer and its model, a torch module, of the host's classes."""

    tokenizer: Any
    model: Any

    @property
    def embedding_table(self) -> Embedding:
        return self.model.transformer.get_input_embeddings()

    @property
    def width(self) -> int:
        """Width of a token vector, read without the weight, which may not be loaded yet."""
        return self.embedding_table.embedding_dim


def text_encoders(clip: CLIP) -> dict[str, TextEncoder]:
    """Return the encoders of a CLIP by embedding key. Raises PerfusionError where it has none that is known here."""
    found = {
        key: TextEncoder(tokenizer, getattr(clip.cond_stage_model, key))
        for key, tokenizer in vars(clip.tokenizer).items()
        if hasattr(tokenizer, "tokenize_with_weights") and hasattr(clip.cond_stage_model, key)
    }
    if not found:
        raise PerfusionError(
            f"The CLIP input needs text encoders of the SD1, SD2 or SDXL kind, but it holds"
            f" {type(clip.cond_stage_model).__name__}; load a CLIP of one of these model families."
        )
    return found


def encode_superclass_vectors(clip: CLIP, superclass: str) -> dict[str, Tensor]:
    """Return the token vectors of a superclass from each encoder's table: embedding key -> [m, width], float32, CPU.

    m is the number of tokens that the tokenizer makes of the text. The tensors are ordinary ones, free to train, also
    when the host runs the node in inference mode. Raises PerfusionError for a text that gives no token.
    """
    clip.load_model()
    vectors = {}
    for key, encoder in text_encoders(clip).items():
        batches = encoder.tokenizer.tokenize_with_weights(superclass, return_word_ids=True)
        # Word id 0 is the host's mark of start, end and padding.
        ids = [token for batch in batches for token, _, word_id in batch if word_id != 0]
        if not ids or not all(isinstance(token, int) for token in ids):
            raise PerfusionError(
                f"The superclass must be a plain word such as dog, but it is {superclass!r}; name the kind of thing"
                " that the concept is."
            )
        table = encoder.embedding_table
        with torch.inference_mode(False), torch.no_grad():
            rows = table(torch.tensor(ids, device=table.weight.device), out_dtype=torch.float32)
            vectors[key] = rows.detach().to("cpu", torch.float32, copy=True)
    return vectors


def word_positions(tokens: Mapping[str, Sequence[Sequence[tuple]]], word: str) -> list[int]:
    """Return the token positions in the encoding, [N], at which a concept's vectors landed, in their order.

    tokens: what clip.tokenize returned. A prompt of more than one chunk of 77 tokens is encoded to 77 k positions. With
    two encoders (SDXL) the positions are those of the first list; both are cut into chunks in the same way.
    """
    batches = next(iter(tokens.values()))
    flat = [entry[0] for batch in batches for entry in batch]
    return [index for index, token in enumerate(flat) if getattr(token, WORD, None) == word]
