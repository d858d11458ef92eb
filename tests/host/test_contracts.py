"""Contracts 1 to 3 of the patch: the base model where nothing acts, little where no word is, and every graph between.

The oracle of contract 3 is a model whose projections are replaced for good by a float64 transcription of the edit.
"""

import dataclasses

import pytest
import torch
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.superclass_encoding import CONDITIONING_KEY, fit_superclass_encoding
from perfusion_pack.nodes.host.text.words import add_words
from reference import own_words, reference_model
from tiny_models import CountForwards, difference, encode, gated, instance_forwards, sample

import nodes

LONG = ", ".join(["a very long prompt about many things"] * 11)


@pytest.fixture(scope="module")
def stack(hugsy, cuppy):
    """One concept of the form that the trainer makes by default, and one of the gated form."""
    unlocked = dataclasses.replace(hugsy, form="unlocked")
    return gated(unlocked, bias=0.6, temperature=0.1), gated(cuppy, strength=0.8, temperature=0.1)


def of_form(stack, form, **settings):
    """Return the concepts, all of one form, with their own gate settings or the given ones."""
    return tuple(gated(dataclasses.replace(one.concept, form=form), **settings) for one in stack)


@pytest.fixture(scope="module")
def spoken(clip, stack):
    return add_words(clip, stack, "global")


@pytest.fixture(scope="module")
def positive(spoken):
    return encode(spoken, "a photo of <hugsy> beside a <cuppy>")


@pytest.fixture(scope="module")
def negative(spoken):
    return encode(spoken, "blurry, dark")


# Contract 1: the base model, bit for bit, wherever no concept acts.


FORM = pytest.mark.parametrize("form", ["unlocked", "gated", "lockable", "anchored"])


@pytest.mark.parametrize("lock", ["local", "global"])
@pytest.mark.parametrize("settings", [{"strength": 0.0}, {"start_percent": 1.0}, {"end_percent": 0.0}, None])
@FORM
def test_nothing_to_do_is_the_base_model(model, stack, positive, negative, form, lock, settings):
    idle = () if settings is None else of_form(stack, form, **settings)
    patched = apply_concepts(model, idle, lock)
    assert difference(sample(patched, positive, negative), sample(model, positive, negative)) == 0.0


@pytest.mark.parametrize("lock", ["local", "global"])
def test_queueing_again_gives_the_same(model, stack, positive, negative, lock):
    patched = apply_concepts(model, stack, lock)
    first = sample(patched, positive, negative)
    assert torch.equal(sample(patched, positive, negative), first)
    assert torch.equal(sample(apply_concepts(model, stack, lock), positive, negative), first)


@pytest.mark.parametrize("lock", ["local", "global"])
def test_two_orders_of_stacking_agree(model, stack, positive, negative, lock):
    one = sample(apply_concepts(model, stack, lock), positive, negative)
    other = sample(apply_concepts(model, stack[::-1], lock), positive, negative)
    assert difference(one, other) <= 1e-4 * one.abs().max()


@pytest.mark.parametrize("lock", ["local", "global"])
def test_the_base_stays_untouched_also_while_its_clone_is_sampling(model, stack, positive, negative, lock):
    before = sample(model, positive, negative)
    context, x, sigma = positive[0][0], torch.ones(1, 4, 8, 8), torch.tensor([3.0])
    expected = model.model.apply_model(x, sigma, c_crossattn=context)
    seen = []

    def look(*_):
        assert not instance_forwards(model)
        seen.append(difference(model.model.apply_model(x, sigma, c_crossattn=context), expected))

    patched = apply_concepts(model, stack, lock)
    result = sample(patched, positive, negative, callback=look)
    assert seen == [0.0] * 3
    assert difference(result, before) > 0
    assert torch.equal(sample(model, positive, negative), before)


