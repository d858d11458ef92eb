"""The script that trains the demo's UNet: a stopped run resumes, and names of looks stay at their noun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from perfusion_pack.demo import model as demo_model
from perfusion_pack.demo.making import dataset
from perfusion_pack.demo.making.body_weights import BODY_WEIGHT, all_body_cells, body_cells, loss_weights
from perfusion_pack.demo.making.trained_weights import trained_file
from safetensors.torch import load_file

LAUNCHER = Path(demo_model.__file__).parent / "making" / "run.py"
# In a process of its own, since the scripts change the host's arguments.
PREPARED = f"""
import runpy
runpy.run_path({str(LAUNCHER)!r})["load_pack"]()
from perfusion_pack.demo.making.host import use_comfyui
use_comfyui()
"""


def in_python(*command: str) -> str:
    """Output of a Python command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=LAUNCHER.parent, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def run_code(code: str) -> None:
    """Run Python code beside which ComfyUI and the pack can be imported."""
    in_python("-c", PREPARED + code)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache folder with 24 drawn pictures and the shipped autoencoder."""
    np.save(tmp_path / "pictures-0000000.npy", dataset.draw(0, 24))
    torch.save(load_file(trained_file("vae.safetensors")), tmp_path / "vae_ema.pt")
    return tmp_path


def test_a_stopped_training_resumes_with_all_of_its_state(cache) -> None:
    def train(samples: int) -> dict:
        options = ("--batch", "4", "--average", "0.9", "--continue-weights", "--named", "0.5")
        in_python(str(LAUNCHER), "train_unet", "--cache", str(cache), "--samples", str(samples), *options)
        return torch.load(cache / "unet.pt", weights_only=True)

    first, second = train(8), train(12)
    assert (first["step"], second["step"]) == (2, 3)
    # Not started anew from the shipped weights: one step further than the first run, in every part.
    for part in ("unet.out.2.weight", "look.layers.0.weight"):
        moved = (second["model"][part] - first["model"][part]).abs().max()
        assert 0 < moved < 1e-3
    assert second["average"]["module.unet.out.2.weight"].isfinite().all()


def test_the_name_of_a_look_stands_at_its_noun() -> None:
    run_code("""
import torch
from perfusion_pack.demo import model
from perfusion_pack.demo.making.look_words import LookWords, Named, WIDTH_OF_LOOK, encode_named, look_features
from perfusion_pack.demo.making.text import CaptionTokens
from perfusion_pack.demo.making.text_model import encode, train_text_model, use_table
from perfusion_pack.demo.world.things import THINGS

torch.manual_seed(0)
tokens, text_model = CaptionTokens(model.TOKENS), train_text_model()
use_table(text_model, len(tokens.vocabulary), model.ENCODING_WIDTH)
both = torch.nn.ModuleDict({"text": text_model, "look": LookWords(model.ENCODING_WIDTH, noise=0.0)})
hugsy, sippy = (look_features(THINGS[name].look) for name in ("hugsy", "sippy"))
assert all(len(look) == WIDTH_OF_LOOK and max(map(abs, look)) <= 1.2 for look in (hugsy, sippy)) and hugsy != sippy
teddy, cup, beside = "a photo of a teddy at night", "a photo of a cup at night", "a photo of a teddy beside a cup"
rows = tokens.rows([teddy, cup, teddy, beside, beside])
first, second = tokens.row_of("teddy"), tokens.row_of("cup")
nouns = torch.tensor([[first, -1], [-1, -1], [first, -1], [first, second], [-1, second]])
looks = torch.tensor([[hugsy, sippy]] * 5)
named = Named(looks, nouns, torch.tensor([True, True, False, True, True]))
plain, result = encode(text_model, rows), encode_named(both, rows, named)
noun, other = 5, 8  # after the start token and "a photo of a"; after "beside a"
changed = (plain - result).abs().amax(dim=-1) > 1e-5
assert changed[0].nonzero().flatten().tolist() == [noun]         # alone: every other token knows nothing of it
assert not changed[1].any()                                      # unnamed
assert changed[2, noun:].all() and not changed[2, :noun].any()   # known to all that follows, as of any word
assert torch.allclose(result[0, noun], result[2, noun], atol=1e-5)
assert changed[3].nonzero().flatten().tolist() == [noun, other]  # each of two looks at its own noun
assert changed[4].nonzero().flatten().tolist() == [other]
assert torch.allclose(result[3, noun], result[0, noun], atol=1e-5)
""")  # fmt: skip


def test_the_loss_counts_bodies_more_where_they_can_be_seen() -> None:
    scenes = [dataset.scene_number(number) for number in (0, dataset.OF_TWO.start)]
    bodies = all_body_cells(scenes)
    assert 30 < bodies[0].sum() < 110 and scenes[1].second_side == "left"
    assert body_cells(scenes[1])[8:11, 2:4].all() and not body_cells(scenes[1])[:4].any()
    weights = loss_weights(bodies, torch.tensor([1.0, 0.0]))
    assert weights.shape == (2, 1, 16, 16)
    assert torch.equal(weights[0, 0], torch.where(bodies[0], BODY_WEIGHT, 1.0)) and (weights[1] == 1).all()
