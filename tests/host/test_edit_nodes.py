"""The nodes of editing: what they take, what they give, and what they say of mistakes."""

import copy

import pytest
import torch
from edits import drawn, empty
from perfusion_pack.nodes.describe_edit import DescribeEdit
from perfusion_pack.nodes.edit_mask import EditMask
from perfusion_pack.nodes.edit_prompt import EditPrompt
from perfusion_pack.nodes.host.editing.edited_prompts import plan_edits, prompt_tokens
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.prompt_edit import LocalBlend, PromptEdit, WordSetting
from perfusion_pack.perfusion_core.token_alignment import BEGIN, END, PADDING
from tiny_models import encode, gated, make_concept, tiny_sdxl

SOURCE = "a photo of a red cat on the grass"
DESCRIBED = {"text": "", "cross_end": 0.4, "self_end": 0.4, "words": "", "changes": "at the words", "blend_words": ""}


def described(**inputs):
    return DescribeEdit.execute(**{**DESCRIBED, **inputs})[0]


def outputs(model, clip, latent=None, text=SOURCE, **inputs):
    node = EditPrompt.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    return node.execute(**{"model": model, "clip": clip, "latent": latent or empty(), "text": text, **inputs}).args


def test_one_node_replaces_a_word_by_a_concepts(model, clip, hugsy):
    """The first use: a MODEL, a CLIP that knows the word, and one line."""
    speaking = add_words(clip, (gated(hugsy),))
    edited, positive, latent = outputs(model, speaking, edit="cat -> <hugsy>")
    alone = encode(speaking, SOURCE)[0][0], encode(speaking, SOURCE.replace("cat", "<hugsy>"))[0][0]
    assert torch.equal(positive[0][0], torch.cat(alone))
    assert latent["samples"].shape == (2, 4, 8, 8) and latent["batch_index"] == [0, 0]
    got = drawn(edited, positive, encode(clip, ""), latent)
    masks = EditMask.execute(latent={**latent, "samples": got})[0]
    assert masks.shape == (2, 8, 8) and not masks[0].any() and masks[1].any()


def test_edits_of_all_inputs_are_rows_in_their_order(model, clip):
    edits = {"edit0": described(text="cat -> dog"), "edit1": described(words="cat = 2")}
    _, positive, latent = outputs(model, clip, edit="red -> blue", edits=edits)
    texts = [SOURCE, "a photo of a blue cat on the grass", "a photo of a red dog on the grass", SOURCE]
    assert torch.equal(positive[0][0], torch.cat([encode(clip, text)[0][0] for text in texts]))
    assert len(latent["samples"]) == 4
    _, positive, latent = outputs(model, clip)
    assert len(positive[0][0]) == len(latent["samples"]) == 1  # no edit: the source alone


def test_latents_keep_their_masks_and_their_noise(model, clip):
    mask = torch.rand(3, 64, 64)
    latent = {"samples": torch.randn(3, 4, 8, 8), "noise_mask": mask, "batch_index": [4, 2, 9], "other": 1}
    made = outputs(model, clip, latent, edit="cat -> dog")[2]
    assert made["batch_index"] == [4, 4, 2, 2, 9, 9] and made["other"] == 1
    assert torch.equal(made["samples"], latent["samples"].repeat_interleave(2, 0))
    assert torch.equal(made["noise_mask"], mask.repeat_interleave(2, 0))
    assert set(latent) == {"samples", "noise_mask", "batch_index", "other"} and len(latent["samples"]) == 3
    single = outputs(model, clip, {**latent, "noise_mask": mask[:1]}, edit="cat -> dog")[2]
    assert torch.equal(single["noise_mask"], mask[:1].expand(6, -1, -1))


def test_an_edit_is_what_its_inputs_say():
    assert described() == PromptEdit()
    assert described(changes="everywhere").blend is None
    asked = described(
        text="a -> b", words="hat = 2; cat = -1, 0, 0.5", changes="around the words", blend_words="cat, hat",
        cross_start=0.1, cross_end=0.3, self_start=0.2, self_end=0.6, blend_start=0.0, blend_end=0.7, threshold=0.8,
        softness=0.1,
    )  # fmt: skip
    assert asked == PromptEdit(
        "a -> b", (0.1, 0.3), (0.2, 0.6), (WordSetting("hat", 2.0), WordSetting("cat", -1.0, (0.0, 0.5))),
        LocalBlend(("cat", "hat"), True, 0.8, 0.1, (0.0, 0.7)),
    )  # fmt: skip


