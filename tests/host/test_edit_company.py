"""Edits beside concepts, other patches of the MODEL, other conditionings and other models."""

import copy
import dataclasses
import logging

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_custom_sampler import DualCFGGuider
from edits import ROUNDING, Edited, apart, drawn, empty
from perfusion_pack.nodes.host.attention.recording import record_attention
from perfusion_pack.nodes.host.editing.attention_blocks import attention_layers
from perfusion_pack.nodes.host.editing.edit_masks import EditMasks
from perfusion_pack.nodes.host.editing.edit_patch import apply_edits
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.edit import FORMS
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.prompt_edit import LocalBlend, PromptEdit
from reference_edits import by_maps
from test_coexistence_attention import couple, image_prompt
from tiny_models import (
    ONE_LAYER,
    LowVramPatcher,
    changed,
    encode,
    gated,
    instance_forwards,
    tiny_controlnet,
    tiny_model,
    tiny_sdxl,
)

import nodes as host_nodes

DOG = "a photo of a red dog on the grass"
SWAP = PromptEdit(DOG, blend=None)
CONCEPT = PromptEdit("cat -> <hugsy>", blend=None)
BLEND = PromptEdit("cat -> <hugsy>", blend=LocalBlend(window=(0.0, 1.0)))


@pytest.fixture(scope="module")
def negative(clip):
    return encode(clip, "blurry")


def check_source(edited, negative, **settings):
    """The source is that of an unedited batch, and the edit is not.  Returns both."""
    got, base = edited.draw(negative, **settings), edited.unedited(negative, **settings)
    assert torch.equal(got[0], base[0])
    assert apart(got[1], base[1]) > 1e-4
    return got


def rebased(edited, model):
    """The same edits on another MODEL."""
    other = copy.copy(edited)
    other.base, other.masks = model, EditMasks()
    other.model = apply_edits(model, edited.plan, other.masks)
    return other


@pytest.mark.parametrize("lock", ["local", "global"])
@pytest.mark.parametrize("edit", [CONCEPT, BLEND], ids=["maps", "blend"])
def test_a_concepts_word_in_both_orders_of_the_nodes(model, clip, hugsy, negative, lock, edit):
    stack = (gated(hugsy, bias=0.6, temperature=0.1),)
    speaking = add_words(clip, stack, lock)
    before = Edited(apply_concepts(model, stack, lock), speaking, edit)
    got = check_source(before, negative)
    after = apply_concepts(apply_edits(model, before.plan, EditMasks()), stack, lock)
    assert torch.equal(drawn(after, before.positive, negative, before.latent), got)
    without = drawn(apply_edits(model, before.plan, EditMasks()), before.positive, negative, before.latent)
    assert apart(got[1], without[1]) > 1e-3  # the concept acts
    if edit is CONCEPT:
        assert apart(got, by_maps(before, negative)) <= ROUNDING


def test_the_concept_of_the_global_lock_is_that_of_its_own_prompt(model, clip, hugsy):
    """Only the row with the word carries the superclass encoding; the source's row is its own encoding."""
    from perfusion_pack.nodes.host.text.superclass_encoding import superclass_encoding_of

    edited = Edited(model, add_words(clip, (gated(hugsy),), "global"), CONCEPT)
    encoding, extra = edited.positive[0]
    locked = superclass_encoding_of(encoding, extra)
    assert torch.equal(locked[0], encoding[0]) and not torch.equal(locked[1], encoding[1])


@pytest.mark.parametrize("lock", ["local", "global"])
@pytest.mark.parametrize("form", FORMS)
def test_a_concepts_word_is_in_an_edit_what_it_is_in_its_own_prompt(model, clip, hugsy, negative, form, lock):
    """Measured in its prompt, with its offset; the edit takes nothing of its source."""
    offset = 0.5 * torch.randn(1, 32, generator=torch.Generator().manual_seed(5))
    concept = dataclasses.replace(hugsy, form=form, encoding_offset=offset)
    stack = (gated(concept, bias=0.85, temperature=0.15),)
    speaking, patched = add_words(clip, stack, lock), apply_concepts(model, stack, lock)
    edited = Edited(patched, speaking, PromptEdit("cat -> <hugsy>", cross=(0.0, 0.0), own=(0.0, 0.0), blend=None))
    plain = drawn(patched, encode(speaking, "a photo of a red <hugsy> on the grass"), negative, empty())
    assert apart(edited.draw(negative)[1:], plain) <= ROUNDING


