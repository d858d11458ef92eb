"""Anima and Cosmos-Predict2 from files of their true layout, by the host's own loaders, to a picture.

Blocks, names, text widths and vocabularies are the true ones; the width of the blocks and the depth of the text encoder
are reduced, and all weights random.
"""

from __future__ import annotations

from typing import Any

import comfy.ldm.cosmos.predict2
import comfy.model_management
import comfy.ops
import comfy.sd
import comfy.text_encoders.cosmos
import comfy.utils
import pytest
import torch
from architectures import HALF, random_weights
from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.gate.refined_text import refined_text
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.request import TrainingRequest
from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept
from perfusion_pack.perfusion_core.text_statistics import TextStatistics
from perfusion_pack.perfusion_core.training import TrainingSettings
from safetensors.torch import save_file
from tiny_models import difference, encode, gated, instance_forwards
from tiny_transformers import COSMOS, tiny_video_vae
from transformer_families import needs_anima, sample_family

BLOCKS, TEXT_WIDTH = 28, 1024
BLOCKS_BY_WIDTH = 10  # as many as older hosts, 0.20.1 among them, take for the width, which is another here
T5_SIZE = {"num_layers": 2, "d_kv": 64, "num_heads": 4, "d_ff": 512}
TEXT_LAYERS = {"qwen3_06b_model_config": {"num_hidden_layers": 2}, "t5xxl_model_config": T5_SIZE}
META: Any = {"device": "meta", "dtype": HALF, "operations": comfy.ops.disable_weight_init}
LAYOUT = {**COSMOS, "crossattn_emb_channels": TEXT_WIDTH, "num_blocks": BLOCKS, "adaln_lora_dim": 256}
LAYOUT |= {"model_channels": 256, "num_heads": 16}  # of 2048; the number of heads is that of the host's loader


def anima():
    import comfy.ldm.anima.model
    import comfy.text_encoders.anima

    text = comfy.text_encoders.anima.Qwen3_06BModel
    return comfy.ldm.anima.model.Anima(**LAYOUT, **META), text, "qwen3_06b", comfy.sd.CLIPType.STABLE_DIFFUSION


def cosmos():
    text = comfy.text_encoders.cosmos.T5XXLModel
    return comfy.ldm.cosmos.predict2.MiniTrainDIT(**LAYOUT, **META), text, "t5xxl", comfy.sd.CLIPType.COSMOS


@pytest.fixture(params=[pytest.param(anima, marks=needs_anima), cosmos], ids=["Anima", "Cosmos-Predict2"])
def loaded(request, tmp_path):
    """MODEL and CLIP as the host makes them of two files, and the name of their family."""
    network, text, name, kind = request.param()
    save_file(random_weights(network, "net."), tmp_path / "model.safetensors")
    encoder = text(device="meta", dtype=HALF, model_options={"model_name": name, **TEXT_LAYERS})
    weights = random_weights(encoder.transformer)
    if name == "t5xxl":  # by this one of its last layer the host knows it; there is none to take it
        weights["encoder.block.23.layer.1.DenseReluDense.wi.weight"] = torch.zeros(1, 1)
    save_file(weights, tmp_path / "text.safetensors")
    with torch.inference_mode():
        model = comfy.sd.load_diffusion_model(str(tmp_path / "model.safetensors"))
        clip = comfy.sd.load_clip([str(tmp_path / "text.safetensors")], clip_type=kind, model_options=TEXT_LAYERS)
    yield model, clip, {"qwen3_06b": "anima", "t5xxl": "cosmos_predict2"}[name]
    comfy.model_management.unload_all_models()


@pytest.mark.slow
def test_from_the_files_to_a_picture(loaded, tmp_path, record_property):
    model, clip, family = loaded
    blocks = len(model.model.diffusion_model.blocks)
    assert blocks in (BLOCKS, BLOCKS_BY_WIDTH)
    assert len(cross_attention_layers(model.model.diffusion_model, TEXT_WIDTH)) == blocks
    assert (refined_text(model) is not None) == (family == "anima")
    identity = torch.eye(TEXT_WIDTH)
    with torch.inference_mode():
        asked = TrainingRequest(
            model=model, clip=clip, vae=tiny_video_vae(), images=torch.rand(2, 64, 64, 3), word="<hugsy>",
            superclass="teddy", settings=TrainingSettings(steps=2, batch_size=1, value_learning_rate=0.2),
            statistics=own_statistics(model, clip, identity),
        )  # fmt: skip
        result = TrainingJob(asked).train()
    save_concept(tmp_path / "hugsy.safetensors", result.concept)
    concept = load_concept(tmp_path / "hugsy.safetensors")
    assert concept.base_model == family and len(concept.value_targets) == blocks and result.effect > 0
    record_property(f"effect of two steps, {family}", result.effect)

    stack = (gated(concept),)
    knowing = add_words(clip, stack)
    with torch.inference_mode():
        positive, negative = encode(knowing, "a photo of a <hugsy> in the snow"), encode(knowing, "blurry")
    base, found, off = (
        sample_family(chosen, positive, negative)
        for chosen in (model, apply_concepts(model, stack), apply_concepts(model, (gated(concept, strength=0.0),)))
    )
    assert base.isfinite().all() and difference(base, found) > 0 and difference(base, off) == 0.0

    lora = {
        "diffusion_model.blocks.3.cross_attn.v_proj.lora_up.weight": torch.full((256, 1), 0.5),
        "diffusion_model.blocks.3.cross_attn.v_proj.lora_down.weight": torch.full((1, TEXT_WIDTH), 0.1),
    }
    with_lora, _ = comfy.sd.load_lora_for_models(model, clip, lora, 1.0, 0.0)
    beside = sample_family(apply_concepts(with_lora, stack), positive, negative)
    assert difference(beside, found) > 0 and difference(beside, sample_family(with_lora, positive, negative)) > 0
    assert not instance_forwards(model)


def own_statistics(model, clip, matrix: torch.Tensor) -> TextStatistics:
    """The identity in the place of the model's statistics, whose measuring would take minutes."""
    from perfusion_pack.nodes.host.text.statistics import encoder_hash

    return TextStatistics(matrix, matrix, 0.0, encoder_hash(clip, refined_text(model)), 0)
