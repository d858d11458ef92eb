"""The patch on a MODEL: what reaches the attention, what is shared between steps, what is refused."""

import dataclasses

import comfy.hooks
import pytest
import torch
from perfusion_pack.nodes.host.gate import run as gate_run
from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
from perfusion_pack.nodes.host.gate.patch import PATCH_KEY, applied_concepts, apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.edit import FORMS
from perfusion_pack.perfusion_core.errors import PerfusionError
from reference import edited_contexts
from tiny_models import WIDTH, changed, difference, encode, gated, instance_forwards, sample, tiny_model

BLOCK = ("middle", 0)
LAYER = "middle_block.1.transformer_blocks.0.attn2"


@pytest.fixture(scope="module")
def negative(clip):
    return encode(clip, "blurry")


def keys_and_values(model, context, sigma=2.0, **conds):
    """Return what one layer's attention gets in a call of the model, [B, N, d_out] each."""
    caught = {}

    def catch(q, k, v, extra_options):
        caught["k"], caught["v"] = k.clone(), v.clone()
        return q

    options = {
        "patches_replace": {"attn2": {BLOCK: catch}},
        "wrappers": model.wrappers,
        "sigmas": torch.tensor([sigma]),
    }
    x = torch.ones(len(context), 4, 8, 8)
    with torch.no_grad():
        model.model.apply_model(
            x, torch.full((len(context),), sigma), c_crossattn=context, transformer_options=options, **conds
        )
    return caught["k"], caught["v"]


