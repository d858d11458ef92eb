"""Recorded attention maps: the picture stays the same bit for bit, and the maps are those that the layers used."""

import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_extras import nodes_custom_sampler, nodes_perpneg
from perfusion_pack.nodes.attention_picture import WordMaps, at_point, attention_picture, attention_text
from perfusion_pack.nodes.host.attention.chosen_words import LayerChoice, asked_for, maps_of, words_of_run
from perfusion_pack.nodes.host.attention.recording import progress_of, record_attention
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.prompt_notes import PromptNotes, pass_on_notes, take_notes
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.record_attention import RecordAttention
from perfusion_pack.nodes.show_attention import ShowAttention
from perfusion_pack.perfusion_core.errors import PerfusionError
from test_coexistence_attention import INSIDE, couple, image_prompt
from tiny_models import changed, encode, gated, instance_forwards, sample

PROMPT = "a <hugsy> beside a red <cuppy> on the grass"
SHOW = ShowAttention.PREPARE_CLASS_CLONE({"hidden_inputs": {}})


class Scene:
    """A MODEL with concepts that knows the words of its prompts, and these."""

    def __init__(self, model, clip, hugsy, cuppy):
        stack = (gated(hugsy, bias=0.5), gated(cuppy))
        notes = PromptNotes(["<hugsy>", "<cuppy>"])
        self.base, self.stack, self.notes = model, stack, notes
        self.clip = add_words(clip, stack)
        take_notes(self.clip, notes)
        self.model = apply_concepts(model, stack)
        pass_on_notes(self.model, notes)
        self.positive, self.negative = encode(self.clip, PROMPT), encode(self.clip, "blurry")

    def drawn(self, model, **settings):
        return sample(model, self.positive, self.negative, steps=2, **settings)


@pytest.fixture(scope="module")
def scene(model, clip, hugsy, cuppy):
    return Scene(model, clip, hugsy, cuppy)


def assert_recorded(recorded, pictures=1, words=("<hugsy>", "grass")):
    """There are maps of every place and picture, and they are shares of attention."""
    assert recorded.record is not None and recorded.record.pictures == pictures
    assert recorded.record.scales() == [1, 2]
    for word in words:
        maps = maps_of(recorded, word, LayerChoice())
        assert maps.shape[0] == pictures and 0 < maps.min() and maps.max() < 1, word


@pytest.mark.slow
@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_every_sampler_paints_the_same_picture(scene, sampler):
    recording, recorded = record_attention(scene.model)
    assert torch.equal(scene.drawn(recording, sampler=sampler), scene.drawn(scene.model, sampler=sampler))
    assert_recorded(recorded)
    assert not instance_forwards(scene.base)


def areas(scene):
    left = changed(encode(scene.clip, "a <hugsy>"), area=(8, 8, 0, 0), strength=1.0)
    right = changed(encode(scene.clip, "the grass"), area=(8, 8, 0, 8), strength=1.0)
    return scene.positive + left + right


def masked(scene):
    mask = torch.zeros(1, 16, 16)
    mask[..., :8] = 1
    return changed(scene.positive, mask=mask, mask_strength=1.0, set_area_to_bounds=False)


CONDITIONINGS = {
    "two prompts": lambda scene: scene.positive + encode(scene.clip, "grass"),
    "areas": areas,
    "mask": masked,
    "time ranges": lambda scene: (
        changed(scene.positive, start_percent=0.0, end_percent=0.5)
        + changed(encode(scene.clip, "a <hugsy> on grass"), start_percent=0.5, end_percent=1.0)
    ),
    "a long prompt": lambda scene: encode(scene.clip, "stone " * 90 + "<hugsy> grass"),
    "weights": lambda scene: encode(scene.clip, "a (<hugsy>:1.3) on (grass:0.7)"),
}


@pytest.mark.parametrize("settings", [{}, {"cfg": 1.0}, {"batch": 3}, {"denoise": 0.6}], ids=repr)
@pytest.mark.parametrize("name", ["plain", *CONDITIONINGS])
def test_every_conditioning_paints_the_same_picture(scene, name, settings):
    positive = scene.positive if name == "plain" else CONDITIONINGS[name](scene)
    recording, recorded = record_attention(scene.model)
    settings = {"steps": 2, "size": 16, **settings}
    expected = sample(scene.model, positive, scene.negative, **settings)
    assert torch.equal(sample(recording, positive, scene.negative, **settings), expected)
    assert_recorded(recorded, settings.get("batch", 1))


def guided(make, model, scene):
    """Latents by a custom guider of the host."""
    guider = make(model, scene)
    latent = torch.zeros(1, 4, 8, 8)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", 3)
    noise = comfy.sample.prepare_noise(latent, 5)
    return guider.sample(noise, latent, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=5)


def basic(model, scene):
    guider = nodes_custom_sampler.Guider_Basic(model)
    guider.set_conds(scene.positive)
    return guider


