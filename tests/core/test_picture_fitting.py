"""Pictures of any size come to sizes that can be trained on, and nothing is stretched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfusion_core.errors import PerfusionError
from perfusion_core.picture_fitting import MOST_AREA, Fit, bucket_size, buckets, described, fit_picture, fitted

RESOLUTIONS = [(512, 64), (768, 64), (1024, 64), (128, 32)]


def cut_share(fit: Fit) -> float:
    """The share of the picture's area that is cut off, 0..1."""
    return 1 - fit.size[0] * fit.size[1] / (fit.scaled[0] * fit.scaled[1])


@given(st.integers(1, 6000), st.integers(1, 6000), st.sampled_from(RESOLUTIONS))
def test_every_size_comes_to_a_bucket_of_the_models_area(width, height, model):
    resolution, step = model
    w, h = bucket_size(width, height, resolution, step)
    assert w % step == h % step == 0 and min(w, h) >= step
    assert w * h <= MOST_AREA * resolution**2
    if max(width, height) <= 2 * min(width, height):
        assert w * h >= 0.7 * resolution**2


@given(st.integers(16, 4000), st.integers(16, 4000), st.sampled_from(RESOLUTIONS))
def test_the_cut_lies_inside_and_the_ratio_stays(width, height, model):
    fit = fit_picture(width, height, *model)
    assert 0 <= fit.left <= fit.scaled[0] - fit.size[0] and 0 <= fit.top <= fit.scaled[1] - fit.size[1]
    # One side is filled, so nothing is cut that need not be; rounding moves the other by half a pixel.
    assert fit.scaled[0] == fit.size[0] or fit.scaled[1] == fit.size[1]
    assert abs(fit.scaled[0] * height - fit.scaled[1] * width) <= 0.5 * max(width, height) + 1e-6
    if 1 / 2 <= width / height <= 2 and model[1] == 64:
        assert cut_share(fit) < 0.13


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_a_model_of_one_square_sees_whole_pictures(width, height):
    fit = fit_picture(width, height, 128, 128)
    assert fit.size == (128, 128) and max(fit.scaled) == 128
    for scaled, first in zip(fit.scaled, (fit.left, fit.top), strict=True):
        assert -first >= 0 and abs((128 - scaled) + 2 * first) <= 1


def test_beyond_the_picture_its_edges_go_on_and_no_mask_does():
    picture = torch.rand(128, 80, 3)
    fit = fit_picture(80, 128, 128, 128)
    square = fitted(picture, fit)
    assert square.shape == (128, 128, 3) and torch.equal(square[:, 24:104], picture)
    assert torch.equal(square[:, :24], picture[:, :1].expand(-1, 24, -1))
    assert torch.equal(square[:, 104:], picture[:, -1:].expand(-1, 24, -1))
    mask = fitted(torch.ones(128, 80, 1), fit, "constant")
    assert mask[:, 24:104].min() == 1 and mask.sum() == 128 * 80


@given(st.integers(16, 4000), st.integers(16, 4000))
def test_a_turned_picture_takes_the_turned_bucket(width, height):
    assert bucket_size(width, height, 512, 64) == bucket_size(height, width, 512, 64)[::-1]


@pytest.mark.parametrize(
    ("picture", "resolution", "size"),
    [
        ((512, 512), 512, (512, 512)),
        ((4000, 3000), 512, (576, 448)),
        ((3000, 4000), 512, (448, 576)),
        ((4000, 3000), 1024, (1216, 896)),
        ((1920, 1080), 1024, (1344, 768)),
        ((300, 300), 768, (768, 768)),
        ((10000, 10), 512, (4096, 64)),
    ],
)
def test_sizes_that_people_know(picture, resolution, size):
    assert bucket_size(*picture, resolution, 64) == size


def test_a_picture_that_fits_is_left_as_it_is():
    picture = torch.rand(512, 512, 3)
    fit = fit_picture(512, 512, 512, 64)
    assert torch.equal(fitted(picture, fit), picture) and fit.enlargement == 1 and cut_share(fit) == 0


def test_the_cut_goes_towards_the_mask():
    mask = torch.zeros(400, 1200)
    mask[100:300, 1150:1200] = 1
    middle, towards = fit_picture(1200, 400, 512, 64), fit_picture(1200, 400, 512, 64, mask)
    assert cut_share(middle) > 0.05 and towards.left == towards.scaled[0] - towards.size[0] > middle.left
    assert fit_picture(1200, 400, 512, 64, torch.zeros(400, 1200)) == middle
    picture = mask[..., None].expand(-1, -1, 3)
    assert fitted(picture, towards).sum() > fitted(picture, middle).sum()


def test_scaling_keeps_brightness_and_range():
    picture = torch.rand(900, 700, 3, generator=torch.Generator().manual_seed(0))
    fit = fit_picture(700, 900, 128, 32)
    small = fitted(picture, fit)
    assert small.shape == (fit.size[1], fit.size[0], 3)
    assert 0 <= small.min() and small.max() <= 1 and abs(small.mean() - picture.mean()) < 0.01
    assert small.std() < 0.15, "a photo that is sampled and not averaged keeps the noise of its pixels"


def test_pictures_of_one_size_share_a_bucket():
    fits = [fit_picture(*size, 512, 64) for size in ((4000, 3000), (512, 512), (800, 600), (300, 300))]
    assert buckets(fits) == {(576, 448): (0, 2), (512, 512): (1, 3)}
    assert described(fits) == "2 at 576 x 448, 2 at 512 x 512; 1 enlarged, from 300 x 300"


@pytest.mark.parametrize("resolution", [0, 32, 500])
def test_a_resolution_off_the_step_is_told(resolution):
    with pytest.raises(PerfusionError, match="resolution must be a multiple of 64 .* use (64|512)"):
        bucket_size(600, 600, resolution, 64)
