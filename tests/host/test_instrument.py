"""The strict instrument: its question, its drawing in the same pose, and what the shipped close reader can tell."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from by_location import REPOSITORY
from perfusion_pack.demo.making import (
    close_reader,
    gallery,
    instrument,
    measure_concepts,
    own_frame,
    part_colours,
    recogniser,
)
from perfusion_pack.demo.making.recogniser_data import as_tensor, shown_by
from perfusion_pack.demo.making.train_vae import shipped_autoencoder
from perfusion_pack.demo.world import scenes as world_scenes
from perfusion_pack.demo.world.scenes import Pose, Scene
from perfusion_pack.demo.world.things import THINGS

needs_weights = pytest.mark.skipif(
    not recogniser.WEIGHTS.is_file() or not close_reader.WEIGHTS.is_file(),
    reason="demo/making/weights lacks what train_recogniser and train_close_reader make",
)
POSES = [Pose(50.0, 70.0, 30.0, 5.0, True), Pose(64.0, 60.0, 24.0, -3.0, False)]


class Nowhere:
    """A recogniser to which every picture is empty and alike."""

    def body_mask(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(pictures), 128, 128)


def drawn(placed, pose: Pose, background: str = "studio", accessory: str = "none") -> torch.Tensor:
    return as_tensor(np.array(world_scenes.render(Scene(placed, background, accessory), pose)[0])[None])


def reading(accessory: str = "none") -> recogniser.Reading:
    return recogniser.Reading("teddy", "", "", "studio", accessory, "none", "", {})


# --- The question


def test_the_others_share_kind_and_nothing_else() -> None:
    for name, thing in THINGS.items():
        others = gallery.others_like(thing.placed())
        assert len(others) == 200
        assert {other.category for other in others} == {thing.category}
        assert {other.look.scheme for other in others} == {thing.look.scheme}
        if thing.category == "teddy":
            assert {other.look.ears for other in others} == {thing.look.ears}
        assert len({other.look.primary for other in others}) > 190, name
        assert thing.look not in [other.look for other in others]


def test_a_seed_gives_the_same_others_and_another_seed_gives_others() -> None:
    thing = THINGS["zippy"].placed()
    first, again, other = (gallery.others_like(thing, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_a_rank_counts_the_others_that_are_nearer() -> None:
    distances = torch.tensor([[1.0, 2, 3, 4], [0.6, 0.5, 0.7, 0.8], [5.0, 3, 4, 2]])
    assert gallery.ranks(distances).tolist() == [0, 1, 3]


@pytest.fixture(scope="module")
def small_gallery():
    """Zippy, a car of two colours, then two of its kind, without the autoencoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "others_like", lambda placed, seed: gallery_others(placed)[:2])
        return gallery.gallery(THINGS["zippy"].placed(), lambda pictures: pictures)


gallery_others = gallery.others_like


@pytest.mark.parametrize("accessory", ["none", "hat", "scarf"])
@pytest.mark.parametrize("pose", POSES)
def test_a_thing_is_nearest_to_itself_in_any_pose_and_dress(small_gallery, pose: Pose, accessory: str) -> None:
    members = [THINGS["zippy"].placed(), *gallery_others(THINGS["zippy"].placed())[:2]]
    for number, member in enumerate(members):
        picture = drawn(member, pose, "night", accessory)[0]
        read = replace(pose, x=pose.x + 2, half=pose.half * 1.04, mirrored=not pose.mirrored)  # somewhat misread
        distances, found = small_gallery.nearest_pose(picture, [POSES[0], read], accessory)
        assert distances.argmin() == number
        assert distances[number] < 45 < distances[torch.arange(3) != number].min()
        if number == 0:
            assert found.mirrored == pose.mirrored
            assert np.hypot(found.x - pose.x, found.y - pose.y) < 2
            assert found.half == pytest.approx(pose.half, rel=0.06)


