"""Concepts beside what guides with the prompt's encoding, or feeds it to another model."""

from functools import partial

import comfy.sample
import comfy.samplers
import pytest
import torch
from coexistence import EFFECT, ROUNDING, Partner, check_pair, make_scene, record_pair
from comfy_extras import nodes_custom_sampler
from comfy_extras.nodes_cond import CLIPTextEncodeControlnet
from comfy_extras.nodes_custom_sampler import DualCFGGuider
from comfy_extras.nodes_perpneg import PerpNeg, PerpNegGuider
from needs_host import needs_host
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.superclass_encoding import CONDITIONING_KEY
from reference import own_words, reference_model
from tiny_models import CountForwards, difference, encode, gated, sample, tiny_controlnet, tiny_model

import nodes

LOCKS = pytest.mark.parametrize("lock", ["local", "global"])


@pytest.fixture(scope="module")
def scene():
    return make_scene()


# ControlNet: a second model that reads the prompt with cross-attention of its own.


@pytest.fixture(scope="module")
def controlnet():
    return tiny_controlnet()


HINT = torch.linspace(0, 1, 64).view(1, 1, 64, 1).expand(1, 64, 64, 3)


def controlled(controlnet, strength=1.0, start=0.0, end=1.0):
    def apply(positive, negative):
        node = nodes.ControlNetApplyAdvanced()
        return node.apply_controlnet(positive, negative, controlnet, HINT, strength, start, end)

    return Partner(conditioning=apply)


def contexts_of(controlnet, monkeypatch):
    """Return the list that will hold the text encodings which the ControlNet is given, call by call."""
    seen = []
    control_model = controlnet.control_model
    own = control_model.forward
    monkeypatch.setattr(control_model, "forward", lambda **inputs: seen.append(inputs["context"]) or own(**inputs))
    return seen


def test_controlnet_under_the_local_lock(scene, controlnet, record_property):
    """It reads the word as it would read that of a textual inversion."""
    partner, off = controlled(controlnet), controlled(controlnet, 0.0)
    check_pair(scene, "ControlNet", partner, record_property, neutral=off)


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_controlnet_under_the_global_lock_reads_the_superclass(
    scene, controlnet, strength, monkeypatch, record_property
):
    """What the user could have done by hand, with the stock node that gives a ControlNet a prompt of its own."""
    stack = tuple(gated(one.concept, strength=strength) for one in scene.stack)
    patched = apply_concepts(scene.model, stack, "global")
    partner = controlled(controlnet)
    seen = contexts_of(controlnet, monkeypatch)
    with CountForwards(scene.model) as forwards:
        result = partner.drawn(patched, scene.positive, scene.negative)
    assert forwards.batches == [2] * 3, "cond and uncond still share their batch"
    encoding, extra = scene.positive[0]
    superclass = torch.lerp(encoding, extra[CONDITIONING_KEY], strength)
    for context in seen:
        assert any(torch.equal(row, superclass[0]) for row in context)
        assert any(torch.equal(row, scene.negative[0][0][0]) for row in context)

    if strength == 1:
        given = CLIPTextEncodeControlnet.execute(scene.clip, scene.positive, "a photo of teddy beside a cup")[0]
        by_hand = partner.drawn(patched, given, scene.negative)
        base = partner.drawn(scene.model, scene.positive, scene.negative)
        size = base.abs().max().item()
        record_pair(
            record_property,
            "ControlNet, global lock",
            **{"reference": difference(result, by_hand) / size, "concept's effect": difference(result, base) / size},
        )
        assert difference(result, by_hand) <= ROUNDING * size


def test_controlnet_reads_the_prompt_itself_where_no_concept_acts(scene, controlnet, monkeypatch):
    partner = controlled(controlnet)
    base = partner.drawn(scene.model, scene.positive, scene.negative, steps=4)
    closed = apply_concepts(scene.model, scene.closed(), "global")
    assert torch.equal(partner.drawn(closed, scene.positive, scene.negative, steps=4), base)

    late = tuple(gated(one.concept, start_percent=0.5) for one in scene.stack)
    seen = contexts_of(controlnet, monkeypatch)
    partner.drawn(apply_concepts(scene.model, late, "global"), scene.positive, scene.negative, steps=4)
    word = [any(torch.equal(row, scene.positive[0][0][0]) for row in context) for context in seen]
    assert word == [True, True, False, False]


def test_what_the_user_gave_the_controlnet_stays(scene, controlnet, monkeypatch):
    given = CLIPTextEncodeControlnet.execute(scene.clip, scene.positive, "a drawing")[0]
    seen = contexts_of(controlnet, monkeypatch)
    controlled(controlnet).drawn(apply_concepts(scene.model, scene.stack, "global"), given, scene.negative)
    drawing = encode(scene.clip, "a drawing")[0][0][0]
    assert seen and all(any(torch.equal(row, drawing) for row in context) for context in seen)


