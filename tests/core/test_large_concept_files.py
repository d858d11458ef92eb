"""Concept files for models of many wide layers: small, read as they were written, and the older kind as ever."""

from __future__ import annotations

import json
import os

import pytest
import safetensors.torch
import torch
from core_examples import make_concept, random

from perfusion_core.concept import Concept
from perfusion_core.concept_check import check_saved
from perfusion_core.concept_file import is_large, load_concept, read_header, round_for_file, save_concept
from perfusion_core.errors import PerfusionError
from perfusion_core.tensor_file import read_tensor_header

SDXL_DEPTHS = {"input_blocks": {4: 2, 5: 2, 7: 10, 8: 10}, "output_blocks": {0: 10, 1: 10, 2: 10, 3: 2, 4: 2, 5: 2}}
SDXL = {
    f"{part}.{block}.1.transformer_blocks.{depth}.attn2": 640 if depths == 2 else 1280
    for part, blocks in SDXL_DEPTHS.items()
    for block, depths in blocks.items()
    for depth in range(depths)
} | {f"middle_block.1.transformer_blocks.{depth}.attn2": 1280 for depth in range(10)}
ANIMA = {f"blocks.{block}.cross_attn": 2048 for block in range(28)}
# As many settings as a training writes into a file.
SETTINGS = {f"setting_of_the_training_{number}": number / 7 for number in range(30)}


def large(tokens: int = 1, **changes) -> Concept:
    words = {"qwen3_06b": random((tokens, 1024), 5, torch.float32)}
    given = {"base_model": "anima", "form": "lockable", "training": SETTINGS, "word_vectors": words} | changes
    return make_concept(width=1024, value_widths=ANIMA, **{"superclass_vectors": given["word_vectors"]} | given)


def large_sdxl(tokens: int = 1, **changes) -> Concept:
    words = {key: random((tokens, width), 5, torch.float32) for key, width in (("clip_l", 768), ("clip_g", 1280))}
    both = {"word_vectors": words, "superclass_vectors": words}
    given = {"base_model": "sdxl", "form": "lockable", "training": SETTINGS, **both, **changes}
    return make_concept(width=2048, value_widths=SDXL, **given)


def tensors_of(concept: Concept) -> dict[str, torch.Tensor]:
    names = ("target_input", "inverse_target_input", "superclass_encoding")
    tensors = {name: getattr(concept, name) for name in names} | dict(concept.word_vectors)
    tensors |= {f"superclass.{key}": vectors for key, vectors in concept.superclass_vectors.items()}
    return tensors | {f"value.{layer}": target for layer, target in concept.value_targets.items()}


def assert_same(found: Concept, expected: Concept) -> None:
    ours, theirs = tensors_of(found), tensors_of(expected)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(("make", "most"), [(large, 120_000), (large_sdxl, 170_000)])
@pytest.mark.parametrize("tokens", [1, 2])
def test_it_fits_with_a_picture(tmp_path, make, most, tokens):
    picture = b"\xff\xd8" + os.urandom(4096 - 2)  # what `nodes.pictures` leaves to large files
    save_concept(tmp_path / "a.safetensors", make(tokens, picture=picture))
    assert (tmp_path / "a.safetensors").stat().st_size <= most


@pytest.mark.parametrize("make", [large, large_sdxl])
def test_round_trip(tmp_path, make):
    concept, path = make(), tmp_path / "a.safetensors"
    save_concept(path, concept)
    content, rounded = path.read_bytes(), round_for_file(concept)
    assert_same(load_concept(path), rounded)
    assert_same(round_for_file(rounded), rounded)
    check_saved(path, concept)
    save_concept(path, load_concept(path))
    assert path.read_bytes() == content
    header = read_header(path)
    assert header["tensors"] == {name: tuple(tensor.shape) for name, tensor in tensors_of(concept).items()}
    assert header["lock"] == concept.lock


def test_an_offset_is_kept_in_half_precision(tmp_path):
    concept, path = large(encoding_offset=random((2, 1024), 6, torch.float32)), tmp_path / "a.safetensors"
    save_concept(path, concept)
    found = load_concept(path).encoding_offset
    assert torch.equal(found, concept.encoding_offset.half().float())
    assert safetensors.torch.load(path.read_bytes())["encoding_offset"].dtype == torch.float16
    check_saved(path, concept)
    assert path.stat().st_size <= 110_000
    save_concept(path, large(encoding_offset=torch.full((1, 1024), 7e4)))  # beyond half precision
    assert torch.equal(load_concept(path).encoding_offset, torch.full((1, 1024), 7e4))


