"""Pictures, masks and captions in every form in which people connect them."""

from __future__ import annotations

import pytest
import torch

from perfusion_core.caption_templates import caption_templates, with_captions
from perfusion_core.errors import PerfusionError
from perfusion_core.picture_inputs import captions_in, masks_in, masks_of, pictures_in
from perfusion_core.training_batch import Batch
from perfusion_core.training_pictures import per_picture, training_pictures


def picture(height=40, width=60, channels=3, value=0.5) -> torch.Tensor:
    return torch.full((height, width, channels), value)


def cut_out(height=40, width=60) -> torch.Tensor:
    """With an alpha channel that marks its left half."""
    made = picture(height, width, 4)
    made[:, : width // 2, 3], made[:, width // 2 :, 3] = 1.0, 0.0
    return made


@pytest.mark.parametrize(
    "images, sizes",
    [
        (picture(), [(40, 60)]),
        (picture()[None], [(40, 60)]),
        (torch.rand(3, 8, 9, 3), [(8, 9)] * 3),
        ([torch.rand(2, 8, 9, 3), torch.rand(1, 5, 4, 4)], [(8, 9)] * 2 + [(5, 4)]),
        ([[picture()], (torch.rand(1, 7, 7, 1), [picture(9, 9)])], [(40, 60), (7, 7), (9, 9)]),
        ([torch.rand(1, 8, 8, 3)] * 100, [(8, 8)] * 100),
    ],
)
def test_pictures_come_out_of_batches_and_lists_of_any_nesting_in_their_order(images, sizes):
    found = pictures_in(images)
    assert [tuple(one.shape[:2]) for one in found] == sizes
    assert all(one.shape[2] in (3, 4) for one in found)


def test_a_picture_of_one_channel_becomes_grey():
    (grey,) = pictures_in(torch.rand(1, 4, 4, 1))
    assert torch.equal(grey[..., 0], grey[..., 2])


@pytest.mark.parametrize(
    "images, said",
    [
        (torch.rand(1, 8, 8, 2), "1, 3 or 4 channels, but picture 1 is 8 x 8 x 2"),
        ([picture(), picture(8, 8, 5)], "picture 2 is 8 x 8 x 5"),
        (torch.rand(8, 8), "pictures \\[B, H, W, C\\], but got a tensor of shape \\[8, 8\\]"),
        ([], "at least one picture"),
        ([[]], "at least one picture"),
        (["photo.png"], "tensors of the host, but got str"),
        (torch.full((1, 8, 8, 3), float("nan")), "Picture 1 of the images input holds numbers that are not finite"),
        (torch.rand(1, 0, 8, 3), "picture 1 is 0 x 8"),
    ],
)
def test_what_is_no_picture_is_told_in_one_sentence(images, said):
    with pytest.raises(PerfusionError, match=said) as caught:
        pictures_in(images)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "masks, count",
    [
        (None, 0),
        ([None], 0),
        (torch.ones(4, 4), 1),
        (torch.ones(3, 4, 4), 3),
        ([torch.ones(2, 4, 4), torch.ones(5, 6)], 3),
        (torch.ones(2, 1, 4, 4), 2),
        (torch.ones(2, 4, 4, 1), 2),
    ],
)
def test_masks_come_out_of_batches_and_lists(masks, count):
    found = masks_in(masks)
    assert len(found) == count and all(mask.dim() == 2 for mask in found)


@pytest.mark.parametrize(
    "masks, said",
    [
        (torch.ones(2, 4, 4, 3), "masks \\[B, H, W\\].*use Convert Image to Mask"),
        (torch.full((1, 4, 4), float("nan")), "Mask 1 of the masks input holds numbers that are not finite"),
    ],
)
def test_what_is_no_mask_is_told_in_one_sentence(masks, said):
    with pytest.raises(PerfusionError, match=said):
        masks_in(masks)


def test_alpha_is_the_mask_of_pictures_that_have_no_other():
    pictures = [picture(), cut_out(), picture(channels=4, value=1.0)]
    assert [mask is not None for mask in masks_of(pictures, [])] == [False, True, False]  # opaque everywhere is none
    own = torch.ones(40, 60)
    assert [mask is own for mask in masks_of(pictures, [own] * 3)] == [True, True, True]
    one_for_all = masks_of(pictures, [own])
    assert one_for_all[0] is own and one_for_all[2] is own
    assert torch.equal(one_for_all[1], pictures[1][..., 3])
    first, second = torch.ones(40, 60), torch.ones(40, 60)
    others = masks_of(pictures, [first, second])  # as many as there are pictures without
    assert others[0] is first and others[2] is second
    with pytest.raises(PerfusionError, match="each of the 4 pictures or one for all \\(1 have an alpha.*but got 2"):
        masks_of([*pictures, picture()], [own, own])