@pytest.mark.parametrize("lock", [None, 0.0, 0.3])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("strengths", [(1.0,), (1.0, 0.6)])
def test_keys_and_values_equal_a_direct_computation(model, clip, hugsy, cuppy, form, strengths, lock):
    concepts = [dataclasses.replace(concept, form=form) for concept in (hugsy, cuppy)]
    stack = tuple(gated(one, strength=strength) for one, strength in zip(concepts, strengths, strict=False))
    stack = (dataclasses.replace(stack[0], lock=lock), *stack[1:])
    context = encode(add_words(clip, stack), "a photo of <hugsy> beside a cup")[0][0]

    k, v = keys_and_values(apply_concepts(model, stack), context)

    layer = cross_attention_layers(model.model.diffusion_model)[LAYER]
    key_context, value_context, gates = edited_contexts(context, stack)
    targets = torch.stack([one.concept.value_targets[LAYER] for one in stack]).double()
    assert gates.max() > 0.5
    expected_k = key_context @ layer.to_k.weight.double().T
    expected_v = value_context @ layer.to_v.weight.double().T + gates @ targets
    torch.testing.assert_close(k.double(), expected_k, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(v.double(), expected_v, atol=1e-4, rtol=1e-4)


def test_the_gate_follows_the_context_that_arrives(model, clip, hugsy):
    """Attention-couple nodes change the context before the projections."""
    stack = (gated(hugsy),)
    context = encode(add_words(clip, stack), "a photo of <hugsy>")[0][0]
    halved = apply_concepts(model, stack)
    expected = keys_and_values(halved, context * 0.5)

    def call(patcher):
        caught = {}
        options = {
            "patches": {"attn2_patch": [lambda n, context, value, _: (n, context * 0.5, value * 0.5)]},
            "patches_replace": {"attn2": {BLOCK: lambda q, k, v, _: caught.update(k=k, v=v) or q}},
            "wrappers": patcher.wrappers,
        }
        with torch.no_grad():
            patcher.model.apply_model(
                torch.ones(1, 4, 8, 8), torch.tensor([2.0]), c_crossattn=context, transformer_options=options
            )
        return caught["k"], caught["v"]

    for got, wanted in zip(call(halved), expected, strict=True):
        assert torch.equal(got, wanted)


def test_keys_from_one_context_and_values_from_another(model, clip, hugsy):
    stack = (gated(hugsy),)
    spoken = add_words(clip, stack)
    one, other = (encode(spoken, text)[0][0] for text in ("a photo of <hugsy>", "two <hugsy> in the snow"))
    patched = apply_concepts(model, stack)
    swap = patched.clone()
    swap.set_model_attn2_patch(lambda n, context, value, _: (n, context, other))
    caught = {}
    options = {
        **swap.model_options["transformer_options"],
        "patches_replace": {"attn2": {BLOCK: lambda q, k, v, _: caught.update(k=k, v=v) or q}},
        "wrappers": swap.wrappers,
    }
    with torch.no_grad():
        swap.model.apply_model(
            torch.ones(1, 4, 8, 8), torch.tensor([2.0]), c_crossattn=one, transformer_options=options
        )
    assert torch.equal(caught["k"], keys_and_values(patched, one)[0])
    assert torch.equal(caught["v"], keys_and_values(patched, other)[1])


def test_a_context_of_another_width_passes_unchanged(model, hugsy):
    call = gate_run.GateCall(
        gate_run.GateRun((gated(hugsy),), False, False), (0,), {("layer", "to_k"): torch.neg}, None, None, (), (), False
    )
    encoding = torch.ones(1, 3, WIDTH + 1)
    assert torch.equal(call.project("layer", "to_k", encoding), -encoding)


def count_projections(model, monkeypatch):
    """Count how often each projection really runs."""
    counts = {}
    for name, layer in cross_attention_layers(model.model.diffusion_model).items():
        for kind in ("to_k", "to_v"):
            module = getattr(layer, kind)

            def forward(x, key=(name, kind), own=module.forward):
                counts[key] = counts.get(key, 0) + 1
                return own(x)

            monkeypatch.setitem(module.__dict__, "forward", forward)
    return counts


def test_edits_and_projections_are_made_once_per_run(clip, hugsy, monkeypatch):
    model = tiny_model()
    stack = (gated(hugsy),)
    patched, spoken = apply_concepts(model, stack), add_words(clip, stack)
    positive, negative = encode(spoken, "a photo of <hugsy>"), encode(spoken, "blurry")
    edits = []
    real = gate_run.GateRun.spoken_and_edited
    monkeypatch.setattr(gate_run.GateRun, "spoken_and_edited", lambda *args: edits.append(1) or real(*args))
    monkeypatch.setattr(gate_run, "REUSED_BYTES", 0)
    expected = sample(patched, positive, negative, steps=4)
    monkeypatch.setattr(gate_run, "REUSED_BYTES", 2**28)
    counts = count_projections(model, monkeypatch)
    edits.clear()

    result = sample(patched, positive, negative, steps=4)

    assert torch.equal(result, expected)
    assert len(edits) == 1
    assert len(counts) == 14 and set(counts.values()) == {1}
    sample(patched, positive, negative, steps=4)
    assert set(counts.values()) == {2}, "a second run starts from nothing"


def test_nothing_is_reused_where_hooks_may_change_the_weights(clip, hugsy, negative, monkeypatch):
    model = tiny_model()
    stack = (gated(hugsy),)
    patched, positive = apply_concepts(model, stack), encode(add_words(clip, stack), "a photo of <hugsy>")
    weight = f"diffusion_model.{LAYER}.to_v.weight"
    hook = comfy.hooks.WeightHook(strength_model=1.0)
    hook.weights = {weight: (torch.full((64, WIDTH), 0.3),)}
    hook.need_weight_init = False
    frames = comfy.hooks.HookKeyframeGroup()
    for strength, percent in ((0.0, 0.0), (1.0, 0.5)):
        frames.add(comfy.hooks.HookKeyframe(strength=strength, start_percent=percent))
    group = comfy.hooks.HookGroup()
    group.add(hook)
    group.set_keyframes_on_hooks(frames)

    hooked = changed(positive, hooks=group), changed(negative, hooks=group)
    result = sample(patched, *hooked, steps=4)
    monkeypatch.setattr(gate_run.GateRun, "find", lambda *_: None)
    assert torch.equal(result, sample(patched, *hooked, steps=4))
    assert difference(result, sample(patched, positive, negative, steps=4)) > 0


def test_nothing_is_left_behind(clip, hugsy, negative):
    model = tiny_model()
    stack = (gated(hugsy),)
    patched, positive = apply_concepts(model, stack), encode(add_words(clip, stack), "a photo of <hugsy>")

    def interrupt(step, *_):
        assert not instance_forwards(model)
        if step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(patched, positive, negative, callback=interrupt)

    handle = model.model.diffusion_model.out.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sample(patched, positive, negative)
    handle.remove()

    assert not instance_forwards(model)
    assert PATCH_KEY not in patched.model_options["transformer_options"]
    assert PATCH_KEY not in model.model_options["transformer_options"]
    assert not model.wrappers.get("apply_model") and not model.attachments


def test_two_nodes_equal_one_and_the_first_is_not_changed(model, clip, hugsy, cuppy, negative):
    first, second = (gated(hugsy),), (gated(cuppy, strength=0.7),)
    positive = encode(add_words(clip, first + second), "a photo of <hugsy> and a <cuppy>")
    one = apply_concepts(model, first)
    two = apply_concepts(one, second)
    assert applied_concepts(one).stack == first
    assert applied_concepts(two).stack == first + second
    at_once = apply_concepts(model, first + second)
    assert torch.equal(sample(two, positive, negative), sample(at_once, positive, negative))
    assert len(two.get_wrappers("apply_model", PATCH_KEY)) == 1


def test_later_clones_keep_the_concepts(model, clip, hugsy, negative):
    stack = (gated(hugsy),)
    positive = encode(add_words(clip, stack), "a photo of <hugsy>")
    patched = apply_concepts(model, stack)
    later = patched.clone()
    later.add_patches({f"diffusion_model.{LAYER}.to_k.weight": (torch.zeros(64, WIDTH),)})
    assert applied_concepts(later).stack == stack
    assert torch.equal(sample(later, positive, negative), sample(patched, positive, negative))


def test_concepts_act_within_their_window_only(model, clip, hugsy):
    stack = (gated(hugsy, start_percent=0.3, end_percent=0.6),)
    context = encode(add_words(clip, stack), "a photo of <hugsy>")[0][0]
    patched, always = apply_concepts(model, stack), apply_concepts(model, (gated(hugsy),))
    sampling = model.model.model_sampling
    for percent, acts in ((0.1, False), (0.29, False), (0.31, True), (0.59, True), (0.61, False), (1.0, False)):
        sigma = float(sampling.percent_to_sigma(percent))
        expected = keys_and_values(always if acts else model, context, sigma)
        for got, wanted in zip(keys_and_values(patched, context, sigma), expected, strict=True):
            assert torch.equal(got, wanted), percent


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "heun", "uni_pc", "dpmpp_sde"])
def test_every_sampler_sees_the_concept_and_the_closed_window(model, clip, hugsy, negative, sampler):
    positive = encode(add_words(clip, (gated(hugsy),)), "a photo of <hugsy>")
    base = sample(model, positive, negative, sampler=sampler)
    whole = apply_concepts(model, (gated(hugsy),))
    closed = apply_concepts(model, (gated(hugsy, start_percent=1.0),))
    assert difference(sample(whole, positive, negative, sampler=sampler), base) > 0
    assert difference(sample(closed, positive, negative, sampler=sampler), base) == 0