@pytest.mark.parametrize("edit", [SWAP, PromptEdit("a photo of a red cat with a hat", blend=None)])
def test_attention_replacement_of_ipadapters_kind(model, clip, negative, edit):
    edited = Edited(model, clip, edit)
    plain = edited.draw(negative)
    first, last = rebased(edited, image_prompt(1.0)(model)), image_prompt(1.0)(edited.model)
    got = check_source(first, negative)
    assert torch.equal(drawn(last, edited.positive, negative, edited.latent), got)
    assert apart(got[1], plain[1]) > 1e-3  # both act
    assert torch.equal(rebased(edited, image_prompt(0.0)(model)).draw(negative), plain)


def test_maps_of_an_edited_run_are_recorded_in_both_orders(model, clip, negative):
    edited = Edited(model, clip, SWAP)
    plain = edited.draw(negative)
    after, recorded = record_attention(edited.model)
    assert torch.equal(drawn(after, edited.positive, negative, edited.latent), plain)
    assert recorded.record is not None
    before, _ = record_attention(model)
    assert torch.equal(rebased(edited, before).draw(negative), plain)


def test_attention_couple_is_left_alone_with_one_warning(model, clip, negative, caplog):
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4] = 1
    other = encode(clip, "two dogs")[0][0]
    patch = couple([None, other], torch.cat([left, 1 - left]))
    edited = Edited(model, clip, PromptEdit(DOG, own=(0.0, 0.0), blend=None))
    with caplog.at_level(logging.WARNING):
        got = rebased(edited, patch(model)).draw(negative)
    assert torch.equal(got, drawn(patch(model), edited.positive, negative, edited.latent))
    assert caplog.text.count("Another patch of the MODEL") == 1


@pytest.mark.parametrize("patcher", [tiny_model().__class__, LowVramPatcher])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e4m3fn])
def test_low_vram_and_small_weights(clip, negative, patcher, dtype):
    cast = None if dtype == torch.float32 else torch.float32
    model = tiny_model(dtype=dtype, manual_cast_dtype=cast, patcher=patcher)
    edited = Edited(model, clip, SWAP)
    assert apart(check_source(edited, negative), by_maps(edited, negative)) <= ROUNDING


@pytest.mark.parametrize("first", [True, False])
def test_torch_compile(clip, negative, first):
    torch._dynamo.reset()
    model = tiny_model(**ONE_LAYER)
    edited = Edited(model, clip, SWAP)
    expected = edited.draw(negative)
    if first:
        compiled = model.clone()
        set_torch_compile_wrapper(model=compiled, backend="eager")
        compiled = apply_edits(compiled, edited.plan, EditMasks())
    else:
        compiled = edited.model.clone()
        set_torch_compile_wrapper(model=compiled, backend="eager")
    for _ in range(2):
        assert torch.equal(drawn(compiled, edited.positive, negative, edited.latent), expected)
    torch._dynamo.reset()


def conditionings(clip):
    """Ways in which stock nodes change the two prompts: a name, positive and negative to the same."""
    long = encode(clip, "blurry, " + "one two three four five six seven eight nine ten, " * 10)
    other = encode(clip, "a green tree")
    mask = torch.zeros(1, 64, 64)
    mask[:, :32] = 1
    return {
        "a longer negative": lambda p, n: (p, long),
        "areas": lambda p, n: (changed(p, area=(8, 4, 0, 0)) + changed(other, area=(8, 4, 0, 4)), n),
        "masks": lambda p, n: (changed(p, mask=mask, mask_strength=1.0) + other, n),
        "time ranges": lambda p, n: (
            changed(p, start_percent=0.0, end_percent=0.5) + changed(p, start_percent=0.5, end_percent=1.0), n
        ),
        "a prompt beside it": lambda p, n: (other + p, n),
        "deep copies": lambda p, n: (copy.deepcopy(p), copy.deepcopy(n)),
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["a longer negative", "areas", "masks", "time ranges", "a prompt beside it", "deep copies"]
)
def test_what_stock_nodes_make_of_the_prompts(model, clip, negative, name):
    edited = Edited(model, clip, SWAP)
    positive, other = conditionings(clip)[name](edited.positive, negative)
    got = drawn(edited.model, positive, other, edited.latent)
    base = drawn(model, positive, other, edited.latent)
    assert torch.equal(got[0], base[0])
    assert apart(got[1], base[1]) > 1e-4
    assert apart(got[1], got[0]) > 1e-4


def test_without_guidance_and_with_the_halves_apart(model, clip, negative):
    edited = Edited(model, clip, SWAP)
    alone = check_source(edited, negative, cfg=1.0)
    with pytest.MonkeyPatch.context() as patch:
        # as where memory is short: every half in a call of its own
        patch.setattr(model.model.__class__, "memory_required", lambda *_, **__: 1e30)
        assert apart(check_source(edited, negative), edited.draw(negative)) <= ROUNDING
        assert apart(edited.draw(negative, cfg=1.0), alone) <= ROUNDING


