"""What the host does to its models that autograd cannot live with, and the cure for each.

    make_differentiable, ordinary   tensors made in inference mode, which cannot be saved for the backward pass
    differentiable_text_encoder     residuals added in place, over what layer normalisation saved for it
    recast_linears                  weights cast for every operation, of which it keeps each copy
    gradient_scale, scaled_gradient float16, in which the gradient of a mean vanishes
    host_in_training                fused and in-place paths that have no backward pass

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
from torch import Tensor, nn

from ..old_hosts import has_training_flag

# Names of the text encoders' layer normalisations.
_NORMALISATIONS = ("layer_norm1", "layer_norm2", "layer_norm")


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
        if name.rpartition(".")[2] in _NORMALISATIONS
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def recast_linears(module: nn.Module) -> list[tuple[nn.Module, Callable[[Tensor], Tensor]]]:
    """What `swapped_forwards` needs for the frozen linear layers in a module to keep no weight for the backward pass.

    A text encoder is held in half precision and computed in float32, so a training step would hold all of it once more
    in float32 while the UNet is at its peak.  Here the backward pass casts again instead.
    Outputs and gradients stay what they were, bit for bit.  Left alone is a layer that somebody gave another forward,
    whose gradient may be another one.
    """
    return [
        (layer, lambda inputs, layer=layer, forward=layer.forward: _FrozenLinear.apply(inputs, layer, forward))
        for layer in module.modules()
        if isinstance(layer, nn.Linear)
        and isinstance(layer, comfy.ops.CastWeightBiasOp)
        and "forward" not in layer.__dict__
    ]


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


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: Tensor, layer: nn.Module, forward: Callable[[Tensor], Tensor]) -> Tensor:
        context.layer = layer
        return forward(inputs)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weight, bias, stream = comfy.ops.cast_bias_weight(context.layer, gradient, offloadable=True)
        passed_on = gradient @ weight
        comfy.ops.uncast_bias_weight(context.layer, weight, bias, stream)
        return passed_on, None, None


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor, scale: float) -> Tensor:
        context.scale = scale
        return tensor.view_as(tensor)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.scale, None
