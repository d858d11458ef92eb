"""Tiny models made of the host's own classes, and concepts that fit them; all filled at random, from a seed."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import comfy.cldm.cldm
import comfy.controlnet
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models_base
import torch
from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors, text_encoders
from perfusion_pack.perfusion_core.concept import Concept, GatedConcept, unit_energy

WIDTH = 32
CPU = torch.device("cpu")

UNET_CONFIG = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "context_dim": WIDTH,
    "legacy": False,
    "use_checkpoint": False,
    "adm_in_channels": None,
    "use_linear_in_transformer": False,
    "use_temporal_resblock": False,
    "use_temporal_attention": False,
}


# What makes of it a model of one level with one cross-attention layer.
ONE_LAYER = {
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [0],
    "transformer_depth_output": [0, 0],
    "transformer_depth_middle": 1,
}


class TinyModelConfig(comfy.supported_models_base.BASE):
    """A model family with everything of SD1 but its size."""

    unet_extra_config = {"num_heads": 2, "num_head_channels": -1}
    latent_format = comfy.latent_formats.SD15


class LowVramPatcher(comfy.model_patcher.ModelPatcher):
    """What the host does to a model that does not fit into the memory: every weight is fetched for its operation."""

    def load(self, device_to=None, lowvram_model_memory=0, force_patch_weights=False, full_load=False):
        super().load(device_to, 64, force_patch_weights, False)


def fill(module: torch.nn.Module, seed: int, scale: float = 0.1) -> None:
    """Fill every parameter: the host leaves them uninitialised. Vectors called weight belong to norms."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * scale
            is_norm = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_((1 + noise if is_norm else noise).to(parameter.dtype))


def tiny_model(
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    manual_cast_dtype: torch.dtype | None = None,
    patcher: type[comfy.model_patcher.ModelPatcher] = comfy.model_patcher.ModelPatcher,
    **changes,
) -> comfy.model_patcher.ModelPatcher:
    """Return a MODEL with 7 cross-attention layers for encodings of width 32.

    manual_cast_dtype: what the weights are cast to for every operation, if that is not their own dtype.
    """
    config = TinyModelConfig({**UNET_CONFIG, **changes})
    config.set_inference_dtype(dtype, manual_cast_dtype)
    base = comfy.model_base.BaseModel(config, device=CPU)
    base.requires_grad_(False)  # as newer hosts do themselves; older ones load models in inference mode
    fill(base.diffusion_model, seed)
    return patcher(base, CPU, CPU)


def clip_options(*names: str, width: int = WIDTH, layers: int = 2) -> dict:
    size = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 64}
    return {"dtype": torch.float32, **{f"{name}_model_config": dict(size) for name in names}}


def tiny_clip(seed: int = 1, width: int = WIDTH, embeddings: str | None = None) -> comfy.sd.CLIP:
    """Return a CLIP of SD1's kind; `embeddings` is a folder for `embedding:` words."""

    def tokenizer(embedding_directory=None, tokenizer_data=None):
        inner = lambda **kw: comfy.sd1_clip.SDTokenizer(embedding_size=width, **kw)  # noqa: E731
        return comfy.sd1_clip.SD1Tokenizer(
            embedding_directory=embedding_directory, tokenizer_data=tokenizer_data or {}, tokenizer=inner
        )

    target = comfy.supported_models_base.ClipTarget(tokenizer, comfy.sd1_clip.SD1ClipModel)
    clip = comfy.sd.CLIP(target, embedding_directory=embeddings, model_options=clip_options("clip_l", width=width))
    fill(clip.cond_stage_model, seed)
    return clip


def tiny_sdxl_clip(seed: int = 2) -> comfy.sd.CLIP:
    """Return a CLIP of SDXL's kind, with two encoders of width 32 (l) and 48 (g); its encodings have width 80."""
    target = comfy.supported_models_base.ClipTarget(comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel)
    options = clip_options("clip_l", layers=3) | clip_options("clip_g", width=48, layers=3)
    clip = comfy.sd.CLIP(target, model_options=options)
    fill(clip.cond_stage_model, seed)
    return clip


def tiny_sdxl(seed: int = 0) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP]:
    """Return a MODEL of SDXL's class, which is told sizes, and a CLIP for it."""
    config = {**UNET_CONFIG, "context_dim": 80, "adm_in_channels": 48 + 6 * 256, "num_classes": "sequential"}
    base = comfy.model_base.SDXL(TinyModelConfig(config), device=CPU)
    base.requires_grad_(False)
    fill(base.diffusion_model, seed)
    return comfy.model_patcher.ModelPatcher(base, CPU, CPU), tiny_sdxl_clip()


def tiny_controlnet(seed: int = 5) -> comfy.controlnet.ControlNet:
    """Return a ControlNet for the tiny model, with cross-attention of its own; its pictures are 8 times the latents."""
    config = {
        key: value for key, value in UNET_CONFIG.items() if key not in ("out_channels", "transformer_depth_output")
    }
    control_model = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, num_heads=2)
    fill(control_model, seed)
    return comfy.controlnet.ControlNet(control_model.eval(), load_device=CPU)