def test_the_rounding_is_small():
    concept = large()
    rounded = round_for_file(concept)
    assert is_large(ANIMA.values()) and is_large(SDXL.values())
    for name, tensor in tensors_of(concept).items():
        found = tensors_of(rounded)[name]
        assert 0 < (found - tensor).norm() / tensor.norm() < (1e-3 if name.startswith("value.") else 3e-4)


def test_a_text_side_that_half_precision_would_spoil_stays_as_it_is(tmp_path):
    """Of i . C^-1 i = 1 too much would be lost: the second is among the smallest numbers of half precision."""
    target = torch.full((1024,), 3e4)
    concept = large(target_input=target, inverse_target_input=target / target.square().sum())
    path = tmp_path / "a.safetensors"
    save_concept(path, concept)
    loaded = load_concept(path)
    assert torch.equal(loaded.inverse_target_input, concept.inverse_target_input)
    assert torch.equal(loaded.target_input, target)
    check_saved(path, concept)


def test_an_encoding_beyond_half_precision_stays_as_it_is():
    concept = large(superclass_encoding=torch.full((1024,), 7e4))
    assert torch.equal(round_for_file(concept).superclass_encoding, concept.superclass_encoding)


def test_a_file_from_before_is_read_to_the_bit(tmp_path):
    """Large concepts once were kept as small ones are."""
    concept, path = large(), tmp_path / "a.safetensors"
    save_concept(path, concept)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    del metadata["perfusion.value_bits"]
    tensors = tensors_of(concept)
    tensors = {name: tensor.half() if name.startswith("value.") else tensor for name, tensor in tensors.items()}
    old = safetensors.torch.save(tensors, metadata | {"perfusion.version": "2"})
    path.write_bytes(old)
    found = tensors_of(load_concept(path))
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in tensors.items())


def test_the_word_is_still_an_embedding_for_other_programs(tmp_path):
    concept, path = large_sdxl(), tmp_path / "a.safetensors"
    save_concept(path, concept)
    tensors = safetensors.torch.load(path.read_bytes())
    assert all(torch.equal(tensors[key], vectors.half()) for key, vectors in concept.word_vectors.items())


def test_packs_from_before_need_an_update(tmp_path):
    """They look at the kinds of numbers first, so that it is those that they name."""
    path = tmp_path / "a.safetensors"
    save_concept(path, large())
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["perfusion.version"] == "4"
    with pytest.raises(PerfusionError, match="'U8'; update the pack or choose another file"):
        read_tensor_header(path, "Perfusion concept")  # without bytes, as they read


@pytest.mark.parametrize(
    ("bits", "version", "sentence"),
    [
        ("11", "4", "its values have '11' bits"),
        ("12", "2", "of version 4 by its format"),
        ("12", "5", "update the pack"),
        (None, "4", "reads versions up to 2"),
        (None, "2", "has bytes for 'value.blocks"),
    ],
)
def test_a_header_that_says_otherwise_is_refused(tmp_path, bits, version, sentence):
    path = tmp_path / "a.safetensors"
    save_concept(path, large())
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    del header["__metadata__"]["perfusion.value_bits"]
    header["__metadata__"] |= {"perfusion.version": version} | ({"perfusion.value_bits": bits} if bits else {})
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
    for read in (read_header, load_concept):
        with pytest.raises(PerfusionError, match=sentence):
            read(path)


def test_values_of_the_wrong_kind_or_length_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_concept(path, large())
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load(path.read_bytes())
    name = "value.blocks.3.cross_attn"
    for spoilt, sentence in ((tensors[name].half(), "has numbers for"), (tensors[name][:-2], "which no vector of 12")):
        path.write_bytes(safetensors.torch.save(tensors | {name: spoilt}, metadata))
        with pytest.raises(PerfusionError, match=sentence):
            read_header(path)
    not_a_number = tensors[name].clone()
    not_a_number[:4] = torch.tensor([0, 0, 192, 127])
    path.write_bytes(safetensors.torch.save(tensors | {name: not_a_number}, metadata))
    with pytest.raises(PerfusionError, match="finite numbers"):
        load_concept(path)
