"""The trainer on pictures as people have them: lists of several sizes, alpha, captions; and what is checked first."""

from __future__ import annotations

import comfy.model_management
import pytest
import torch
from perfusion_pack.nodes.host.model_family import training_size
from perfusion_pack.nodes.host.node_text import for_the_front_end
from perfusion_pack.nodes.host.progress import NodeProgress
from perfusion_pack.nodes.host.text import statistics as text_statistics
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.size_hints import size_hints
from perfusion_pack.nodes.train_concept import TrainConcept
from perfusion_pack.nodes.training_settings import AS_STANDARD, DEFAULTS, SETTING_OF
from perfusion_pack.perfusion_core.captions import built_in_captions
from perfusion_pack.perfusion_core.concept_file import load_concept
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.picture_fitting import Fit
from tiny_models import tiny_clip, tiny_model, tiny_sdxl, tiny_sdxl_clip
from training_inputs import TRIES, run_node

Interrupted = comfy.model_management.InterruptProcessingException
SIZES = [(64, 64), (120, 70), (64, 128), (300, 80)]  # height, width


@pytest.fixture
def mixed() -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(8)
    return [torch.rand(1, *size, 3, generator=draw) for size in SIZES]


@pytest.mark.parametrize("superclass", ["ted\u200bdy", "plush " * 40])
def test_a_superclass_that_no_file_could_hold_is_refused_where_it_is_typed(superclass):
    assert "all of which can be seen" in TrainConcept.validate_inputs(superclass)
    assert TrainConcept.validate_inputs(" teddy \n bear ") is True, "blanks are made one"


@pytest.fixture
def texts(monkeypatch) -> list[str]:
    said, original = [], NodeProgress.say
    monkeypatch.setattr(NodeProgress, "say", lambda self, text: said.append(text) or original(self, text))
    return said


@pytest.fixture
def results(monkeypatch) -> list:
    found, original = [], TrainingJob.train
    monkeypatch.setattr(TrainingJob, "train", lambda job: found.append(original(job)) or found[-1])
    return found


def as_lists(inputs, **changes) -> dict:
    """Every input as the host passes it to a node that takes lists."""
    return {name: value if isinstance(value, list) else [value] for name, value in {**inputs, **changes}.items()}


@pytest.mark.parametrize("automatic_mask", [True, False])
def test_a_list_of_several_sizes_is_one_training(inputs, folder, results, texts, mixed, automatic_mask):
    run_node(inputs, images=mixed, masks=None, resolution=128, samples=1, automatic_mask=[automatic_mask])
    (result,) = results
    assert result.concept.training["pictures"] == 4
    assert [path.name for path in folder.glob("*.safetensors")] == ["hugsy.safetensors"]
    if automatic_mask:  # of latents: a square, two portraits and a landscape at steps of 64 pixels
        assert [tuple(mask.shape) for mask in result.masks] == [(1, 16, 16), (1, 16, 8), (1, 8, 16), (1, 32, 8)]
    else:
        assert result.masks is None
    assert texts[0].startswith("4 steps of 2 · <hugsy>, a teddy · 4 pictures: ") and "enlarged" in texts[0]


def test_lists_and_a_batch_of_equal_pictures_train_the_same(inputs, folder):
    def trained(name, **changes):
        run_node(inputs, file_name=name, **changes)
        return (folder / f"{name}.safetensors").read_bytes()

    batch = trained("batch")
    pictures, masks = list(inputs.images), list(inputs.masks)
    assert trained("list", images=[picture[None] for picture in pictures], masks=masks) == batch
    assert trained("nested", images=[[pictures[0]], torch.stack(pictures[1:])], masks=[masks]) == batch
    lists = {"model": [inputs.model], "seed": [0], "steps": [4], "word": ["<hugsy>"] * 3}
    assert trained("listed", **lists) == batch


