"""Every architecture with text cross-attention, from the host's loader to a picture; one sentence for the others."""

from __future__ import annotations

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from architectures import ARCHITECTURES, Architecture, checkpoint, load, text_checkpoint
from comfy.ldm.flux.model import FluxParams
from needs_host import takes
from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.text_statistics import TextStatistics
from tiny_models import CPU, difference, encode, gated, instance_forwards, make_concept, sample, tiny_clip, tiny_model
from training_inputs import learn_two_steps


@pytest.fixture(scope="module")
def text_encoders():
    """CLIPs by the keys of their encoders: the relatives of SDXL share theirs, as they do in the world."""
    made = {}
    yield made
    made.clear()
    comfy.model_management.unload_all_models()


def loaded(architecture: Architecture, text_encoders: dict):
    key = tuple(architecture.widths)
    weights = checkpoint(architecture)
    if key not in text_encoders:
        weights |= text_checkpoint(architecture)
    model, clip = load(weights, with_text=key not in text_encoders)
    return model, text_encoders.setdefault(key, clip)


def learn(model, clip, width: int):
    """Two steps with the identity as metric: measuring the real one would take minutes."""
    return learn_two_steps(model, clip, TextStatistics(torch.eye(width), torch.eye(width), 0.0, "", 0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_from_the_loader_to_a_picture(name, text_encoders, tmp_path, record_property):
    """Train, save, load, gate, sample."""
    architecture = ARCHITECTURES[name]
    model, clip = loaded(architecture, text_encoders)
    assert type(model.model.model_config) is architecture.config
    assert model.model.model_type == comfy.model_base.ModelType[("EPS", "V_PREDICTION")[architecture.velocity]]
    width = sum(architecture.widths.values())
    assert len(cross_attention_layers(model.model.diffusion_model, width)) == architecture.layers

    result = learn(model, clip, width)
    save_concept(tmp_path / "hugsy.safetensors", result.concept)
    concept = load_concept(tmp_path / "hugsy.safetensors")
    assert concept.base_model == architecture.family
    assert {key: vectors.shape[-1] for key, vectors in concept.word_vectors.items()} == dict(architecture.widths)
    assert {key: vectors.shape[-1] for key, vectors in concept.superclass_vectors.items()} == dict(architecture.widths)
    for key, vectors in concept.word_vectors.items():
        assert not torch.equal(vectors, concept.superclass_vectors[key]), f"{key} did not learn"
    assert len(concept.value_targets) == architecture.layers and result.effect > 0
    record_property(f"effect of two steps, {name}", result.effect)

    with torch.inference_mode():
        stack = (gated(concept),)
        knowing = add_words(clip, stack)
        positive, negative = encode(knowing, "a photo of <hugsy> in the snow"), encode(knowing, "")
        base, again, off = (
            sample(chosen, positive, negative, steps=2)
            for chosen in (model, apply_concepts(model, stack), apply_concepts(model, (gated(concept, strength=0.0),)))
        )
    assert base.isfinite().all() and again.isfinite().all()
    assert difference(base, again) > 0 and difference(base, off) == 0.0
    assert not instance_forwards(model)
    comfy.model_management.unload_all_models()


# --- architectures that have no text cross-attention -----------------------------------------------------------------


def without_weights(config, base: type, **changes) -> comfy.model_patcher.ModelPatcher:
    """A MODEL on the meta device: there to be looked at."""
    config.set_inference_dtype(torch.float16, None)
    with torch.no_grad():  # the loaders of old hosts copy weights in inference mode
        return comfy.model_patcher.ModelPatcher(base(config, device="meta", **changes), CPU, CPU)


def flux():
    unet = {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 64,
        "context_in_dim": 64, "hidden_size": 128, "mlp_ratio": 2.0, "num_heads": 1, "depth": 1,
        "depth_single_blocks": 1, "axes_dim": [16, 56, 56],
        "theta": 10000, "qkv_bias": True, "guidance_embed": True,
    }  # fmt: skip
    unet |= {"txt_ids_dims": []} if takes(FluxParams, "txt_ids_dims") else {}  # since 0.4
    return without_weights(comfy.supported_models.Flux(unet), comfy.model_base.Flux)


def stable_diffusion_3():
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": 64, "out_features": 128}}
    unet = {"in_channels": 16, "patch_size": 2, "depth": 2, "input_size": None, "adm_in_channels": 64,
            "context_embedder_config": embedder, "num_patches": 64, "pos_embed_max_size": 8,
            "pos_embed_scaling_factor": None}  # fmt: skip
    return without_weights(comfy.supported_models.SD3(unet), comfy.model_base.SD3)


def qwen_image():
    unet = {
        "image_model": "qwen_image", "in_channels": 64, "num_layers": 1, "attention_head_dim": 128,
        "num_attention_heads": 1, "joint_attention_dim": 64,
    }  # fmt: skip
    return without_weights(comfy.supported_models.QwenImage(unet), comfy.model_base.QwenImage)


def _image_unet(context: int, **more) -> dict:
    depths = {"transformer_depth": [1, 0], "transformer_depth_output": [1, 0, 0, 0], "transformer_depth_middle": 1}
    return {
        "image_size": 32, "in_channels": 8, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
        "channel_mult": [1, 1], "use_spatial_transformer": True, "legacy": False, "context_dim": context, **depths,
        **more,
    }  # fmt: skip


def video_diffusion():
    unet = _image_unet(
        64, use_linear_in_transformer=True, adm_in_channels=768, num_classes="sequential", extra_ff_mix_layer=True,
        use_spatial_context=True, merge_strategy="learned_with_images", merge_factor=0.0, video_kernel_size=[3, 1, 1],
        use_temporal_resblock=True, use_temporal_attention=True,
    )  # fmt: skip
    return without_weights(comfy.supported_models.SVD_img2vid(unet), comfy.model_base.SVD_img2vid)


def zero123():
    weights = {"cc_projection_weight": torch.zeros(768, 772), "cc_projection_bias": torch.zeros(768)}
    config = comfy.supported_models.Stable_Zero123(_image_unet(32, use_linear_in_transformer=False))
    return without_weights(config, comfy.model_base.Stable_Zero123, **weights)


def turntable(config: type, base: type, pooled: int):
    unet = dict(video_diffusion().model.model_config.unet_config) | {"adm_in_channels": pooled}
    return without_weights(config(unet), base)


def turntable_u():
    return turntable(comfy.supported_models.SV3D_u, comfy.model_base.SV3D_u, 256)


def turntable_p():
    return turntable(comfy.supported_models.SV3D_p, comfy.model_base.SV3D_p, 1280)


def depth_of_a_picture():
    unet = _image_unet(
        64, use_linear_in_transformer=True, adm_in_channels=4, num_classes="sequential", num_head_channels=16
    )
    return without_weights(comfy.supported_models.LotusD(unet | {"in_channels": 4}), comfy.model_base.Lotus)


def upscaler():
    unet = _image_unet(64, use_linear_in_transformer=True) | {"in_channels": 7, "num_res_blocks": [1] * 4}
    unet |= {"channel_mult": [1] * 4, "transformer_depth": [1, 0, 0, 0], "transformer_depth_output": [1] + [0] * 7}
    return without_weights(comfy.supported_models.SD_X4Upscaler(unet), comfy.model_base.SD_X4Upscaler)


def painting_over_a_depth_map():
    """The host takes it for an inpainting model, and cannot sample with it."""
    unet = _image_unet(64, use_linear_in_transformer=True) | {"in_channels": 5}
    model = without_weights(comfy.supported_models.SD20(unet), comfy.model_base.BaseModel)
    model.model.set_inpaint()
    return model


REFUSED = {
    flux: "Flux has none",
    stable_diffusion_3: "has none",
    qwen_image: "has none",
    video_diffusion: "sees a picture where others see the prompt",
    zero123: "sees a picture where others see the prompt",
    turntable_u: "sees a picture where others see the prompt",
    turntable_p: "sees a picture where others see the prompt",
    depth_of_a_picture: "turns one picture into another",
    upscaler: "SD_X4Upscaler sees 7, in which it has to be shown another picture",
    painting_over_a_depth_map: "sees 5, in which it has to be shown another picture",
}


def test_every_unet_of_the_host_was_tried():
    """A UNet that a new host brings is either trained above or refused by a sentence below."""
    unets = {config for config in comfy.supported_models.models if "model_channels" in config.unet_config}
    trained = {architecture.config for architecture in ARCHITECTURES.values()}
    refused = {type(make().model.model_config) for make in REFUSED}
    assert unets <= trained | refused
    assert not trained & refused - {comfy.supported_models.SD20}  # of which one with a depth map is refused


@pytest.mark.parametrize("make", REFUSED)
def test_other_architectures_get_one_sentence(make):
    """From the trainer and from the gate; nothing of the model is touched."""
    model, clip = make(), tiny_clip()
    concept = make_concept(tiny_model(), clip)
    with pytest.raises(PerfusionError) as training:
        learn(model, clip, concept.encoding_width)
    with pytest.raises(PerfusionError) as gate:
        apply_concepts(model, (gated(concept),))
    for message in (str(training.value), str(gate.value)):
        assert "\n" not in message and message.endswith(".") and message.count(". ") == 0
    assert REFUSED[make] in str(training.value)
    assert "SD1, SD2 or SDXL" in str(training.value)


def test_a_concept_of_sd1_on_a_model_of_sdxl_gets_one_sentence_that_names_both():
    sd1, sdxl = (
        without_weights(architecture.config(dict(architecture.unet)), base)
        for architecture, base in (
            (ARCHITECTURES["SD1.x"], comfy.model_base.BaseModel),
            (ARCHITECTURES["SDXL"], comfy.model_base.SDXL),
        )
    )
    layers = cross_attention_layers(sd1.model.diffusion_model, 768)
    concept = make_concept(
        tiny_model(), tiny_clip(), encoding_width=768, target_input=torch.ones(768),
        inverse_target_input=torch.full((768,), 1 / 768), superclass_encoding=torch.ones(768),
        word_vectors={"clip_l": torch.ones(1, 768)}, superclass_vectors={"clip_l": torch.ones(1, 768)},
        value_targets={name: torch.ones(layer.to_v.out_features) for name, layer in layers.items()},
    )  # fmt: skip
    apply_concepts(sd1, (gated(concept),))
    with pytest.raises(PerfusionError) as refused:
        apply_concepts(sdxl, (gated(concept),))
    sentence = str(refused.value)
    assert "<hugsy> was made for sd1 models with text encodings of width 768" in sentence
    assert "the loaded MODEL (SDXL) has no cross-attention of that width" in sentence
    assert sentence.endswith(".") and ". " not in sentence and "\n" not in sentence