def dual(model, scene):
    guider = nodes_custom_sampler.Guider_DualCFG(model)
    guider.set_conds(scene.positive, encode(scene.clip, "<cuppy>"), scene.negative)
    guider.set_cfg(3.0, 2.0)
    return guider


def perp_negative(model, scene):
    guider = nodes_perpneg.Guider_PerpNeg(model)
    guider.set_conds(scene.positive, scene.negative, encode(scene.clip, ""))
    guider.set_cfg(3.0, 1.0)
    return guider


@pytest.mark.parametrize("make", [basic, dual, perp_negative])
def test_every_guider_paints_the_same_picture(scene, make):
    recording, recorded = record_attention(scene.model)
    assert torch.equal(guided(make, recording, scene), guided(make, scene.model, scene))
    assert_recorded(recorded)
    assert "blurry" not in words_of_run(recorded), "a negative prompt is not watched"


def partners(scene):
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4] = 1
    other = encode(scene.clip, "two <cuppy>")[0][0]
    return {
        "IPAdapter's kind": image_prompt(1.0),
        "attention couple": couple([None, other], torch.cat([left, 1 - left])),
        "FreeU": INSIDE["FreeU"][0].patch,
        "PAG": INSIDE["perturbed-attention guidance"][0].patch,
    }


@pytest.mark.parametrize("name", ["IPAdapter's kind", "attention couple", "FreeU", "PAG"])
def test_beside_other_patches_of_attention_in_any_order(scene, name, caplog):
    patch = partners(scene)[name]
    expected = scene.drawn(patch(scene.model))
    records = []
    for order in (
        lambda: record_attention(patch(scene.model)),
        lambda: (lambda made: (patch(made[0]), made[1]))(record_attention(scene.model)),
        lambda: (lambda made: (patch(apply_concepts(made[0], scene.stack)), made[1]))(noted_record(scene)),
    ):
        recording, recorded = order()
        assert torch.equal(scene.drawn(recording), expected)
        records.append(recorded)
    if name == "attention couple":
        assert "Attention maps leave out layers" in caplog.text, "its rows are those of regions"
    else:
        maps = [maps_of(recorded, "<hugsy>", LayerChoice()) for recorded in records]
        torch.testing.assert_close(maps[0], maps[1], atol=0, rtol=0)
        torch.testing.assert_close(maps[0], maps[2], atol=0, rtol=0)


def noted_record(scene):
    """Recorded before the concepts are put on."""
    base = scene.base.clone()
    pass_on_notes(base, scene.notes)
    return record_attention(base)


def test_the_maps_are_those_of_the_layers(scene):
    """Queries and keys as every layer's attention got them, with the concepts, in a slot of the host's own."""
    seen = []

    def watched(q, k, v, extra_options):
        heads = extra_options["n_heads"]
        positive = [row for row, kind in enumerate(extra_options["cond_or_uncond"]) if kind == 0]
        split = [t.unflatten(-1, (heads, -1)).transpose(1, 2).double() for t in (q[positive], k[positive])]
        logits = split[0] @ split[1].transpose(-1, -2) / split[0].shape[-1] ** 0.5
        seen.append(logits.softmax(-1).mean(1))
        return comfy.ldm.modules.attention.optimized_attention(q, k, v, heads)

    recording, recorded = record_attention(scene.model)
    for block in ("input", 1), ("input", 3), ("middle", 0), *(("output", n) for n in range(4)):
        recording.set_model_attn2_replace(watched, *block)
    scene.drawn(recording)
    sums, counts = {}, {}
    for key, one in recorded.record._sums.items():
        sums[key.positions] = sums.get(key.positions, 0) + one.maps
        counts[key.positions] = counts.get(key.positions, 0) + one.count
    assert sum(counts.values()) == len(seen) == 2 * 7
    for positions, found in sums.items():
        expected = sum(shares for shares in seen if shares.shape[1] == positions)
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


def test_words_and_layers_are_chosen_afterwards(scene):
    recording, recorded = record_attention(scene.model)
    scene.drawn(recording, batch=2)
    assert words_of_run(recorded) == ["a", "<hugsy>", "beside", "red", "<cuppy>", "on", "the", "grass"]
    assert asked_for(recorded, "") == ["<hugsy>", "<cuppy>", "beside", "red", "grass"]
    assert asked_for(recorded, " GRASS, red  <cuppy>,") == ["grass", "red <cuppy>"]
    whole = maps_of(recorded, "red <cuppy>", LayerChoice())
    parts = maps_of(recorded, "red", LayerChoice()) + maps_of(recorded, "<cuppy>", LayerChoice())
    torch.testing.assert_close(whole, parts)
    every = maps_of(recorded, "grass", LayerChoice())
    first, last = (maps_of(recorded, "grass", LayerChoice((), *part)) for part in ((0.0, 0.5), (0.5, 1.0)))
    torch.testing.assert_close(every, (first + last) / 2)
    assert not torch.equal(first, last)
    with pytest.raises(PerfusionError, match="The input words expected words of the prompts .*but found 'dog'"):
        asked_for(recorded, "grass, dog")


