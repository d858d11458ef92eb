"""Finding the cross-attention layers of a diffusion model by their structure, not by the model's class.

A model can have concepts where its keys and values of the text are projected apart from those of the picture: the UNets
of SD1, SD2 and SDXL, and the transformers that kept a cross-attention of their own (Cosmos-Predict2, Anima, Wan, LTXV,
PixArt, HunyuanDiT).  Where both are projected together (Flux, SD3, Qwen-Image) there is nothing to edit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch.nn import Linear, Module

from ....perfusion_core.errors import PerfusionError

Forward = Callable[[Tensor], Tensor]


class Shape(NamedTuple):
    """One way in which models name a cross-attention layer and what is in it.

    name: of the layer, the last part.  queries, keys, values: its projections; one name for both of the latter where
    they are fused into one.  heads: attribute with their number.  compared: what gives the queries and the keys as they
    are compared, where a normalisation stands behind the projections.
    """

    name: str
    queries: str
    keys: str
    values: str
    heads: str
    compared: tuple[str, str] | None = None


SHAPES = (
    Shape("attn2", "to_q", "to_k", "to_v", "heads"),  # SD1, SD2, SDXL; LTXV, which has norms besides
    Shape("cross_attn", "q_proj", "k_proj", "v_proj", "n_heads", ("q_norm", "k_norm")),  # Cosmos-Predict2, Anima
    Shape("cross_attn", "q", "k", "v", "num_heads", ("norm_q", "norm_k")),  # Wan
    Shape("cross_attn", "q_linear", "kv_linear", "kv_linear", "num_heads"),  # PixArt
    Shape("attn2", "q_proj", "kv_proj", "kv_proj", "num_heads", ("q_norm", "k_norm")),  # HunyuanDiT
)

# Layers of the same names whose context is not the text that the model is given: those over time of video models, and
# those in which Anima makes its text out of two encodings.
_NEVER = ("time_stack", "time_mix", "llm_adapter")

# Modules in which a model makes something else of the text before its cross-attention layers see it, each with the
# name of the linear layer in it whose input is the text encoding.
_REFINEMENTS = {
    "llm_adapter": "blocks.0.cross_attn.k_proj",  # Anima
    "text_embedding": "0",  # Wan
    "caption_projection": "linear_1",  # LTXV
    "y_embedder": "y_proj.fc1",  # PixArt
    "mlp_t5": "0",  # HunyuanDiT
}

# torch.compile wraps a module into another one and adds this part to the names below it.
_COMPILED = "_orig_mod"


class CrossAttention(Protocol):
    """What every cross-attention layer of the host has: projections of states and text encoding, and heads."""

    to_q: Linear
    to_k: Linear
    to_v: Linear
    heads: int


class Half:
    """The keys or the values of a projection that makes both at once, to be used like a projection of its own.

    `swapped_forwards` takes it in the place of a module.
    """

    def __init__(self, whole: Linear, second: bool) -> None:
        self.whole, self.second = whole, second
        self.in_features, self.out_features = whole.in_features, whole.out_features // 2
        self.bias = whole.bias

    @property
    def forward(self) -> Forward:
        return HalfForward(self.whole.forward, self.second)

    def __call__(self, encoding: Tensor) -> Tensor:
        return HalfForward(self.whole, self.second)(encoding)


class HalfForward(NamedTuple):
    """One half of what a function gives; equal to another one of the same half of the same function."""

    whole: Forward
    second: bool

    def __call__(self, encoding: Tensor) -> Tensor:
        return self.whole(encoding).chunk(2, dim=-1)[self.second]


class OtherNames(NamedTuple):
    """A cross-attention layer whose parts the host calls otherwise, by the names of `CrossAttention`.

    compared: the modules that give queries and keys as they are compared.
    """

    to_q: Module
    to_k: Module | Half
    to_v: Module | Half
    heads: int
    compared: tuple[Module, Module | Half]


def cross_attention_layers(diffusion_model: Module, encoding_width: int | None = None) -> dict[str, CrossAttention]:
    """Return the text cross-attention layers by name, in the order in which the model lists them.

    diffusion_model: the model inside the host's BaseModel, compiled or not.
    encoding_width: width of the text as the layers get it; None takes the one width that all layers share.
    Names are such as "input_blocks.1.1.transformer_blocks.0.attn2", the same for a compiled and a plain model.
    The widths are read from in_features, because a weight may not be loaded yet.
    Raises PerfusionError where no layer is found.
    """
    diffusion_model = getattr(diffusion_model, _COMPILED, diffusion_model)
    layers: dict[str, CrossAttention] = {}
    for path, module in diffusion_model.named_modules():
        parts = [part for part in path.split(".") if part != _COMPILED]
        layer = None if set(parts) & set(_NEVER) else _layer(parts, module)
        if layer is not None:
            # A compiled layer is listed twice, as the wrapper and as the module inside; the later one is the module.
            layers[".".join(parts)] = layer
    widths = sorted({layer.to_k.in_features for layer in layers.values()})
    if encoding_width is None and len(widths) == 1:
        encoding_width = widths[0]
    fitting = {name: layer for name, layer in layers.items() if _encoding_width(layer) == encoding_width}
    if not fitting:
        found = f"of width {', '.join(map(str, widths))}" if widths else "none"
        wanted = "of one width" if encoding_width is None else f"of width {encoding_width}"
        raise PerfusionError(
            f"The MODEL needs cross-attention layers for text encodings {wanted}, but {type(diffusion_model).__name__}"
            f" has {found}; use a model of the SD1, SD2 or SDXL family, Anima, or another one with text cross-attention"
            " of its own, that fits the concept."
        )
    return fitting


def compared_by(layer: CrossAttention) -> tuple[Module, Module | Half]:
    """The modules of a layer that give the queries and the keys as they are compared, [B, L, H * D] or [B, L, H, D]."""
    named_as_here = getattr(layer, "q_norm", layer.to_q), getattr(layer, "k_norm", layer.to_k)
    return getattr(layer, "compared", named_as_here)


def values_of(layer: CrossAttention, encoding: Tensor) -> Tensor:
    """What a layer's values make of one token, [d] -> [d_out], without their bias: that is added whatever the gate."""
    if getattr(layer.to_v, "bias", None) is None:
        return layer.to_v(encoding[None])[0]
    of_token, of_nothing = layer.to_v(torch.stack([encoding, torch.zeros_like(encoding)]))
    return of_token - of_nothing


