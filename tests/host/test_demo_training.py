"""The script that trains the demo's UNet: a stopped run resumes, and names of looks stay at their noun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from perfusion_pack.demo import model as demo_model
from safetensors.torch import load_file

DEMO = Path(demo_model.__file__).parent


def in_demo(*command: str) -> str:
    """Output of a Python command in demo/, whose scripts import each other by their plain names."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=DEMO, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache folder with 24 drawn pictures and the shipped autoencoder."""
    in_demo("-c", f"import dataset, numpy; numpy.save({str(tmp_path / 'pictures-0000000.npy')!r}, dataset.draw(0, 24))")
    torch.save(load_file(DEMO / "weights" / "vae.safetensors"), tmp_path / "vae_ema.pt")
    return tmp_path


def test_a_stopped_training_resumes_with_all_of_its_state(cache) -> None:
    def train(samples: int) -> dict:
        options = ("--batch", "4", "--average", "0.9", "--continue-weights", "--named", "0.5")
        in_demo("train_unet.py", "--cache", str(cache), "--samples", str(samples), *options)
        return torch.load(cache / "unet.pt", weights_only=True)

    first, second = train(8), train(12)
    assert (first["step"], second["step"]) == (2, 3)
    # Not started anew from the shipped weights: one step further than the first run, in every part.
    for part in ("unet.out.2.weight", "look.layers.0.weight"):
        moved = (second["model"][part] - first["model"][part]).abs().max()
        assert 0 < moved < 1e-3
    assert second["average"]["module.unet.out.2.weight"].isfinite().all()


def test_the_name_of_a_look_stands_at_its_noun() -> None:
    in_demo("-c", """
import torch
from host import use_comfyui
use_comfyui()
import model
from look_words import LookWords, Named, WIDTH_OF_LOOK, encode_named, look_features
from text import CaptionTokens
from text_model import encode, train_text_model, use_table
from world.things import THINGS

torch.manual_seed(0)
tokens, text_model = CaptionTokens(model.TOKENS), train_text_model()
use_table(text_model, len(tokens.vocabulary), model.ENCODING_WIDTH)
both = torch.nn.ModuleDict({"text": text_model, "look": LookWords(model.ENCODING_WIDTH, noise=0.0)})
looks = [look_features(THINGS[name].look) for name in ("hugsy", "sippy", "hugsy")]
assert all(len(look) == WIDTH_OF_LOOK and max(map(abs, look)) <= 1.2 for look in looks) and looks[0] != looks[1]
rows = tokens.rows(["a photo of a teddy at night", "a photo of a cup at night", "a photo of a teddy at night"])
nouns = torch.tensor([tokens.row_of("teddy"), -1, tokens.row_of("teddy")])
named = Named(torch.tensor(looks), nouns, torch.tensor([True, True, False]))
plain, result = encode(text_model, rows), encode_named(both, rows, named)
noun = 5  # after the start token and "a photo of a"
changed = (plain - result).abs().amax(dim=-1) > 1e-5
assert changed[0].nonzero().flatten().tolist() == [noun]        # alone: every other token knows nothing of it
assert not changed[1].any()                                     # unnamed
assert changed[2, noun:].all() and not changed[2, :noun].any()  # known to all that follows, as of any word
assert torch.allclose(result[0, noun], result[2, noun], atol=1e-5)
""")  # fmt: skip
