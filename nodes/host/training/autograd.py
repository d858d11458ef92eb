"""The host loads models inside inference_mode; autograd cannot use the tensors made there.

"Inference tensors cannot be saved for backward": the cure is to give every module a copy of each such parameter and
buffer that was made outside inference_mode.  The values stay bit for bit the same, so the model does too.
"""

from __future__ import annotations

from torch import Tensor, nn


def make_differentiable(model: nn.Module) -> None:
    """Replace the model's inference tensors by equal ordinary ones; needs inference_mode to be off.

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