def test_a_training_of_several_sizes_resumes_bit_for_bit(inputs, folder, mixed, monkeypatch):
    options = {"images": mixed, "masks": None, "resolution": 128, "steps": 6}
    run_node(inputs, file_name="straight", **options)
    original, calls = HostDenoisingTask.loss, []

    def loss(self, *args):
        calls.append(1)
        if len(calls) == TRIES + 9:
            raise Interrupted
        return original(self, *args)

    monkeypatch.setattr(HostDenoisingTask, "loss", loss)
    with pytest.raises(Interrupted):
        run_node(inputs, **options)
    run_node(inputs, resume=True, **options)
    assert (folder / "hugsy.safetensors").read_bytes() == (folder / "straight.safetensors").read_bytes()
    with pytest.raises(PerfusionError, match="another pictures"):
        monkeypatch.setattr(HostDenoisingTask, "loss", lambda *_: (_ for _ in ()).throw(Interrupted()))
        folder.joinpath("other.training_state").write_bytes(unfinished(folder))
        folder.joinpath("other.safetensors").write_bytes((folder / "hugsy.safetensors").read_bytes())
        run_node(inputs, file_name="other", resume=True, **{**options, "resolution": 64})


def unfinished(folder) -> bytes:
    """The state of the folder's training as one that was not finished."""
    from dataclasses import replace

    from perfusion_pack.perfusion_core.training_state_file import load_training, save_training

    kept = load_training(folder / "hugsy.training_state")
    save_training(folder / "unfinished.training_state", replace(kept, finished=False))
    return (folder / "unfinished.training_state").read_bytes()


def test_alpha_is_the_mask_of_the_pictures_that_have_one(inputs, folder, results):
    images = torch.cat([inputs.images, torch.ones(3, 64, 64, 1)], dim=-1)
    images[1, :, 32:, 3] = 0.0
    run_node(inputs, images=images, masks=None, steps=1)
    assert load_concept(folder / "hugsy.safetensors").training["masks"] == "given and attention"
    masks = results[0].masks
    assert torch.equal(masks[1, 0], (torch.arange(8) < 4).float().expand(8, 8))
    run_node(inputs, images=images, masks=None, steps=1, automatic_mask=False)
    assert torch.equal(results[1].masks[0], torch.ones(1, 8, 8)) and torch.equal(results[1].masks[1], masks[1])
    run_node(inputs, images=images, masks=inputs.masks, steps=1)
    assert results[2].concept.training["masks"] == "given"


def test_captions_take_the_place_of_the_templates(inputs, folder, results, monkeypatch):
    used, original = [], HostDenoisingTask.encode

    def encode(self, vectors, templates):
        used.append(list(templates))
        return original(self, vectors, templates)

    monkeypatch.setattr(HostDenoisingTask, "encode", encode)
    captions = "<hugsy> on a red sofa\nan old {} and {} at night\n{} {in braces}"
    run_node(inputs, captions=[captions], validate_every=2)
    expected = {"{0} on a red sofa", "an old {0} and {0} at night", "{0} {{in braces}}"}
    steps = {text for texts in used for text in texts if len(texts) <= 3}
    assert steps == expected
    used.clear()
    run_node(inputs, captions=["{} on a red sofa", "", ""], file_name="some")
    assert {"{0} on a red sofa"} < {text for texts in used for text in texts if len(texts) <= 3}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"captions": "a {}\na {}"}, "one caption for each of the 3 pictures"),
        ({"captions": "a {}\na teddy\n{}"}, "caption of picture 2 needs the word <hugsy>"),
        ({"captions": ["{} " + "and a long story " * 40, "{}", "{}"]}, "caption of picture 1 is longer"),
        ({"images": torch.rand(1, 64, 64, 2)}, "1, 3 or 4 channels"),
        ({"images": torch.full((1, 64, 64, 3), float("inf"))}, "not finite"),
        ({"masks": torch.ones(2, 64, 64)}, "3 pictures or one for all, but got 2"),
        ({"masks": torch.ones(3, 64, 64, 3)}, "use Convert Image to Mask"),
        ({"resolution": 100}, "multiple of 64 from 64 on, but it is 100; use 128"),
        ({"seed": [1, 2]}, "input seed takes one value"),
        ({"superclass": "  "}, "superclass must be a plain word"),
        ({"word": "two words"}, "word of a concept must be"),
        ({"file_name": "a/b"}, "name of a concept file must be"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_long(inputs, folder, monkeypatch, changes, said):
    monkeypatch.setattr(text_statistics, "measure_statistics", lambda *_: pytest.fail("statistics were measured"))
    monkeypatch.setattr(inputs.vae, "encode", lambda *_: pytest.fail("pictures were encoded"))
    with pytest.raises(PerfusionError, match=said) as caught:
        run_node(inputs, **{"statistics": None, **changes})
    assert "\n" not in str(caught.value)


def test_a_clip_of_another_family_is_blamed_before_statistics_are_measured(inputs, folder, monkeypatch):
    monkeypatch.setattr(text_statistics, "measure_statistics", lambda *_: pytest.fail("statistics were measured"))
    with pytest.raises(
        PerfusionError, match="^The clip input was expected to give encodings of width 32.*give width 80"
    ):
        run_node(inputs, clip=tiny_sdxl_clip(), statistics=None)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"superclass": [""]}, "superclass must be a plain word"),
        ({"superclass": "  "}, "superclass must be a plain word"),
        ({"superclass": [None]}, None),  # linked
        ({}, None),
        ({"superclass": "teddy"}, None),
    ],
)
def test_an_empty_superclass_is_told_at_validation(given, said):
    found = TrainConcept.validate_inputs(**given)
    assert found is True if said is None else said in found


