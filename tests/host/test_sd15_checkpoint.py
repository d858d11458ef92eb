"""A full SD1.5, from the host's stock loader to a picture: its true structure and widths, random weights."""

import time
from itertools import pairwise

import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
import comfy.model_management
import comfy.ops
import comfy.sd1_clip
import folder_paths
import pytest
import torch
from architectures import random_weights
from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept
from perfusion_pack.perfusion_core.text_statistics import TextStatistics
from safetensors.torch import save_file
from tiny_models import CAPTIONS, difference, encode, gated, instance_forwards, make_concept, sample, statistics
from training_inputs import learn_two_steps
from unet_shapes import SD15_UNET

import nodes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    settings = {**SD15_UNET, "num_heads": 8, "dtype": torch.float16}
    unet = openaimodel.UNetModel(**settings, device="meta", operations=comfy.ops.disable_weight_init)
    text = comfy.sd1_clip.SDClipModel(device="meta", dtype=torch.float16).transformer
    weights = random_weights(unet, "model.diffusion_model.") | random_weights(text, "cond_stage_model.transformer.")
    save_file(weights, folder / "random_sd15.safetensors")
    del weights
    folder_paths.add_model_folder_path("checkpoints", str(folder))
    try:
        model, clip, _ = nodes.CheckpointLoaderSimple().load_checkpoint("random_sd15.safetensors")
    finally:
        (folder / "random_sd15.safetensors").unlink()
        folder_paths.folder_names_and_paths["checkpoints"][0].remove(str(folder))
    yield model, clip
    comfy.model_management.unload_all_models()


def test_concepts_on_a_checkpoint_of_the_stock_loader(loaded, tmp_path, record_property):
    """Train, save, load, gate, sample."""
    model, clip = loaded
    assert type(model.model.model_config).__name__ == "SD15"
    layers = cross_attention_layers(model.model.diffusion_model, 768)
    widths = {name: layer.to_v.out_features for name, layer in layers.items()}
    assert len(widths) == 16 and sum(widths.values()) == 12_480

    moment = statistics(clip)
    metric = TextStatistics(moment.float(), torch.linalg.inv(moment).float(), 0.0, "", len(CAPTIONS))
    trained = learn_two_steps(model, clip, metric, picture=b"\xff\xd8" + bytes(8190))
    assert trained.effect > 0 and trained.concept.base_model == "sd1"
    assert not torch.equal(trained.concept.word_vectors["clip_l"], trained.concept.superclass_vectors["clip_l"])
    path = tmp_path / "hugsy.safetensors"
    save_concept(path, trained.concept)
    assert path.stat().st_size <= 61_440
    concept = load_concept(path)
    assert {name: len(value) for name, value in concept.value_targets.items()} == widths
    # A narrow gate: of a text encoder filled at random, two words are more alike than of a true one.
    stack = (gated(concept, bias=0.75, temperature=0.05),)
    spoken = add_words(clip, stack, "global")
    positive, negative = encode(spoken, "a photo of <hugsy> in the snow"), encode(spoken, "blurry")
    plain = encode(spoken, "a red ball in the snow")
    settings = {"steps": 1, "size": 8}

    base = sample(model, positive, negative, **settings)
    assert base.isfinite().all()
    for idle in (gated(concept, strength=0.0), gated(concept, start_percent=1.0)):
        assert difference(sample(apply_concepts(model, (idle,)), positive, negative, **settings), base) == 0.0

    base_plain = sample(model, plain, negative, **settings)
    for lock in ("local", "global"):
        patched = apply_concepts(model, stack, lock)
        result = sample(patched, positive, negative, **settings)
        assert difference(result, base) > 0
        assert difference(sample(patched, positive, negative, **settings), result) == 0.0
        leak = difference(sample(patched, plain, negative, **settings), base_plain) / base_plain.abs().max().item()
        record_property(f"latent difference without a word, {lock} lock", leak)
        print(f"latent difference without a word, {lock} lock, relative to the largest latent: {leak:.3g}")
        assert leak == 0.0
        assert not instance_forwards(model)
    assert difference(sample(model, positive, negative, **settings), base) == 0.0


def test_the_patch_costs_next_to_nothing(loaded, record_property):
    """Alternating runs on one thread in time of the processor, the shortest step of each: other processes do not count,
    nor does the first step, in which the edits are made."""
    model, clip = loaded
    stack = (gated(make_concept(model, clip)),)
    spoken = add_words(clip, stack)
    positive, negative = encode(spoken, "a photo of <hugsy> in the snow"), encode(spoken, "blurry")
    runs = {"base": model, "patched": apply_concepts(model, stack)}
    times = {name: [] for name in runs}

    def seconds(patcher):
        stamps = []
        sample(patcher, positive, negative, steps=3, size=8, callback=lambda *_: stamps.append(time.process_time()))
        return [after - before for before, after in pairwise(stamps)]

    for _ in range(2):
        for name, patcher in runs.items():
            times[name] += seconds(patcher)
    ratio = min(times["patched"]) / min(times["base"])
    record_property("patched step in units of the base step", ratio)
    print(f"a patched step takes {ratio:.3f} of a base step ({min(times['base']):.2f} s)")
    assert ratio < 1.25