def test_the_defaults_of_the_inputs_are_those_of_the_code():
    defaults = {one.id: one.default for one in DescribeEdit.GET_SCHEMA().inputs}
    edit, blend = PromptEdit(), LocalBlend()
    assert (defaults["cross_start"], defaults["cross_end"]) == edit.cross
    assert (defaults["self_start"], defaults["self_end"]) == edit.own
    assert (defaults["blend_start"], defaults["blend_end"]) == blend.window
    assert (defaults["threshold"], defaults["softness"]) == (blend.threshold, blend.softness)


def test_mistakes_are_said_in_one_sentence(model, clip):
    wrong = {
        "before ->": {"edit": "dog -> cat"},
        "'hat' is not in": {"edits": {"edit0": described(words="hat = 2")}},
        "'tree' is not in": {"edits": {"edit0": described(blend_words="tree")}},
        "real_picture is on": {"edit": "cat -> dog", "real_picture": True},
        "latents of pictures": {"edit": "cat -> dog", "latent": {"samples": torch.zeros(1, 16, 3, 8, 8)}},
        "PERFUSION_EDIT from a wire": {"edits": {"edit0": "cat -> dog"}, "edits.edit0": "cat -> dog"},
    }
    for said, inputs in wrong.items():
        with pytest.raises(PerfusionError, match=said):
            outputs(model, clip, **inputs)
    with pytest.raises(PerfusionError, match="none of Edit with Prompt-to-Prompt"):
        EditMask.execute(latent=empty())


def test_masks_are_those_of_the_run_that_made_the_latents(model, clip):
    negative = encode(clip, "")
    edited, positive, latent = outputs(model, clip, edit="cat -> dog")
    one, other = (drawn(edited, positive, negative, latent, seed=seed) for seed in (1, 2))
    first, second = (EditMask.execute(latent={**latent, "samples": made})[0] for made in (one, other))
    assert not torch.equal(first, second)
    half = EditMask.execute(latent=copy.deepcopy({**latent, "samples": one.half()}))[0]
    assert torch.equal(half, first)
    with pytest.raises(PerfusionError, match="changed since"):
        EditMask.execute(latent={**latent, "samples": one.flip(-1)})


def test_tokens_are_those_of_the_encoding(clip, model):
    tokens = prompt_tokens(clip, "a (red:1.3) cat")
    assert len(tokens) == 77 and tokens[0] == BEGIN and tokens[4] == END and set(tokens[5:]) == {PADDING}
    assert tokens == prompt_tokens(clip, "a red cat")
    long = prompt_tokens(clip, "cat " * 100)
    assert len(long) == 154 and long.count(BEGIN) == long.count(END) == 2 and long.count(tokens[3]) == 100
    concept = make_concept(model, clip, "<twin>")
    again = prompt_tokens(add_words(clip, (gated(concept),)), "a <twin> and a <twin>")
    assert again[2] == again[5] and again[2][0] == "<twin>"
    _, speaking = tiny_sdxl()
    assert prompt_tokens(speaking, "a red cat") == tokens


def test_words_that_say_no_place_are_left_out_of_the_automatic_blend(clip):
    plan, _ = plan_edits(clip, "a photo of a cat", [PromptEdit("a photo of a cat with a hat"), PromptEdit("")])
    with_hat, same = plan.edits
    tokens = prompt_tokens(clip, "a photo of a cat with a hat")
    (words,) = with_hat.edited_words
    assert words.nonzero().flatten().tolist() == [tokens.index(prompt_tokens(clip, "hat")[1])]
    assert not with_hat.source_words and same.blend is None
    named, _ = plan_edits(clip, "a cat", [PromptEdit("a cat, a hat", blend=LocalBlend(("cat", "hat")))])
    assert len(named.edits[0].source_words) == 1 and len(named.edits[0].edited_words) == 2
