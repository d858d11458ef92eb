"""The demo model's text encoder while it trains: on a table of the world's words alone, differentiable."""

from __future__ import annotations

import torch
from torch import nn

from .. import model
from .initial_weights import initialise


def train_text_model() -> nn.Module:
    """The host's CLIP text model, initialised for training.

    The embedding is spread (standard deviation 0.5): with CLIP's usual 0.02 the encodings of different words collapse.
    """
    import comfy.clip_model
    import comfy.ops

    text_model = comfy.clip_model.CLIPTextModel(
        dict(model.CLIP_CONFIG), torch.float32, "cpu", comfy.ops.disable_weight_init
    )
    initialise(text_model)
    embeddings = text_model.text_model.embeddings
    nn.init.normal_(embeddings.position_embedding.weight, std=0.15)
    for layer in text_model.text_model.encoder.layers:  # the host adds residuals in place, which backward cannot bear
        for norm in (layer.layer_norm1, layer.layer_norm2):
            norm.register_forward_pre_hook(lambda _module, inputs: (inputs[0].clone(),))
    return text_model


def use_table(text_model: nn.Module, rows: int, width: int) -> None:
    """Give the text model a compact embedding table of `rows` rows."""
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=0.5)
    text_model.text_model.embeddings.token_embedding = table


def encode(text_model: nn.Module, rows: torch.Tensor, added: torch.Tensor | None = None) -> torch.Tensor:
    """Encodings [B, tokens, width] of rows of the compact table [B, tokens]: last layer after the final norm, as
    in SD1.  added [B, tokens, width]: added to the tokens' embeddings.
    """
    inner = text_model.text_model
    embeddings = inner.embeddings.token_embedding(rows)
    embeddings = embeddings if added is None else embeddings + added
    return inner(None, embeds=embeddings, num_tokens=[1] * len(rows))[0]
