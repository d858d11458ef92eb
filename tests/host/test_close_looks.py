"""The pictures from which the close reader learns: groups of looks of one kind that differ in what can be seen."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from perfusion_pack.demo.making import close_looks, train_close_reader
from perfusion_pack.demo.making.close_looks import KINDS, LOOKS, ROOM, ROOMY, VIEWS, CloseLooks
from perfusion_pack.demo.making.close_reader import CROP
from perfusion_pack.demo.world import scenes
from perfusion_pack.demo.world.colours import distance
from perfusion_pack.demo.world.looks import Look
from perfusion_pack.demo.world.objects import draw_object
from perfusion_pack.demo.world.scenes import Pose, Scene
from perfusion_pack.demo.world.shapes import CATEGORIES


class Middle:
    """A recogniser that finds every object in the same square."""

    def body_mask(self, pictures: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(len(pictures), 128, 128)
        mask[:, 34:94, 34:94] = 1.0
        return mask


def differing(one: Look, other: Look) -> set[str]:
    return {field.name for field in fields(Look) if getattr(one, field.name) != getattr(other, field.name)}


def test_there_is_a_kind_for_every_category_scheme_and_ear_of_a_teddy() -> None:
    assert len(KINDS) == len(set(KINDS)) == 7 * 4 + 4 * 3


@pytest.mark.parametrize("number", [0, 4, 17, 25, 39, 80])
def test_the_looks_of_a_group_are_of_one_kind_and_differ_in_what_is_seen(number: int) -> None:
    first, *others = close_looks.group(number)
    assert len(others) == LOOKS - 1 and close_looks.group(number) == [first, *others]
    for other in others:
        assert close_looks.kind_of(other) == close_looks.kind_of(first) == KINDS[number % len(KINDS)]
        assert 1 <= len(differing(first.look, other.look)) <= 2
        pose = Pose(64.0, 62.0, 36.0)
        one, two = (
            np.asarray(scenes.render(Scene(placed, "studio"), pose)[0]).astype(int) for placed in (first, other)
        )
        assert (np.abs(one - two).max(axis=2) > 20).sum() >= 6


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("scheme", ["two-tone", "patched"])
def test_a_trait_counts_as_visible_where_changing_it_changes_the_picture(category: str, odd: bool, scheme: str) -> None:
    look = Look((200, 60, 60), (60, 60, 200), (60, 200, 60), scheme, odd=odd)
    changes = {"primary": (200, 200, 60), "secondary": (20, 20, 20), "accent": (250, 250, 250), "odd": not odd,
               "patch": (-0.2, 0.2), "pattern": "striped"}  # fmt: skip
    plain, _ = draw_object(category, look)
    seen = {trait for trait, value in changes.items()
            if draw_object(category, replace(look, **{trait: value}))[0].tobytes() != plain.tobytes()}  # fmt: skip
    assert set(close_looks.visible_traits(category, look)) == seen


def test_a_near_colour_is_close_and_not_too_close() -> None:
    rng = np.random.default_rng(0)
    for colour in ((248, 244, 236), (20, 90, 200)):
        far = [distance(colour, close_looks.near_colour(colour, rng)) for _ in range(150)]
        assert close_looks.CLOSE[0] <= min(far) and max(far) <= close_looks.CLOSE[1]


def test_a_group_is_cropped_with_room_around_the_mask_and_its_poses_are_told() -> None:
    shown = []

    def reconstruct(pictures: torch.Tensor) -> torch.Tensor:
        shown.append(pictures)
        return pictures * 0.5

    made = close_looks.draw_group(3, reconstruct, Middle())
    assert made.crops.shape == (LOOKS, VIEWS, 3, ROOMY, ROOMY) and made.crops.max() <= 128
    side = made.squares[..., 2]
    assert np.allclose(made.squares[..., :2], 63.5, atol=1) and np.allclose(side, 1.35 * ROOM * 60, rtol=0.05)
    assert made.poses.shape == (LOOKS, VIEWS, 5)
    _, mask = scenes.render(Scene(close_looks.group(3)[0], "studio"), Pose(*made.poses[0, 0, :4]))
    rows, columns = np.nonzero(np.asarray(mask) > 127)
    assert abs(columns.mean() - made.poses[0, 0, 0]) < 8 and abs(rows.mean() - made.poses[0, 0, 1]) < 12
    assert shown[0].shape == (LOOKS * VIEWS, 3, 128, 128)


def test_groups_that_are_there_are_not_drawn_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(close_looks, "KINDS", KINDS[:2])
    asked = []

    def draw(number: int, reconstruct: object, recogniser: object) -> CloseLooks:
        asked.append(number)
        return CloseLooks(*(np.full((LOOKS, VIEWS, 2), number, dtype=np.float32) for _ in fields(CloseLooks)))

    monkeypatch.setattr(close_looks, "draw_group", draw)
    assert close_looks.close_looks(tmp_path, 2, None, None).crops[:, 0, 0, 0].tolist() == [0, 1]
    assert close_looks.close_looks(tmp_path, 4, None, None).crops[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert asked == [0, 1, 2, 3]


def test_a_batch_pairs_pictures_of_one_look_and_moves_poses_and_colours_with_them() -> None:
    groups = len(KINDS) * 3
    rng = np.random.default_rng(0)
    crops = np.zeros((groups, LOOKS, VIEWS, 3, ROOMY, ROOMY), dtype=np.uint8)
    # A white dot in the middle of what is kept, where the pose says the object is; red tells the group.
    crops[..., ROOMY // 2 - 1 : ROOMY // 2 + 1, ROOMY // 2 - 1 : ROOMY // 2 + 1] = 255
    crops[:, :, :, 0, 0] = np.arange(groups, dtype=np.uint8)[:, None, None, None]
    squares = np.tile(np.float32([60, 66, 100]), (groups, LOOKS, VIEWS, 1))
    poses = np.tile(np.float32([60, 66, 30, 3, 1]), (groups, LOOKS, VIEWS, 1))
    batches = train_close_reader.Batches(CloseLooks(crops, squares, poses), rng)
    shown, said, identities, colours, seen = batches.draw()
    count = train_close_reader.KINDS_IN_BATCH * train_close_reader.GROUPS_OF_KIND * LOOKS * 2
    assert len(shown) == len(said) == len(colours) == len(seen) == count
    assert identities.bincount().tolist() == [2] * (count // 2)
    for crop, pose in zip(shown, said, strict=True):
        y, x = divmod(int(crop.sum(dim=0)[4:-4, 4:-4].argmax()), CROP - 8)
        assert x + 4.5 == pytest.approx((pose[0] + 0.5) * CROP, abs=1.5)
        assert y + 4.5 == pytest.approx((pose[1] + 0.5) * CROP, abs=1.5)
    pairs = colours.unflatten(0, (-1, 2))
    torch.testing.assert_close(pairs[:, 0], pairs[:, 1])


def test_channels_of_pictures_and_of_colours_change_places_alike() -> None:
    groups = len(KINDS) * 3
    placed = [each for number in range(groups) for each in close_looks.group(number)]
    primaries = np.array([each.look.primary for each in placed], dtype=np.uint8).reshape(groups, LOOKS, 1, 3, 1, 1)
    crops = np.broadcast_to(primaries, (groups, LOOKS, VIEWS, 3, ROOMY, ROOMY)).copy()
    places = np.ones((groups, LOOKS, VIEWS, 5), dtype=np.float32) * 60
    batches = train_close_reader.Batches(CloseLooks(crops, places[..., :3], places), np.random.default_rng(1))
    shown, _, _, colours, _ = batches.draw()
    torch.testing.assert_close(shown.mean(dim=(2, 3)), colours[:, 0], atol=0.005, rtol=0)
