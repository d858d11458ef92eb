"""Resume is refused where the MODEL or the VAE is another one, and only then."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from perfusion_pack.nodes.host.training.weight_hash import model_hash, vae_hash
from perfusion_pack.perfusion_core.errors import PerfusionError
from perfusion_pack.perfusion_core.training_state_file import load_training, save_training
from tiny_models import fill, tiny_model
from training_inputs import run_node, tiny_vae


def patched(model):
    name, weight = next((n, w) for n, w in model.model.state_dict().items() if n.endswith("attn2.to_k.weight"))
    clone = model.clone()
    clone.add_patches({name: (torch.full_like(weight, 0.5),)})
    return clone


def unfinished(folder, without=()) -> None:
    kept = load_training(folder / "hugsy.training_state")
    noted = {name: value for name, value in kept.inputs.items() if name not in without}
    save_training(folder / "hugsy.training_state", dataclasses.replace(kept, inputs=noted, finished=False))


def test_another_vae_or_model_is_refused_and_an_older_state_goes_on(inputs, folder):
    run_node(inputs, steps=1)
    unfinished(folder)
    with torch.inference_mode():
        vae, model = tiny_vae(), tiny_model(seed=9)
        fill(vae.first_stage_model, 12)
    for changed, said in (
        ({"vae": vae}, "another VAE;"),
        ({"model": model}, "another model;"),
        ({"model": patched(inputs.model)}, "another model;"),
    ):
        with pytest.raises(PerfusionError, match=said + ".*step 1, or turn resume off") as caught:
            run_node(inputs._replace(**changed), resume=True, steps=2)
        assert "\n" not in str(caught.value)
    unfinished(folder, without=("VAE", "model"))
    assert len(run_node(inputs, resume=True, steps=2)[1]["loss"]) == 2
    assert load_training(folder / "hugsy.training_state").finished


def test_the_hash_is_that_of_the_weights_and_not_of_how_they_are_held(inputs):
    clone = patched(inputs.model)
    plain, other = model_hash(inputs.model), model_hash(clone)
    with torch.inference_mode():
        clone.patch_model()
        try:
            assert model_hash(inputs.model) == plain and model_hash(clone) == other != plain
        finally:
            clone.unpatch_model()
        model = tiny_model()
        model.model.diffusion_model.to(torch.bfloat16)
    assert model_hash(model) == plain
    assert vae_hash(tiny_vae()) == vae_hash(inputs.vae) and vae_hash(object()) == "unknown"