def refined_from(diffusion_model: Module) -> int | None:
    """The width of the text encodings that a model makes something else of before its cross-attention layers see them;
    None where they see the encodings themselves."""
    widths = [_part(module, _REFINEMENTS[name]).in_features for name, module in refinements(diffusion_model).items()]
    return widths[0] if widths else None


def refinements(diffusion_model: Module) -> dict[str, Module]:
    """The modules, by name, in which a model makes something else of the text."""
    diffusion_model = getattr(diffusion_model, _COMPILED, diffusion_model)
    found = {name: getattr(diffusion_model, name, None) for name in _REFINEMENTS}
    return {name: module for name, module in found.items() if module and _part(module, _REFINEMENTS[name]) is not None}


def _layer(parts: Sequence[str], module: Module) -> CrossAttention | None:
    """The module as a cross-attention layer; None where it is none."""
    for shape in SHAPES:
        if parts[-1] != shape.name:
            continue
        queries, keys, values = (_part(module, name) for name in (shape.queries, shape.keys, shape.values))
        if shape == SHAPES[0]:  # named as the protocol; the module itself, whatever it lacks beside keys and values
            layer = module
        elif queries is None or keys is None or values is None or not hasattr(module, shape.heads):
            continue
        else:
            if keys is values:
                keys, values = Half(keys, second=False), Half(values, second=True)
            compared = queries, keys
            if shape.compared is not None:
                compared = _part(module, shape.compared[0]), _part(module, shape.compared[1])
            layer = OtherNames(queries, keys, values, getattr(module, shape.heads), compared)
        if _encoding_width(layer) is not None:
            return cast(CrossAttention, layer)
    return None


def _part(module: Any, name: str) -> Any:
    """A module inside a module by its dotted name; None where there is none."""
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def _encoding_width(layer: Any) -> int | None:
    """Return the width of the layer's keys' and values' input, None where it is not one number."""
    widths = {getattr(getattr(layer, name, None), "in_features", None) for name in ("to_k", "to_v")}
    return widths.pop() if len(widths) == 1 else None