def test_statistics_of_another_clip_are_refused_before_anything_is_loaded(inputs, folder, monkeypatch):
    monkeypatch.setattr(TrainingJob, "train", lambda job: pytest.fail("the training began"))
    with torch.inference_mode():
        other = text_statistics.measure_statistics(
            tiny_clip(width=48), built_in_captions(100), lambda done, total: None
        )
    with pytest.raises(PerfusionError, match="encodings of width 32.*but it is of width 48; connect this clip"):
        run_node(inputs._replace(statistics=other))


def test_the_line_is_silent_about_inputs_that_nobody_changed(inputs, folder, texts, monkeypatch):
    """Though the preset has another form than the input starts with."""
    monkeypatch.setattr(TrainingJob, "train", lambda job: (_ for _ in ()).throw(Interrupted()))
    untouched = {name: getattr(DEFAULTS, setting) for name, setting in SETTING_OF.items()}
    for changed, told in (({}, False), ({"form": AS_STANDARD}, False), ({"form": "paper"}, True)):
        texts.clear()
        with pytest.raises(Interrupted):
            run_node(inputs, preset="Standard", **untouched | changed)
        assert ("for Custom only: form" in texts[0]) == told


def test_the_line_says_which_rates_of_custom_do_nothing(inputs, folder, texts, monkeypatch):
    monkeypatch.setattr(TrainingJob, "train", lambda job: (_ for _ in ()).throw(Interrupted()))
    changed = {"value_learning_rate": 0.05}
    for custom, told in (({}, False), (changed, True), ({**changed, "form": "unlocked"}, False)):
        texts.clear()
        with pytest.raises(Interrupted):
            run_node(inputs, preset="Custom", **{"form": AS_STANDARD, **custom})
        assert ("the relative rates count, not value_learning_rate" in texts[0]) == told


def test_the_line_says_what_the_preset_overrides(inputs, folder, texts, monkeypatch):
    monkeypatch.setattr(TrainingJob, "train", lambda job: (_ for _ in ()).throw(Interrupted()))
    for preset, expected in (("Standard", True), ("Custom", False)):
        texts.clear()
        with pytest.raises(Interrupted):
            run_node(inputs, preset=preset, steps=30, relative_value_rate=0.0, relative_word_rate=0.2)
        assert ("preset Standard; for Custom only: steps" in texts[0]) == expected
        assert ("relative_word_rate" in texts[0]) == expected and "relative_value_rate" not in texts[0]
        assert texts[0].startswith("300 steps of 8 · ") == expected


def test_what_was_kept_and_what_came_of_it_are_said(inputs, folder, texts, monkeypatch):
    run_node(inputs, samples=1)
    assert texts[-2] == "painting 1 sample"
    assert texts[-1].startswith("hugsy.safetensors: step ") and " of 4, effect " in texts[-1]
    texts.clear()
    pressed = []

    def cancel():
        if texts[-1].startswith("step 3 ") and not pressed:
            pressed.append(1)
            raise Interrupted

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", cancel)
    with pytest.raises(Interrupted):
        run_node(inputs, file_name="stopped")
    assert texts[-1] == "kept at step 3 of 4: queue again with resume"


def test_the_report_is_the_last_picture_in_the_node(inputs, folder, monkeypatch):
    """As a preview: an output would stand beside the last preview, which the front end shows in its place."""
    shown, original = [], NodeProgress.show

    def show(self, done, text="", preview=None):
        shown.append((done, preview))
        return original(self, done, text, preview)

    monkeypatch.setattr(NodeProgress, "show", show)
    report = run_node(inputs, samples=1)[2]
    done, last = shown[-1]
    assert done == 4 and (last.height, last.width) == tuple(report.shape[1:3])