def encode(clip: comfy.sd.CLIP, text: str) -> list:
    """Return the conditioning that the stock CLIPTextEncode node returns."""
    import nodes

    return nodes.CLIPTextEncode().encode(clip, text)[0]


def make_concept(
    model: comfy.model_patcher.ModelPatcher,
    clip: comfy.sd.CLIP,
    word: str = "<hugsy>",
    superclass: str = "teddy",
    seed: int = 3,
    **changes,
) -> Concept:
    """Return a concept whose target input is the encoding that its own word really gets in "a photo of ..."."""
    from perfusion_pack.nodes.host.text.encoders import word_positions
    from perfusion_pack.nodes.host.text.words import ConceptWord, with_words

    generator = torch.Generator().manual_seed(seed)
    superclass_vectors = encode_superclass_vectors(clip, superclass)
    vectors = {
        key: torch.randn(1, encoder.width, generator=generator) * 0.3 for key, encoder in text_encoders(clip).items()
    }
    spoken = with_words(clip, [ConceptWord(word, vectors, superclass_vectors)])
    tokens = spoken.tokenize(f"a photo of {word}")
    target_input = spoken.encode_from_tokens(tokens)[0, word_positions(tokens, word)[0]].clone()
    plain = clip.encode_from_tokens(clip.tokenize(f"a photo of {superclass}"))
    inverse = torch.linalg.inv(statistics(clip))
    layers = cross_attention_layers(model.model.diffusion_model)
    settings = {
        "word": word,
        "superclass": superclass,
        "base_model": "sd1",
        "encoding_width": target_input.shape[0],
        "clip_layer": None,
        "form": "gated",
        "bias": 0.75,
        "temperature": 0.05,
        "statistics_hash": "0",
        "training": {},
        "target_input": target_input,
        "inverse_target_input": unit_energy(target_input, (inverse @ target_input.double()).float()),
        "superclass_encoding": plain[0, 4].clone(),
        "word_vectors": vectors,
        "superclass_vectors": superclass_vectors,
        "value_targets": {
            name: torch.randn(layer.to_v.out_features, generator=generator) for name, layer in layers.items()
        },
    }
    return Concept(**{**settings, **changes})


def gated(concept: Concept, **settings) -> GatedConcept:
    """Return the concept with its own gate settings, or the given ones."""
    return GatedConcept(concept, **{"bias": concept.bias, "temperature": concept.temperature, **settings})


_STATISTICS: dict[int, torch.Tensor] = {}

CAPTIONS = (
    "a red ball on a green lawn",
    "a photo of a dog in the snow",
    "three old houses beside a river at night",
    "a small blue car, drawn by a child",
    "portrait of a woman with a straw hat",
    "a cup of coffee and a book on the table",
    "a teddy bear sitting in the grass, summer, sunlight",
    "mountains, clouds and a lake in autumn",
)


def statistics(clip: comfy.sd.CLIP) -> torch.Tensor:
    """Return the second moment of the encodings of a few captions, [d, d] float64, well conditioned."""
    if id(clip) not in _STATISTICS:
        encodings = torch.cat([clip.encode_from_tokens(clip.tokenize(text))[0] for text in CAPTIONS]).double()
        moment = encodings.T @ encodings / len(encodings)
        moment += torch.eye(len(moment), dtype=torch.float64) * moment.trace() / len(moment) * 1e-2
        _STATISTICS[id(clip)] = moment
    return _STATISTICS[id(clip)]


def sample(
    model: comfy.model_patcher.ModelPatcher,
    positive: list,
    negative: list,
    *,
    steps: int = 3,
    cfg: float = 5.0,
    seed: int = 7,
    batch: int = 1,
    size: int = 8,
    sampler: str = "euler",
    denoise: float = 1.0,
    callback=None,
) -> torch.Tensor:
    """Return the latents that the host's KSampler makes, [B, 4, size, size]."""
    latent = torch.zeros(batch, 4, size, size)
    noise = comfy.sample.prepare_noise(latent, seed)
    return comfy.sample.sample(
        model, noise, steps, cfg, sampler, "normal", positive, negative, latent,
        denoise=denoise, callback=callback, disable_pbar=True, seed=seed,
    )  # fmt: skip


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest absolute difference between two latents."""
    return (one - other).abs().max().item()


def changed(conditioning: list, **keys) -> list:
    """Return a conditioning whose entries have more keys, as the stock nodes set them."""
    return [[encoding, {**copy.copy(extra), **keys}] for encoding, extra in conditioning]


class CountForwards:
    """Count the calls of a model's UNet, and note the batch size of each."""

    def __init__(self, model: comfy.model_patcher.ModelPatcher) -> None:
        self.unet = model.model.diffusion_model
        self.batches: list[int] = []

    def __enter__(self) -> CountForwards:
        self.handle = self.unet.register_forward_pre_hook(lambda _, args: self.batches.append(len(args[0])))
        return self

    def __exit__(self, *_) -> None:
        self.handle.remove()


def instance_forwards(model: comfy.model_patcher.ModelPatcher) -> Mapping[str, object]:
    """Return the modules of the UNet that have a forward of their own; none, unless somebody left one behind."""
    return {
        name: module for name, module in model.model.diffusion_model.named_modules() if "forward" in module.__dict__
    }
