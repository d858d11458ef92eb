"""Edits beside their source in one run: what stays as it is, bit for bit, and what changes."""

import logging

import pytest
import torch
from edits import ROUNDING, SOURCE, Edited, apart, drawn, empty
from perfusion_pack.nodes.host.editing.edited_attention import EditCall
from perfusion_pack.perfusion_core.prompt_edit import LocalBlend, PromptEdit, WordSetting
from reference_edits import by_maps
from tiny_models import difference, encode, instance_forwards

DOG = "a photo of a red dog on the grass"
PLAIN = PromptEdit(DOG, blend=None)
EDITS = {
    "swap": PLAIN,
    "swap of other lengths": PromptEdit("a photo of a hippopotamusaurus in the grass", blend=None),
    "insertion": PromptEdit("a photo of a red cat with a hat on the grass", blend=None),
    "deletion": PromptEdit("a photo of a cat", blend=None),
    "weights": PromptEdit(words=(WordSetting("cat", -2.0), WordSetting("grass", 3.0)), blend=None),
    "windows of words": PromptEdit(DOG, words=(WordSetting("dog", 1.5, (0.0, 0.9)),), blend=None),
    "two chunks": PromptEdit(DOG + ", one two three four five six seven eight nine ten" * 8, blend=None),
    "windows that start late": PromptEdit(DOG, cross=(0.3, 0.8), own=(0.5, 1.0), blend=None),
    "no window": PromptEdit(DOG, cross=(0.0, 0.0), own=(0.0, 0.0), blend=None),
}


@pytest.fixture(scope="module")
def negative(clip):
    return encode(clip, "blurry")


@pytest.mark.parametrize("name", EDITS)
def test_the_source_is_bit_equal_to_an_unedited_batch_of_two(model, clip, negative, name):
    edited = Edited(model, clip, EDITS[name])
    got, base = edited.draw(negative), edited.unedited(negative)
    assert torch.equal(got[0], base[0])
    assert torch.equal(got[1], base[1]) == (name == "no window")
    assert not instance_forwards(model)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_what_explicit_maps_make_of_it(model, clip, negative, name):
    edited = Edited(model, clip, EDITS[name])
    assert apart(edited.draw(negative), by_maps(edited, negative)) <= ROUNDING


def test_several_edits_and_pictures_are_each_what_they_are_alone(model, clip, negative):
    edits = [EDITS["swap"], EDITS["insertion"], EDITS["two chunks"]]
    latent = {"samples": torch.zeros(2, 4, 8, 8), "batch_index": [3, 1]}
    together = Edited(model, clip, *edits, latent=latent).draw(negative).unflatten(0, (2, 4))
    for number, index in enumerate((3, 1)):
        for row, edit in enumerate(edits, 1):
            one = {"samples": torch.zeros(1, 4, 8, 8), "batch_index": [index]}
            alone = Edited(model, clip, edit, latent=one).draw(negative)
            assert apart(together[number, 0], alone[0]) <= ROUNDING
            assert apart(together[number, row], alone[1]) <= ROUNDING


def test_a_weight_of_one_is_bit_equal_to_none(model, clip, negative):
    weighed = PromptEdit(DOG, words=(WordSetting("dog", 1.0), WordSetting("grass", 1.0)), blend=None)
    assert torch.equal(Edited(model, clip, weighed).draw(negative), Edited(model, clip, PLAIN).draw(negative))


def test_the_other_half_of_the_guidance_is_not_edited(model, clip, negative):
    seen = []
    original = EditCall.project

    def project(self, place, states):
        result = original(self, place, states)
        if place.attention == "attn1" and place.projection == "to_q":
            seen.append((self.pairs[0], result))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EditCall, "project", project)
        Edited(model, clip, PLAIN).draw(negative, steps=1)
    for (edited, source), result in seen:
        others = [row for row in range(len(result)) if row not in (*edited, *source)]
        assert len(edited) == len(source) == 1 and len(others) == 2
        assert torch.equal(result[edited], result[source])
    assert seen


def test_the_base_stays_untouched_and_other_runs_of_the_model_are_not_edited(model, clip, negative, caplog):
    edited = Edited(model, clip, PLAIN)
    other = encode(clip, SOURCE)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(drawn(edited.model, other, negative, empty(2)), drawn(model, other, negative, empty(2)))
    assert "Nothing is edited in this run" in caplog.text
    edited.draw(negative)
    assert torch.equal(drawn(model, other, negative, empty(2)), drawn(edited.model, other, negative, empty(2)))


def test_a_blend_keeps_the_source_where_the_words_are_not(model, clip, negative):
    blend = LocalBlend(threshold=0.5, softness=0.0, window=(0.0, 1.0))
    inside = Edited(model, clip, PromptEdit(DOG, blend=blend))
    got = inside.draw(negative)
    mask = inside.masks.of(got)
    assert mask.shape == (2, 8, 8) and not mask[0].any()
    assert 0 < mask[1].mean() < 1
    kept = (mask[1] == 0).expand(4, -1, -1)
    assert torch.equal(got[1][kept], got[0][kept])  # a sampler's last step gives what was blended
    assert difference(got[1][~kept], got[0][~kept]) > 0.01
    outside = Edited(model, clip, PromptEdit(DOG, blend=LocalBlend(("dog", "cat"), True, 0.5, 0.0, (0.0, 1.0))))
    result = outside.draw(negative)
    assert 0 < outside.masks.of(result)[1].mean() < 1


def test_a_real_picture_comes_back_exactly_and_its_error_goes_to_the_edits(model, clip, negative):
    picture = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))}
    got = Edited(model, clip, PLAIN, latent=picture, real=()).draw(negative)
    assert difference(got[0], picture["samples"][0]) <= 1e-6
    same = Edited(model, clip, PromptEdit(), latent=picture, real=()).draw(negative)
    assert difference(same[1], picture["samples"][0]) <= 2e-5
    none = Edited(model, clip, PLAIN, latent=picture, real=(0.0,)).draw(negative)
    assert torch.equal(none[0], got[0]) and difference(none[1], got[1]) > 0.01
    short = Edited(model, clip, PLAIN, latent=picture, real=(1.0, 0.5)).draw(negative)
    assert difference(short[1], got[1]) > 0.001 and difference(short[1], none[1]) > 0.001
