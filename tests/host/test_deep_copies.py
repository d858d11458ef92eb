"""copy.deepcopy of a CLIP with concepts: the copy stands for itself, as that of a plain CLIP does."""

import copy
import gc
import weakref

import pytest
import torch
from perfusion_pack.nodes.host.text.superclass_encoding import CONDITIONING_KEY
from perfusion_pack.nodes.host.text.words import add_words
from tiny_models import encode, fill, gated, make_concept, tiny_clip, tiny_model, tiny_sdxl_clip

PROMPT = "a photo of (<hugsy>:1.2) in the snow"


@pytest.fixture(scope="module", params=[(tiny_clip, 32), (tiny_sdxl_clip, 80)], ids=["SD1", "SDXL"])
def family(request):
    make, width = request.param
    return make, make_concept(tiny_model(context_dim=width), make())


def same(one, other):
    return torch.equal(one[0][0], other[0][0]) and torch.equal(
        one[0][1][CONDITIONING_KEY], other[0][1][CONDITIONING_KEY]
    )


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("model_first", [False, True])
def test_the_copy_works_when_the_original_is_gone(family, loaded, model_first):
    make, concept = family
    plain = make()
    original = add_words(plain, (gated(concept),), "global")
    if model_first:  # in which order its parts are copied is up to the CLIP
        original.cond_stage_model = vars(original).pop("cond_stage_model")
        original.__dict__ = {"cond_stage_model": original.cond_stage_model, **vars(original)}
    expected = encode(add_words(make(), (gated(concept),), "global"), PROMPT)
    if loaded:
        encode(original, PROMPT)
    copied = copy.deepcopy(original)
    gone = weakref.ref(original.patcher)
    assert copied.patcher.model is copied.cond_stage_model is not plain.cond_stage_model
    fill(plain.cond_stage_model, 9)  # a copy that still asked the original would notice
    del plain, original
    gc.collect()
    assert gone() is None or loaded  # a loaded one may be in the host's list still
    assert same(encode(copied, PROMPT), expected)
    assert same(encode(copied.clone(), PROMPT), expected)
    assert same(encode(copy.deepcopy(copied), PROMPT), expected)


def test_the_original_does_not_notice(family):
    make, concept = family
    original = add_words(make(), (gated(concept),), "global")
    before = encode(original, PROMPT)
    copied = copy.deepcopy(original)
    fill(copied.cond_stage_model, 9)
    assert not same(encode(copied, PROMPT), before)
    assert same(encode(original, PROMPT), before)
