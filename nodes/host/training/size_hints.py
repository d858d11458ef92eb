"""What SDXL and its relatives are told of a picture's size while they learn from it.

They were trained with the size of the original picture, where it was cut, and the size they saw; told the truth of
small or off-centre pictures, they do not take blur and cuts for a part of the thing.
"""

from __future__ import annotations

from ....perfusion_core.picture_fitting import Fit

SizeHints = dict[str, int]


def size_hints(fit: Fit, mirrored: bool = False) -> SizeHints:
    """By the names of the host's CLIPTextEncodeSDXL node.  mirrored: whether the picture is; its cut is then too."""
    left = fit.scaled[0] - fit.size[0] - fit.left if mirrored else fit.left
    return {
        "width": fit.original[0],
        "height": fit.original[1],
        "crop_w": max(0, left),
        "crop_h": max(0, fit.top),
        "target_width": fit.size[0],
        "target_height": fit.size[1],
    }
