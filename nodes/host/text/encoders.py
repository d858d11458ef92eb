"""The text encoders inside a CLIP: their tokenizers, embedding tables, and where a word's vectors land.

The host names an encoder in the model, and that name is also the key of its vectors in embedding files ("clip_l",
"t5xxl").  Its tokenizer has the same name, at times with a "clip_" before it; its token lists have it without one.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from comfy.sd import CLIP
from torch import Tensor
from torch.nn import Embedding

from ....perfusion_core.errors import PerfusionError
from .inserted_words import tokens_in_a_text

# Attributes by which a token list tells which of its vectors belong to which concept, and what that concept asks for.
WORD, SUPERCLASS, LAYER = "perfusion_word", "perfusion_superclass", "perfusion_layer"
IDENTITY, POOLED_LOCK = "perfusion_word_hash", "perfusion_pooled_lock"

# Of a word that asks for no layer of the text encoder; the host counts its layers from the end, -1, -2, ...
ANY_LAYER = 0


_PREFIX = "clip_"


class TextEncoder(NamedTuple):
    """One encoder of a CLIP: its tokenizer and its model, a torch module, of the host's classes.

    attribute: what the CLIP's tokenizer calls that of this encoder.
    """

    tokenizer: Any
    model: Any
    attribute: str

    @property
    def embedding_table(self) -> Embedding:
        return self.model.transformer.get_input_embeddings()

    @property
    def width(self) -> int:
        """Width of a token vector, read without the weight, which may not be loaded yet."""
        return self.embedding_table.embedding_dim


class PlacedToken(int):
    """A token of a superclass that stands in the place of a concept's word, in the list of a tokenizer without an
    encoder: such a model makes its text at these places out of what the encoders say (Anima)."""


def text_encoders(clip: CLIP) -> dict[str, TextEncoder]:
    """Return the encoders of a CLIP by embedding key. Raises PerfusionError where it has none that is known here."""
    found = {}
    for attribute, tokenizer in _tokenizers(clip):
        for key in dict.fromkeys((attribute, attribute.removeprefix(_PREFIX))):
            model = getattr(clip.cond_stage_model, key, None)
            if model is not None:
                found[key] = TextEncoder(tokenizer, model, attribute)
                break
    if not found:
        raise PerfusionError(
            f"The CLIP input needs text encoders of the SD1, SD2 or SDXL kind, or those of a model with text"
            f" cross-attention of its own such as Anima, but it holds {type(clip.cond_stage_model).__name__}; load a"
            " CLIP of one of these model families."
        )
    return found


def tokenizers_alone(clip: CLIP) -> dict[str, Any]:
    """Return the tokenizers of a CLIP that have no encoder, by attribute."""
    with_encoder = {encoder.attribute for encoder in text_encoders(clip).values()}
    return {attribute: tokenizer for attribute, tokenizer in _tokenizers(clip) if attribute not in with_encoder}


def embedding_key(name: str, known: Container[str]) -> str | None:
    """The embedding key of the encoder whose token lists have this name; None where it is none of the known ones."""
    return next((key for key in (_PREFIX + name, name) if key in known), None)


def list_name(attribute: str) -> str:
    """The name of the token lists of a tokenizer that the CLIP has under this attribute."""
    return attribute.removeprefix(_PREFIX)


def _tokenizers(clip: CLIP) -> list[tuple[str, Any]]:
    return [(name, one) for name, one in vars(clip.tokenizer).items() if hasattr(one, "tokenize_with_weights")]


def encode_superclass_vectors(clip: CLIP, superclass: str) -> dict[str, Tensor]:
    """Return the token vectors of a superclass from each encoder's table: embedding key -> [m, width], float32, CPU.

    m is the number of tokens that the tokenizer makes of the text. The tensors are ordinary ones, free to train, also
    when the host runs the node in inference mode. Raises PerfusionError for a text that gives no token.
    """
    clip.load_model()
    vectors = {}
    for key, encoder in text_encoders(clip).items():
        ids = tokens_in_a_text(encoder.tokenizer, superclass)
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
    return _positions(next(iter(tokens.values())), word)


def positions_at_layers(tokens: Mapping[str, Sequence[Sequence[tuple]]], word: str) -> list[int]:
    """The same in what a model makes of the encoding: the positions of the list that has placed tokens, if one has."""
    placed = (_positions(batches, word) for batches in tokens.values() if _is_placed(batches))
    return next((positions for positions in placed if positions), word_positions(tokens, word))


def _is_placed(batches: Sequence[Sequence[tuple]]) -> bool:
    return any(isinstance(entry[0], PlacedToken) for batch in batches for entry in batch)


def _positions(batches: Sequence[Sequence[tuple]], word: str) -> list[int]:
    flat = [entry[0] for batch in batches for entry in batch]
    return [index for index, token in enumerate(flat) if getattr(token, WORD, None) == word]
