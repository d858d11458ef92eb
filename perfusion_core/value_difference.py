"""What holds the learned difference of the forms residual and anchored: values are those of the word plus this, so as
long as it is small the concept is a word alone.

After every step each layer's difference is made smaller, by a share of itself (decoupled weight decay, Loshchilov and
Hutter 2019), or to a largest norm in units of that of W_V e_super in the layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def hold_differences(
    differences: Mapping[str, Tensor], references: Mapping[str, Tensor], decay: float | None, cap: float | None
) -> None:
    """Make differences smaller, in place.

    differences: by layer, [d_out].  references: what their norm is measured by, [d_out].  decay: the share of each that
    is taken away.  cap: the largest norm in units of the reference's.  None does nothing.
    """
    for name, difference in differences.items():
        if decay is not None:
            difference.mul_(1 - decay)
        if cap is not None:
            most = cap * references[name].norm()
            difference.mul_((most / difference.norm().clamp(min=torch.finfo(difference.dtype).tiny)).clamp(max=1))
