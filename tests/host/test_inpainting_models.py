"""Inpainting models are shown in a training what the host shows them, and paint a concept into a picture."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import comfy.sample
import pytest
import torch
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.nodes.host.training.inpainting import GREY
from perfusion_pack.nodes.host.training.job import TrainingJob
from perfusion_pack.nodes.host.training.request import TrainingRequest
from perfusion_pack.perfusion_core.training import TrainingSettings
from tiny_models import difference, encode, gated, sample, tiny_model
from training_inputs import training_inputs

CHANNELS = 9  # the noisy latent, the mask, the latent of the picture without what the mask hides


@pytest.fixture(scope="module")
def inputs():
    model = tiny_model(in_channels=CHANNELS)
    model.model.set_inpaint()
    return training_inputs()._replace(model=model)


def job(inputs, **changes) -> TrainingJob:
    given = {"images": inputs.images, "masks": inputs.masks, **changes}
    settings = TrainingSettings(steps=2, batch_size=2, flip=given.pop("flip", False))
    return TrainingJob(
        TrainingRequest(
            model=inputs.model, clip=inputs.clip, vae=inputs.vae, word="<hugsy>", superclass="teddy",
            settings=settings, statistics=inputs.statistics, **given,
        )
    )  # fmt: skip


@contextmanager
def seen_by(model):
    """Collect what the UNet is given beside the noisy latent, [B, 5, h, w] for each pass."""
    beside: list[torch.Tensor] = []
    hook = model.model.diffusion_model.register_forward_pre_hook(
        lambda _module, given: beside.append(given[0][:, 4:].detach().clone())
    )
    yield beside
    hook.remove()


def shown_by_the_host(inputs, picture: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the host's node and sampler show the model of a picture [H, W, 3] with a mask [H, W], [5, h, w]."""
    import nodes

    with torch.inference_mode():
        empty = encode(inputs.clip, "")
        positive, _, latent = nodes.InpaintModelConditioning().encode(
            empty, empty, picture[None], inputs.vae, mask[None]
        )
        noise = comfy.sample.prepare_noise(latent["samples"], 0)
        with seen_by(inputs.model) as beside:
            comfy.sample.sample(
                inputs.model, noise, 1, 1.0, "euler", "normal", positive, positive, latent["samples"],
                noise_mask=latent["noise_mask"], disable_pbar=True,
            )  # fmt: skip
    return beside[0][0]


def in_training(job: TrainingJob, inputs) -> torch.Tensor:
    """What the model sees in the steps, [B, 5, h, w]."""
    with torch.inference_mode(), job.prepare(), seen_by(inputs.model) as beside:
        job.run()
    return torch.cat(beside)


def test_a_training_shows_what_the_host_shows(inputs):
    """For each picture, plain or mirrored; the mask's edges lie on whole latents here."""
    masks = inputs.masks.clone()
    masks[:, 16:32, 48:56] = 1.0  # another one when mirrored
    wanted = []
    for picture, mask in zip(inputs.images, masks, strict=True):
        wanted += [shown_by_the_host(inputs, p, m) for p, m in ((picture, mask), (picture.flip(1), mask.flip(1)))]
    found = in_training(job(inputs, masks=masks, flip=True), inputs)
    told_apart = set()
    for one in found:
        errors = [difference(one, other) for other in wanted]
        assert min(errors) < 1e-4
        told_apart.add(errors.index(min(errors)))
    assert len(told_apart) >= 3


def test_without_a_mask_all_of_the_picture_is_hidden(inputs):
    """As where the host samples without its node."""
    found = in_training(job(inputs, masks=None), inputs)
    with torch.inference_mode(), seen_by(inputs.model) as beside:
        empty = encode(inputs.clip, "")
        sample(inputs.model, empty, empty, steps=1, size=found.shape[-1])
    assert (found[:, 0] == 1).all()
    torch.testing.assert_close(found, beside[0][:1].expand_as(found))


def test_the_automatic_mask_serves(inputs):
    """The model finds it while all is hidden from it; then it sees the picture around the thing."""
    found = in_training(job(inputs, masks=None, automatic_mask=True), inputs)
    assert {0.0, 1.0} == set(found[-4:, 0].unique().tolist())
    assert difference(found[-1, 1:], found[0, 1:]) > 0


def test_what_is_cut_out_is_grey_and_the_pictures_stay(inputs):
    from perfusion_pack.nodes.host.training import inpainting

    request = job(inputs).request
    before = [picture.clone() for picture in request.pictures.pictures]
    encoded = []
    vae = type("Vae", (), {"encode": lambda self, shown: encoded.append(shown) or torch.zeros(len(shown), 4, 8, 8)})()
    weights = torch.zeros(3, 1, 8, 8)
    weights[:, :, 2:6, 2:6] = 1.0
    inpainting.cut_out(replace(request.pictures), vae, weights, mirrored=False)
    assert (encoded[0][:, 16:48, 16:48] == GREY).all()
    torch.testing.assert_close(encoded[0][:, :16], inputs.images[:, :16])
    assert all(torch.equal(one, other) for one, other in zip(before, request.pictures.pictures, strict=True))


def test_a_concept_is_painted_into_a_picture(inputs):
    """Trained on the model, used with the host's node: the word acts, and strength 0 is the model alone."""
    import nodes

    with torch.inference_mode():
        concept = job(inputs).train().concept
        text = "a <hugsy> in the snow"

        def painted(strength: float | None) -> torch.Tensor:
            stack = (gated(concept, strength=strength or 0.0),)
            positive, negative = (encode(add_words(inputs.clip, stack), prompt) for prompt in (text, ""))
            positive, negative, latent = nodes.InpaintModelConditioning().encode(
                positive, negative, inputs.images[:1], inputs.vae, inputs.masks[:1]
            )
            chosen = inputs.model if strength is None else apply_concepts(inputs.model, stack)
            noise = comfy.sample.prepare_noise(latent["samples"], 0)
            return comfy.sample.sample(
                chosen, noise, 2, 5.0, "euler", "normal", positive, negative, latent["samples"],
                noise_mask=latent["noise_mask"], disable_pbar=True, seed=0,
            )  # fmt: skip

        base, off, with_it = painted(None), painted(0.0), painted(1.0)
        assert difference(base, off) == 0.0
        assert with_it.isfinite().all() and difference(base, with_it) > 0
