"""Whether a background is told from one in other colours, in drawn pictures."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from perfusion_pack.demo.making.recogniser import load_recogniser
from perfusion_pack.demo.world.things import THINGS
from quality import background, conditions
from quality.cache import Cache
from quality.prompts import real_pictures

PINK = torch.tensor([40.0, 0.0, 20.0]).reshape(3, 1, 1) / 255


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return SimpleNamespace(
        strict=True, recogniser=load_recogniser(), hashes={}, cache=Cache(tmp_path_factory.mktemp("cache")),
        reconstruct=lambda pictures: pictures, remembered=lambda _name, make: make(),
    )  # fmt: skip


def test_real_backgrounds_are_their_own_and_tinted_ones_are_not(bench):
    prompts = conditions.prompts("moka", "same place", 9)
    real = real_pictures(THINGS["moka"].placed(), prompts, seed=3)
    plain, tinted = (np.array(background.distances(bench, shown, prompts), float) for shown in (real, real + PINK))
    assert (plain <= 1).mean() > 0.7
    assert (tinted > 1).mean() > 0.7 and (tinted > plain).mean() > 0.7
    others = [*prompts[1:], prompts[0]]  # asks for the background of another picture
    assert (np.array(background.distances(bench, real, others), float) > 1).mean() > 0.7


def test_what_no_prompt_asks_for_has_no_distance(bench):
    prompt = conditions.prompts("moka", "same place", 1)[0]
    silent = type(prompt)(prompt.text, {"size": "big"}, prompt.said)
    assert background.distances(bench, torch.zeros(1, 3, 128, 128), [silent]) == [None]
