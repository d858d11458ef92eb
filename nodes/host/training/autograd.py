"""What the host does to its models that autograd cannot live with, and the cure for each.

    make_differentiable, ordinary   tensors made in inference mode, which cannot be saved for the backward pass
    differentiable_text_encoder     residuals added in place, over what layer normalisation saved for it
    recast_layers                   weights cast for every operation, and inputs of convolutions, all of which it keeps
    gradient_scale, scaled_gradient float16, in which the gradient of a mean vanishes
    host_in_training                fused and in-place paths that have no backward pass
    differentiable_attention        kernels of attention that have none, or an unreliable one

Values stay what they were, bit for bit, and nothing stays behind but the ordinary tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.ops
import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from ..old_hosts import has_training_flag

# Part of the names of the text encoders' normalisations: layer_norm1 (CLIP), layer_norm (T5), input_layernorm (Qwen).
_NORMALISATION = "norm"


def make_differentiable(model: nn.Module) -> None:
    """Replace the model's inference tensors by equal ordinary ones; needs inference_mode to be off.

    The host loads models inside inference_mode: "Inference tensors cannot be saved for backward".
    One tensor at a time, so memory peaks at one tensor more.  Parameters come back without requires_grad.
    """
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_inference():
                module._parameters[name] = nn.Parameter(parameter.data.clone(), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_inference():
                module._buffers[name] = buffer.clone()


def ordinary(tensor: Tensor) -> Tensor:
    """A copy of a tensor from another node that autograd can use."""
    return tensor.detach().clone()


@contextmanager
def differentiable_text_encoder(encoder: nn.Module) -> Iterator[None]:
    """Let gradients pass through the text encoder while the block is open; nothing stays behind.

    The host adds residuals in place, over tensors that layer normalisation keeps for the backward pass: "one of the
    variables needed for gradient computation has been modified by an inplace operation".  So every normalisation works
    on a copy of its input.
    """

    def copy_input(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].clone(), *inputs[1:])

    handles = [
        module.register_forward_pre_hook(copy_input)
        for name, module in encoder.named_modules()
        if _NORMALISATION in name.rpartition(".")[2]
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def recast_layers(module: nn.Module) -> list[tuple[nn.Module, Callable[[Tensor], Tensor]]]:
    """What `swapped_forwards` needs for the frozen linear layers and convolutions in a module to keep nothing that the
    gradient of their inputs does not need.

    A text encoder held in half precision and computed in float32, or a UNet held in fp8, would otherwise be held once
    more, in what it is computed in, when a training step is at its peak.  Here the backward pass casts again instead.
    And a convolution would keep its input, which only the gradient of its weight needs.
    Outputs and gradients stay what they were, bit for bit.  Left alone is a layer of a class that is not the host's,
    that somebody gave another forward, or that scales its weight by itself: its gradient may be another one.
    """

    def recast(layer: nn.Module, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def run(inputs: Tensor) -> Tensor:
            frozen = isinstance(layer, nn.Conv2d) or _is_cast(layer, inputs)
            return _FrozenLayer.apply(inputs, layer) if frozen else forward(inputs)

        return run

    return [
        (layer, recast(layer, layer.forward))
        for layer in module.modules()
        if type(layer).__module__ == comfy.ops.__name__
        and (isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros"))
        and "forward" not in layer.__dict__
        and getattr(layer, "scale_weight", None) is None
    ]


def _is_cast(layer: Any, inputs: Tensor) -> bool:
    """Whether the host makes a copy of the layer's weight to compute with."""
    weight = layer.weight
    return weight.dtype != inputs.dtype or weight.device != inputs.device or len(layer.weight_function) > 0


def gradient_scale(dtype: torch.dtype, numbers: int) -> float:
    """By how much to scale the gradient of a mean over so many numbers inside a model of this dtype.

    Each number of the prediction has a share of 1 / N of the loss' gradient; deeper in the model that falls under
    2^-24, where float16 ends.
    """
    return 2.0 ** math.floor(math.log2(numbers)) if dtype == torch.float16 else 1.0


def scaled_gradient(tensor: Tensor, scale: float) -> Tensor:
    """The same tensor, whose gradient is multiplied by `scale`, a power of two, on its way back."""
    return tensor if scale == 1 else _ScaledGradient.apply(tensor, scale)


@contextmanager
def host_in_training() -> Iterator[None]:
    """Tell the host that a training runs while the block is open; afterwards the flag is what it was."""
    if not has_training_flag():
        yield
        return
    before = comfy.model_management.in_training
    comfy.model_management.in_training = True
    try:
        yield
    finally:
        comfy.model_management.in_training = before


def differentiable_attention(_function: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Torch's own attention in place of whichever the host chose, such as sage, flash and sub-quadratic attention."""
    return attention_pytorch(*args, **kwargs)


class _FrozenLayer(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: Tensor, layer: Any) -> Tensor:
        context.layer, context.shape = layer, inputs.shape
        weight, bias, stream = comfy.ops.cast_bias_weight(layer, inputs, offloadable=True)
        if isinstance(layer, nn.Conv2d):
            outputs = layer._conv_forward(inputs, weight, bias)
        else:
            outputs = nn.functional.linear(inputs, weight, bias)
        comfy.ops.uncast_bias_weight(layer, weight, bias, stream)
        return outputs

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        layer = context.layer
        weight, bias, stream = comfy.ops.cast_bias_weight(layer, gradient, offloadable=True)
        if isinstance(layer, nn.Conv2d):
            how: Any = layer.stride, layer.padding, layer.dilation, layer.groups
            passed_on = conv2d_input(context.shape, weight, gradient, *how)
        else:
            passed_on = gradient @ weight
        comfy.ops.uncast_bias_weight(layer, weight, bias, stream)
        return passed_on, None


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor, scale: float) -> Tensor:
        context.scale = scale
        return tensor.view_as(tensor)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.scale, None
