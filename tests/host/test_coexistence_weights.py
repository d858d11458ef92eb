"""Concepts beside everything that changes, stores or moves the model's weights."""

import comfy.hooks
import comfy.model_management
import comfy.sd
import pytest
import torch
from coexistence import EFFECT, PROMPT, ROUNDING, Partner, check_pair, locked_pairs, make_scene, record_pair
from comfy_extras.nodes_attention_multiply import UNetCrossAttentionMultiply
from comfy_extras.nodes_model_merging import ModelMergeSimple
from needs_host import needs_host
from perfusion_pack.nodes.host.gate import patch as gate_patch
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from reference import own_words, reference_model
from tiny_models import ONE_LAYER, WIDTH, LowVramPatcher, difference, encode, gated, make_concept, sample, tiny_model

import nodes

HAS_BYPASS = hasattr(comfy.sd, "load_bypass_lora_for_models")
LOCKS = pytest.mark.parametrize("lock", ["local", "global"])

# Width of the output and the input of every projection that the LoRA changes.
LORA_LAYERS = {
    "input_blocks.1.1.transformer_blocks.0.attn2.to_v": (32, WIDTH),
    "middle_block.1.transformer_blocks.0.attn2.to_q": (64, 64),
    "middle_block.1.transformer_blocks.0.attn2.to_k": (64, WIDTH),
    "middle_block.1.transformer_blocks.0.attn2.to_v": (64, WIDTH),
    "output_blocks.3.1.transformer_blocks.0.attn2.to_k": (32, WIDTH),
}


def lora():
    """Return a LoRA of rank 2, under the names of the host's layers and under those of the reference model."""
    generator = torch.Generator().manual_seed(13)
    weights = {}
    for layer, (d_out, d_in) in LORA_LAYERS.items():
        up, down = (torch.randn(shape, generator=generator) * 0.4 for shape in ((d_out, 2), (2, d_in)))
        for name in (layer, f"{layer}.linear"):
            weights[f"diffusion_model.{name}.lora_up.weight"] = up
            weights[f"diffusion_model.{name}.lora_down.weight"] = down
    return weights


def with_lora(strength):
    return lambda model: comfy.sd.load_lora_for_models(model, None, lora(), strength, 0.0)[0]


def with_bypass_lora(strength):
    return lambda model: comfy.sd.load_bypass_lora_for_models(model, None, lora(), strength, 0.0)[0]


@pytest.fixture(scope="module")
def scene():
    return make_scene()


@LOCKS
@pytest.mark.parametrize(
    ("name", "loaded"),
    [
        pytest.param("LoRA, weight patch", with_lora, id="patch"),
        pytest.param(
            "LoRA, bypass", with_bypass_lora, id="bypass", marks=needs_host("0.11.0", "LoRA in bypass mode", HAS_BYPASS)
        ),
    ],
)
def test_lora(scene, name, loaded, lock, record_property):
    """In bypass mode the adapter adds to what the projection gives of the edited encoding, as a patch of the weight
    does."""
    check_pair(
        scene,
        name,
        Partner(loaded(1.0)),
        record_property,
        lock=lock,
        neutral=Partner(loaded(0.0)),
        reference=with_lora(1.0),
    )


def test_weights_multiplied(scene, record_property):
    """The stock node multiplies to_q, to_k, to_v and to_out of every cross-attention layer."""
    names = ("to_q", "to_k.linear", "to_v.linear", "to_out.0")

    def by_hand(model):
        for name, parameter in model.model.diffusion_model.named_parameters():
            for projection, factor in zip(names, (1.0, 1.5, 0.7, 1.0), strict=True):
                if f"attn2.{projection}." in name:
                    parameter.data *= factor
        return model

    check_pair(
        scene,
        "cross-attention weights multiplied",
        Partner(lambda model: UNetCrossAttentionMultiply.execute(model, 1.0, 1.5, 0.7, 1.0)[0]),
        record_property,
        neutral=Partner(lambda model: UNetCrossAttentionMultiply.execute(model, 1.0, 1.0, 1.0, 1.0)[0]),
        reference=by_hand,
    )


# Hooks: the host exchanges weights between the steps of one run, and between the calls of one step.


def hooks(*strengths):
    """Return the hooks of the LoRA with keyframes of these strengths, evenly spread over the run."""
    group = comfy.hooks.create_hook_lora(lora(), 1.0, 0.0)
    frames = comfy.hooks.HookKeyframeGroup()
    for index, strength in enumerate(strengths):
        frames.add(comfy.hooks.HookKeyframe(strength=strength, start_percent=index / len(strengths)))
    group.set_keyframes_on_hooks(frames)
    return group


def on_both(*strengths):
    def conditioning(positive, negative):
        group = hooks(*strengths)
        return tuple(comfy.hooks.set_hooks_for_conditioning(cond, group) for cond in (positive, negative))

    return conditioning


