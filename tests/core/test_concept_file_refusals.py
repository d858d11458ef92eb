"""Every file that is no concept is refused in one sentence, and most of them by the header alone."""

from __future__ import annotations

import json
import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from core_examples import PICTURE, make_concept

from perfusion_core.concept_file import load_concept, read_header, save_concept
from perfusion_core.errors import PerfusionError


@pytest.fixture
def good(tmp_path) -> bytes:
    save_concept(tmp_path / "good.safetensors", make_concept(picture=PICTURE))
    return (tmp_path / "good.safetensors").read_bytes()


def refusal(tmp_path, content: bytes, in_header: bool = True) -> str:
    """Return the sentence that refuses the file; the header alone refuses it too, unless told otherwise."""
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(PerfusionError) as caught:
        load_concept(path)
    if in_header:
        with pytest.raises(PerfusionError):
            read_header(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert ";" in sentence  # ... what to do
    assert len(sentence) < 600
    return sentence


def packed(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def unpacked(content: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_metadata(content: bytes, **changes: str | None) -> bytes:
    header, data = unpacked(content)
    for name, value in changes.items():
        if value is None:
            del header["__metadata__"][f"perfusion.{name}"]
        else:
            header["__metadata__"][f"perfusion.{name}"] = value
    return packed(header, data)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(PerfusionError, match="no such file"):
        load_concept(tmp_path / "none.safetensors")
    with pytest.raises(PerfusionError, match="cannot be opened"):
        load_concept(tmp_path)


def test_empty_file(tmp_path):
    assert "empty" in refusal(tmp_path, b"")


def test_truncated_file_at_every_kind_of_place(tmp_path, good):
    header_end = 8 + int.from_bytes(good[:8], "little")
    for end in (1, 7, 8, 9, 10, 100, header_end - 1, header_end, header_end + 1, len(good) - 1):
        refusal(tmp_path, good[:end])
    refusal(tmp_path, good + b"\0")


def test_pickles_are_named_and_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    assert "pickle" in refusal(tmp_path, pickle.dumps(Bomb(), protocol=2))
    refusal(tmp_path, pickle.dumps(Bomb(), protocol=4))
    refusal(tmp_path, pickle.dumps(Bomb(), protocol=0))
    with zipfile.ZipFile(tmp_path / "archive.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    assert "pickle" in refusal(tmp_path, (tmp_path / "archive.pt").read_bytes())
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\xff\xd8\xff\xe0" + bytes(100), "JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
        (b"<!DOCTYPE html><html>" + bytes(100), "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"just a text that somebody wrote", "no safetensors"),
        (bytes(1000), "no safetensors"),
    ],
)
def test_other_kinds_of_files(tmp_path, content, kind):
    assert kind in refusal(tmp_path, content)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lora_unet_down_blocks_0.lora_up.weight", "LoRA"),
        ("transformer.blocks.0.lora_A.weight", "LoRA"),
        ("emb_params", "textual inversion"),
        ("clip_l", "textual inversion"),
        ("model.diffusion_model.input_blocks.0.0.weight", "checkpoint"),
        ("something", "another kind"),
    ],
)
def test_other_safetensors_files(tmp_path, name, kind):
    content = safetensors.torch.save({name: torch.ones(2, 3, dtype=torch.float16)}, {"ss_network_dim": "4"})
    assert kind in refusal(tmp_path, content)
    assert kind in refusal(tmp_path, safetensors.torch.save({name: torch.ones(2, 3, dtype=torch.bfloat16)}))


def test_text_statistics_are_not_a_concept(tmp_path):
    content = safetensors.torch.save({"inverse": torch.ones(2, 2)}, {"perfusion.format": "perfusion-text-statistics"})
    assert "perfusion-text-statistics" in refusal(tmp_path, content)


def test_the_form_with_a_lock_has_a_version_of_its_own(tmp_path):
    save_concept(tmp_path / "lockable.safetensors", make_concept(form="lockable"))
    lockable = (tmp_path / "lockable.safetensors").read_bytes()
    assert "update the pack" in refusal(tmp_path, with_metadata(lockable, version="3"))
    assert "says version '1'" in refusal(tmp_path, with_metadata(lockable, version="1"))
    assert "lacks 'perfusion.lock'" in refusal(tmp_path, with_metadata(lockable, lock=None))
    assert "wrong kind" in refusal(tmp_path, with_metadata(lockable, lock="half"))
    for lock in ("1.5", "-1", "nan"):
        assert "a lock from 0 to 1" in refusal(tmp_path, with_metadata(lockable, lock=lock), in_header=False)


def test_the_offset_of_an_encoding_has_a_version_of_its_own(tmp_path):
    save_concept(tmp_path / "offset.safetensors", make_concept(encoding_offset=torch.ones(2, 16)))
    good = (tmp_path / "offset.safetensors").read_bytes()
    assert "update the pack" in refusal(tmp_path, with_metadata(good, version="7"))
    assert "of version 6 by its format" in refusal(tmp_path, with_metadata(good, version="1"))
    assert "reads versions up to 1; update" in refusal(tmp_path, with_metadata(good, encoding_offset=None))
    unannounced = with_metadata(good, encoding_offset=None, version="1")
    assert "unknown tensor 'encoding_offset'" in refusal(tmp_path, unannounced)
    for count, found in (("3", "[2, 16] instead of [3, 16]"), ("0", "instead of [0, 16]"), ("two", "wrong kind")):
        assert found in refusal(tmp_path, with_metadata(good, encoding_offset=count))

    tensors, metadata = safetensors.torch.load(good), unpacked(good)[0]["__metadata__"]
    offset = tensors.pop("encoding_offset")
    assert "lacks the tensor 'encoding_offset'" in refusal(tmp_path, safetensors.torch.save(tensors, metadata))
    narrow = offset[:, 1:].contiguous()
    for spoilt, found in ((offset[0], "[16] instead"), (narrow, "[2, 15] instead"), (offset.byte(), "has bytes")):
        tensors["encoding_offset"] = spoilt
        assert found in refusal(tmp_path, safetensors.torch.save(tensors, metadata))
    tensors["encoding_offset"] = torch.full((2, 16), float("inf"))
    content = safetensors.torch.save(tensors, metadata)
    assert "finite numbers in encoding_offset" in refusal(tmp_path, content, in_header=False)


def test_newer_version(tmp_path, good):
    assert "update the pack" in refusal(tmp_path, with_metadata(good, version="2"))
    for version in ("0", "", "-1", "1.0", "²", "9" * 5000):
        refusal(tmp_path, with_metadata(good, version=version))


@pytest.mark.parametrize("name", ["word", "superclass", "base_model", "encoding_width", "clip_layer", "training"])
def test_missing_setting(tmp_path, good, name):
    assert name in refusal(tmp_path, with_metadata(good, **{name: None}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoding_width", "sixteen"),
        ("clip_layer", "last"),
        ("bias", "high"),
        ("training", "[1]"),
        ("training", "{"),
        ("training", "[" * 100_000),
    ],
)
def test_setting_of_the_wrong_kind(tmp_path, good, name, value):
    refusal(tmp_path, with_metadata(good, **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("word", "two words"), ("form", "linear"), ("bias", "nan"), ("temperature", "-1"), ("superclass", "")],
)
def test_setting_that_a_concept_refuses(tmp_path, good, name, value):
    refusal(tmp_path, with_metadata(good, **{name: value}), in_header=False)


def test_wrong_encoding_width(tmp_path, good):
    assert "[17]" in refusal(tmp_path, with_metadata(good, encoding_width="17"))
    refusal(tmp_path, with_metadata(good, encoding_width="-1"))


def test_numbers_that_are_none(tmp_path, good):
    header, data = unpacked(good)
    begin, _ = header["target_input"]["data_offsets"]
    nan = torch.tensor(float("nan")).numpy().tobytes()
    sentence = refusal(tmp_path, packed(header, data[:begin] + nan + data[begin + 4 :]), in_header=False)
    assert "not a number" in sentence


def test_lying_headers(tmp_path, good):
    """Each lie about dtype, shape or place is found before a number is read."""
    lies = [
        ("shape", [17]),
        ("shape", [2**40]),
        ("shape", [-16]),
        ("shape", [4, 4]),
        ("shape", [16.0]),
        ("shape", [True] * 16),
        ("shape", "16"),
        ("shape", None),
        ("dtype", "F16"),
        ("dtype", "F128"),
        ("dtype", ["F32"]),
        ("data_offsets", [0, 64]),
        ("data_offsets", [64, 0]),
        ("data_offsets", [0, 2**62]),
        ("data_offsets", [0]),
        ("data_offsets", "ab"),
    ]
    for field, lie in lies:
        header, data = unpacked(good)
        if header["target_input"][field] == lie:
            continue
        header["target_input"][field] = lie
        refusal(tmp_path, packed(header, data))


def test_missing_and_unknown_tensors(tmp_path, good):
    concept_tensors = safetensors.torch.load(good)
    metadata = unpacked(good)[0]["__metadata__"]
    for name in concept_tensors:
        rest = {n: t for n, t in concept_tensors.items() if n != name}
        if not name.startswith("value."):
            refusal(tmp_path, safetensors.torch.save(rest, metadata))
    assert "extra" in refusal(tmp_path, safetensors.torch.save({**concept_tensors, "extra": torch.ones(1)}, metadata))
    without_values = {n: t for n, t in concept_tensors.items() if not n.startswith("value.")}
    refusal(tmp_path, safetensors.torch.save(without_values, metadata))
    flat = {**concept_tensors, "clip_l": torch.ones(16)}
    assert "clip_l" in refusal(tmp_path, safetensors.torch.save(flat, metadata))


@pytest.mark.parametrize("length", [2**63, 2**40, 1 << 21])
def test_huge_declared_header(tmp_path, length):
    """Refused by its number alone; nothing of that size is ever asked from memory."""
    refusal(tmp_path, packed(b"{}", length=length))
    refusal(tmp_path, packed(b"{}" + b" " * (1 << 21), length=1 << 21))


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}",
        b"null",
        b'{"a":',
        b"\xff\xfe{}",
        b"[" * 5000,
        b'{"a": 1}',
        b'{"__metadata__": 1}',
        b'{"__metadata__": {"a": 1}}',
        b'{"__metadata__": {"perfusion.format": "perfusion-concept"}}',
        b'{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}, "a": {}}',
    ],
)
def test_strange_headers(tmp_path, header):
    refusal(tmp_path, packed(header, b"\0\0\0\0"))


def test_broken_picture(tmp_path, good):
    header, data = unpacked(good)
    header["__metadata__"]["modelspec.thumbnail"] = "data:image/jpeg;base64,%%%"
    refusal(tmp_path, packed(header, data))
    header["__metadata__"]["modelspec.thumbnail"] = "data:image/webp;base64,AAAA"  # by another program: left out
    (tmp_path / "a.safetensors").write_bytes(packed(header, data))
    assert load_concept(tmp_path / "a.safetensors").picture is None


def test_flipped_bytes_never_end_in_another_error(tmp_path, good):
    """Whatever single byte of the header is hit, the file loads or is refused with a sentence."""
    header_end = 8 + int.from_bytes(good[:8], "little")
    path = tmp_path / "bad.safetensors"
    for place in range(0, header_end, 7):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x15]) + good[place + 1 :])
        try:
            load_concept(path)
        except PerfusionError:
            pass
