"""The conditions of training pictures: what is always there, what prompts ask for after them, and true masks."""

from __future__ import annotations

import pytest
from perfusion_pack.demo.world.backgrounds import PHRASES
from perfusion_pack.demo.world.colours import NAMES
from perfusion_pack.demo.world.things import THINGS
from quality import conditions, plan

CONDITIONS = tuple(plan.FULL.conditions)
COUNT = 12


def values(scenes, name: str) -> set[str]:
    return {getattr(scene, name) for scene in scenes}


def test_both_kinds_of_entanglement_occur_and_no_cup_stands_beside_a_cup() -> None:
    for things in (plan.FULL.held_out, plan.FULL.tuning):
        assert {conditions.has_scarf(thing) for thing in things} == {True, False}
    assert all(conditions.has_scarf(name) for name, thing in THINGS.items() if thing.category == "cup")


@pytest.mark.parametrize("thing", THINGS)
def test_what_the_training_pictures_have_in_common(thing: str) -> None:
    scenes = {name: conditions.training_scenes(thing, name) for name in CONDITIONS}
    assert [len(scenes[name]) for name in CONDITIONS] == [5, 5, 5, 1, 5]
    assert all(scene.main == THINGS[thing].placed() for of in scenes.values() for scene in of)
    varied, same = scenes[plan.VARIED], scenes[plan.SAME_PLACE]
    assert len(values(varied, "background")) == 5 and values(varied, "second") == {None}
    assert (
        all(len(values(same, name)) == 1 for name in ("background", "size", "place")) and len(values(same, "seed")) == 5
    )
    assert scenes[plan.ONE_PICTURE] == varied[:1]
    entangled = scenes[plan.ENTANGLED]
    assert len(values(entangled, "background")) == 5
    if conditions.has_scarf(thing):
        assert values(entangled, "accessory") == {"scarf"} and values(entangled, "second") == {None}
    else:
        assert values(entangled, "second") == {conditions.RED_CUP} and values(entangled, "accessory") == {"none"}
    seconds = [scene.second.category for scene in scenes[plan.CLUTTER]]
    assert len(set(seconds)) == 5 and THINGS[thing].category not in seconds


def test_an_unknown_condition_is_named() -> None:
    with pytest.raises(ValueError, match="'upside down'"):
        conditions.training_scenes("hugsy", "upside down")


@pytest.mark.parametrize("thing", ["mopsy", "rusty"])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_pictures_come_with_the_masks_of_the_thing_alone(thing: str, condition: str) -> None:
    pictures, masks = conditions.training_pictures(thing, condition)
    assert pictures.shape[1:] == (3, 128, 128) and masks.shape == (len(pictures), 128, 128)
    bare = conditions.training_pictures(thing, plan.VARIED)[1]
    area = masks.sum(dim=(1, 2))
    assert (area > 300).all() and (area < 8000).all()
    if condition == plan.ENTANGLED and conditions.has_scarf(thing):
        assert (masks <= bare + 1e-6).all() and (area < bare.sum(dim=(1, 2))).all(), "the scarf is not the thing"


@pytest.mark.parametrize("thing", ["mopsy", "moka", "rusty", "bubbles", "hugsy"])
@pytest.mark.parametrize("condition", CONDITIONS[1:])
def test_prompts_ask_for_what_was_never_there_and_for_nothing_else(thing: str, condition: str) -> None:
    scenes, prompts = conditions.training_scenes(thing, condition), conditions.prompts(thing, condition, COUNT)
    assert len({prompt.text for prompt in prompts}) == len(prompts) == COUNT
    absent = 0
    for prompt in prompts:
        asked = dict(prompt.asked)
        assert "category" not in asked
        for name in ("background", "size", "place", "accessory"):
            assert asked.get(name) not in values(scenes, name), prompt
        if "second" in asked:
            there = {scene.second.category for scene in scenes if scene.second}
            assert there and asked["second"] not in there | {THINGS[thing].category}
        absent += "none" in asked.values()
        # What is asked for is in the text, or asked for by silence.
        for name, value in asked.items():
            word = PHRASES[value] if name == "background" else value
            assert (word in prompt.text) == (value != "none"), prompt
        assert asked.get("second_colour", NAMES[0]) in NAMES
    assert absent == (COUNT * 2 // 3 if condition in (plan.ENTANGLED, plan.CLUTTER) else 0)