def on_one_of_two_equal_prompts(positive, negative):
    hooked = comfy.hooks.set_hooks_for_conditioning(positive, hooks(1.0, 0.3))
    return nodes.ConditioningCombine().combine(hooked, positive)[0], negative


HOOKED = {
    "LoRA hook with keyframes": on_both(0.0, 1.0, 0.5),
    "LoRA hook on one of two equal prompts": on_one_of_two_equal_prompts,
}


@LOCKS
@pytest.mark.parametrize("name", HOOKED)
def test_lora_as_hook(scene, name, lock, record_property):
    check_pair(
        scene,
        name,
        Partner(conditioning=HOOKED[name]),
        record_property,
        lock=lock,
        neutral=Partner(conditioning=on_both(0.0)),
        steps=4,
    )


@LOCKS
@pytest.mark.parametrize("name", HOOKED)
def test_the_pairs_above_would_notice_a_stale_key_or_value(scene, name, lock, monkeypatch):
    """With keys and values reused although the weights change, the result is another one."""
    prompts = HOOKED[name](scene.positive, scene.negative)
    model = apply_concepts(scene.model, scene.stack, lock)
    right = sample(model, *prompts, steps=4)
    monkeypatch.setattr(gate_patch, "_weights_may_change", lambda guider: False)
    assert difference(sample(model, *prompts, steps=4), right) > EFFECT * right.abs().max().item()


def test_a_weight_that_another_pack_computes_for_every_call(scene, record_property):
    """The host's weight wrappers; this one grows from call to call."""
    name = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v{}.weight"

    def growing(model, suffix=""):
        calls, clone = [], model.clone()

        def grown(weight):
            calls.append(1)
            return weight * (1 + 0.2 * len(calls))

        clone.add_weight_wrapper(name.format(suffix), grown)
        return clone

    check_pair(
        scene,
        "weights computed for every call",
        Partner(growing),
        record_property,
        reference=lambda model: growing(model, ".linear"),
    )


# Merging.


@pytest.fixture(scope="module")
def small_scene():
    """The stock node goes through all weights once for each of them, so there are few."""
    return make_scene(**ONE_LAYER)


@pytest.fixture(scope="module")
def second():
    return tiny_model(seed=21, **ONE_LAYER)


def merged(second, ratio):
    return lambda model: ModelMergeSimple().merge(model, second, ratio)[0]


def merged_by_hand(second, ratio):
    def patch(model):
        theirs = second.model.diffusion_model.parameters()
        for mine, other in zip(model.model.diffusion_model.parameters(), theirs, strict=True):
            mine.data = ratio * mine + (1 - ratio) * other
        return model

    return patch


@LOCKS
def test_model_merging(small_scene, second, lock, record_property):
    check_pair(
        small_scene,
        "model merging",
        Partner(merged(second, 0.6)),
        record_property,
        lock=lock,
        neutral=Partner(merged(second, 1.0)),
        neutral_tolerance=ROUNDING,
        reference=merged_by_hand(second, 0.6),
        steps=2,
    )


def test_merging_takes_weights_only_from_the_second_model(small_scene, second):
    """As with every patch but LoRAs, concepts of the second model stay behind."""
    prompts = small_scene.positive, small_scene.negative
    seconds = second, apply_concepts(second, small_scene.stack)
    plain, with_concepts = (merged(other, 0.6)(small_scene.model) for other in seconds)
    assert torch.equal(sample(with_concepts, *prompts, steps=1), sample(plain, *prompts, steps=1))


# Weights stored otherwise.


@LOCKS
def test_low_vram(scene, lock, record_property):
    """With a LoRA, which low VRAM computes anew whenever a weight is fetched."""
    model, patch = tiny_model(patcher=LowVramPatcher), with_lora(1.0)
    prompts = scene.positive, scene.negative

    def concepts_first(stack):
        return sample(patch(apply_concepts(model, stack, lock)), *prompts)

    def concepts_last(stack):
        return sample(apply_concepts(patch(model), stack, lock), *prompts)

    result = concepts_first(scene.stack)
    to_k = model.model.diffusion_model.get_submodule("middle_block.1.transformer_blocks.0.attn2.to_k")
    assert model.model.model_lowvram and to_k.comfy_cast_weights and to_k.weight_function
    base, full = sample(patch(model), *prompts), sample(patch(apply_concepts(scene.model, scene.stack, lock)), *prompts)
    size = base.abs().max().item()
    numbers = {
        "concept closed": max(difference(drawn(scene.closed()), base) for drawn in (concepts_first, concepts_last)),
        "two orders": difference(result, concepts_last(scene.stack)),
        "reference": difference(result, full) / size,
        "concept's effect": difference(result, base) / size,
    }
    record_pair(record_property, f"low VRAM with a LoRA{', global lock' if lock == 'global' else ''}", **numbers)
    assert numbers["concept closed"] == numbers["two orders"] == 0.0
    assert numbers["reference"] <= ROUNDING and numbers["concept's effect"] > EFFECT


