"""Values as a difference and attention drawn into the mask, through the host's own classes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.request import TrainingRequest
from perfusion_pack.nodes.training_settings import CAME_LATER, CUSTOM, DEMO, settings_text, training_settings
from perfusion_pack.perfusion_core.attention_aim import AttentionAim
from perfusion_pack.perfusion_core.concept_file import load_concept, read_header
from perfusion_pack.perfusion_core.edit import ConceptEdit, edit_encoding
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.training import TrainingSettings
from perfusion_pack.perfusion_core.training_batch import Batch
from tiny_models import difference, encode, gated, sample, tiny_model
from training_inputs import run_node

PROMPT, NEGATIVE = "a photo of <hugsy> in the snow", "blurry"


def residual(concept, scale: float):
    targets = {name: scale * target for name, target in concept.value_targets.items()}
    return dataclasses.replace(concept, form="residual", value_targets=targets)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_without_a_difference_it_is_textual_inversion_bit_for_bit(model, clip, hugsy, strength, exact):
    """The unpatched model with the word added to its CLIP."""
    stack = (gated(residual(hugsy, 0.0), bias=0.5, strength=strength),)
    positive, negative = encode(add_words(clip, stack), PROMPT), encode(add_words(clip, stack), NEGATIVE)
    patched = sample(apply_concepts(model, stack, exact=exact), positive, negative)
    assert difference(patched, sample(model, positive, negative)) == 0.0


def test_strength_leads_from_the_word_alone_to_the_concept(model, clip, hugsy):
    concept = residual(hugsy, 1.0)
    pictures = []
    for strength in (0.0, 0.01, 0.5, 1.0):
        stack = (gated(concept, bias=0.5, strength=strength),)
        speaking = add_words(clip, stack)
        pictures.append(sample(apply_concepts(model, stack), encode(speaking, PROMPT), encode(speaking, NEGATIVE)))
    changes = [difference(picture, pictures[0]) for picture in pictures[1:]]
    assert 0 < changes[0] < 0.05 * changes[2] and changes[0] < changes[1] < changes[2]


def test_the_node_trains_it_and_the_file_says_how(inputs, folder):
    ((trained,), losses, *_) = run_node(
        inputs, form="residual", difference_cap=0.5, attention_weight=0.2, relative_value_rate=0.1
    )
    kept = load_concept(folder / "hugsy.safetensors")
    assert kept.form == trained.concept.form == "residual" and len(losses["loss"]) == 4
    assert {name: kept.training[name] for name in ("difference_cap", "difference_decay", "attention_weight")} == {
        "difference_cap": 0.5,
        "difference_decay": None,
        "attention_weight": 0.2,
    }
    assert read_header(folder / "hugsy.safetensors")["form"] == "residual"
    assert any(target.any() for target in kept.value_targets.values())


def test_a_word_alone_is_a_concept_too(inputs, folder):
    """The same with a value rate so low that no difference is left in the file."""
    run_node(inputs, form="residual", difference_cap=1e-9)
    kept = load_concept(folder / "hugsy.safetensors")
    assert not any(target.any() for target in kept.value_targets.values())


@pytest.mark.parametrize("name", [name for name in CAME_LATER if "relative" not in name])
def test_0_asks_for_nothing(name):
    assert training_settings(CUSTOM, 0, True, 25, {name: 0.0, "form": "residual"}, DEMO) == TrainingSettings(
        form="residual"
    )
    asked = training_settings(CUSTOM, 0, True, 25, {name: 0.25, "form": "residual"}, DEMO)
    assert getattr(asked, name) == 0.25 and "0.25" in settings_text(CUSTOM, asked, 3)


# --- attention ---


def gradients(inputs, aim_weight, checkpointing=False, masks=True):
    """Loss and gradients of one step from the superclass; the model is looked at too."""
    model = tiny_model()
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    shown = torch.zeros(2, 1, 8, 8)
    shown[..., 2:6, 2:6] = 1.0
    with torch.inference_mode(False), torch.enable_grad():
        vectors = {k: v.requires_grad_() for k, v in encode_superclass_vectors(inputs.clip, "teddy").items()}
        with HostDenoisingTask(
            model, inputs.clip, latents, shown if masks else None, "<hugsy>", vectors, mirrored_latents=latents.flip(-1)
        ) as task:
            task.gradient_checkpointing = checkpointing
            encodings, positions = task.encode(vectors, ["a photo of a {}"] * 2)
            token = encodings[positions].mean(dim=0).detach()
            edited = edit_encoding(encodings, [ConceptEdit(token, token, token, 0.75, 0.1, "unlocked")])
            targets = {n: v.detach().clone().requires_grad_() for n, v in task.value_outputs(token).items()}
            batch = Batch(torch.tensor([0, 1]), torch.tensor([False, True]), torch.tensor([0, 0]))
            aim = {} if aim_weight is None else {"aim": AttentionAim(positions, aim_weight)}
            loss = task.loss(batch, edited, targets, torch.Generator().manual_seed(9), **aim)
            loss.backward()
    assert not any(p.requires_grad or p.grad is not None for p in model.model.parameters())
    return loss.item(), {name: tensor.grad for name, tensor in {**targets, **vectors}.items()}


def test_the_loss_of_attention_is_added_and_reaches_what_is_trained_alone(inputs):
    plain, without = gradients(inputs, None)
    nothing, at_nought = gradients(inputs, 0.0)
    assert nothing == plain and all(torch.equal(gradient, at_nought[name]) for name, gradient in without.items())
    losses, found = zip(*(gradients(inputs, weight) for weight in (0.5, 1.0)), strict=True)
    outside = losses[1] - plain
    assert 0 < outside < 1 and losses[0] == pytest.approx(plain + 0.5 * outside, rel=1e-5)
    changed = [name for name, gradient in without.items() if not torch.allclose(gradient, found[1][name], rtol=1e-4)]
    assert "clip_l" in changed and len(changed) > 1, "the word by its keys, values by later queries"


def test_it_is_the_same_under_gradient_checkpointing(inputs):
    loss, found = gradients(inputs, 0.5)
    again, checkpointed = gradients(inputs, 0.5, checkpointing=True)
    assert again == loss
    for name, gradient in found.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-5, atol=1e-8)


def test_before_masks_are_found_it_asks_for_nothing(inputs):
    """The memory of a step is measured then."""
    plain, found = (gradients(inputs, weight, masks=False)[0] for weight in (None, 0.5))
    assert found == pytest.approx(plain, abs=1e-6)


def test_without_masks_it_is_refused(inputs):
    request = TrainingRequest(
        **{**inputs._asdict(), "masks": None}, word="<hugsy>", superclass="teddy",
        settings=TrainingSettings(attention_weight=0.1),
    )  # fmt: skip
    with pytest.raises(PerfusionError, match="attention_weight needs masks of the thing"):
        request.check()