def test_a_prompt_without_controlnet_gets_no_encoding_for_one(scene, monkeypatch):
    seen = set()
    own = type(scene.model.model)._apply_model
    monkeypatch.setattr(
        type(scene.model.model),
        "_apply_model",
        lambda self, *args, **conds: seen.update(conds) or own(self, *args, **conds),
    )
    sample(apply_concepts(scene.model, scene.stack, "global"), scene.positive, scene.negative)
    assert not seen


# Guiders that call the model in ways of their own.


def guided(make_guider, model, positive, negative, *, steps=3, cfg=5.0, seed=7, batch=1, size=8):
    """Return the latents of a guider, sampled as the stock SamplerCustomAdvanced does."""
    latent = torch.zeros(batch, 4, size, size)
    guider = make_guider(model, positive, negative, cfg)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", steps)
    sampler = comfy.samplers.sampler_object("euler")
    return guider.sample(
        comfy.sample.prepare_noise(latent, seed), latent, sampler, sigmas, disable_pbar=True, seed=seed
    )


@LOCKS
def test_perpendicular_negative_guider(scene, lock, record_property):
    empty = encode(scene.clip, "")

    def guider(scale, model, positive, negative, cfg):
        prompts = (positive, empty, negative) if scale == 0 else (positive, negative, empty)
        return PerpNegGuider.execute(model, *prompts, cfg, scale)[0]

    partner, plain = (Partner(draw=partial(guided, partial(guider, scale))) for scale in (1.0, 0.0))
    check_pair(
        scene,
        "perpendicular-negative guider",
        partner,
        record_property,
        lock=lock,
        neutral=plain,
        neutral_tolerance=ROUNDING,
    )


@LOCKS
def test_perpendicular_negative_as_a_patch_of_the_model(scene, lock, record_property):
    """The host's older node for it, which encodes an empty prompt for the model in the middle of a step."""

    def partner(empty, scale):
        return Partner(lambda model: PerpNeg.execute(model, empty, scale)[0])

    check_pair(
        scene,
        "perpendicular negative, deprecated node",
        partner(encode(scene.clip, ""), 1.0),
        record_property,
        lock=lock,
        neutral=partner(scene.negative, 0.0),
        neutral_tolerance=ROUNDING,
    )


@LOCKS
@pytest.mark.parametrize("style", ["regular", "nested"])
def test_dual_cfg_guider(scene, style, lock, record_property):
    ball = encode(scene.clip, "a red ball in the snow")

    def guider(model, positive, negative, cfg):
        return DualCFGGuider.execute(model, positive, ball, negative, cfg, 2.0, style)[0]

    def same_twice(model, positive, negative, cfg):
        second = 1.0 if style == "nested" else 3.0
        return DualCFGGuider.execute(model, positive, negative, negative, cfg, second, style)[0]

    check_pair(
        scene,
        f"dual-CFG guider, {style}",
        Partner(draw=partial(guided, guider)),
        record_property,
        lock=lock,
        neutral=Partner(draw=partial(guided, same_twice)),
        neutral_tolerance=ROUNDING,
    )


@needs_host("0.24.0", "Dual Model CFG Guider", hasattr(nodes_custom_sampler, "DualModelGuider"))
def test_dual_model_guider(scene, record_property):
    """The negative prompt runs on another model. The host runs the first model's wrappers on both, and none of the
    other's own: concepts that shall act in such a graph belong on the first model."""
    other = tiny_model(seed=21)

    def drawn(model, negative_model):
        def guider(model, positive, negative, cfg):
            return nodes_custom_sampler.DualModelGuider.execute(model, positive, cfg, negative_model, negative)[0]

        return guided(guider, model, scene.positive, encode(scene.clip, "blurry <cuppy>"))

    result, base = drawn(apply_concepts(scene.model, scene.stack), other), drawn(scene.model, other)
    size = base.abs().max().item()
    known = own_words([*scene.positive, *encode(scene.clip, "blurry <cuppy>")])
    expected = drawn(*(reference_model(scene.stack, known=known, **seed) for seed in ({}, {"seed": 21})))
    numbers = {
        "concept closed": difference(drawn(apply_concepts(scene.model, scene.closed()), other), base),
        "concepts on the second alone": difference(drawn(scene.model, apply_concepts(other, scene.stack)), base),
        "reference": difference(result, expected) / size,
        "concept's effect": difference(result, base) / size,
    }
    record_pair(record_property, "dual-model guider", **numbers)
    assert numbers["concept closed"] == numbers["concepts on the second alone"] == 0.0
    assert numbers["reference"] <= ROUNDING and numbers["concept's effect"] > EFFECT
