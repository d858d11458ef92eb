"""The gate in transformers with text cross-attention: the contracts of the gate, as they hold for SD1.5."""

from __future__ import annotations

import pytest
import torch
from perfusion_pack.nodes.host.gate.cross_attention import Half, cross_attention_layers, refined_from
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.gate.projection_swap import swapped_forwards
from perfusion_pack.nodes.host.gate.refined_text import text_at_layers
from perfusion_pack.nodes.host.gate.run_report import report_runs
from perfusion_pack.nodes.host.text.prompt_notes import PromptNotes, take_notes
from perfusion_pack.nodes.host.text.superclass_encoding import CONDITIONING_KEY, with_superclass
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept
from perfusion_pack.perfusion_core.errors import PerfusionError
from tiny_models import (
    CPU,
    WIDTH,
    difference,
    encode,
    gated,
    instance_forwards,
    make_concept,
    tiny_clip,
    tiny_model,
)
from tiny_transformers import (
    TEXT,
    tiny_anima,
    tiny_cosmos_predict2,
    tiny_hunyuan_dit,
    tiny_ltxv,
    tiny_pixart,
    tiny_video_vae,
)
from transformer_families import FAMILIES, IN_ALL, layers_text, needs_anima, sample_family, transformer_concept

import nodes

PROMPT, NEGATIVE = "a photo of a <hugsy>, in the snow", "blurry"


@pytest.fixture
def family(request, families):
    name = request.param
    if name not in families:
        made = FAMILIES[name]()
        families[name] = made, transformer_concept(made), transformer_concept(made, "<cuppy>", "coffee cup", seed=4)
    return families[name]


def run(family, *gates, prompt=PROMPT, lock="local", **settings):
    """Latents of a sampling run under the gates, through the CLIP that knows their words."""
    model, clip = family[0]
    knowing = add_words(clip, gates or (gated(family[1]),), lock)
    patched = apply_concepts(model, gates, lock) if gates else model
    with torch.inference_mode():
        positive, negative = encode(knowing, prompt), encode(knowing, NEGATIVE)
    return sample_family(patched, positive, negative, **settings)


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
def test_what_does_not_act_leaves_the_model_as_it_is(family):
    base, concept = run(family), family[1]
    assert base.isfinite().all() and base.std() > 0
    for off in (
        gated(concept, strength=0.0),
        gated(concept, start_percent=1.0, end_percent=1.0),
        gated(concept, bias=1e3),
    ):
        assert difference(base, run(family, off)) == 0.0
    assert difference(base, run(family, gated(concept))) > 1e-3
    assert not instance_forwards(family[0].model)
    assert difference(base, run(family)) == 0.0


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
def test_runs_repeat_and_stacks_commute(family):
    one, other = gated(family[1]), gated(family[2])
    prompt = "a <hugsy> beside (a <cuppy>:1.2), <hugsy>"
    both = run(family, one, other, prompt=prompt)
    assert difference(both, run(family, one, other, prompt=prompt)) == 0.0
    assert difference(both, run(family, other, one, prompt=prompt)) < 1e-4
    assert difference(both, run(family, one, prompt=prompt.replace("<cuppy>", "coffee cup"))) > 1e-3


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
def test_batches_windows_strengths_and_cfg(family):
    concept = family[1]
    single = run(family, gated(concept))
    # Of one more picture the noise of the first is the same.
    assert difference(single, run(family, gated(concept), batch=2)[:1]) < 1e-4
    found = [
        run(family, gated(concept, **settings), steps=4)
        for settings in ({}, {"strength": 0.5}, {"end_percent": 0.5}, {"lock": 0.0})
    ]
    assert all(difference(found[0], other) > 1e-4 for other in found[1:])
    assert difference(run(family, cfg=1.0), run(family, gated(concept), cfg=1.0)) > 1e-3


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
def test_img2img(family):
    """From a picture that the host's own VAE node encoded."""
    with torch.inference_mode():
        picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(6))
        latent = nodes.VAEEncode().encode(tiny_video_vae(), picture)[0]["samples"]
    assert latent.shape == (1, 16, 1, 8, 8)
    concept = gated(family[1])
    found, base = (run(family, *stack, latent=latent, denoise=0.6, steps=4) for stack in ((concept,), ()))
    assert difference(base, run(family, gated(family[1], strength=0.0), latent=latent, denoise=0.6, steps=4)) == 0.0
    assert found.shape == latent.shape and difference(found, base) > 1e-4


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
def test_a_lock_of_the_whole_prompt_takes_the_keys_of_its_superclass(family):
    """Of the superclass as the layers see it: it goes through whatever the model makes of the text first."""
    model, clip = family[0]
    shut = gated(family[1], bias=1e3)  # values stay the word's own
    found = run(family, shut, lock="global")
    assert difference(run(family), found) > 1e-4
    assert difference(found, run(family, shut, lock="global")) == 0.0
    assert difference(run(family), run(family, gated(family[1], strength=0.0), lock="global")) == 0.0

    knowing = add_words(clip, (shut,))
    tokens = knowing.tokenize(PROMPT)
    own = layers_text(family[0], tokens, knowing)
    superclass = layers_text(family[0], with_superclass(tokens), knowing)

    def of_superclass(project):
        def keys(text):
            is_own = [row.shape == own.shape and torch.allclose(row, own, atol=1e-5) for row in text]
            assert any(is_own)
            return project(torch.stack([superclass if same else row for row, same in zip(text, is_own, strict=True)]))

        return keys

    layers = cross_attention_layers(model.model.diffusion_model).values()
    with swapped_forwards([(layer.to_k, of_superclass(layer.to_k.forward)) for layer in layers]):
        expected = run(family)
    assert difference(found, expected) < 1e-4