def test_each_run_begins_anew(scene):
    recording, recorded = record_attention(scene.model)
    scene.drawn(recording, batch=2)
    first = maps_of(recorded, "grass", LayerChoice())
    scene.drawn(recording, seed=8)
    assert len(maps_of(recorded, "grass", LayerChoice())) == 1
    scene.drawn(recording, batch=2)
    assert torch.equal(maps_of(recorded, "grass", LayerChoice()), first)


@pytest.mark.slow
@pytest.mark.parametrize("compiled_last", [True, False])
def test_under_torch_compile(scene, compiled_last):
    set_compile = pytest.importorskip("comfy_api.torch_helpers").set_torch_compile_wrapper

    def compiled(model):
        clone = model.clone()
        set_compile(clone, backend="eager")
        return clone

    torch._dynamo.reset()
    expected = scene.drawn(compiled(scene.model))
    if compiled_last:
        recording, recorded = record_attention(scene.model)
        recording = compiled(recording)
    else:
        recording, recorded = record_attention(compiled(scene.model))
    assert torch.equal(scene.drawn(recording), expected)
    assert_recorded(recorded)


def test_the_nodes(scene, model, clip):
    """Also without a concept: the node then needs the CLIP."""
    recording, maps, noting = RecordAttention.execute(model, clip).result
    positive, negative = encode(noting, "a red ball"), encode(noting, "")
    latents = sample(recording, positive, negative, batch=2, steps=2)
    assert torch.equal(latents, sample(model, encode(clip, "a red ball"), encode(clip, ""), batch=2, steps=2))
    pictures = torch.rand(2, 64, 64, 3)
    shown = SHOW.execute(maps, pictures, "", "all", 0.0, 1.0, 0.25, 0.75, "light")
    picture, text = shown.result
    assert shown.ui["images"] and picture.shape[2] == 760
    assert text.startswith("picture 1, at 0.25 across and 0.75 down: ") and len(text.splitlines()) == 2 + 3
    one_layer = SHOW.execute(maps, pictures, "ball", "1/16", 0.0, 1.0, 0.25, 0.75, "light").result[0]
    assert one_layer.shape == picture.shape and not torch.equal(one_layer, picture)
    with pytest.raises(PerfusionError, match=r"The input layers expected maps that this model has \(1/8, 1/16\)"):
        SHOW.execute(maps, pictures, "", "1/64", 0.0, 1.0, 0.5, 0.5, "dark")
    with pytest.raises(PerfusionError, match="The input images expected the 2 pictures of the recorded run"):
        SHOW.execute(maps, pictures[:1], "", "all", 0.0, 1.0, 0.5, 0.5, "dark")


def test_without_a_run_or_words_it_says_so(scene, model, clip):
    recording, maps, none = RecordAttention.execute(model).result
    assert none is None
    rest = (torch.rand(1, 64, 64, 3), "", "all", 0.0, 1.0, 0.5, 0.5, "dark")
    with pytest.raises(PerfusionError, match="none was recorded"):
        SHOW.execute(maps, *rest)
    sample(recording, encode(clip, "a ball"), encode(clip, ""), steps=1)
    with pytest.raises(PerfusionError, match="these were encoded by another CLIP"):
        SHOW.execute(maps, *rest)


def test_the_point_ranks_words_and_heat_lies_where_it_was():
    """Drawn maps: the top left quarter is one word's, the rest another's."""
    corner = torch.zeros(1, 8, 8)
    corner[:, :4, :4] = 0.5
    words = [WordMaps("corner", corner), WordMaps("rest", 0.4 - corner / 2)]
    assert at_point(corner, (0.1, 0.1)) == [0.5] and at_point(corner, (0.9, 0.1)) == [0.0]
    assert "down: corner 50.0%, rest 15.0%" in attention_text(words, (0.1, 0.1)).splitlines()[0]
    assert "down: rest 40.0%, corner 0.0%" in attention_text(words, (0.8, 0.9)).splitlines()[0]
    drawn = attention_picture(torch.full((1, 64, 64, 3), 0.5), words[:1], (0.5, 0.5), "dark")
    tile = 20 + 233 + 10  # left of the second tile
    hot, cold = drawn.getpixel((tile + 40, 20 + 34 + 40)), drawn.getpixel((tile + 200, 20 + 34 + 200))
    assert sum(hot) > sum(cold) + 200


def test_progress_is_counted_by_steps():
    sigmas = torch.tensor([14.0, 7.0, 2.0, 0.5, 0.0])
    found = [progress_of(sigmas, torch.tensor([level])) for level in (14.0, 10.0, 7.0, 2.0, 0.5, 0.1)]
    assert found == [0.0, 0.0, 0.25, 0.5, 0.75, 0.75]
    backwards = progress_of(sigmas.flip(0), torch.tensor([2.0]))
    assert backwards == 0.5 and progress_of(None, sigmas) == 0.0