def test_a_word_twice_is_refused(model, hugsy, cuppy):
    with pytest.raises(PerfusionError, match="<hugsy>"):
        apply_concepts(model, (gated(hugsy), gated(hugsy)))
    with pytest.raises(PerfusionError, match="<hugsy>"):
        apply_concepts(apply_concepts(model, (gated(hugsy),)), (gated(cuppy), gated(hugsy)))


def test_concepts_that_cannot_be_told_apart_are_named(model, hugsy, cuppy):
    twin = dataclasses.replace(hugsy, word="<twin>")
    with pytest.raises(PerfusionError, match="<hugsy> and <twin>"):
        apply_concepts(model, (gated(hugsy), gated(cuppy), gated(twin)))


def test_two_locks_on_one_model_are_refused(model, hugsy, cuppy):
    with pytest.raises(PerfusionError, match="local key lock"):
        apply_concepts(apply_concepts(model, (gated(hugsy),)), (gated(cuppy),), "global")
    with pytest.raises(PerfusionError, match="local, global"):
        apply_concepts(model, (gated(hugsy),), "both")


def test_a_concept_for_another_model_is_refused_at_once(model, clip, hugsy):
    narrow = tiny_model(context_dim=16)
    with pytest.raises(PerfusionError, match=r"<hugsy> was made for sd1 .*width 32.*TinyModelConfig"):
        apply_concepts(narrow, (gated(hugsy),))

    targets = dict(hugsy.value_targets)
    del targets[LAYER]
    with pytest.raises(PerfusionError, match=f"no such layer at {LAYER}.*has width 64"):
        apply_concepts(model, (gated(dataclasses.replace(hugsy, value_targets=targets)),))
    more = {**hugsy.value_targets, "middle_block.9.attn2": torch.ones(3)}
    with pytest.raises(PerfusionError, match="middle_block.9.attn2.*has no such layer"):
        apply_concepts(model, (gated(dataclasses.replace(hugsy, value_targets=more)),))
    wrong = {**hugsy.value_targets, LAYER: torch.ones(3)}
    with pytest.raises(PerfusionError, match=f"width 3 at {LAYER}.*width 64"):
        apply_concepts(model, (gated(dataclasses.replace(hugsy, value_targets=wrong)),))
