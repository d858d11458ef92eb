"""The choice of the best step by a CLIP with eyes, tiny and filled at random; no real CLIP was ever run here."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import comfy.clip_vision
import comfy.model_management
import pytest
import torch
from perfusion_pack.nodes.host.progress import NodeProgress
from perfusion_pack.nodes.host.training import denoising_task
from perfusion_pack.nodes.host.training import judge as likeness
from perfusion_pack.nodes.host.training.judge import LikenessJudge, image_embeddings, text_embeddings
from perfusion_pack.perfusion_core.concept_file import load_concept
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.likeness import Likeness
from perfusion_pack.perfusion_core.training_state_file import load_training
from tiny_models import WIDTH, fill, instance_forwards, make_concept, tiny_clip, tiny_sdxl_clip
from torch.nn import functional
from training_inputs import run_node, training_inputs

PROMPTS = [prompt.format("teddy") for prompt in likeness.PROMPTS]


def tiny_vision(width: int = WIDTH, seed: int = 8) -> comfy.clip_vision.ClipVisionModel:
    """A CLIP vision model of the host's own class; `width` is that of its embeddings."""
    configuration = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "hidden_act": "quick_gelu", "image_size": 32, "patch_size": 8, "num_channels": 3, "projection_dim": width,
        "model_type": "clip_vision_model",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:  # older hosts take the path of a file alone
        path = Path(folder) / "clip_vision.json"
        path.write_text(json.dumps(configuration))
        vision = comfy.clip_vision.ClipVisionModel(str(path))
    fill(vision.model, seed, scale=0.3)
    return vision


def agreeing(clip, vision, images):
    """Give the clip a text projection that sends the prompts to where the vision model sees the pictures."""
    projection = clip.cond_stage_model.clip_l.transformer.text_projection.weight
    with torch.no_grad():
        projection.copy_(torch.eye(WIDTH))
        text = text_embeddings(clip, PROMPTS[:1], WIDTH)[0]
        seen = functional.normalize(image_embeddings(vision, images), dim=-1).mean(dim=0)
        projection.copy_(torch.outer(seen, text) / text.square().sum())
    return clip


@pytest.fixture(scope="module")
def vision():
    return tiny_vision()


@pytest.fixture(scope="module")
def inputs(vision):
    # Not the shared ones: the projection of their CLIP is changed here.
    with torch.inference_mode():
        found = training_inputs()
        return found._replace(clip=agreeing(found.clip, vision, found.images))


@pytest.fixture(autouse=True)
def few_sampler_steps(monkeypatch):
    monkeypatch.setattr(likeness, "STEPS", 2)


def judge_of(inputs, vision, clip=None) -> LikenessJudge:
    return LikenessJudge(vision, inputs.model, clip or inputs.clip, inputs.vae, inputs.images, "teddy", (4, 8, 8), 3.0)