@pytest.mark.parametrize("lock", ["local", "global"])
def test_a_clone_stays_untouched_while_another_clone_is_sampling(model, stack, positive, negative, lock):
    """Calls of other clones of one model between the steps: with another concept, with more of them."""
    context, x, sigma = positive[0][0], torch.ones(1, 4, 8, 8), torch.tensor([3.0])
    superclass = {CONDITIONING_KEY: positive[0][1][CONDITIONING_KEY]} if lock == "global" else {}

    def called(clone):
        options, known = {"wrappers": clone.wrappers, "sigmas": sigma}, superclass if clone.wrappers else {}
        return clone.model.apply_model(x, sigma, c_crossattn=context, transformer_options=options, **known)

    outer = apply_concepts(model, stack[:1], lock)
    clones = [apply_concepts(model, stack[1:], lock), apply_concepts(outer, stack[1:], lock), outer]
    expected, alone = [called(clone) for clone in clones], sample(outer, positive, negative)
    seen = []

    def meanwhile(*_):
        seen.extend(difference(called(clone), one) for clone, one in zip(clones, expected, strict=True))

    assert torch.equal(sample(outer, positive, negative, callback=meanwhile), alone)
    assert seen == [0.0] * 9
    assert all(difference(one, called(model)) > 1e-3 for one in expected)
    assert not instance_forwards(model)


# Contract 2: a prompt without a concept's word does not change; where gates may open in any prompt, by no more than
# their leak, given as a number.


@pytest.mark.parametrize("lock", ["local", "global"])
@FORM
def test_a_prompt_without_a_word_hardly_changes(model, clip, stack, form, lock, record_property):
    narrow = of_form(stack, form)
    spoken = add_words(clip, narrow, lock)
    changes = {}
    for prompt in ("a red ball in the snow", "portrait of a woman with a straw hat", "a photo of a teddy"):
        positive, negative = encode(spoken, prompt), encode(spoken, "blurry")
        base = sample(model, positive, negative)
        assert difference(sample(apply_concepts(model, narrow, lock), positive, negative), base) == 0.0
        patched = sample(apply_concepts(model, narrow, lock, exact=False), positive, negative)
        changes[prompt] = difference(patched, base) / base.abs().max().item()
    record_property("relative_latent_difference", changes)
    print(f"latent difference without a word, {form} form, {lock} lock, relative to the largest latent:", changes)
    assert max(changes.values()) < 1e-3


# Contract 3: whatever graph brings the conditioning here.


def combined(one, other):
    return nodes.ConditioningCombine().combine(one, other)[0]


def masked(conditioning, area):
    mask = torch.zeros(1, 64, 64)
    mask[:, :, :40] = 1
    return nodes.ConditioningSetMask().append(conditioning, mask, area, 0.9)[0]


def in_time(conditioning, start, end):
    return nodes.ConditioningSetTimestepRange().set_range(conditioning, start, end)[0]


