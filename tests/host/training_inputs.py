"""What a training needs, tiny and made of inference tensors, as the host makes it; shared by the tests of training."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import comfy.sd
import pytest
import torch
from comfy.model_management import InterruptProcessingException
from comfy.model_patcher import ModelPatcher
from perfusion_pack.nodes.host.text.statistics import measure_statistics
from perfusion_pack.nodes.host.training.job import TrainingJob, TrainingResult
from perfusion_pack.nodes.host.training.request import TrainingRequest
from perfusion_pack.nodes.train_concept import TrainConcept
from perfusion_pack.perfusion_core.captions import built_in_captions
from perfusion_pack.perfusion_core.text_statistics import TextStatistics
from perfusion_pack.perfusion_core.training import TrainingSettings
from tiny_models import fill, tiny_clip, tiny_model

TRIES = 2  # how often a training tries one picture before its first step

VAE_CONFIG = {
    "params": {
        "embed_dim": 4,
        "ddconfig": {
            "double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
            "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
        },
    }
}  # fmt: skip


class TrainingInputs(NamedTuple):
    """The trainer's sockets."""

    model: ModelPatcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE
    images: torch.Tensor
    masks: torch.Tensor
    statistics: TextStatistics


def tiny_vae() -> comfy.sd.VAE:
    from comfy.ldm.models.autoencoder import AutoencoderKL

    autoencoder = AutoencoderKL(**VAE_CONFIG["params"])
    fill(autoencoder, 4)
    return comfy.sd.VAE(sd=autoencoder.state_dict(), config=VAE_CONFIG, dtype=torch.float32)


def training_inputs() -> TrainingInputs:
    """Three random pictures of 64 pixels with masks, and models in which 3 steps take a second."""
    with torch.inference_mode():
        clip = tiny_clip()
        draw = torch.Generator().manual_seed(6)
        pictures, masks = torch.rand(3, 64, 64, 3, generator=draw), torch.zeros(3, 64, 64)
        masks[:, 16:48, 16:48] = 1.0
        statistics = measure_statistics(clip, built_in_captions(200), lambda done, total: None)
        return TrainingInputs(tiny_model(), clip, tiny_vae(), pictures, masks, statistics)


def learn_two_steps(model: ModelPatcher, clip: comfy.sd.CLIP, statistics: TextStatistics, **changes) -> TrainingResult:
    """Learn <hugsy> from two random pictures of 64 pixels, in inference mode, as the host does; models of any size."""
    with torch.inference_mode():
        settings = {
            "vae": tiny_vae(),
            "images": torch.rand(2, 64, 64, 3),
            "word": "<hugsy>",
            "superclass": "teddy",
            "settings": TrainingSettings(steps=2, batch_size=1),
        }
        request = TrainingRequest(model=model, clip=clip, statistics=statistics, **{**settings, **changes})
        return TrainingJob(request).train()


def run_node(inputs: TrainingInputs, **changes) -> tuple:
    """Run the trainer node as the host does, in inference mode, for 4 steps of 2 pictures, and return its outputs."""
    node = TrainConcept.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    settings = {
        **inputs._asdict(),
        "word": "<hugsy>",
        "superclass": "teddy",
        "preset": "Custom",
        "seed": 0,
        "samples": 0,
        "file_name": "",
        "steps": 4,
        "batch_size": 2,
        "form": "unlocked",
        "resolution": 64,  # the pictures' own, so that they stay as they are
    }
    with torch.inference_mode():
        output = node.execute(**{**settings, **changes})
    return asyncio.run(output).result if asyncio.iscoroutine(output) else output.result


def stop_training(inputs: TrainingInputs, press_cancel: Callable[[int | None], None], **changes) -> None:
    """Run the trainer node until Cancel is pressed in its second step; it is not pressed in later runs."""
    press_cancel(2)
    with pytest.raises(InterruptProcessingException):
        run_node(inputs, **changes)
    press_cancel(None)
