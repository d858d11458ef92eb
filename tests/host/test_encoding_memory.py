"""A change of a gate alone runs no text encoder; whatever an encoding depends on does."""

import dataclasses

import comfy.hooks
import comfy.sd1_clip
import pytest
import torch
from perfusion_pack.nodes.host.text.encoding_memory import MOST_PROMPTS
from perfusion_pack.nodes.host.text.superclass_encoding import CONDITIONING_KEY
from perfusion_pack.nodes.host.text.words import ConceptWord, add_words, with_words
from tiny_models import encode, gated, make_concept, tiny_clip, tiny_model, tiny_sdxl_clip

PROMPT = "a photo of <hugsy> beside a (<cuppy>:1.2)"


@pytest.fixture()
def runs(monkeypatch):
    """The text encoders' forward passes; counted in the class, since a hook on a module is a reason to encode anew."""
    calls, forward = [], comfy.sd1_clip.SDClipModel.forward
    monkeypatch.setattr(
        comfy.sd1_clip.SDClipModel, "forward", lambda self, *args, **kw: calls.append(1) or forward(self, *args, **kw)
    )
    return calls


@pytest.fixture()
def fresh():
    return tiny_clip()


@pytest.mark.parametrize("lock", ["local", "global"])
@pytest.mark.parametrize(("make", "width"), [(tiny_clip, 32), (tiny_sdxl_clip, 80)])
def test_another_gate_encodes_nothing(make, width, lock, runs):
    clip, model = make(), tiny_model(context_dim=width)
    hugsy = make_concept(model, clip)
    cuppy = make_concept(model, clip, "<cuppy>", "cup", seed=4)

    def both(**settings):
        spoken = add_words(clip, (gated(hugsy, **settings), gated(cuppy)), lock)
        return [encode(spoken, text)[0] for text in (PROMPT, "blurry")]

    first = both()
    made = len(runs)
    for change in ({"bias": 0.4}, {"temperature": 0.3}, {"strength": 0.5}, {"start_percent": 0.2, "end_percent": 0.8}):
        for (encoding, extra), (other, other_extra) in zip(first, both(**change), strict=True):
            assert torch.equal(encoding, other) and extra.keys() == other_extra.keys()
            assert torch.equal(extra["pooled_output"], other_extra["pooled_output"])
            assert (CONDITIONING_KEY in extra) == (lock == "global" and encoding is first[0][0])
            if CONDITIONING_KEY in extra:
                assert torch.equal(extra[CONDITIONING_KEY], other_extra[CONDITIONING_KEY])
    assert len(runs) == made


def another_vector(hugsy):
    return dataclasses.replace(hugsy, word_vectors={key: rows + 0.01 for key, rows in hugsy.word_vectors.items()})


def with_lora(clip):
    clone = clip.clone()
    name = next(name for name, weight in clip.cond_stage_model.named_parameters() if name.endswith("q_proj.weight"))
    shape = clip.cond_stage_model.get_parameter(name).shape
    clone.add_patches({name: (torch.ones(shape),)}, 0.1)
    return clone


def with_layer(clip):
    clone = clip.clone()
    clone.clip_layer(-2)
    return clone


@pytest.mark.parametrize("change", ["prompt", "weight", "vector", "lora", "layer"])
def test_what_an_encoding_depends_on_encodes_anew_and_comes_back(change, fresh, hugsy, runs):
    def encoding(clip, changed):
        concept = another_vector(hugsy) if changed and change == "vector" else hugsy
        spoken = add_words(clip, (gated(concept),))
        if not changed:
            return encode(spoken, "a <hugsy>")[0][0]
        spoken = {"lora": with_lora, "layer": with_layer}.get(change, lambda same: same)(spoken)
        return encode(spoken, {"prompt": "one <hugsy>", "weight": "a (<hugsy>:1.1)"}.get(change, "a <hugsy>"))[0][0]

    plain, made = encoding(fresh, False), len(runs)
    other = encoding(fresh, True)
    assert not torch.equal(plain, other) and len(runs) > made
    assert torch.equal(encoding(tiny_clip(), True), other), "not what a CLIP without any memory gives"
    made = len(runs)
    assert torch.equal(encoding(fresh, False), plain)
    if change != "lora":  # put on anew each time, which the host gives another name each time
        assert torch.equal(encoding(fresh, True), other)
    assert len(runs) == made