# Each graph: a function from `say`, which encodes a prompt, to the positive conditioning; and sampling settings.
BOTH = "<hugsy>, (<hugsy>:0.6) and <cuppy>"
PHOTO, SNOW, BALL = "a photo of <hugsy>", "(<cuppy>:1.3) in the snow", "a red ball"
concat = nodes.ConditioningConcat().concat
average = nodes.ConditioningAverage().addWeighted
area = nodes.ConditioningSetArea().append
GRAPHS = {
    "one word": (lambda say: say(PHOTO), {}),
    "two words": (lambda say: say(BOTH), {}),
    "batch": (lambda say: say(BOTH), {"batch": 3}),
    "CFG 1": (lambda say: say(BOTH), {"cfg": 1.0}),
    "long prompt": (lambda say: say(f"<cuppy>, {LONG}, <hugsy>"), {}),
    "combine": (lambda say: combined(say(PHOTO), combined(say(SNOW), say(BALL))), {"batch": 2}),
    "concat": (lambda say: concat(say(PHOTO), say(SNOW))[0], {}),
    "concat with a long one": (lambda say: concat(say(BALL), say(f"{LONG}, <hugsy>"))[0], {}),
    "average": (lambda say: average(say(PHOTO), say(BALL), 0.7)[0], {}),
    "average, word in the second": (lambda say: average(say(BALL), say(SNOW), 0.4)[0], {}),
    "area": (lambda say: combined(say(PHOTO), area(say(SNOW), 32, 64, 0, 0, 1.0)[0]), {}),
    "area alone": (lambda say: area(say(SNOW), 32, 64, 0, 0, 1.0)[0], {}),
    "masks": (lambda say: combined(masked(say(PHOTO), "default"), masked(say(SNOW), "mask bounds")), {}),
    "timestep ranges": (lambda say: combined(in_time(say(PHOTO), 0, 0.4), in_time(say(SNOW), 0.4, 1)), {"steps": 4}),
    "zeroed": (lambda say: nodes.ConditioningZeroOut().zero_out(say(PHOTO))[0], {}),
    "words without a space": (lambda say: say("<hugsy><cuppy>,<HUGSY>"), {}),
    "one of two words absent": (lambda say: say("a <cuppy> in the snow"), {}),
    "a word in the negative": (lambda say: say(PHOTO), {"negative": "two <cuppy>, blurry"}),
    "a longer negative": (lambda say: say(PHOTO), {"negative": f"{LONG}, <cuppy>", "batch": 2}),
    "percentage area and mask in one": (
        lambda say: combined(
            nodes.ConditioningSetAreaPercentage().append(say(PHOTO), 0.5, 1.0, 0.5, 0, 1.0)[0],
            masked(say(SNOW), "default"),
        ),
        {},
    ),
    "denoising half way": (lambda say: say(BOTH), {"denoise": 0.5}),
    "ancestral": (lambda say: say(BOTH), {"sampler": "euler_ancestral"}),
    "second order": (lambda say: say(BOTH), {"sampler": "dpmpp_2m", "steps": 4}),
}


@pytest.mark.parametrize("lock", ["local", "global"])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_gives_what_the_edited_layers_give(model, spoken, stack, negative, name, lock):
    graph, settings = GRAPHS[name]
    positive = graph(lambda text: encode(spoken, text))
    if "negative" in settings:
        negative = encode(spoken, settings["negative"])
        settings = {key: value for key, value in settings.items() if key != "negative"}
    patched = apply_concepts(model, stack, lock)
    with CountForwards(model) as base_forwards:
        base = sample(model, positive, negative, **settings)
    with CountForwards(model) as forwards:
        result = sample(patched, positive, negative, **settings)
    assert forwards.batches == base_forwards.batches, "cond and uncond share their batches as they do in the base"

    reference = reference_model(stack, pairs(positive + negative, lock), own_words(positive + negative))
    expected = sample(reference, positive, negative, **settings)
    rounding = 2e-5 * base.abs().max().item()
    assert difference(result, expected) <= rounding
    if name != "zeroed":  # a closed gate on encodings of zeros: nothing should happen
        assert difference(result, base) > 20 * rounding


def pairs(conditioning, lock):
    """Return what the global lock puts in each encoding's place, also where the host repeats a shorter encoding."""
    if lock == "local":
        return []
    found = []
    for encoding, extra in conditioning:
        fitted = fit_superclass_encoding(extra.get(CONDITIONING_KEY), encoding)
        found += [(encoding[0].repeat(n, 1), fitted[0].repeat(n, 1)) for n in (1, 2, 3, 4)]
    return found


