"""The demo world: the same pictures for ever, captions that the model's vocabulary covers, true masks, things."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

import numpy as np
import pytest
from by_location import load_package


@pytest.fixture(scope="module")
def world() -> ModuleType:
    """demo/world under a name of its own, so that nothing else of demo/ comes onto the import path."""
    name = "perfusion_demo_world"
    package = load_package(name, "demo/world")
    for part in ("backgrounds", "captions", "colours", "looks", "objects", "scenes", "shapes", "things"):
        importlib.import_module(f"{name}.{part}")
    return package


@pytest.fixture()
def known_words() -> set[str]:
    """The words from which the demo model's vocabulary is made, as demo/making/text.py lists them."""
    load_package("demo", "demo")
    from demo.making import text

    return set(text.world_words())


def scene(world: ModuleType, number: int):
    return world.scenes.random_scene(np.random.default_rng(number))


@pytest.mark.parametrize("number", [0, 7, 10_000_000])
def test_a_picture_depends_on_its_number_alone(world: ModuleType, number: int) -> None:
    first, second = (world.scenes.render(scene(world, number)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert first[0].size == first[1].size == (128, 128)
    assert (first[0].mode, first[1].mode) == ("RGB", "L")


def test_every_value_of_every_attribute_occurs_and_a_third_of_the_looks_has_no_name(world: ModuleType) -> None:
    scenes = [scene(world, number) for number in range(2000)]
    assert {s.main.category for s in scenes} == set(world.shapes.CATEGORIES)
    assert {s.main.colour for s in scenes} == {"", *world.colours.NAMES}
    assert {s.main.pattern for s in scenes} == {"", *world.looks.PATTERNS}
    assert {s.background for s in scenes} == set(world.backgrounds.BACKGROUNDS)
    assert {s.accessory for s in scenes} == set(world.objects.ACCESSORIES)
    assert {s.second_side for s in scenes if s.second} == {"left", "right"}
    assert all(s.second.category != s.main.category for s in scenes if s.second)
    assert 0.25 < np.mean([s.main.colour == "" for s in scenes]) < 0.45


def test_captions_use_only_words_of_the_vocabulary(world: ModuleType, known_words: set[str]) -> None:
    for number in range(500):
        shown, rng = scene(world, number), np.random.default_rng(number)
        said = [world.captions.caption(shown, rng, free_looks=free) for free in (False, True) for _ in range(4)]
        for text in (world.captions.full_caption(shown), *said):
            assert set(re.findall(r"[A-Za-z]+|[^\sA-Za-z]", text)) <= known_words, text


def test_a_full_caption_states_everything_and_a_free_look_is_never_named(world: ModuleType) -> None:
    for number in range(300):
        shown = scene(world, number)
        text = world.captions.full_caption(shown)
        main = text.partition(" beside ")[0]
        assert shown.main.category in main and world.backgrounds.PHRASES[shown.background] in text
        if shown.main.colour:
            assert shown.main.colour in main
        else:
            assert not set(main.split()) & {*world.colours.NAMES, *world.looks.PATTERNS}
        if shown.accessory != "none":
            assert shown.accessory in main
        if shown.second:
            assert f"{shown.second.category} " in text.partition(" beside ")[2]


def test_captions_of_free_looks_name_two_of_the_three_colours_and_the_scheme(world: ModuleType) -> None:
    scenes, named = world.scenes, world.colours.rough_name
    for number in range(200):
        rng = np.random.default_rng(number)
        main = scenes.random_object(rng, free_looks=1.0)
        text = world.captions.caption(scenes.random_scene(rng, main), rng, detail=1.0, free_looks=True)
        look = main.look
        assert f"{look.scheme} {named(look.primary)} and {named(look.secondary)} {main.category}" in text


def test_a_rough_name_says_hue_and_shade(world: ModuleType) -> None:
    names = {world.colours.rough_name(world.colours.free(np.random.default_rng(n))) for n in range(3000)}
    assert names <= set(world.colours.FREE_NAMES) and len(names) > 25
    of = {(113, 206, 133): "pale green", (20, 60, 140): "dark blue", (248, 244, 236): "white", (230, 40, 40): "red"}
    for colour, name in of.items():
        assert world.colours.rough_name(colour) == name


def test_a_caption_states_no_more_than_its_share(world: ModuleType) -> None:
    shown = next(
        s for s in map(lambda n: scene(world, n), range(100)) if s.main.colour and s.second and s.accessory != "none"
    )
    rng = np.random.default_rng(0)
    said = [shown.accessory in world.captions.caption(shown, rng, detail=0.5) for _ in range(400)]
    assert 0.4 < np.mean(said) < 0.6
    assert shown.background not in world.captions.caption(shown, rng, detail=0.0)


def test_the_mask_covers_the_main_object_and_not_its_accessory(world: ModuleType) -> None:
    from dataclasses import replace

    red = world.looks.Look((255, 0, 0), (255, 0, 0), (255, 0, 0))
    plain = world.scenes.Scene(world.scenes.Placed("ball", red), "studio", seed=3)
    picture, mask = (np.asarray(image).astype(int) for image in world.scenes.render(plain))
    inside = mask > 250
    assert 800 < inside.sum() < 6000
    assert (picture[inside][:, 0] > 240).mean() > 0.98 and (picture[inside][:, 1] < 20).mean() > 0.98
    outside = mask == 0
    assert not ((picture[outside][:, 0] > 200) & (picture[outside][:, 1] < 60)).any()

    dressed = replace(plain, accessory="scarf")
    _, covered = world.scenes.render(dressed)
    assert (np.asarray(covered) > 250).sum() < 0.9 * inside.sum()


def test_scenes_of_two_have_a_second_look_that_no_words_say(world: ModuleType) -> None:
    scenes = [world.scenes.random_scene_of_two(np.random.default_rng(number)) for number in range(300)]
    assert all(s.second and not s.second.colour and s.second.category != s.main.category for s in scenes)
    assert {s.second_side for s in scenes} == {"left", "right"} and {s.size + s.place for s in scenes} == {""}
    assert 0.4 < np.mean([s.main.colour == "" for s in scenes]) < 0.6
    for number, shown in enumerate(scenes):
        text = world.captions.caption(shown, np.random.default_rng(number), detail=1.0)
        assert re.search(rf"(beside|next to|and) a {shown.second.category}\b", text), text


def test_main_objects_are_drawn_where_centres_says(world: ModuleType) -> None:
    for number in range(40):
        shown = scene(world, number)
        x, y, half = world.scenes.centres(shown)[0]
        mask = np.asarray(world.scenes.render(shown)[1]) > 127
        rows, columns = np.nonzero(mask)
        assert abs((columns.min() + columns.max()) / 2 - x) < 12 and abs(rows.max() - y) < 1.3 * half
        box = mask[int(y - half - 4) : int(y + half + 4), int(x - half - 4) : int(x + half + 4)]
        assert box.sum() > 0.9 * mask.sum()


def test_things_lie_outside_what_captions_say_and_keep_their_look(world: ModuleType) -> None:
    things = world.things.THINGS
    assert len(things) >= 12 and len({thing.category for thing in things.values()}) >= 4
    assert sum(thing.held_out for thing in things.values()) == 4
    for name, thing in things.items():
        assert name == thing.name and thing.look.scheme != "solid" and thing.placed().colour == ""
    looks = [(thing.category, thing.look) for thing in things.values()]
    assert len(set(looks)) == len(looks)


def test_five_pictures_of_a_thing_lie_before_five_backgrounds(world: ModuleType) -> None:
    pictures = world.things.thing_pictures("hugsy", 5)
    again = world.things.thing_pictures("hugsy", 5)
    for (picture, mask), (picture_again, mask_again) in zip(pictures, again, strict=True):
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(picture_again))
        np.testing.assert_array_equal(np.asarray(mask), np.asarray(mask_again))
        assert 300 < (np.asarray(mask) > 127).sum() < 8000
    corners = {tuple(np.asarray(picture)[0, 0] // 24) for picture, _ in pictures}
    assert len(corners) == 5
    other = world.things.thing_pictures("hugsy", 5, seed=1)
    assert not np.array_equal(np.asarray(other[0][0]), np.asarray(pictures[0][0]))


@pytest.mark.parametrize("number", range(8))
def test_a_scene_is_drawn_in_the_pose_that_it_tells(world: ModuleType, number: int) -> None:
    shown = scene(world, number)
    pose = world.scenes.pose_of(shown)
    for one, other in zip(world.scenes.render(shown), world.scenes.render(shown, pose), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert pose.half == pytest.approx(world.scenes.centres(shown)[0][2], rel=0.051)
    assert abs(pose.lean) <= world.scenes.LEAN
    assert not pose.mirrored or shown.main.category in world.scenes.MIRRORED


def test_a_pose_says_where_an_object_is_how_large_and_which_way_it_looks(world: ModuleType) -> None:
    scenes = world.scenes
    zippy = scenes.Scene(world.things.THINGS["zippy"].placed(), "studio")

    def mask(**changes: object) -> np.ndarray:
        return np.asarray(scenes.render(zippy, scenes.Pose(**{"x": 60.0, "y": 64.0, "half": 28.0, **changes}))[1]) > 127

    plain = mask()
    np.testing.assert_array_equal(mask(x=70.0, y=61.0), np.roll(plain, (-3, 10), axis=(0, 1)))
    assert mask(half=33.6).sum() == pytest.approx(1.44 * plain.sum(), rel=0.03)
    assert not np.array_equal(mask(lean=6.0), plain)
    # The cabin is a little left of the middle, and on the other side in the mirror.
    top = plain.any(axis=1).argmax()
    assert plain[top].nonzero()[0].mean() < 60 < mask(mirrored=True)[top].nonzero()[0].mean()
