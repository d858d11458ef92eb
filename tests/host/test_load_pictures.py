"""Load Concept Pictures: what is read of a folder of photos, what is skipped, and that nothing outside is read."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths
import pytest
import torch
from perfusion_pack.demo.making import prompts
from perfusion_pack.nodes.host import picture_files
from perfusion_pack.nodes.host.picture_files import (
    INPUT_FOLDER,
    MOST_PIXELS,
    picture_folder,
    picture_folders,
    picture_names,
    read_pictures,
)
from perfusion_pack.nodes.host.progress import NodeProgress
from perfusion_pack.nodes.load_pictures import LoadPictures
from perfusion_pack.perfusion_core.errors import PerfusionError
from photos import DAMAGED, SIZES, draw_photos
from PIL import Image


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("input")
    draw_photos(root / "photos")
    return root


@pytest.fixture
def input_folder(drawn, monkeypatch) -> Path:
    monkeypatch.setattr(folder_paths, "input_directory", str(drawn))
    return drawn


@pytest.fixture
def own_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    (tmp_path / "input" / "mine").mkdir(parents=True)
    return tmp_path / "input" / "mine"


def loaded(folder: str, names: str = ""):
    return LoadPictures.PREPARE_CLASS_CLONE({"hidden_inputs": {}}).execute(folder, names).result


def test_ten_photos(input_folder, caplog):
    images, masks, captions = loaded("photos")
    assert len(images) == len(masks) == len(captions) == 9
    sizes = {name: tuple(image.shape[1:3]) for name, image in zip(SIZES, images, strict=True)}  # in counting order
    for name, (width, height) in SIZES.items():
        expected = (width, height) if name == "IMG_10.jpg" else (height, width)  # turned upright
        if width * height <= MOST_PIXELS:
            assert sizes[name] == expected, name
        else:
            assert abs(sizes[name][0] * sizes[name][1] / MOST_PIXELS - 1) < 0.01, name
            assert abs(sizes[name][1] / sizes[name][0] - width / height) < 0.01, name
    assert all(image.shape[0] == 1 and image.shape[3] == 3 and image.dtype == torch.float32 for image in images)
    assert all(0 <= image.min() and image.max() <= 1 for image in images)
    masked = [name for name, mask in zip(SIZES, masks, strict=True) if mask.any()]
    assert masked == ["IMG_6.png", "IMG_7.jpg"]
    for name in masked:
        mask, image = masks[list(SIZES).index(name)], images[list(SIZES).index(name)]
        inside = image[mask > 0.5].mean(dim=0) * 255
        assert mask.shape == image.shape[:3] and (inside - torch.tensor([200.0, 40.0, 60.0])).abs().max() < 8
    assert captions == ["a photo of {} on a plain ground" if name == "IMG_7.jpg" else "" for name in SIZES]
    assert f"skipped: {DAMAGED} (no format that can be read)" in caplog.text


def test_the_line_under_the_node(input_folder):
    folder = picture_folder("photos")
    assert read_pictures(folder, picture_names(folder)).summary() == (
        f"9 pictures, 2 masks, 1 caption · skipped: {DAMAGED} (no format that can be read)"
    )


def test_names_choose_pictures(input_folder):
    folder = picture_folder("photos")
    assert picture_names(folder, "img_1*\nIMG_5.webp") == ["IMG_1.jpg", "IMG_5.webp", "IMG_10.jpg"]
    assert picture_names(folder) == sorted([*SIZES, DAMAGED], key=lambda name: int(name[4:].split(".")[0]))


def test_the_input_folder_itself_can_be_chosen(own_folder):
    Image.new("RGB", (70, 80)).save(own_folder.parent / "dropped.png")
    assert picture_folders() == [INPUT_FOLDER, "mine"]
    (image,), _, _ = loaded(INPUT_FOLDER)
    assert image.shape == (1, 80, 70, 3)


@pytest.mark.parametrize(
    ("folder", "names", "count"),
    [(INPUT_FOLDER, "", 2), (INPUT_FOLDER, " \n", 2), (INPUT_FOLDER, "*", 0), ("mine", "", 0)],
)
def test_the_whole_input_folder_is_told_with_its_old_uploads(own_folder, monkeypatch, folder, names, count):
    """Saved graphs ask for it, so it is not refused."""
    said = []
    monkeypatch.setattr(NodeProgress, "say", lambda _, text: said.append(text))
    for path in (own_folder / "a.png", own_folder.parent / "a.png", own_folder.parent / "old.png"):
        Image.new("RGB", (8, 8)).save(path)
    loaded(folder, names)
    warning = f"taken from the input folder: {count} pictures, which is all that was ever uploaded, so write"
    assert (warning in said[0]) == bool(count) and "no masks, no captions" in said[0]


@pytest.mark.parametrize("name", ["..", "../other", "mine/../../other", "/etc", "link"])
def test_nothing_outside_of_the_input_folder_is_read(own_folder, name):
    outside = own_folder.parents[1] / "other"
    outside.mkdir()
    Image.new("RGB", (8, 8)).save(outside / "secret.png")
    os.symlink(outside, own_folder.parent / "link")
    assert "leads outside" in LoadPictures.validate_inputs(folder=name)
    with pytest.raises(PerfusionError, match="leads outside"):
        loaded(name)


def test_a_link_to_a_file_outside_is_skipped(own_folder):
    outside = own_folder.parents[1] / "secret.png"
    Image.new("RGB", (8, 8)).save(outside)
    Image.new("RGB", (8, 8)).save(own_folder / "mine.png")
    for name in ("a.png", "mine.mask.png", "mine.txt"):
        os.symlink(outside, own_folder / name)
    found = read_pictures(own_folder, picture_names(own_folder))
    assert found.names == ["mine.png"] and not found.masks[0].any() and found.captions == [""]
    assert [text.split(" (")[0] for text in found.skipped] == ["a.png", "mine.mask.png", "mine.txt"]
    assert all("link to another folder" in text for text in found.skipped)


@pytest.mark.parametrize(
    "name, said",
    [("nowhere", "was not found in .*press R"), ("mine", "none was found that can be read; copy pictures")],
)
def test_a_folder_without_pictures_is_told(own_folder, name, said):
    (own_folder / "notes.txt").write_text("nothing")
    with pytest.raises(PerfusionError, match=said):
        loaded(name)


def test_a_linked_folder_is_not_known_at_validation():
    assert LoadPictures.validate_inputs(folder=None) is True


def test_deep_grey_transparent_and_animated_pictures(own_folder):
    Image.new("I;16", (20, 20), 65535 // 2).save(own_folder / "a.png")
    Image.new("L", (20, 20), 128).save(own_folder / "b.png")
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([255, 0, 0] * 256)
    palette.save(own_folder / "c.png", transparency=0)
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("lime", "blue")]
    frames[0].save(own_folder / "d.gif", save_all=True, append_images=frames[1:])
    Image.new("CMYK", (20, 20)).save(own_folder / "e.jpg")
    (own_folder / "f.heic").write_bytes(b"not that format")
    Image.new("RGB", (64, 64)).save(own_folder / "g.png")
    found = read_pictures(own_folder, picture_names(own_folder))
    assert found.names == ["a.png", "b.png", "c.png", "d.gif", "e.jpg", "g.png"] and len(found.skipped) == 1
    means = [picture.mean(dim=(0, 1, 2)).tolist() for picture in found.pictures]
    assert means[0] == pytest.approx([0.5] * 3, abs=0.01) and means[1] == pytest.approx([0.5] * 3, abs=0.01)
    assert means[3][1] > 0.9 and means[4] == pytest.approx([1, 1, 1], abs=0.02)
    assert found.masks[5].shape != (1, 64, 64)  # black in its own size would be a mask that nobody painted


def test_the_node_runs_again_when_a_file_changed(own_folder):
    Image.new("RGB", (20, 20)).save(own_folder / "a.png")
    before = LoadPictures.fingerprint_inputs("mine", "")
    assert LoadPictures.fingerprint_inputs("mine", "") == before
    assert LoadPictures.fingerprint_inputs("mine", "a*") != before
    (own_folder / "other.csv").write_text("nothing to do with it")
    assert LoadPictures.fingerprint_inputs("mine", "") == before
    (own_folder / "a.txt").write_text("{} here", encoding="utf-8")
    captioned = LoadPictures.fingerprint_inputs("mine", "")
    assert captioned != before
    os.utime(own_folder / "a.png", ns=(1, 1))
    assert LoadPictures.fingerprint_inputs("mine", "") != captioned


@pytest.mark.slow
def test_a_folder_of_ten_photos_is_one_training_on_a_running_server(running_host):
    from test_running_server import run, saved

    draw_photos(running_host.base_directory / "input" / "photos")
    before = saved(running_host)
    prompt = prompts.train_prompt("hugsy", file_name="photos", preset="Custom", steps=2, batch_size=4, samples=0)
    del prompt["report"], prompt["loss"]  # the trainer alone is a graph
    prompt["pictures"] = {"class_type": "PerfusionLoadPictures", "inputs": {"folder": "photos", "names": ""}}
    prompt["train"]["inputs"] |= {"superclass": "ball", "captions": ["pictures", 2]}
    run(running_host, prompt)
    new = {name for name in saved(running_host) - before if name.endswith(".safetensors")}
    assert new == {"photos.safetensors"}
    from perfusion_pack.perfusion_core.concept_file import load_concept

    training = load_concept(running_host.base_directory / "output" / "perfusion" / "photos.safetensors").training
    assert (training["pictures"], training["masks"]) == (9, "given and attention")


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_folder_of_ten_photos_trains_models_of_other_shapes(input_folder, family):
    """In their true layout, at reduced width and a small area: it is the sizes that matter."""
    from perfusion_pack.nodes.host.training.job import TrainingJob
    from perfusion_pack.nodes.host.training.request import TrainingRequest
    from perfusion_pack.perfusion_core.text_statistics import statistics_from_moment
    from perfusion_pack.perfusion_core.training import TrainingSettings
    from tiny_models import tiny_clip, tiny_model, tiny_sdxl
    from training_inputs import tiny_vae

    folder = picture_folder("photos")
    found = read_pictures(folder, picture_names(folder))
    model, clip, width = (tiny_model(), tiny_clip(), 32) if family == "sd1" else (*tiny_sdxl(), 80)
    with torch.inference_mode():
        request = TrainingRequest(
            model=model, clip=clip, vae=tiny_vae(), images=found.pictures, masks=found.masks, captions=found.captions,
            word="<disc>", superclass="ball", settings=TrainingSettings(steps=2, batch_size=4, validate_every=1),
            statistics=statistics_from_moment(torch.eye(width), 500, "x"), automatic_mask=True, resolution=256,
        )  # fmt: skip
        result = TrainingJob(request).train()
    assert len(result.losses) == 2 and len(result.masks) == 9
    assert len({tuple(mask.shape) for mask in result.masks}) >= 3
    assert (request.family, result.concept.training["masks"]) == (family, "given and attention")


def test_pictures_of_many_megapixels_are_read_small(own_folder, monkeypatch):
    monkeypatch.setattr(picture_files, "MOST_PIXELS", 100 * 100)
    Image.new("RGB", (400, 200)).save(own_folder / "a.png")
    (picture,) = read_pictures(own_folder, ["a.png"]).pictures
    assert tuple(picture.shape[1:3]) == (71, 141)