def test_two_guidances(model, clip, negative):
    """Of the dual guider the prompt is number 2 of three."""
    edited = Edited(model, clip, SWAP)
    run = DualCFGGuider.execute if hasattr(DualCFGGuider, "execute") else DualCFGGuider().get_guider

    def guided(with_model, first):
        settings = (edited.positive, encode(clip, "a tree"), negative, 3.0, 2.0)  # equal ones cancel the second prompt
        settings = settings if first else (settings[1], settings[0], *settings[2:])
        guider = run(with_model, *settings, *(["regular"] if "style" in run.__code__.co_varnames else []))[0]
        noise = comfy.sample.prepare_noise(edited.latent["samples"], 7, edited.latent["batch_index"])
        sigmas = comfy.samplers.calculate_sigmas(with_model.get_model_object("model_sampling"), "normal", 3)
        return guider.sample(noise, edited.latent["samples"], comfy.samplers.sampler_object("euler"), sigmas, seed=7)

    for first in (True, False):
        got, base = guided(edited.model, first), guided(model, first)
        assert torch.equal(got[0], base[0]) and apart(got[1], base[1]) > 1e-4


def test_a_controlnet(model, clip, negative):
    edited = Edited(model, clip, SWAP)
    hint = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    positive, other = host_nodes.ControlNetApplyAdvanced().apply_controlnet(
        edited.positive, negative, tiny_controlnet(), hint, 1.0, 0.0, 1.0
    )
    got, base = (drawn(m, positive, other, edited.latent) for m in (edited.model, model))
    assert torch.equal(got[0], base[0]) and apart(got[1], base[1]) > 1e-4


def test_inpainting(model, clip, negative):
    mask = torch.zeros(1, 64, 64)
    mask[:, 16:48, 16:48] = 1
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    edited = Edited(model, clip, SWAP, latent={"samples": picture, "noise_mask": mask})
    got = check_source(edited, negative)
    assert apart(got[:, :, 0], picture[:, :, 0].expand(2, -1, -1)) <= ROUNDING


def test_a_second_pass_at_another_size(model, clip, negative):
    edited = Edited(model, clip, PromptEdit(DOG))
    first = edited.draw(negative)
    larger = {**edited.latent, "samples": torch.nn.functional.interpolate(first, scale_factor=2.0)}
    got, base = (drawn(m, edited.positive, negative, larger, denoise=0.6) for m in (edited.model, model))
    assert torch.equal(got[0], base[0]) and apart(got[1], base[1]) > 1e-4
    assert edited.masks.of(got).shape == (2, 16, 16) and edited.masks.of(first).shape == (2, 8, 8)


def test_sdxl(clip):
    model, speaking = tiny_sdxl()
    edited = Edited(model, speaking, SWAP)
    assert (
        apart(check_source(edited, encode(speaking, "blurry")), by_maps(edited, encode(speaking, "blurry"))) < ROUNDING
    )


def test_a_changed_conditioning_or_batch_is_not_edited_and_says_so(model, clip, negative, caplog):
    edited = Edited(model, clip, SWAP)
    longer = [[torch.cat([edited.positive[0][0]] * 2, dim=1), edited.positive[0][1]]]
    for positive, latent in ((longer, edited.latent), (edited.positive, empty(3))):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            got = drawn(edited.model, positive, negative, latent)
        assert torch.equal(got, drawn(model, positive, negative, latent))
        assert "Nothing is edited in this run" in caplog.text
    assert not instance_forwards(model)


def test_models_with_other_attention_are_refused():
    """Transformers can have concepts; their attention is not that of the UNet's blocks."""
    layer = torch.nn.Module()
    for name in ("q_proj", "k_proj", "v_proj", "q_norm", "k_norm"):
        layer.add_module(name, torch.nn.Linear(4, 4))
    layer.n_heads = 1
    model = torch.nn.Module()
    model.cross_attn = layer
    with pytest.raises(PerfusionError, match="UNet of the SD1, SD2 or SDXL family"):
        attention_layers(model)


def test_an_error_leaves_nothing_behind(model, clip, negative):
    edited = Edited(model, clip, SWAP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "group_norm", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            edited.draw(negative)
    assert not instance_forwards(model)
    from torch.overrides import _get_current_function_mode

    assert _get_current_function_mode() is None
    assert torch.equal(edited.draw(negative)[0], edited.unedited(negative)[0])
