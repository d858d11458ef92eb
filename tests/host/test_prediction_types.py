"""One loss for whatever a model predicts, on whatever schedule: against each objective written out by hand.

The trainer sees only denoised latents and divides their error by how much the model's output counts in them. Here the
model's raw output is caught on its way and compared, in float64, with the target that the literature gives it.
"""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_base
import comfy.model_sampling
import pytest
import torch
from comfy_extras import nodes_model_advanced
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.perfusion_core.edit import ConceptEdit, edit_encoding
from perfusion_pack.perfusion_core.training_batch import Batch
from tiny_models import TinyModelConfig, tiny_clip, tiny_model
from torch import Tensor

Target = Callable[[Tensor, Tensor, Tensor], Tensor]


def eps(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """DDPM: the noise."""
    return noise


def velocity(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Progressive distillation: alpha noise - sigma_vp clean, alpha^2 + sigma_vp^2 = 1, sigma = sigma_vp / alpha."""
    alpha = (1 + sigma**2).rsqrt()
    return alpha * noise - sigma * alpha * clean


def edm(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Karras et al. 2022, eq. 8: (clean - c_skip x) / c_out, here for sigma_data = 1."""
    return (clean - (clean + sigma * noise) / (sigma**2 + 1)) * (sigma**2 + 1).sqrt() / sigma


def flow(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Rectified flow: noise - clean."""
    return noise - clean


def clean_latent(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Models that predict the picture itself."""
    return clean


PREDICTIONS: dict[str, Target] = {
    "EPS": eps,
    "V_PREDICTION": velocity,
    "EDM": edm,
    "V_PREDICTION_EDM": velocity,
    "V_PREDICTION_CONTINUOUS": velocity,
    "FLOW": flow,
    "FLUX": flow,
    "FLOW_COSMOS": flow,
    "IMG_TO_IMG": clean_latent,
}
# The host calls linear what others call scaled linear (linear in the square root), and sqrt_linear what is linear.
SCHEDULES = {"scaled linear": "linear", "linear": "sqrt_linear", "cosine": "cosine"}


@pytest.fixture(scope="module")
def clip():
    with torch.inference_mode():
        return tiny_clip()


def model_of(prediction: str, **settings):
    """A tiny model with the host's own model sampling, of inference tensors as the host makes it."""
    with torch.inference_mode():
        model = tiny_model()
        config = TinyModelConfig(model.model.model_config.unet_config)
        config.sampling_settings = settings
        kind = comfy.model_base.ModelType[prediction]
        model.model.model_sampling = comfy.model_base.model_sampling(config, kind)
    return model


def losses(model, clip, target: Target, monkeypatch) -> tuple[float, float]:
    """The trainer's loss and that written by hand, over noise levels from the lowest to the highest."""
    latents = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode(False), torch.enable_grad():
        vectors = encode_superclass_vectors(clip, "teddy")
        with HostDenoisingTask(
            model, clip, latents, None, "<hugsy>", vectors, mirrored_latents=latents.flip(-1)
        ) as task:
            sampling = model.get_model_object("model_sampling")
            last = len(sampling.sigmas) - 1
            levels = torch.tensor([0, 1, last // 9, last // 3, last // 2, last - last // 3, last - 1, last])
            encodings, positions = task.encode(vectors, ["a photo of a {}"] * len(levels))
            token = encodings[positions][0]
            edited = edit_encoding(encodings, [ConceptEdit(token, token, token, 0.75, 0.1, "gated")])
            pictures, mirrored = torch.arange(len(levels)) % 3, torch.arange(len(levels)) % 2 == 0
            batch = Batch(pictures, mirrored, torch.zeros_like(pictures))
            outputs: list[Tensor] = []
            unet = model.model.diffusion_model
            handle = unet.register_forward_hook(lambda module, args, output: outputs.append(output.detach().double()))
            with monkeypatch.context() as patch:
                patch.setattr(torch, "randint", lambda *args, **kwargs: levels)
                values = task.value_outputs(token)
                found = task.loss(batch, edited, values, torch.Generator().manual_seed(9)).item()
            handle.remove()
    (output,) = outputs
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(9)).double()
    clean = model.model.process_latent_in(latents)[pictures].double()
    clean = torch.where(mirrored[:, None, None, None], clean.flip(-1), clean)
    sigma = sampling.sigmas[levels].double()[:, None, None, None]
    return found, (output - target(clean, noise, sigma)).square().mean().item()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_the_models_own_objective(clip, prediction, monkeypatch):
    found, by_hand = losses(model_of(prediction), clip, PREDICTIONS[prediction], monkeypatch)
    assert found == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("zero_terminal", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", ["EPS", "V_PREDICTION"])
def test_every_schedule_of_betas(clip, prediction, schedule, zero_terminal, monkeypatch):
    model = model_of(prediction, beta_schedule=SCHEDULES[schedule], zsnr=zero_terminal)
    sigmas = model.model.model_sampling.sigmas
    assert sigmas.isfinite().all() and (sigmas[-1] > 4000) >= zero_terminal
    found, by_hand = losses(model, clip, PREDICTIONS[prediction], monkeypatch)
    assert found == pytest.approx(by_hand, rel=1e-5)


def test_the_schedules_are_what_they_are_called():
    betas = {
        name: 1 - (1 / (1 + sigmas**2))[1:] / (1 / (1 + sigmas**2))[:-1]
        for name, schedule in SCHEDULES.items()
        for sigmas in [model_of("EPS", beta_schedule=schedule).model.model_sampling.sigmas.double()]
    }
    for name, straight in (("scaled linear", betas["scaled linear"].sqrt()), ("linear", betas["linear"])):
        steps = straight.diff()
        assert (steps - steps.mean()).abs().max() < 0.05 * steps.mean(), name


@pytest.mark.parametrize("sampling", ["eps", "v_prediction", "x0"])
def test_a_model_sampling_node_changes_the_objective(clip, sampling, monkeypatch):
    """The stock nodes put another model sampling into a clone, and the trainer follows."""
    model = model_of("EPS")
    with torch.inference_mode():
        (patched,) = nodes_model_advanced.ModelSamplingDiscrete().patch(model, sampling, True)
    target = {"eps": eps, "v_prediction": velocity, "x0": clean_latent}[sampling]
    found, by_hand = losses(patched, clip, target, monkeypatch)
    assert found == pytest.approx(by_hand, rel=1e-5)


def test_a_flow_node_with_a_shift(clip, monkeypatch):
    with torch.inference_mode():
        (patched,) = nodes_model_advanced.ModelSamplingSD3().patch(model_of("EPS"), 3.0)
    found, by_hand = losses(patched, clip, flow, monkeypatch)
    assert found == pytest.approx(by_hand, rel=1e-5)