@pytest.mark.parametrize("family", IN_ALL[2:], indirect=True)
def test_several_frames(family):
    base, found = run(family, frames=8), run(family, gated(family[1]), frames=8)
    assert found.shape[2] == 8 and difference(base, found) > 1e-3
    assert difference(base, run(family, gated(family[1], strength=0.0), frames=8)) == 0.0


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
def test_the_file_says_for_which_layers_and_widths(family, tmp_path):
    save_concept(tmp_path / "hugsy.safetensors", family[1])
    loaded = load_concept(tmp_path / "hugsy.safetensors")
    assert set(loaded.value_targets) == set(cross_attention_layers(family[0].model.model.diffusion_model))
    with pytest.raises(PerfusionError, match=f"<hugsy> was made for {loaded.base_model} models with"):
        apply_concepts(tiny_ltxv(num_layers=3), (gated(loaded),))


def test_a_concept_of_another_depth_is_refused(families):
    made = FAMILIES["Cosmos-Predict2"]()
    concept = transformer_concept(made)
    with pytest.raises(PerfusionError, match="no such layer at blocks.2.cross_attn"):
        apply_concepts(tiny_cosmos_predict2(num_blocks=3), (gated(concept),))


# Models whose text encoders are too large to build here get encodings from nowhere.
OTHER_SHAPES = {
    "LTXV": (tiny_ltxv, {"attention_mask": torch.ones(1, 77, dtype=torch.long)}),
    "PixArt": (tiny_pixart, {}),
    "HunyuanDiT": (
        tiny_hunyuan_dit,
        {
            "attention_mask": torch.ones(1, 77, dtype=torch.long),
            "conditioning_mt5xl": torch.randn(1, 256, TEXT, generator=torch.Generator().manual_seed(8)),
            "attention_mask_mt5xl": torch.ones(1, 256, dtype=torch.long),
        },
    ),
}


def from_nowhere(model, seed, **extra):
    draw = torch.Generator().manual_seed(seed)
    width = TEXT if refined_from(model.model.diffusion_model) else WIDTH
    return [[torch.randn(1, 77, width, generator=draw), dict(extra)]]


