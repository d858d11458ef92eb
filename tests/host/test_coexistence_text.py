"""Concepts beside what changes how a prompt is read: other words, other texts, other weights of the text encoder."""

import logging

import comfy.sd
import pytest
import torch
from coexistence import EFFECT, PROMPT, ROUNDING, locked_pairs, make_scene, record_pair
from comfy_extras.nodes_clip_sdxl import CLIPTextEncodeSDXL
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.superclass_encoding import CONDITIONING_KEY
from perfusion_pack.nodes.host.text.words import add_words
from reference import Known, own_words, reference_model
from safetensors.torch import save_file
from tiny_models import (
    WIDTH,
    difference,
    encode,
    gated,
    make_concept,
    sample,
    tiny_clip,
    tiny_model,
    tiny_sdxl_clip,
)

import nodes

LOCKS = pytest.mark.parametrize("lock", ["local", "global"])


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embeddings")
    save_file({"clip_l": torch.full((2, WIDTH), 0.2)}, folder / "moody.safetensors")
    return make_scene(embeddings=str(folder))


def measured(model, stack, closed, lock, positive, negative, **settings):
    """Return what a prompt gives with concepts, against the reference and the base, for the table; settings: of
    `tiny_model`."""
    base = sample(model, positive, negative)
    size = base.abs().max().item()
    result = sample(apply_concepts(model, stack, lock), positive, negative)
    reference = reference_model(
        stack, locked_pairs(positive + negative, lock), own_words(positive + negative), **settings
    )
    return {
        "concept closed": difference(sample(apply_concepts(model, closed, lock), positive, negative), base),
        "reference": difference(result, sample(reference, positive, negative)) / size,
        "concept's effect": difference(result, base) / size,
    }


def check(numbers):
    assert numbers["concept closed"] == numbers.get("two orders", 0.0) == 0.0
    assert numbers["reference"] <= ROUNDING
    assert numbers["concept's effect"] > EFFECT and numbers.get("partner's effect", 1.0) > EFFECT


@LOCKS
def test_textual_inversion_words_stand_beside_concepts(scene, lock, record_property):
    """Both kinds of word in one prompt, in both orders; the concept's edit leaves the inversion's tokens alone."""
    found = []
    for prompt in ("embedding:moody painting of a <hugsy>", "<hugsy>, embedding:moody"):
        positive = encode(scene.clip, prompt)
        found.append(measured(scene.model, scene.stack, scene.closed(), lock, positive, scene.negative))
        plain = encode(scene.clip, prompt.replace("embedding:moody", "moody"))
        one, other = (sample(scene.model, words, scene.negative) for words in (positive, plain))
        found[-1]["partner's effect"] = difference(one, other) / one.abs().max().item()
        check(found[-1])
    worst = {key: max(one[key] for one in found) for key in ("concept closed", "reference")}
    least = {key: min(one[key] for one in found) for key in ("concept's effect", "partner's effect")}
    name = f"textual-inversion words{', global lock' if lock == 'global' else ''}"
    record_pair(record_property, name, **worst, **least)


# Width of the encodings of `tiny_sdxl_clip`.
TWO_ENCODERS = {"context_dim": 80}


@pytest.fixture(scope="module")
def two_encoders():
    """A MODEL and a CLIP as SDXL's, and a concept for them."""
    model, clip = tiny_model(**TWO_ENCODERS), tiny_sdxl_clip()
    return model, clip, (gated(make_concept(model, clip, form="unlocked"), bias=0.6, temperature=0.1),)


@LOCKS
@pytest.mark.parametrize("also_in_g", [True, False])
def test_a_text_for_each_of_two_encoders(two_encoders, also_in_g, lock, record_property):
    """SDXL's own node; with the word in one text alone, the other half of its token belongs to another word."""
    model, clip, stack = two_encoders
    spoken = add_words(clip, stack, lock)

    def say(text_g, text_l):
        return CLIPTextEncodeSDXL.execute(spoken, 64, 64, 0, 0, 64, 64, text_g, text_l)[0]

    other = "<hugsy>" if also_in_g else "teddy"
    positive = say(f"an oil painting of a {other} in the snow", "a photo of <hugsy>")
    assert (CONDITIONING_KEY in positive[0][1]) == (lock == "global")
    if lock == "global":
        plain = CLIPTextEncodeSDXL.execute(
            clip, 64, 64, 0, 0, 64, 64, "an oil painting of a teddy in the snow", "a photo of teddy"
        )[0]
        torch.testing.assert_close(positive[0][1][CONDITIONING_KEY], plain[0][0], atol=1e-5, rtol=1e-5)
    closed = (gated(stack[0].concept, start_percent=1.0),)
    numbers = measured(model, stack, closed, lock, positive, encode(spoken, "blurry"), **TWO_ENCODERS)
    name = f"SDXL's two texts, the word in {'both' if also_in_g else 'text_l only'}"
    record_pair(record_property, f"{name}{', global lock' if lock == 'global' else ''}", **numbers)
    check(numbers)


def with_text_lora(clip):
    """Return the CLIP of the stock LoRA loader."""
    generator = torch.Generator().manual_seed(13)
    layer = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    lora = {
        f"{layer}.lora_up.weight": torch.randn(64, 2, generator=generator) * 0.3,
        f"{layer}.lora_down.weight": torch.randn(2, WIDTH, generator=generator) * 0.3,
    }
    return comfy.sd.load_lora_for_models(None, clip, lora, 0.0, 1.0)[1]