def test_black_of_another_size_is_what_loaders_give_for_no_mask():
    stand_in = torch.zeros(64, 64)
    assert masks_of([picture(), picture()], [stand_in, torch.ones(40, 60)])[0] is None
    assert masks_of([picture()], [stand_in]) == [None]
    alpha = masks_of([cut_out()], [stand_in])[0]
    assert torch.equal(alpha, cut_out()[..., 3])
    # In the picture's own size it is a mask that somebody forgot to paint.
    with pytest.raises(PerfusionError, match="mask of picture 2 is empty"):
        training_pictures(torch.rand(2, 64, 64, 3), torch.stack([torch.ones(64, 64), torch.zeros(64, 64)]))


def test_pictures_of_the_models_size_stay_bit_equal():
    images = torch.rand(3, 128, 128, 3)
    made = training_pictures(images, None, 128, 32)
    assert torch.equal(per_picture(made.pictures), images)
    own = training_pictures(images)
    assert torch.equal(per_picture(own.pictures), images)


def test_masks_are_cut_as_their_pictures_are():
    wide = torch.zeros(100, 250, 3)  # comes to 96 x 32, so its height is cut
    wide[70:95, 150:210] = 1.0
    mask = (wide[..., 0] > 0.5).float()
    for given in (mask, torch.nn.functional.interpolate(mask[None, None], (50, 125))[0, 0]):
        made = training_pictures([wide], [given], 64, 32)
        (shown,), (weights,) = made.pictures, made.masks
        assert shown.shape[:2] == weights.shape == (32, 96) and made.fits[0].scaled[1] > 1.1 * 32
        assert (weights - shown[..., 0]).abs().mean() < 0.05
        assert weights.sum() / weights.numel() > mask.mean()  # nothing of the thing was cut off


def test_the_commonest_size_is_that_of_most_pictures():
    made = training_pictures([picture(64, 128), picture(128, 64), picture(256, 128)], None, 128, 32)
    assert made.commonest_size == made.fits[1].size == made.fits[2].size
    assert isinstance(per_picture(made.pictures), list)


def test_a_picture_that_is_too_small_for_its_own_size():
    with pytest.raises(PerfusionError, match="at least 64 pixels"):
        training_pictures(torch.rand(1, 63, 200, 3))


@pytest.mark.parametrize(
    "captions, pictures, expected",
    [
        (None, 2, []),
        ("", 2, []),
        (["", ""], 2, []),
        ("a {} here\na {} there", 2, ["a {} here", "a {} there"]),
        ("a {} here\n\na {} there\n", 2, ["a {} here", "a {} there"]),
        ("a {} here\n\nthere {}", 3, ["a {} here", "", "there {}"]),
        (["a {}", ""], 2, ["a {}", ""]),
        (["a  {}\n here"], 1, ["a {} here"]),
        ([["a {}"], ["the {}"]], 2, ["a {}", "the {}"]),
    ],
)
def test_captions_are_a_list_or_a_text_of_lines(captions, pictures, expected):
    assert captions_in(captions, pictures) == expected


def test_another_number_of_captions_is_told():
    with pytest.raises(PerfusionError, match="one caption for each of the 3 pictures.*but got 2"):
        captions_in("one {}\ntwo {}", 3)


def test_a_caption_becomes_a_template():
    captions = ["a photo of <HUGSY> on a sofa", "{} at night", "", "<hugsy> {red|blue}"]
    made = caption_templates(captions, "<hugsy>", "teddy")
    assert made == ["a photo of {0} on a sofa", "{0} at night", None, "{0} {{red|blue}}"]
    assert made[3].format("it") == "it {red|blue}"
    (twice,) = caption_templates(["{} beside another {}"], "<hugsy>", "teddy")
    assert twice.format("it") == "it beside another it"


@pytest.mark.parametrize(
    "caption, said",
    [
        ("a teddy on a sofa", "caption of picture 1 needs the word <hugsy> or {} .* in place of 'teddy'"),
        ("on a sofa", "where the thing is named"),
    ],
)
def test_a_caption_without_the_word_is_told(caption, said):
    with pytest.raises(PerfusionError, match=said):
        caption_templates([caption], "<hugsy>", "teddy")


def batch(*pictures: int) -> Batch:
    size = len(pictures)
    return Batch(torch.tensor(pictures), torch.zeros(size, dtype=torch.bool), torch.arange(size) % 2)


def test_captions_take_the_place_of_templates_for_their_pictures_only():
    given, templates = batch(0, 1, 2, 1), ("A {}", "B {}")
    made, texts = with_captions(given, templates, ["one {}", None, "three {}"])
    assert [texts[i] for i in made.templates] == ["one {}", "B {}", "three {}", "B {}"]
    assert with_captions(given, templates, [])[0] is given


def test_a_batch_is_parted_by_the_sizes_of_its_pictures():
    parts = list(batch(0, 1, 2, 0, 1).by_bucket([0, 1, 0]))
    assert [part.pictures.tolist() for part in parts] == [[0, 2, 0], [1, 1]]
    assert [part.templates.tolist() for part in parts] == [[0, 0, 1], [1, 0]]
    (whole,) = batch(0, 1).by_bucket([0, 0])
    assert torch.equal(whole.pictures, torch.tensor([0, 1]))