@LOCKS
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_weights(scene, dtype, lock, record_property):
    model = tiny_model(dtype=dtype, manual_cast_dtype=torch.float32)
    prompts = scene.positive, scene.negative
    reference = reference_model(scene.stack, locked_pairs(sum(prompts, []), lock), own_words(sum(prompts, [])))
    rounded = model.model.diffusion_model.parameters()
    for parameter, stored in zip(reference.model.diffusion_model.parameters(), rounded, strict=True):
        parameter.data = stored.float()

    result, base = sample(apply_concepts(model, scene.stack, lock), *prompts), sample(model, *prompts)
    size = base.abs().max().item()
    patch = with_lora(1.0)
    with_both = [
        sample(patch(apply_concepts(model, scene.stack, lock)), *prompts),
        sample(apply_concepts(patch(model), scene.stack, lock), *prompts),
    ]
    numbers = {
        "concept closed": difference(sample(apply_concepts(model, scene.closed(), lock), *prompts), base),
        "two orders": difference(*with_both),
        "reference": difference(result, sample(reference, *prompts)) / size,
        "concept's effect": difference(result, base) / size,
    }
    record_pair(record_property, f"{str(dtype).removeprefix('torch.')} weights, {lock} lock", **numbers)
    assert numbers["concept closed"] == numbers["two orders"] == 0.0
    assert numbers["reference"] <= ROUNDING and numbers["concept's effect"] > EFFECT
    assert difference(with_both[0], result) > EFFECT * size


# Loading.


@LOCKS
def test_unloading_and_loading_again(scene, lock, record_property):
    """Also after another clone had its LoRA written into the shared weights."""
    prompts = scene.positive, scene.negative
    patched = apply_concepts(scene.model, scene.stack, lock)
    base, first = sample(scene.model, *prompts), sample(patched, *prompts)
    changes = []
    meanwhiles = [comfy.model_management.unload_all_models, lambda: sample(with_lora(1.0)(patched), *prompts)]
    meanwhiles += [lambda: sample(with_bypass_lora(1.0)(scene.model), *prompts)] if HAS_BYPASS else []
    for meanwhile in meanwhiles:
        meanwhile()
        changes += [difference(sample(patched, *prompts), first), difference(sample(scene.model, *prompts), base)]
    size = base.abs().max().item()
    reference = sample(scene.reference(sum(prompts, []), lock), *prompts)
    name = "unloading and loading again"
    numbers = {"reference": difference(first, reference) / size, "concept's effect": difference(first, base) / size}
    record_pair(record_property, f"{name}, global lock" if lock == "global" else name, **numbers)
    assert max(changes) == 0.0
    assert numbers["reference"] <= ROUNDING and numbers["concept's effect"] > EFFECT


@pytest.mark.parametrize("first", ["one", "two"])
def test_two_models_in_turn(scene, first, record_property):
    """Each with concepts of its own, one of them under a word that the other knows too; run after run."""
    seed = 21
    other = tiny_model(seed=seed)
    other_stack = (*scene.stack[:1], gated(make_concept(other, scene.clip, "<other>", seed=9)))
    clip = add_words(scene.clip, other_stack[1:], "global")
    prompts = encode(clip, f"{PROMPT} and an <other>"), encode(clip, "blurry, dark")
    locked, known = locked_pairs(sum(prompts, []), "global"), own_words(sum(prompts, []))
    expected = {
        "one": sample(reference_model(scene.stack, known=known), *prompts),
        "two": sample(reference_model(other_stack, locked, known, seed=seed), *prompts),
        "base": sample(tiny_model(), *prompts),
        "other base": sample(tiny_model(seed=seed), *prompts),
    }
    models = {
        "one": apply_concepts(scene.model, scene.stack),
        "two": apply_concepts(other, other_stack, "global"),
        "base": scene.model,
        "other base": other,
    }
    order = ["one", "two", "base", "other base"] if first == "one" else ["two", "one", "other base", "base"]
    results = [(name, sample(models[name], *prompts)) for name in order * 2]
    sizes = {name: latents.abs().max().item() for name, latents in expected.items()}
    bases = [difference(result, expected[name]) for name, result in results if "base" in name]
    numbers = {
        "reference": max(difference(result, expected[name]) / sizes[name] for name, result in results),
        "concept's effect": min(
            difference(expected[name], expected[base]) / sizes[base]
            for name, base in (("one", "base"), ("two", "other base"))
        ),
    }
    record_pair(record_property, f"two models in turn, model {first} first", **numbers)
    assert max(bases) == 0.0 and numbers["reference"] <= ROUNDING and numbers["concept's effect"] > EFFECT
    for (_, one), (_, again) in zip(results[:4], results[4:], strict=True):
        assert torch.equal(one, again)