def test_a_lora_before_the_words_is_a_clip_of_its_own(fresh, hugsy, runs):
    plain = encode(add_words(fresh, (gated(hugsy),)), "a <hugsy>")[0][0]
    patched = encode(add_words(with_lora(fresh), (gated(hugsy),)), "a <hugsy>")[0][0]
    assert not torch.equal(plain, patched)
    assert torch.equal(encode(add_words(fresh, (gated(hugsy),)), "a <hugsy>")[0][0], plain)


def hooked(clip):
    clone = clip.clone()
    name = next(name for name, _ in clip.cond_stage_model.named_parameters() if name.endswith("q_proj.weight"))
    shape = clip.cond_stage_model.get_parameter(name).shape
    hook = comfy.hooks.WeightHook(strength_model=1.0, strength_clip=1.0)
    hook.weights_clip, hook.need_weight_init = {name: ("diff", (torch.ones(shape) * 0.1,))}, False
    group = comfy.hooks.HookGroup()
    group.add(hook)
    clone.patcher.forced_hooks = group
    clone.patcher.register_all_hook_patches(group, comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Clip))
    return clone


def with_injection(clip):
    clone = clip.clone()
    clone.patcher.set_injections("other pack", [comfy.model_patcher.PatcherInjection(lambda _: None, lambda _: None)])
    return clone


def with_another_packs_patch(clip):
    clone = clip.clone()
    encode_tokens = clone.patcher.get_model_object("encode_token_weights")
    clone.patcher.add_object_patch("encode_token_weights", lambda tokens: encode_tokens(tokens))
    return clone


@pytest.mark.parametrize("made", [hooked, with_injection, with_another_packs_patch])
@pytest.mark.parametrize("before", [True, False])
def test_what_has_no_name_is_never_remembered(made, before, fresh, hugsy, runs):
    def once():
        clip = add_words(made(fresh), (gated(hugsy),)) if before else made(add_words(fresh, (gated(hugsy),)))
        return encode(clip, "a <hugsy>")

    encode(add_words(fresh, (gated(hugsy),)), "a <hugsy>")
    counts = []
    for _ in range(2):
        before_it = len(runs)
        once()
        counts.append(len(runs) - before_it)
    assert counts[0] > 0 and counts[1] == counts[0]


def test_a_hook_on_an_encoder_is_called(fresh, hugsy):
    encode(add_words(fresh, (gated(hugsy),)), "a <hugsy>")
    seen = []
    handle = fresh.cond_stage_model.clip_l.register_forward_hook(lambda *_: seen.append(1))
    encode(add_words(fresh, (gated(hugsy),)), "a <hugsy>")
    handle.remove()
    assert seen


def test_nobody_can_change_what_is_remembered(fresh, hugsy):
    spoken = add_words(fresh, (gated(hugsy),))
    encoding = encode(spoken, "a <hugsy>")[0][0]
    kept = encoding.clone()
    encoding.zero_()
    again = encode(spoken, "a <hugsy>")[0][0]
    assert torch.equal(again, kept)
    again.zero_()
    assert torch.equal(encode(spoken, "a <hugsy>")[0][0], kept)


def test_the_memory_is_bounded_and_forgets_the_oldest(fresh, hugsy, runs):
    spoken = add_words(fresh, (gated(hugsy),))
    texts = [f"{count} <hugsy>" for count in range(MOST_PROMPTS + 1)]
    for text in texts:
        encode(spoken, text)
    made = len(runs)
    encode(spoken, texts[-1])
    assert len(runs) == made
    encode(spoken, texts[0])
    assert len(runs) > made


def test_a_word_under_training_is_encoded_with_the_vectors_that_it_has_now(fresh, hugsy):
    add_words(fresh, (gated(hugsy),))  # has given the CLIP a memory
    vectors = {key: rows.clone().requires_grad_() for key, rows in hugsy.word_vectors.items()}
    for _ in range(2):
        spoken = with_words(fresh, [ConceptWord("<hugsy>", vectors, hugsy.superclass_vectors)])
        tokens = spoken.tokenize("a <hugsy>")
        with torch.no_grad():  # the test is of the memory alone; gradients are test_training's
            encoding = spoken.encode_from_tokens(tokens)
        assert torch.isfinite(encoding).all()
        with torch.no_grad():
            for rows in vectors.values():
                rows.add_(0.05)
    changed = with_words(fresh, [ConceptWord("<hugsy>", vectors, hugsy.superclass_vectors)])
    with torch.no_grad():
        assert not torch.equal(changed.encode_from_tokens(changed.tokenize("a <hugsy>")), encoding)
