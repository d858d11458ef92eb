"""The shipped recogniser reads the demo world, finds bodies, and tells things apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from perfusion_pack.demo.making import candidates, recogniser
from perfusion_pack.demo.world import scenes as world_scenes


@pytest.fixture(scope="module")
def reader() -> recogniser.Recogniser:
    if not recogniser.WEIGHTS.is_file():
        pytest.skip("demo/making/weights holds no recogniser; demo/making/train_recogniser.py makes it")
    return recogniser.load_recogniser()


@pytest.fixture(scope="module")
def held_out() -> tuple[list, torch.Tensor, torch.Tensor]:
    """Held-out scenes with their pictures [B, H, W, 3] and true masks [B, H, W]."""
    scenes = [world_scenes.random_scene(np.random.default_rng(10_000_000 + i)) for i in range(60)]
    drawn = [world_scenes.render(scene) for scene in scenes]
    pictures = torch.stack([torch.from_numpy(np.asarray(picture) / np.float32(255)) for picture, _ in drawn])
    masks = torch.stack([torch.from_numpy(np.asarray(mask) / np.float32(255)) for _, mask in drawn])
    return scenes, pictures, masks


def test_it_is_small(reader) -> None:
    assert recogniser.WEIGHTS.stat().st_size <= 600_000


def test_it_reads_held_out_pictures(reader, held_out) -> None:
    scenes, pictures, _ = held_out
    readings = reader.read(pictures)
    for name in ("category", "colour", "pattern"):
        right = [
            getattr(r, name) == getattr(s.main, name) for r, s in zip(readings, scenes, strict=True) if s.main.colour
        ]
        assert np.mean(right) >= 0.9, name
    assert np.mean([r.background == s.background for r, s in zip(readings, scenes, strict=True)]) >= 0.95
    assert np.mean([r.accessory == s.accessory for r, s in zip(readings, scenes, strict=True)]) >= 0.9
    seconds = [s.second.category if s.second else "none" for s in scenes]
    assert np.mean([r.second == second for r, second in zip(readings, seconds, strict=True)]) >= 0.9
    assert all((r.second == "none") == (r.second_colour == "") for r in readings)


def test_both_layouts_of_pictures_give_one_reading_and_others_are_refused(reader, held_out) -> None:
    pictures = held_out[1][:3]
    assert reader.read(pictures) == reader.read(pictures.movedim(-1, 1))
    with pytest.raises(ValueError, match=r"128.*\[3, 64, 64, 3\].*scale"):
        reader.read(pictures[:, ::2, ::2])


def test_it_finds_the_body(reader, held_out) -> None:
    _, pictures, masks = held_out
    found, true = reader.body_mask(pictures) > 0.5, masks > 0.5
    overlap = (found & true).sum(dim=(1, 2)) / (found | true).sum(dim=(1, 2)).clamp(min=1)
    assert overlap.mean() >= 0.75


def test_things_are_told_apart_and_likeness_knows_its_own(reader) -> None:
    looks = reader.candidates(candidates.candidate_pictures(count=2))
    references, masks = candidates.thing_tensors("hugsy")
    own = candidates.thing_scenes("hugsy", 12)
    other = candidates.thing_scenes("bruno", 12)
    assert reader.is_thing(own, "hugsy", looks).float().mean() >= 0.9
    assert not reader.is_thing(other, "hugsy", looks).any()
    like, unlike = reader.likeness(own, references, masks), reader.likeness(other, references, masks)
    assert like.look.mean() > unlike.look.mean() + 0.3
    assert like.colours.mean() > unlike.colours.mean() + 0.2


def test_a_histogram_counts_only_what_the_mask_shows() -> None:
    picture = torch.zeros(1, 3, 128, 128)
    picture[:, 0, :, 64:] = 1.0
    mask = torch.zeros(1, 128, 128)
    mask[:, :, 70:] = 1.0
    histogram = recogniser.colour_histogram(picture, mask).view(6, 6, 6)
    assert histogram[5, 0, 0] == pytest.approx(1.0)
    assert histogram.sum() == pytest.approx(1.0)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="none.safetensors.*train_recogniser"):
        recogniser.load_recogniser(tmp_path / "none.safetensors")