def test_the_global_lock_feeds_the_keys_the_superclass_prompt(model, clip, spoken, stack):
    """With the gate on the values open or not, the keys are those of the prompt with the plain superclass."""
    from perfusion_pack.nodes.host.gate.cross_attention import cross_attention_layers
    from test_gate_patch import LAYER, keys_and_values

    (encoding, extra), *_ = encode(spoken, "<hugsy> in the snow")
    patched = apply_concepts(model, stack[:1], "global")
    key, _ = keys_and_values(patched, encoding, **{CONDITIONING_KEY: extra[CONDITIONING_KEY]})
    layer = cross_attention_layers(model.model.diffusion_model)[LAYER]
    expected = layer.to_k(encode(clip, "teddy in the snow")[0][0])
    torch.testing.assert_close(key[:, 1:], expected[:, 1:], atol=1e-5, rtol=1e-4)


def test_an_unpatched_model_ignores_the_superclass_encoding(model, clip, stack):
    heard = {lock: encode(add_words(clip, stack, lock), "a photo of <hugsy>") for lock in ("local", "global")}
    negative = encode(clip, "blurry")
    assert torch.equal(sample(model, heard["local"], negative), sample(model, heard["global"], negative))


def test_a_global_model_with_a_local_clip_is_locked_locally(model, clip, stack):
    positive, negative = encode(add_words(clip, stack), "a photo of <hugsy>"), encode(clip, "blurry")
    local, other = (sample(apply_concepts(model, stack, lock), positive, negative) for lock in ("local", "global"))
    assert torch.equal(local, other)


def test_the_stock_sampler_node_in_inference_mode(model, stack, positive, negative):
    patched = apply_concepts(model, stack)
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    with torch.inference_mode():
        found = nodes.KSampler().sample(patched, 7, 3, 5.0, "euler", "normal", positive, negative, latent)[0]["samples"]
    assert torch.equal(found, sample(patched, positive, negative))


def test_the_sampling_changes_nothing_in_the_conditioning(model, stack, positive, negative):
    before = [(encoding.clone(), dict(extra)) for encoding, extra in positive]
    sample(apply_concepts(model, stack, "global"), positive, negative)
    for (encoding, extra), (old, keys) in zip(positive, before, strict=True):
        assert torch.equal(encoding, old) and extra.keys() == keys.keys()
        assert all(extra[key] is keys[key] for key in keys)


# Contract 4, what needs no other pack: LoRA, and attention replaced in the way of IPAdapter.

LAYER = "middle_block.1.transformer_blocks.0.attn2"


@pytest.mark.parametrize("concepts_first", [True, False])
def test_a_lora_on_the_projections_counts(model, stack, positive, negative, concepts_first):
    patches = {f"diffusion_model.{LAYER}.{kind}.weight": (torch.full((64, 32), 0.1),) for kind in ("to_k", "to_v")}
    before = sample(model, positive, negative)
    patched = apply_concepts(model, stack) if concepts_first else model.clone()
    patched = patched.clone()
    patched.add_patches(patches)
    if not concepts_first:
        patched = apply_concepts(patched, stack)
    result = sample(patched, positive, negative)

    reference = reference_model(stack, known=own_words(positive))
    layer = reference.model.diffusion_model.get_submodule(LAYER)
    for projection in (layer.to_k, layer.to_v):
        projection.linear.weight += 0.1
    expected = sample(reference, positive, negative)
    rounding = 2e-5 * before.abs().max().item()
    assert difference(result, expected) <= rounding
    assert difference(result, sample(apply_concepts(model, stack), positive, negative)) > 20 * rounding
    assert torch.equal(sample(model, positive, negative), before)


def test_replaced_attention_may_change_keys_and_values_in_place(model, stack, positive, negative):
    from comfy.ldm.modules.attention import optimized_attention

    def attention(q, k, v, extra_options):
        k *= 1.5
        v += 0.1
        return optimized_attention(q, k, v, extra_options["n_heads"])

    def replaced(patcher):
        clone = patcher.clone()
        clone.set_model_attn2_replace(attention, "middle", 0)
        return clone

    result = sample(replaced(apply_concepts(model, stack)), positive, negative)
    expected = sample(replaced(reference_model(stack, known=own_words(positive))), positive, negative)
    assert difference(result, expected) <= 2e-5 * result.abs().max().item()