def test_texts_are_broken_between_words_and_hold_no_tags():
    text = for_the_front_end("step 115 of 300 · 2 min 44 s left · loss 0.400 · gate 0.91 · best step 25 · <hugsy>")
    assert text.split("\n") == [
        "step 115 of 300 · 2 min 44 s left ·",
        "loss 0.400 · gate 0.91 · best step 25 ·",
        "&lt;hugsy&gt;",
    ]
    assert for_the_front_end("measuring " * 9).split("\n") == ["measuring measuring measuring"] * 3


def test_the_node_ends_a_graph_and_takes_lists():
    schema = TrainConcept.GET_SCHEMA()
    assert schema.is_output_node and schema.is_input_list


def test_size_hints_tell_where_the_cut_is_and_mirror_it():
    fit = Fit((4000, 3000), (1194, 896), 30, 0, (1152, 896))
    assert size_hints(fit) == {
        "width": 4000, "height": 3000, "crop_w": 30, "crop_h": 0, "target_width": 1152, "target_height": 896,
    }  # fmt: skip
    assert size_hints(fit, mirrored=True)["crop_w"] == 1194 - 1152 - 30


@pytest.mark.parametrize("encoders, family_size", [(["clip_l"], (512, 64)), (["clip_h"], (512, 64))])
def test_the_resolution_is_that_of_the_family(encoders, family_size):
    assert training_size(tiny_model(), encoders) == family_size


def test_the_demo_model_takes_squares_alone_of_whole_pictures():
    from perfusion_pack.demo.load import load_demo_model
    from perfusion_pack.nodes.host.text.encoders import text_encoders
    from perfusion_pack.perfusion_core.picture_fitting import fit_picture

    model, clip, _ = load_demo_model()
    size = training_size(model, text_encoders(clip))
    assert size == (128, 128)
    fits = [fit_picture(*shape, *size) for shape in ((4000, 3000), (300, 900), (128, 128), (50, 60))]
    assert {fit.size for fit in fits} == {(128, 128)} and [max(fit.scaled) for fit in fits] == [128] * 4


def test_sdxl_has_1024_and_v_models_of_sd2_have_768():
    import comfy.model_base

    model = tiny_model()
    assert training_size(model, ["clip_g", "clip_l"]) == training_size(model, ["clip_g"]) == (1024, 64)
    model.model.model_type = comfy.model_base.ModelType.V_PREDICTION
    assert training_size(model, ["clip_h"]) == (768, 64) and training_size(model, ["clip_l"]) == (512, 64)


def test_sdxl_is_told_the_size_of_each_sample(inputs):
    """As the host's own CLIPTextEncodeSDXL would tell it."""
    model, clip = tiny_sdxl()
    base = model.model
    fits = [Fit((64, 64), (64, 64), 0, 0, (64, 64)), Fit((400, 300), (86, 64), 9, 0, (64, 64))]
    seen = []
    base.diffusion_model.register_forward_pre_hook(lambda *a: seen.append(a[2]["y"]), with_kwargs=True)
    with torch.inference_mode(False):
        vectors = encode_superclass_vectors(clip, "teddy")
        task = HostDenoisingTask(model, clip, torch.randn(2, 4, 8, 8), None, "<hugsy>", vectors, fits)
        with task, torch.no_grad():
            encoding, _ = task.encode(vectors, ["a {}"])
            hints = [size_hints(fits[0]), size_hints(fits[1], mirrored=True)]
            noisy, sigma = torch.randn(2, 4, 8, 8), torch.ones(2)
            task.predict(noisy, sigma, encoding.expand(2, -1, -1), hints)
            task.predict(noisy, sigma, encoding.expand(2, -1, -1), [hints[0]] * 2)
            task.predict(noisy, sigma, encoding.expand(2, -1, -1))
            expected = [base.encode_adm(pooled_output=task._pooled, **one) for one in hints]
    different, same, untold = seen
    assert torch.equal(different, torch.cat(expected)) and not torch.equal(different[0], different[1])
    assert torch.equal(same, torch.cat([expected[0]] * 2)) and torch.equal(untold, same)
