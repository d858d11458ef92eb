"""The text as the cross-attention layers of a model see it, where the model makes something else of it first.

Anima puts Qwen's encoding through an adapter, Wan, LTXV and PixArt widen theirs.  Concepts live behind that: their
statistics, target inputs and superclasses are of what arrives at the layers.  The model itself is asked for that: it is
run up to its first cross-attention layer, so nothing here knows how any of them does it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import comfy.model_management
import torch
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from ....perfusion_core.errors import PerfusionError
from ..text.statistics import add_to_digest
from .cross_attention import CrossAttention, cross_attention_layers, refined_from, refinements
from .projection_swap import Replacement, swapped_forwards

# Of the nothing that the model is given for a picture; the text does not depend on it. PixArt takes no small pictures.
_SIDE, _SIDE_OF_PICTURES = 8, 64


class RefinedText:
    """What a MODEL makes of the text encodings of its CLIP; see `text_at_layers`."""

    def __init__(self, model: ModelPatcher) -> None:
        self._model = model

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that name the weights and patches of what the text goes through."""
        digest = hashlib.sha256()
        for part, module in sorted(refinements(self._model.model.diffusion_model).items()):
            for name, tensor in sorted(module.state_dict().items()):
                full_name = f"diffusion_model.{part}.{name}"
                # Where a LoRA is patched into the weights, the host keeps the weight itself in the backup.
                backup = self._model.backup.get(full_name)
                digest.update(f"{full_name} {tuple(tensor.shape)}".encode())
                add_to_digest(digest, tensor if backup is None else backup.weight)
                add_to_digest(digest, self._model.patches.get(full_name))
        return digest.hexdigest()[:16]

    def __call__(self, encoding: Tensor, extra: Mapping[str, Any]) -> Tensor:
        """[1, N, e] -> [1, N', d], on the CPU."""
        comfy.model_management.load_models_gpu([self._model])
        with torch.inference_mode():
            return text_at_layers(self._model.model, encoding, extra, self._model.load_device).cpu()


def refined_text(model: ModelPatcher) -> RefinedText | None:
    """What the MODEL makes of the text; None where its layers see the encodings themselves, as in SD1, SD2 and SDXL."""
    return None if refined_from(model.model.diffusion_model) is None else RefinedText(model)


class _Arrived(BaseException):
    """Ends a call of the model once its text has arrived; no error, so no `except Exception` on the way takes it."""


def first_arrival(diffusion_model: torch.nn.Module, call: Callable[[], Any]) -> Tensor:
    """Return what the first cross-attention layer gets as its text in a call of the model, which ends there: [B, N, d].

    Differentiable in what the call is given.  Raises RuntimeError where the call runs past all of the layers.
    """
    arrived: list[Tensor] = []

    def take(encoding: Tensor) -> Tensor:
        arrived.append(encoding)
        raise _Arrived

    uncompiled = cast(Callable[[Tensor], Tensor], torch.compiler.disable(take))  # it runs once, and ends the call
    layers = cross_attention_layers(diffusion_model).values()
    try:
        with swapped_forwards((projection, uncompiled) for layer in layers for projection in (layer.to_k, layer.to_v)):
            call()
    except _Arrived:
        return arrived[0]
    raise RuntimeError("the model ran past its cross-attention layers")


def text_given(layers: Mapping[str, CrossAttention], encoding: Tensor) -> list[Replacement]:
    """What `swapped_forwards` needs for all layers to get this text, [B, N, d], whatever arrives at them."""
    projections = [projection for layer in layers.values() for projection in (layer.to_k, layer.to_v)]
    return [(one, lambda _arrived, project=one.forward: project(encoding)) for one in projections]


def text_at_layers(base: BaseModel, encoding: Tensor, extra: Mapping[str, Any], device: torch.device) -> Tensor:
    """Return what a loaded model makes of a text encoding, [B, N, e] -> [B, N', d]; the encoding itself for most.

    extra: what the CLIP gives besides, by its names in a conditioning.  Differentiable in the encoding.
    """
    if refined_from(base.diffusion_model) is None:
        return encoding
    latents = empty_latents(base, len(encoding)).to(device)
    given = {**extra, "cross_attn": encoding.to(device), "noise": latents, "device": device}
    conds = {
        name: cond.process_cond(batch_size=len(latents), area=None).cond
        for name, cond in base.extra_conds(**given).items()
    }
    sampling: Any = base.model_sampling
    sigma = sampling.sigma_max.to(device).float().expand(len(latents))
    arrived = first_arrival(base.diffusion_model, lambda: base.apply_model(latents, sigma, **conds))
    return arrived.float()


def prompts_at_layers(base: BaseModel, clip: CLIP, lists: Sequence[Mapping[str, list]], device: torch.device) -> Tensor:
    """Return the encodings of token lists as the layers see them, [T, N, d], one after the other, since a model may be
    given other lists besides.  Raises PerfusionError where texts of different lengths stay that."""
    encodings = []
    for tokens in lists:
        encoded, _, *extra = clip.cond_stage_model.encode_token_weights(tokens)
        encodings.append(text_at_layers(base, encoded, extra[0] if extra else {}, device))
    if len({encoding.shape for encoding in encodings}) > 1:
        raise PerfusionError(
            f"The model input needs a model that sees texts of one length, but {type(base).__name__} sees them as long"
            " as they are, and prompts of a training differ in that; use a model of the SD1, SD2 or SDXL family, Anima,"
            " Cosmos-Predict2 or Wan."
        )
    return torch.cat(encodings)


def empty_latents(base: BaseModel, count: int) -> Tensor:
    """Latents of nothing, of one frame for models of video."""
    has_frames = base.latent_format.latent_dimensions == 3
    shape = (1, _SIDE, _SIDE) if has_frames else (_SIDE_OF_PICTURES, _SIDE_OF_PICTURES)
    return torch.zeros(count, base.latent_format.latent_channels, *shape)