def test_a_distance_is_the_root_of_the_mean_square_over_what_is_seen() -> None:
    looks, seen = torch.zeros(1, 3, own_frame.FRAME, own_frame.FRAME), torch.zeros(3, 1, 1, *[own_frame.FRAME] * 2)
    seen[:, :, :, :10] = 1.0
    shown = torch.rand(1, 3, own_frame.FRAME, own_frame.FRAME)
    off = (shown[0, :, :10] * 255).square().sum(dim=0).mean().sqrt()
    found = gallery.Gallery(looks, seen, False)._distances(shown, "none")
    torch.testing.assert_close(found[0, 0], off)


def test_what_is_drawn_in_a_pose_looks_the_same_in_its_own_frame() -> None:
    placed, plain = THINGS["mopsy"].placed(), Pose(64.0, 64.0, 30.0)
    one, other = (own_frame.in_own_frame(drawn(placed, pose), [pose])[0] for pose in (plain, POSES[1]))
    middle = slice(own_frame.FRAME // 4, -own_frame.FRAME // 4)
    assert (one - other)[:, middle, middle].abs().mean() < 0.04


# --- Where the reader looks


def test_a_box_is_around_the_mask_and_the_whole_picture_without_one() -> None:
    masks = torch.zeros(2, 128, 128)
    masks[0, 40:80, 20:50] = 1.0
    (x, y, side), whole = close_reader.boxes_of(masks).tolist()
    assert (x, y) == (pytest.approx(35, abs=1), pytest.approx(60, abs=1))
    assert side == pytest.approx(close_reader.MARGIN * 40, rel=0.05)
    assert whole == [64, 64, 128]


def test_of_a_mask_in_pieces_the_largest_stays() -> None:
    masks = torch.zeros(2, 128, 128)
    masks[0, 40:80, 20:50], masks[0, 60:80, 100:120] = 0.9, 1.0
    kept = close_reader.largest_parts(masks)
    assert torch.equal(kept[0, :, :60], masks[0, :, :60]) and not kept[0, :, 60:].any() and not kept[1].any()


def test_a_crop_shows_its_square_enlarged() -> None:
    pictures = torch.zeros(1, 3, 128, 128)
    pictures[:, 0, 52:76, 28:52] = 1.0  # its middle is at (40, 64)
    crop = close_reader.cropped(pictures, torch.tensor([[40.0, 64.0, 48.0]]))[0, 0]
    assert crop.shape == (close_reader.CROP, close_reader.CROP)
    middle, quarter = crop[close_reader.CROP // 2], close_reader.CROP // 4
    assert middle[quarter + 1 : -quarter - 1].min() == 1
    assert middle[: quarter - 1].max() == 0 and middle[-quarter + 1 :].max() == 0


def test_a_pose_survives_the_way_into_the_crop_and_back() -> None:
    numbers = torch.tensor([[p.x, p.y, p.half, p.lean, float(p.mirrored)] for p in POSES])
    boxes = torch.tensor([[48.0, 66.0, 80.0], [70.0, 64.0, 64.0]])
    said = close_reader.pose_in_crop(numbers, boxes)
    assert said[:, :4].abs().max() < 1.5
    said[:, 4] = said[:, 4] - 0.5  # as a logit
    for back, pose in zip(close_reader.poses_in_picture(said, boxes), POSES, strict=True):
        assert back.mirrored == pose.mirrored
        assert [back.x, back.y, back.half, back.lean] == pytest.approx([pose.x, pose.y, pose.half, pose.lean], abs=1e-3)


# --- The colours of parts


@pytest.mark.parametrize("name", ["hugsy", "zippy", "finny", "cosy"])
@pytest.mark.parametrize("pose", POSES)
def test_the_masks_show_what_each_colour_of_the_look_paints(name: str, pose: Pose) -> None:
    placed = THINGS[name].placed()
    placed = replace(placed, look=replace(placed.look, scheme="two-tone"))
    shown = drawn(placed, pose)[0] * 255
    for mask, colour in zip(
        part_colours.part_masks(placed, "none", pose),
        (placed.look.primary, placed.look.secondary, placed.look.accent),
        strict=True,
    ):
        assert mask.sum() >= part_colours.LEAST
        assert (shown[:, mask] - torch.tensor(colour)[:, None]).abs().max() < 30


def test_what_an_accessory_covers_belongs_to_no_part() -> None:
    placed = THINGS["hugsy"].placed()
    bare, hatted = (part_colours.part_masks(placed, accessory, POSES[1]) for accessory in ("none", "hat"))
    assert hatted.sum() < bare.sum() and not (hatted & ~bare).any()


def test_only_the_part_that_is_off_counts_and_one_that_is_not_there_is_nan() -> None:
    placed = THINGS["hugsy"].placed()
    other = replace(placed, look=replace(placed.look, accent=(20, 60, 200)))
    true, masks = part_colours.drawn_alike(placed, POSES[1:], [reading()])
    body, secondary, detail = part_colours.colour_errors(drawn(other, POSES[1]), true, masks)[0].tolist()
    assert (body, secondary) == (pytest.approx(0, abs=1), pytest.approx(0, abs=1))
    assert detail == pytest.approx(np.linalg.norm(np.subtract((195, 10, 35), (20, 60, 200))), rel=0.05)
    ball = part_colours.drawn_alike(THINGS["bouncy"].placed(), POSES[1:], [reading()])
    assert part_colours.colour_errors(ball[0], *ball)[0].isnan().tolist() == [False, False, True]


def test_a_teddy_is_never_drawn_mirrored_and_a_car_is() -> None:
    for name, same in (("hugsy", True), ("zippy", False)):
        placed = THINGS[name].placed()
        one, other = (
            part_colours.drawn_alike(placed, [replace(POSES[1], mirrored=mirrored)], [reading()])[0]
            for mirrored in (False, True)
        )
        assert torch.equal(one, other) == same


def test_what_is_read_stands_behind_the_thing_and_on_it() -> None:
    placed = THINGS["hugsy"].placed()
    shown = part_colours.drawn_alike(placed, POSES[1:], [reading("scarf")])[0]
    assert torch.equal(shown, drawn(placed, POSES[1], "studio", "scarf"))


# --- All of it


def test_what_is_kept_is_not_made_again_but_for_another_look(tmp_path, monkeypatch) -> None:
    made = []

    def make(placed, reconstruct):
        made.append(placed)
        return gallery.Gallery(torch.eye(3), torch.ones(2), True)

    monkeypatch.setattr(instrument, "gallery", make)
    for _ in range(2):
        strict = instrument.Instrument(close_reader.CloseReader(), Nowhere(), lambda shown: shown, tmp_path)
        found = strict.gallery("zippy")
        torch.testing.assert_close((found.looks, found.seen), (torch.eye(3), torch.ones(2)))
        assert found.both_ways and not strict.gallery("hugsy").both_ways
    assert len(made) == 2
    monkeypatch.setitem(THINGS, "zippy", replace(THINGS["zippy"], look=THINGS["rusty"].look))
    strict.gallery("zippy")
    assert len(made) == 3


@needs_weights
def test_other_weights_keep_elsewhere(tmp_path, monkeypatch) -> None:
    first = instrument.load_instrument(tmp_path).folder
    other = tmp_path / "close_reader.safetensors"
    close_reader.save_close_reader(close_reader.CloseReader(), other)
    monkeypatch.setattr(close_reader, "WEIGHTS", other)
    monkeypatch.setattr(instrument, "load_close_reader", lambda: close_reader.load_close_reader(other))
    assert instrument.load_instrument(tmp_path).folder != first


def judged(ranks: list[int], distances: list[float], errors: list[float]) -> instrument.Judged:
    count = len(ranks)
    return instrument.Judged(
        torch.tensor(distances), torch.full((count,), 60.0), torch.tensor(ranks), torch.tensor([errors] * count),
        torch.tensor([50.0]),
    )  # fmt: skip


def test_judged_summaries() -> None:
    found = judged([0, 3, 0], [49.0, 49.0, 51.0], [0.0, 0.0, 0.0])
    found.errors[:] = torch.tensor([[1.0, torch.nan, torch.nan], [3.0, 5.0, torch.nan], [2.0, 5.0, torch.nan]])
    assert (found.first, found.median_rank) == (pytest.approx(2 / 3), 0)
    assert found.right.tolist() == [True, False, False]  # the last is first, and too far off
    assert found.mean_errors[:2] == [2.0, 5.0] and np.isnan(found.mean_errors[2])


@needs_weights
def test_the_close_reader_is_small() -> None:
    assert close_reader.WEIGHTS.stat().st_size <= 1_500_000


@needs_weights
def test_real_pictures_are_right_and_those_of_a_close_look_are_not(tmp_path, monkeypatch) -> None:
    """Hugsy, and hugsy with another body; through the autoencoder, among fewer others."""
    placed = THINGS["hugsy"].placed()
    close = replace(placed, look=replace(placed.look, primary=(150, 90, 190)))
    monkeypatch.setattr(gallery, "others_like", lambda placed, seed: [close, *gallery_others(placed)[:10]])
    monkeypatch.setattr(instrument, "REAL", 6)
    show = shown_by(shipped_autoencoder())
    strict = instrument.Instrument(close_reader.load_close_reader(), recogniser.load_recogniser(), show, tmp_path)
    for shown_object, right in ((placed, True), (close, False)):
        rng = np.random.default_rng(3)
        scenes = [world_scenes.random_scene(rng, shown_object) for _ in range(6)]
        shown = show(as_tensor(np.stack([np.asarray(world_scenes.render(scene)[0]) for scene in scenes])))
        found = strict.judge(shown, "hugsy")
        assert (found.right == right).float().mean() >= 0.8
        if right:
            assert max(found.mean_errors) < 60
            off = [
                np.hypot(pose.x - true.x, pose.y - true.y)
                for (pose, _), true in zip(
                    strict.reader.poses(shown, strict.recogniser), map(world_scenes.pose_of, scenes), strict=True
                )
            ]
            assert np.median(off) < 2.5


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="none.safetensors.*train_close_reader"):
        close_reader.load_close_reader(tmp_path / "none.safetensors")


# --- The tables


class Fake:
    """An instrument that found this in real pictures."""

    def ceiling(self, thing: str) -> instrument.Judged:
        return judged([0, 0, 0, 7], [40.0, 40, 40, 90], [10.0, 20.0, torch.nan])


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    spec = importlib.util.spec_from_file_location("instrument_benchmark", REPOSITORY / "benchmarks" / "instrument.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_prints_ceilings_and_concepts_beside_them(benchmark) -> None:
    ceiling = benchmark.ceilings(Fake(), ["bouncy"]).splitlines()
    assert ceiling[-1] == "| bouncy | 0.75 | 0.75 | 0 | 40 | 50 | 10 | 20 |  |"
    found = judged([0, 0, 1, 2], [45.0, 65.0, 75.0, 85.0], [33.0, 44.0, torch.nan])
    table = benchmark.concepts(Fake(), [("bouncy", 1.0, found)]).splitlines()
    assert table[-1] == "| bouncy | 1.00 | 0.50 | 0.67 | 0.25 | 0.33 | 0.5 | 65 (50) | 33 (10) | 44 (20) |  |"
    assert table[0].count("|") == table[1].count("|") == table[2].count("|")


def test_measuring_concepts_tells_the_strict_question_beside_the_old_one() -> None:
    row = {"thing": "bouncy", "bias": 0.85, "scene": next(iter(measure_concepts.SCENES)), "right": True, "asked": True,
           "category": True, "look": 0.9, "colours": 0.8, "ceiling": 0.75, "alike": False,
           "alike ceiling": 0.5}  # fmt: skip
    rows = [{**row, "rank": rank, "errors": [33.0, 44.0 + rank, float("nan")]} for rank in (0, 1, 2, 2)]
    lines = measure_concepts.table(rows, [0.85]).splitlines()
    strict = "0.25 (0.75) | 0.00 (0.50) | 1.5 | 33 | 45 |  "
    assert lines[2] == f"| bouncy | 0.85 | 4 | 1.00 | {strict}| 1.00 | 1.00 | 0.90 | 0.80 |"
    assert {line.count("|") for line in lines[:4]} == {15}