@LOCKS
def test_lora_on_the_text_encoder(scene, lock, record_property):
    """Before the gate node or after it, the words are encoded with the LoRA, and the superclass in their place too."""
    plain = tiny_clip()
    before = add_words(with_text_lora(plain), scene.stack, lock)
    after = with_text_lora(add_words(plain, scene.stack, lock))
    (encoding, extra), *_ = positive = encode(before, PROMPT)
    (other, other_extra), *_ = encode(after, PROMPT)
    orders = [difference(encoding, other)]
    assert (CONDITIONING_KEY in extra) == (CONDITIONING_KEY in other_extra) == (lock == "global")
    if lock == "global":
        orders.append(difference(extra[CONDITIONING_KEY], other_extra[CONDITIONING_KEY]))
    without = encode(add_words(plain, scene.stack, lock), PROMPT)[0][0]
    numbers = {
        **measured(scene.model, scene.stack, scene.closed(), lock, positive, encode(before, "blurry")),
        "two orders": max(orders),
        "partner's effect": difference(encoding, without),
    }
    name = f"LoRA on the CLIP{', global lock' if lock == 'global' else ''}"
    record_pair(record_property, name, **numbers)
    check(numbers)


def test_clip_skip_before_or_after_the_node(scene, caplog, record_property):
    plain = tiny_clip()
    skip = nodes.CLIPSetLastLayer().set_last_layer
    skipped = skip(plain, -2)[0]
    stack = (gated(make_concept(scene.model, skipped, clip_layer=-2), bias=0.6, temperature=0.1),)
    with caplog.at_level(logging.WARNING):
        before = encode(add_words(skipped, stack, "global"), PROMPT)
    assert not caplog.records
    after = encode(skip(add_words(plain, stack, "global"), -2)[0], PROMPT)
    assert torch.equal(before[0][0], after[0][0])
    assert torch.equal(before[0][1][CONDITIONING_KEY], after[0][1][CONDITIONING_KEY])

    negative = encode(plain, "blurry")
    base = sample(scene.model, before, negative)
    result = sample(apply_concepts(scene.model, stack), before, negative)
    size = base.abs().max().item()
    error = difference(result, sample(reference_model(stack, known=own_words(before)), before, negative)) / size
    effect = difference(result, base) / size
    record_pair(
        record_property,
        "CLIP skip of the concept's own layer",
        **{"two orders": difference(before[0][0], after[0][0]), "reference": error, "concept's effect": effect},
    )
    assert error <= ROUNDING and effect > EFFECT


def negpip(clip):
    """Return the CLIP patched in NegPip's way: each token becomes two, the first for keys and the second for values.

    A negative weight keeps the key and turns the value round.
    """
    clone = clip.clone()
    encoder = clone.patcher.model.clip_l
    own = type(encoder).encode_token_weights

    def encode_token_weights(tokens):
        positive = [[(token, abs(weight)) for token, weight in batch] for batch in tokens]
        keys, *rest = own(encoder, positive)
        signs = torch.tensor([1.0 if weight >= 0 else -1.0 for batch in tokens for _, weight in batch])
        return (torch.stack([keys, keys * signs[:, None]], dim=2).flatten(1, 2), *rest)

    clone.patcher.add_object_patch("clip_l.encode_token_weights", encode_token_weights)
    return clone


def separated(model):
    clone = model.clone()
    clone.set_model_attn2_patch(lambda n, context, value, _: (n, context[:, 0::2], value[:, 1::2]))
    return clone


@LOCKS
def test_negpip(lock, record_property):
    """Interleaved contexts, separated again before the projections; also the superclass encoding is interleaved."""
    plain = tiny_clip()
    scene = make_scene()
    one = negpip(add_words(plain, scene.stack, lock))
    other = add_words(negpip(plain), scene.stack, lock)
    prompt = "a photo of <hugsy> beside a <cuppy>, (red:-1.2)"
    positive, negative = encode(one, prompt), encode(one, "blurry")
    assert positive[0][0].shape == (1, 154, WIDTH)
    assert torch.equal(encode(other, prompt)[0][0], positive[0][0])

    def drawn(stack, concepts_first):
        model = apply_concepts(scene.model, stack, lock) if concepts_first else separated(scene.model)
        model = separated(model) if concepts_first else apply_concepts(model, stack, lock)
        return sample(model, positive, negative)

    base = sample(separated(scene.model), positive, negative)
    size = base.abs().max().item()
    result = drawn(scene.stack, True)
    pairs = []
    if lock == "global":
        encoding, superclass = positive[0][0][0, 0::2], positive[0][1][CONDITIONING_KEY][0, 0::2]
        assert torch.equal(encode(other, prompt)[0][1][CONDITIONING_KEY], positive[0][1][CONDITIONING_KEY])
        pairs = [(encoding, superclass)]
    known = Known(prompts=own_words(positive + negative).prompts)  # the words' tokens are NegPip's own
    expected = sample(separated(reference_model(scene.stack, pairs, known)), positive, negative)
    ordinary = encode(add_words(plain, scene.stack, lock), prompt.replace(":-1.2", ":1.2"))
    numbers = {
        "concept closed": max(difference(drawn(scene.closed(), first), base) for first in (True, False)),
        "two orders": difference(drawn(scene.stack, False), result),
        "reference": difference(result, expected) / size,
        "concept's effect": difference(result, base) / size,
        "partner's effect": difference(
            sample(apply_concepts(scene.model, scene.stack, lock), ordinary, encode(plain, "blurry")), result
        )
        / size,
    }
    record_pair(record_property, f"NegPip (interleaved contexts), {lock} lock", **numbers)
    assert numbers["concept closed"] == numbers["two orders"] == 0.0
    assert numbers["reference"] <= ROUNDING
    assert numbers["concept's effect"] > EFFECT and numbers["partner's effect"] > EFFECT