def test_similarities_are_cosines_of_the_hosts_embeddings(inputs, vision, monkeypatch):
    painted = [torch.rand(4, 64, 64, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    asked, given = [], iter(painted)

    def paint(model, clip, vae, prompts, latent_shape, seed, steps, cfg):
        asked.append((list(prompts), latent_shape, seed, steps, cfg))
        return next(given)

    monkeypatch.setattr(likeness, "sample_pictures", paint)
    found = judge_of(inputs, vision).likeness(make_concept(inputs.model, inputs.clip, training={"steps": 0}))
    assert asked[0] == (PROMPTS, (4, 8, 8), likeness.SEED, 2, 3.0)
    assert asked[1] == ([text.replace("teddy", "<hugsy>") for text in PROMPTS], *asked[0][1:])

    thing, plain, seen = (vision.encode_image(pictures).image_embeds for pictures in (inputs.images, *painted))
    clip = inputs.clip.cond_stage_model.clip_l
    tokens = [inputs.clip.tokenize(text)["l"][0] for text in PROMPTS]
    end = [next(i for i, (token, _) in enumerate(chunk) if i and token == 49407) for chunk in tokens]
    last = torch.cat([clip.encode_token_weights([chunk])[0] for chunk in tokens])
    texts = last[torch.arange(4), end] @ clip.transformer.text_projection.weight.T
    image = functional.cosine_similarity(seen[:, None], thing[None], dim=-1).mean()
    text = functional.cosine_similarity(seen, texts).mean() / functional.cosine_similarity(plain, texts).mean()
    assert found.image == pytest.approx(image.item(), abs=1e-5) and found.text == pytest.approx(text.item(), abs=1e-5)


def test_the_encoder_of_the_same_width_speaks():
    """SDXL has two; SD1's projection is applied only while it is asked for."""
    with torch.inference_mode():
        clip = tiny_sdxl_clip()
        assert text_embeddings(clip, PROMPTS, 48).shape == (4, 48)
        assert text_embeddings(clip, PROMPTS, WIDTH).shape == (4, WIDTH)
        # Old hosts, before 0.4, have no such option.
        assert getattr(clip.cond_stage_model.clip_l, "execution_device", None) is None
        with pytest.raises(PerfusionError, match=r"32 \(clip_l\), 48 \(clip_g\), but they have 40") as caught:
            text_embeddings(clip, PROMPTS, 40)
    assert "clip_vision" in str(caught.value)


def test_encoders_that_do_not_belong_together_are_refused_before_the_training(inputs, vision, folder):
    with pytest.raises(PerfusionError, match="clip_vision input.*32 .clip_l., but they have 48"):
        run_node(inputs, clip_vision=tiny_vision(width=48))
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("memory", ["zeros", "numbers that are none", "what another model left"])
def test_a_text_encoder_without_its_projection_is_told_in_one_sentence(inputs, vision, monkeypatch, memory):
    """As in a checkpoint of SD1.5: the host makes the projection, and fills it with nothing."""
    draw = torch.Generator().manual_seed(3)
    with torch.inference_mode():
        clip = tiny_clip()
        weight = clip.cond_stage_model.clip_l.transformer.text_projection.weight
        weight.copy_(torch.randn(weight.shape, generator=draw) if memory.startswith("what") else torch.zeros(()))
        if memory.startswith("numbers"):
            weight.fill_(float("nan"))
    if not memory.startswith("what"):  # then it is told before anything is painted
        monkeypatch.setattr(likeness, "sample_pictures", None)
    with pytest.raises(PerfusionError, match="clip_vision input.*found .*without a text projection") as caught:
        judge_of(inputs, vision, clip)
    assert "\n" not in str(caught.value)


def test_the_best_step_is_the_one_that_is_most_alike(inputs, vision, folder, monkeypatch):
    """Also after a resume; the steps themselves are those of a training without eyes."""
    measured, original = {}, LikenessJudge.likeness

    def noted(self, concept):
        found = original(self, concept)
        measured[concept.training["steps"]] = found.harmonic_mean
        return found

    monkeypatch.setattr(LikenessJudge, "likeness", noted)
    seeing = {"steps": 4, "validate_every": 2, "clip_vision": vision}
    plain = run_node(inputs, steps=4, validate_every=2, file_name="plain")
    outputs = run_node(inputs, **seeing, file_name="judged")
    assert outputs[1]["loss"] == plain[1]["loss"] and not instance_forwards(inputs.model)
    assert sorted(measured) == [0, 2, 4] and all(0 < value < 1.5 for value in measured.values())
    kept = load_training(folder / "judged.training_state")
    assert {v.step: v.error for v in kept.state.validations} == pytest.approx({s: 1 - m for s, m in measured.items()})
    concept = load_concept(folder / "judged.safetensors")
    assert concept.training["chosen_step"] == max((2, 4), key=measured.get) and "CLIP" in concept.training["chosen_by"]
    assert "chosen_by" not in load_concept(folder / "plain.safetensors").training
    assert kept.inputs["vision model"] and "vision model" not in load_training(folder / "plain.training_state").inputs
    assert judge_of(inputs, vision).fingerprint == kept.inputs["vision model"]


@pytest.mark.parametrize(("pressed", "best"), [("after a step", 10), ("while painting", None)])
def test_forty_steps_are_twenty_cancel_and_twenty_more(inputs, vision, folder, monkeypatch, pressed, best):
    """As without eyes; also where Cancel comes while a validation paints, and where the best step came before it."""
    pressing, original, show = [], LikenessJudge.likeness, NodeProgress.show

    def cancel(where: str, step: int) -> None:
        if pressing and (where, step) == (pressed, 20):
            comfy.model_management.interrupt_current_processing()
        comfy.model_management.throw_exception_if_processing_interrupted()

    def judged(self, concept):
        step = concept.training["steps"]
        cancel("while painting", step)
        found = original(self, concept)
        return found if best is None else Likeness(1.0 - abs(step - best) / 100, 1.0)

    def shown(self, done, text="", preview=None):
        show(self, done, text, preview)
        cancel("after a step", done)

    monkeypatch.setattr(LikenessJudge, "likeness", judged)
    monkeypatch.setattr(NodeProgress, "show", shown)
    forty = {"steps": 40, "validate_every": 10, "clip_vision": vision}
    straight = run_node(inputs, **forty, file_name="straight")
    pressing.append(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run_node(inputs, **forty)
    stopped = load_training(folder / "hugsy.training_state").state
    assert stopped.step == 20 and len(stopped.validations) == (3 if pressed == "after a step" else 2)

    pressing.clear()
    resumed = run_node(inputs, **forty, resume=True)
    assert resumed[3] == str(folder / "hugsy.safetensors") and resumed[1] == straight[1]
    assert (folder / "hugsy.safetensors").read_bytes() == (folder / "straight.safetensors").read_bytes()
    one, other = (load_training(folder / f"{name}.training_state") for name in ("hugsy", "straight"))
    assert one.state.validations == other.state.validations and len(one.state.validations) == 5
    assert best is None or load_concept(folder / "hugsy.safetensors").training["chosen_step"] == best


def test_a_training_goes_on_only_with_the_same_judge(inputs, vision, folder, monkeypatch):
    def stop(self, done, text="", preview=None):
        if done:  # before the first step the pictures are shown
            raise comfy.model_management.InterruptProcessingException

    seeing = {"validate_every": 2, "clip_vision": vision}
    with monkeypatch.context() as patched, pytest.raises(comfy.model_management.InterruptProcessingException):
        patched.setattr(NodeProgress, "show", stop)
        run_node(inputs, **seeing)
    kept = (folder / "hugsy.training_state").read_bytes()
    for changes, said in (
        ({"sample_cfg": 5.0}, "another sample_cfg;"),
        ({"clip_vision": None}, "another sample_cfg, vision model;"),
    ):
        with pytest.raises(PerfusionError, match=said + ".*turn resume off"):
            run_node(inputs, **{**seeing, **changes}, resume=True)
    assert (folder / "hugsy.training_state").read_bytes() == kept


def test_without_validations_nothing_is_painted(inputs, vision, folder, monkeypatch):
    monkeypatch.setattr(LikenessJudge, "__init__", None)
    assert len(run_node(inputs, steps=1, validate_every=0, clip_vision=vision)[1]["loss"]) == 1


def test_gradient_checkpointing_through_the_node_gives_the_same_concept(inputs, folder, monkeypatch):
    used, original = [], denoising_task.checkpointed_forwards
    monkeypatch.setattr(denoising_task, "checkpointed_forwards", lambda *a: used.append(1) or original(*a))
    plain = run_node(inputs, steps=2, file_name="plain")
    assert not used
    again = run_node(inputs, steps=2, file_name="again", gradient_checkpointing=True)
    assert used and again[1]["loss"] == plain[1]["loss"] and not instance_forwards(inputs.model)
    one, other = (load_concept(folder / f"{name}.safetensors") for name in ("plain", "again"))
    assert all(torch.equal(value, other.value_targets[name]) for name, value in one.value_targets.items())
    assert torch.equal(one.word_vectors["clip_l"], other.word_vectors["clip_l"])
