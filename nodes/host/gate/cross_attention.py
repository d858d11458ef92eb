"""Finding the cross-attention layers of a diffusion model by their structure, not by the model's class."""

from __future__ import annotations

from typing import Any, Protocol, cast

from torch.nn import Linear, Module

from ....perfusion_core.errors import PerfusionError

# Video models attend over time with layers of the same name; their context is not a text.
_TEMPORAL = ("time_stack", "time_mix")

# torch.compile wraps a module into another one and adds this part to the names below it.
_COMPILED = "_orig_mod"


class CrossAttention(Protocol):
    """What every cross-attention layer of the host has: projections of states and text encoding, and heads."""

    to_q: Linear
    to_k: Linear
    to_v: Linear
    heads: int


def cross_attention_layers(diffusion_model: Module, encoding_width: int | None = None) -> dict[str, CrossAttention]:
    """Return the text cross-attention layers by name, in the order in which the model lists them.

    diffusion_model: the model inside the host's BaseModel, compiled or not.
    encoding_width: width of the text encodings; None takes the one width that all layers share.
    Names are such as "input_blocks.1.1.transformer_blocks.0.attn2", the same for a compiled and a plain model.
    The widths are read from in_features, because a weight may not be loaded yet.
    Raises PerfusionError where no layer is found.
    """
    diffusion_model = getattr(diffusion_model, _COMPILED, diffusion_model)
    layers: dict[str, CrossAttention] = {}
    for path, module in diffusion_model.named_modules():
        parts = [part for part in path.split(".") if part != _COMPILED]
        if parts[-1] == "attn2" and not set(parts) & set(_TEMPORAL) and _encoding_width(module) is not None:
            # A compiled layer is listed twice, as the wrapper and as the module inside; the later one is the module.
            layers[".".join(parts)] = cast(CrossAttention, module)
    widths = sorted({layer.to_k.in_features for layer in layers.values()})
    if encoding_width is None and len(widths) == 1:
        encoding_width = widths[0]
    fitting = {name: layer for name, layer in layers.items() if _encoding_width(layer) == encoding_width}
    if not fitting:
        found = f"of width {', '.join(map(str, widths))}" if widths else "none"
        wanted = "of one width" if encoding_width is None else f"of width {encoding_width}"
        raise PerfusionError(
            f"The MODEL needs cross-attention layers for text encodings {wanted}, but {type(diffusion_model).__name__}"
            f" has {found}; use a model of the SD1, SD2 or SDXL family that fits the concept."
        )
    return fitting


def _encoding_width(layer: Any) -> int | None:
    """Return the width of the layer's keys' and values' input, None where it is not one number."""
    widths = {getattr(getattr(layer, name, None), "in_features", None) for name in ("to_k", "to_v")}
    return widths.pop() if len(widths) == 1 else None
