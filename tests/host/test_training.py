"""Training a concept on the host's own classes, built inside inference_mode as the host builds them."""

from __future__ import annotations

import comfy.model_base
import comfy.model_management
import pytest
import torch
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors, word_positions
from perfusion_pack.nodes.host.text.statistics import measure_statistics
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.latents import latent_masks
from perfusion_pack.nodes.host.training.request import TrainingHooks, TrainingRequest
from perfusion_pack.perfusion_core.captions import built_in_captions
from perfusion_pack.perfusion_core.concept import GatedConcept
from perfusion_pack.perfusion_core.concept_file import load_concept, save_concept
from perfusion_pack.perfusion_core.edit import ConceptEdit, edit_encoding, similarity
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.training import TrainingSettings
from perfusion_pack.perfusion_core.training_batch import Batch
from tiny_models import WIDTH, encode, gated, tiny_model, tiny_sdxl_clip

SETTINGS = TrainingSettings(steps=3, batch_size=2)


@pytest.fixture(scope="module")
def host(inputs):
    """Model, CLIP, VAE, pictures, masks and statistics, all made of inference tensors."""
    model, *others = inputs
    assert next(model.model.parameters()).is_inference()
    return model, *others


def state(*modules: torch.nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for module in modules for tensor in module.state_dict().values()]


def learn(host, settings=SETTINGS, on_step=lambda report: None, **changes):
    model, clip, vae, pictures, masks, statistics = host
    inputs = {"word": "<hugsy>", "superclass": "teddy", "images": pictures, "masks": masks, **changes}
    models = {"model": model, "clip": clip, "vae": vae}
    with torch.inference_mode():
        request = TrainingRequest(**models, **inputs, settings=settings, statistics=statistics)
        return TrainingJob(request, TrainingHooks(on_step)).train()


def test_trains_inside_inference_mode_and_leaves_the_models_as_they_were(host):
    model, clip = host[:2]
    before = state(model.model, clip.cond_stage_model)
    result = learn(host)
    assert all(torch.equal(a, b) for a, b in zip(before, state(model.model, clip.cond_stage_model), strict=True))
    modules = [*model.model.modules(), *clip.cond_stage_model.modules()]
    assert not any("forward" in module.__dict__ for module in modules)
    assert not any(module._forward_pre_hooks for module in modules)
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    assert len(result.losses) == 3 and result.concept.word == "<hugsy>"
    assert result.concept.encoding_width == WIDTH and len(result.concept.value_targets) == 7


def test_every_learned_tensor_moves(host):
    few, many = learn(host).concept, learn(host, TrainingSettings(steps=6, batch_size=2)).concept
    assert not torch.equal(few.word_vectors["clip_l"], few.superclass_vectors["clip_l"])
    for name, value in few.value_targets.items():
        assert not torch.equal(value, many.value_targets[name]), name


@pytest.mark.parametrize("normalise", [True, False])
def test_the_words_own_similarity_in_use(host, normalise):
    """1, as the CLIP encodes the word in prompts, though i lags behind a word that moves as fast as this one."""
    settings = TrainingSettings(steps=6, batch_size=2, word_learning_rate=0.1, normalise_gate=normalise)
    concept = learn(host, settings).concept
    with torch.inference_mode():
        clip = add_words(host[1], (gated(concept),))
        prompts = [template.format(concept.word) for template in settings.templates]
        encodings = [
            encode(clip, prompt)[0][0][0, word_positions(clip.tokenize(prompt), concept.word)] for prompt in prompts
        ]
        own = similarity(torch.cat(encodings), concept.target_input, concept.inverse_target_input).mean().item()
    assert (abs(own - 1) < 0.01) == normalise, own


def test_same_seed_gives_the_same_concept(host):
    one, two = learn(host), learn(host)
    assert one.losses == two.losses
    for name, value in one.concept.value_targets.items():
        assert torch.equal(value, two.concept.value_targets[name])


def test_the_file_holds_what_the_socket_holds(host, tmp_path):
    concept = learn(host).concept
    save_concept(tmp_path / "hugsy.safetensors", concept)
    loaded = load_concept(tmp_path / "hugsy.safetensors")
    assert torch.equal(loaded.target_input, concept.target_input)
    for name, value in concept.value_targets.items():
        assert torch.equal(value, loaded.value_targets[name])


def test_the_concept_fits_the_gate_of_the_model_it_was_trained_on(host):
    concept = learn(host).concept
    apply_concepts(host[0], (GatedConcept(concept, concept.bias, concept.temperature),))


def test_a_superclass_of_several_tokens(host):
    concept = learn(host, superclass="teddy bear").concept
    assert concept.word_vectors["clip_l"].shape == (2, WIDTH)


def test_two_encoders(host):
    with torch.inference_mode():
        clip = tiny_sdxl_clip()
        model = tiny_model(context_dim=80)
        statistics = measure_statistics(clip, built_in_captions(200), lambda done, total: None)
    concept = learn((model, clip, *host[2:5], statistics)).concept
    assert {key: vectors.shape[1] for key, vectors in concept.word_vectors.items()} == {"clip_l": 32, "clip_g": 48}
    assert concept.base_model == "sdxl" and concept.encoding_width == 80


