"""The CFG of samples: the family's own where nothing is asked for, and every number of a saved workflow as it is."""

from __future__ import annotations

import pytest
import torch
from perfusion_pack.demo.load import load_clip, load_unet
from perfusion_pack.nodes import advice
from perfusion_pack.nodes.trainer_inputs import TrainerInputs
from perfusion_pack.perfusion_core.training import TrainingSettings
from tiny_models import tiny_clip, tiny_model, tiny_sdxl, tiny_sdxl_clip

FAMILIES = {
    "sd1": (tiny_model, tiny_clip, advice.SD15_CFG),
    "sdxl": (lambda: tiny_sdxl()[0], tiny_sdxl_clip, advice.SDXL_CFG),
    "perfusion_demo": (load_unet, load_clip, advice.DEMO_CFG),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("asked", [None, 0.0, 0.5, 1.0, 3.0, 7.5])
def test_cfg(family, asked):
    make_model, make_clip, own = FAMILIES[family]
    with torch.inference_mode():
        given = {"model": make_model(), "clip": make_clip(), "vae": None, "images": None, "word": "<hugsy>"}
        given |= {"superclass": "teddy", "preset": "Standard", "seed": 0, "samples": 0, "file_name": ""}
        given |= {} if asked is None else {"sample_cfg": asked}
        request = TrainerInputs.of(given).request(TrainingSettings())
    assert request.family == family
    assert request.sample_cfg == (asked if asked and asked >= 1 else own)