@pytest.mark.parametrize("name", OTHER_SHAPES)
@pytest.mark.parametrize("lock", ["local", "global"])
def test_the_gate_alone_in_other_shapes(name, lock):
    make, extra = OTHER_SHAPES[name]
    model = make()
    positive, negative = from_nowhere(model, 1, **extra), from_nowhere(model, 2, **extra)
    with torch.inference_mode():
        arrived = text_at_layers(model.model, positive[0][0], extra, CPU)[0].clone()
    layers = cross_attention_layers(model.model.diffusion_model)
    target = arrived[5]
    concept = make_concept(
        tiny_model(), tiny_clip(), base_model="other", encoding_width=len(target), target_input=target,
        inverse_target_input=target / target.dot(target), superclass_encoding=arrived[9],
        value_targets={layer: torch.ones(one.to_v.out_features) for layer, one in layers.items()},
    )  # fmt: skip
    if lock == "global":
        with_superclass = positive[0][0].clone()
        with_superclass[0, 5] = positive[0][0][0, 9]
        positive[0][1][CONDITIONING_KEY] = with_superclass
    size = 64 if name == "PixArt" else 8
    base = sample_family(model, positive, negative, size=size)
    assert base.isfinite().all()
    for settings in ({"strength": 0.0}, {"bias": 1e3}, {"start_percent": 1.0, "end_percent": 1.0}):
        off = sample_family(apply_concepts(model, (gated(concept, **settings),), lock), positive, negative, size=size)
        assert difference(base, off) == 0.0 or (lock == "global" and settings == {"bias": 1e3})
    patched = apply_concepts(model, (gated(concept),), lock)
    found, again = (sample_family(patched, positive, negative, size=size) for _ in range(2))
    assert difference(base, found) > 1e-4 and difference(found, again) == 0.0
    assert not instance_forwards(model)


def test_a_fused_projection_is_edited_as_two_halves():
    """Keys and values of one linear layer: each half under its own function, and as it was where there is none."""
    layer = next(iter(cross_attention_layers(tiny_pixart().model.diffusion_model).values()))
    whole, encoding = layer.to_k.whole, torch.randn(2, 5, layer.to_k.in_features)
    before = whole(encoding)
    keys, values = before.chunk(2, dim=-1)
    assert isinstance(layer.to_v, Half) and layer.to_v.out_features == values.shape[-1]
    assert torch.equal(layer.to_k(encoding), keys) and torch.equal(layer.to_v(encoding), values)
    assert layer.to_k.forward == layer.to_k.forward != layer.to_v.forward
    doubled = layer.to_v.forward
    with swapped_forwards([(layer.to_v, lambda text: 2 * doubled(text))]):
        assert torch.equal(whole(encoding), torch.cat([keys, 2 * values], dim=-1))
    assert torch.equal(whole(encoding), before)


@needs_anima
def test_the_adapter_is_no_place_to_edit():
    network = tiny_anima().model.diffusion_model
    assert all("llm_adapter" not in layer for layer in cross_attention_layers(network))
    assert any("llm_adapter" in path and path.endswith("cross_attn") for path, _ in network.named_modules())


@pytest.mark.parametrize("family", IN_ALL, indirect=True)
def test_a_run_tells_how_far_the_gate_opened(family, caplog):
    model, clip = family[0]
    stack, told = (gated(family[1]), gated(family[2])), []
    knowing, patched = add_words(clip, stack), apply_concepts(model, stack)
    notes = PromptNotes([one.concept.word for one in stack])
    take_notes(knowing, notes)
    report_runs(patched, notes, told.append)
    with torch.inference_mode():
        positive, negative = encode(knowing, PROMPT), encode(knowing, NEGATIVE)
    sample_family(patched, positive, negative)
    gate, other = told[-1].split(" · ")
    assert gate.startswith("<hugsy>: gate ") and float(gate.split()[2]) > 0.5
    assert other == "<cuppy>: in no prompt" and not [r for r in caplog.records if r.levelname == "WARNING"]
    sample_family(patched, negative, negative)
    assert told[-1] == "<hugsy>: in no prompt · <cuppy>: in no prompt"