def test_cancel_stops_within_a_step_and_leaves_nothing_behind(host):
    model, clip = host[:2]
    before = state(model.model, clip.cond_stage_model)
    steps = []

    def press_cancel_at_two(report):
        steps.append(report.step)
        if report.step == 2:
            comfy.model_management.interrupt_current_processing()
        comfy.model_management.throw_exception_if_processing_interrupted()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        learn(host, TrainingSettings(steps=50, batch_size=2), on_step=press_cancel_at_two)
    assert steps == [1, 2]
    assert all(torch.equal(a, b) for a, b in zip(before, state(model.model, clip.cond_stage_model), strict=True))
    assert not any("forward" in module.__dict__ for module in model.model.modules())
    learn(host)  # the queue is usable


@pytest.mark.parametrize("prediction", ["EPS", "V_PREDICTION"])
def test_the_loss_is_the_models_own_objective(host, prediction):
    """The affine trick against the eps and v losses written out by hand."""
    clip = host[1]
    with torch.inference_mode():
        model = tiny_model()
        kind = comfy.model_base.ModelType[prediction]
        model.model.model_sampling = comfy.model_base.model_sampling(model.model.model_config, kind)
        latents = torch.randn(3, 4, 8, 8)
    with torch.inference_mode(False), torch.enable_grad():
        vectors = encode_superclass_vectors(clip, "teddy")
        with HostDenoisingTask(
            model, clip, latents, None, "<hugsy>", vectors, mirrored_latents=latents.flip(-1)
        ) as task:
            encodings, positions = task.encode(vectors, ["a photo of a {}"] * 2)
            token = encodings[positions][0]
            edit = ConceptEdit(token, token, token, 0.75, 0.1, "gated")
            edited = edit_encoding(encodings, [edit])
            targets = task.value_outputs(token)
            batch = Batch(torch.tensor([0, 2]), torch.tensor([False, True]), torch.tensor([0, 0]))
            found = task.loss(batch, edited, targets, torch.Generator().manual_seed(9)).item()

            draw = torch.Generator().manual_seed(9)
            sampling = model.model.model_sampling
            sigma = sampling.sigmas[torch.randint(len(sampling.sigmas), (2,), generator=draw)].clone()[
                :, None, None, None
            ]
            noise = torch.randn(2, 4, 8, 8, generator=draw)
            scaled = model.model.process_latent_in(latents).clone()
            clean = torch.stack([scaled[0], scaled[2].flip(-1)])
            noisy = clean + sigma * noise
            signal = 1 / (1 + sigma**2).sqrt()
            denoised = task.denoise(noisy, sigma.flatten(), edited, targets)
            if prediction == "EPS":
                output, wanted = (noisy - denoised) / sigma, noise
            else:
                output = (noisy * signal**2 - denoised) / (sigma * signal)
                wanted = signal * noise - sigma * signal * clean
            expected = (output - wanted).square().mean().item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_noise_alone_starts_where_a_sampler_starts(host, monkeypatch):
    """No trace of the picture, at the schedule's last level, in the samples that are marked and in no others."""
    model, clip = host[0], host[1]
    pictures, seen = torch.tensor([0, 1]), []
    batch = Batch(pictures, torch.zeros(2, dtype=torch.bool), pictures, noise_alone=torch.tensor([True, False]))
    for _ in range(2):
        with torch.inference_mode():
            latents = torch.randn(2, 4, 8, 8)
        with torch.inference_mode(False), torch.no_grad():
            vectors = encode_superclass_vectors(clip, "teddy")
            with HostDenoisingTask(model, clip, latents, None, "<hugsy>", vectors) as task:
                monkeypatch.setattr(task, "denoise", lambda noisy, sigma, *_: seen.append((noisy, sigma)) or noisy)
                task.loss(batch, None, {}, torch.Generator().manual_seed(9))
                sampling = task._sampling
    (first, levels), (second, _) = seen
    assert torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])
    assert levels[0] == sampling.sigmas[-1] and levels[1] < sampling.sigmas[-1]
    sigma = levels[:1, None, None, None]
    start = sampling.noise_scaling(sigma, torch.ones(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), True)
    assert first[0].std() == pytest.approx(start.mean().item(), rel=0.15)


def test_masks_are_scaled_each_by_its_own_maximum():
    masks = torch.zeros(2, 16, 16)
    masks[0, :8], masks[1, 8:] = 0.5, 1.0
    scaled = latent_masks(masks, 2, (2, 2))
    assert torch.equal(scaled[:, 0], torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"masks": torch.zeros(3, 64, 64)}, "mask of picture 1, 2, 3 is empty"),
        ({"masks": torch.ones(2, 64, 64)}, "3 pictures or one for all, but got 2"),
        ({"superclass": " "}, "superclass must be a plain word"),
        ({"word": "my thing"}, "word of a concept must be"),
        ({"images": torch.rand(1, 32, 32, 3), "masks": None}, "at least 64 pixels"),
    ],
)
def test_wrong_inputs_end_in_one_sentence(host, changes, said):
    with pytest.raises(PerfusionError, match=said) as caught:
        learn(host, **changes)
    assert "\n" not in str(caught.value)
