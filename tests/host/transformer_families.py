"""The families of transformers that are trained and sampled in tests: MODEL and CLIP, concepts for them, and runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import comfy.model_patcher
import comfy.sample
import comfy.sd
import pytest
import torch
from needs_host import needs_host
from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
from perfusion_pack.nodes.host.gate.refined_text import text_at_layers
from perfusion_pack.nodes.host.model_family import model_family
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors, positions_at_layers, text_encoders
from perfusion_pack.nodes.host.text.words import ConceptWord, with_words
from perfusion_pack.perfusion_core.concept import Concept, unit_energy
from tiny_models import CAPTIONS, CPU
from tiny_transformers import (
    HAS_ANIMA,
    tiny_anima,
    tiny_anima_clip,
    tiny_cosmos_clip,
    tiny_cosmos_predict2,
    tiny_wan,
    tiny_wan_clip,
)

needs_anima = needs_host("0.12.3", "Anima", HAS_ANIMA)


class Family(NamedTuple):
    """A MODEL and a CLIP that belong together."""

    model: comfy.model_patcher.ModelPatcher
    clip: comfy.sd.CLIP


FAMILIES: dict[str, Callable[[], Family]] = {
    "Anima": lambda: Family(tiny_anima(), tiny_anima_clip()),
    "Cosmos-Predict2": lambda: Family(tiny_cosmos_predict2(), tiny_cosmos_clip()),
    "Wan": lambda: Family(tiny_wan(), tiny_wan_clip()),
}
FAMILY_MARKS = {"Anima": [needs_anima]}
IN_ALL = [pytest.param(name, marks=FAMILY_MARKS.get(name, [])) for name in FAMILIES]


def layers_text(family: Family, tokens: Mapping[str, Any], clip: comfy.sd.CLIP | None = None) -> torch.Tensor:
    """A prompt's encoding as the cross-attention layers see it, [N, d]."""
    with torch.inference_mode():
        encoded = (clip or family.clip).encode_from_tokens(tokens, return_dict=True)
        return text_at_layers(family.model.model, encoded.pop("cond"), encoded, CPU)[0].clone()


def transformer_concept(
    family: Family, word: str = "<hugsy>", superclass: str = "teddy", seed: int = 3, **changes: Any
) -> Concept:
    """A concept whose gate opens at its word, with random value targets; of several tokens as its superclass has."""
    model, clip = family
    draw = torch.Generator().manual_seed(seed)
    superclass_vectors = encode_superclass_vectors(clip, superclass)
    vectors = {key: torch.randn(rows.shape, generator=draw) * 0.3 for key, rows in superclass_vectors.items()}
    spoken = with_words(clip, [ConceptWord(word, vectors, superclass_vectors, superclass=superclass)])
    tokens = spoken.tokenize(f"a photo of a {word}")
    positions = positions_at_layers(tokens, word)
    target_input = layers_text(family, tokens, spoken)[positions].mean(dim=0)
    plain = layers_text(family, clip.tokenize(f"a photo of a {superclass}"))[positions].mean(dim=0)
    rows = torch.cat([layers_text(family, clip.tokenize(text)) for text in CAPTIONS]).double()
    moment = rows.T @ rows / len(rows)
    moment += torch.eye(len(moment)).double() * moment.trace() / len(moment) * 1e-2
    layers = cross_attention_layers(model.model.diffusion_model)
    settings = {
        "word": word, "superclass": superclass, "base_model": model_family(model, text_encoders(clip)),
        "encoding_width": len(target_input), "clip_layer": None, "form": "gated", "bias": 0.75, "temperature": 0.05,
        "statistics_hash": "0", "training": {}, "target_input": target_input,
        "inverse_target_input": unit_energy(target_input, torch.linalg.solve(moment, target_input.double()).float()),
        "superclass_encoding": plain, "word_vectors": vectors, "superclass_vectors": superclass_vectors,
        "value_targets": {name: torch.randn(one.to_v.out_features, generator=draw) for name, one in layers.items()},
    }  # fmt: skip
    return Concept(**{**settings, **changes})


def random_offset(family: Family, superclass: str = "teddy", scale: float = 0.3, seed: int = 8) -> torch.Tensor:
    """An offset of the encoding of a concept's word, [p, d], for each of its positions at the layers, in units of a
    prompt's encoding."""
    vectors = encode_superclass_vectors(family.clip, superclass)
    spoken = with_words(family.clip, [ConceptWord("<hugsy>", vectors, vectors, superclass=superclass)])
    tokens = spoken.tokenize("a <hugsy>")
    text = layers_text(family, tokens, spoken)
    shape = len(positions_at_layers(tokens, "<hugsy>")), text.shape[1]
    return scale * text.std() * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sample_family(
    model: comfy.model_patcher.ModelPatcher,
    positive: list,
    negative: list,
    *,
    frames: int = 1,
    steps: int = 2,
    cfg: float = 4.0,
    batch: int = 1,
    size: int = 8,
    denoise: float = 1.0,
    latent: torch.Tensor | None = None,
) -> torch.Tensor:
    """The latents that the host's KSampler makes, [B, C, size, size], or [B, C, frames, size, size]."""
    form = model.model.latent_format
    over_time = (frames,) * (form.latent_dimensions - 2)
    if latent is None:
        latent = torch.zeros(batch, form.latent_channels, *over_time, size, size)
    noise = comfy.sample.prepare_noise(latent, 7)
    with torch.inference_mode():
        return comfy.sample.sample(
            model, noise, steps, cfg, "euler", "simple", positive, negative, latent, denoise=denoise,
            disable_pbar=True, seed=7,
        )  # fmt: skip
