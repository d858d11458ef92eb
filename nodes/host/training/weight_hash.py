"""Naming the weights of a MODEL or a VAE, and pictures, to tell whether a training goes on with what it began with."""

from __future__ import annotations

import hashlib
from typing import Any

from comfy.model_patcher import ModelPatcher
from torch import Tensor
from torch.nn import Module

from ....perfusion_core.training_pictures import PerPicture
from ..text.statistics import add_to_digest

SIGNS = 256  # of each tensor; so many of hundreds of tensors tell a fine-tuned model from its parent


def model_hash(model: ModelPatcher) -> str:
    """16 hexadecimal digits that name the network of a MODEL and its patches, whether or not they are loaded now."""
    digest = hashlib.sha256()
    _add_signs(digest, model.model.diffusion_model, model.backup, "diffusion_model.")
    for name, patches in sorted(model.patches.items()):
        digest.update(name.encode())
        add_to_digest(digest, patches)
    return digest.hexdigest()[:16]


def vae_hash(vae: Any) -> str:
    """The same for a VAE; "unknown" where it is one of another pack, without a network of the host's kind."""
    network = getattr(vae, "first_stage_model", None)
    if not isinstance(network, Module):
        return "unknown"
    digest = hashlib.sha256()
    _add_signs(digest, network, getattr(getattr(vae, "patcher", None), "backup", {}), "")
    return digest.hexdigest()[:16]


def pictures_hash(pictures: PerPicture) -> str:
    """The same for pictures of one size or of several."""
    if isinstance(pictures, Tensor):
        return tensor_hash(pictures)
    return hashlib.sha256(" ".join(tensor_hash(picture) for picture in pictures).encode()).hexdigest()[:16]


def tensor_hash(tensor: Tensor) -> str:
    """The same for the shape and the numbers of a tensor."""
    digest = hashlib.sha256(str(tuple(tensor.shape)).encode())
    digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _add_signs(digest: Any, network: Module, backup: Any, prefix: str) -> None:
    """Add signs alone: they are the same in float32, bf16 and fp8, and who ran out of memory may go on in a smaller
    type.  Of a weight that is patched now, those of the weight itself, which the host keeps in the backup."""
    for name, parameter in sorted(network.named_parameters()):
        kept = backup.get(prefix + name)
        few = (parameter if kept is None else kept.weight).detach().flatten()
        few = few[:: max(1, few.numel() // SIGNS)].float().cpu()
        digest.update(f"{name} {few.numel()} ".encode() + few.signbit().numpy().tobytes())
