"""The gradients of one training step, to compare two ways of making it."""

from __future__ import annotations

import torch
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.perfusion_core.edit import ConceptEdit, edit_encoding
from perfusion_pack.perfusion_core.training_batch import Batch


def first_gradients(
    model, clip, size: int = 8, scale: float = 1.0, gradient_checkpointing: bool = False
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the value targets and the word's vectors in one step from the superclass."""
    latents = torch.randn(2, 4, size, size, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode(False), torch.enable_grad():
        vectors = {key: value.requires_grad_() for key, value in encode_superclass_vectors(clip, "teddy").items()}
        with HostDenoisingTask(
            model, clip, latents, None, "<hugsy>", vectors, mirrored_latents=latents.flip(-1)
        ) as task:
            task.gradient_checkpointing = gradient_checkpointing
            encodings, positions = task.encode(vectors, ["a photo of a {}"] * 2)
            token = encodings[positions].mean(dim=0).detach()
            edited = edit_encoding(encodings, [ConceptEdit(token, token, token, 0.75, 0.1, "gated")])
            targets = {
                name: value.detach().clone().requires_grad_() for name, value in task.value_outputs(token).items()
            }
            batch = Batch(torch.tensor([0, 1]), torch.tensor([False, True]), torch.tensor([0, 0]))
            loss = task.loss(batch, edited, targets, torch.Generator().manual_seed(9))
            (loss * scale).backward()
    learned = {**targets, **vectors}
    return loss.item(), {name: tensor.grad / scale for name, tensor in learned.items() if tensor.grad is not None}
