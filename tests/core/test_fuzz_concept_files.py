"""More than ten thousand spoilt concept files: each ends in one clear sentence or in a correct load."""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import safetensors.torch
import torch
from core_examples import PICTURE, make_concept
from file_mutations import FAMILIES

from perfusion_core.concept import Concept
from perfusion_core.concept_file import load_concept, read_header, save_concept
from perfusion_core.errors import PerfusionError

# A sentence that names a file, an expectation, a finding and a remedy; whatever is quoted in it from a file is cut.
LONGEST_SENTENCE = 700
# JSON of a header becomes Python objects of up to some hundred bytes for two signs ("{}," or "9,").
MEMORY_PER_BYTE, MEMORY_AT_LEAST = 64, 2_000_000
SLOWEST_LOAD = 2.0  # seconds of computing; the largest header allowed takes a tenth of it


@pytest.fixture(scope="module")
def good_files(tmp_path_factory) -> list[bytes]:
    """A concept of one text encoder, one of two, one with a picture."""
    two = {"clip_l": torch.ones(1, 4), "clip_g": torch.ones(2, 6)}
    concepts = [
        make_concept(width=8, value_widths={"middle_block.1.transformer_blocks.0.attn2": 4}),
        make_concept(
            width=10, base_model="sdxl", word_vectors=two, superclass_vectors=two, clip_layer=-2, form="paper"
        ),
        make_concept(width=4, picture=PICTURE),
    ]
    path = tmp_path_factory.mktemp("good") / "good.safetensors"
    contents = []
    for concept in concepts:
        save_concept(path, concept)
        contents.append(path.read_bytes())
    return contents


def outcome(path: Path) -> Concept | str:
    """Return what the file ends in: a concept or a sentence. Every other exception goes through."""
    try:
        return load_concept(path)
    except PerfusionError as problem:
        return str(problem)


def assert_clear(sentence: str, path: Path) -> None:
    assert str(path) in sentence
    assert sentence.isprintable(), "one line, without signs that a terminal obeys"
    assert sentence.endswith(".")
    assert ";" in sentence, "it does not say what to do"
    assert len(sentence) - len(str(path)) < LONGEST_SENTENCE


def assert_correct(concept: Concept, content: bytes, path: Path) -> None:
    """Compare with what another reader, that of safetensors, finds in the file."""
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load(content)
    ours = {name: getattr(concept, name) for name in ("target_input", "inverse_target_input", "superclass_encoding")}
    ours |= concept.word_vectors
    ours |= {f"superclass.{key}": vectors for key, vectors in concept.superclass_vectors.items()}
    ours |= {f"value.{layer}": target for layer, target in concept.value_targets.items()}
    assert ours.keys() == tensors.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, tensors[name].float())
        assert torch.isfinite(tensor).all()
    header = read_header(path)
    for name in ("word", "superclass", "base_model", "form", "statistics_hash"):
        assert getattr(concept, name) == metadata[f"perfusion.{name}"] == header[name]
        assert metadata[f"perfusion.{name}"].isprintable()
    assert concept.bias == float(metadata["perfusion.bias"]) == header["bias"]


def test_the_fuzz_is_large_enough():
    assert sum(count for count, _ in FAMILIES.values()) >= 10_000


@pytest.mark.parametrize("name", FAMILIES)
def test_every_spoilt_file_ends_in_a_sentence_or_a_correct_load(tmp_path, good_files, name):
    count, mutation = FAMILIES[name]
    path = tmp_path / "concept.safetensors"
    loaded = 0
    for number in range(count):
        chance = random.Random(f"{name} {number}")
        content = mutation(chance, chance.choice(good_files))
        path.write_bytes(content)
        began = time.process_time()
        try:
            found = outcome(path)
            assert time.process_time() - began < SLOWEST_LOAD
            if isinstance(found, Concept):
                loaded += 1
                assert_correct(found, content, path)
            else:
                assert_clear(found, path)
        except BaseException:
            print(f"{name} {number}: {content[:400]!r}")
            raise
    if name in ("truncated", "with_more_behind", "lying_length", "files_of_other_programs", "doubled_names"):
        assert loaded == 0, "none of these files is whole"


@pytest.mark.parametrize("name", [*FAMILIES])
def test_memory_is_bounded_by_the_size_of_the_file(tmp_path, good_files, name):
    """No number in a file makes the reader ask for memory: neither Python's nor, in tensors, the system's."""
    resource = pytest.importorskip("resource", reason="only Unix counts the memory of a process this way")
    _, mutation = FAMILIES[name]
    path = tmp_path / "concept.safetensors"
    unit = 1 if sys.platform == "darwin" else 1024
    for number in range(20):
        chance = random.Random(f"{name} {number}")
        content = mutation(chance, chance.choice(good_files))
        path.write_bytes(content)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        tracemalloc.start()
        try:
            outcome(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        bound = MEMORY_AT_LEAST + MEMORY_PER_BYTE * len(content)
        assert peak < bound
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - resident
        assert grown < 2 * bound + 32_000_000  # with room for what the system and pytest take at the same time
