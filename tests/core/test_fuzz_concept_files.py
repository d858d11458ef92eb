"""More than ten thousand spoilt concept files: each ends in one clear sentence or in a correct load."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from core_examples import PICTURE, make_concept
from file_mutations import FAMILIES

from perfusion_core.concept import Concept
from perfusion_core.concept_file import load_concept, read_header, save_concept
from perfusion_core.errors import PerfusionError
from perfusion_core.twelve_bits import from_twelve_bits

# A sentence that names a file, an expectation, a finding and a remedy; whatever is quoted in it from a file is cut.
LONGEST_SENTENCE = 700
SLOWEST_LOAD = 2.0  # seconds of computing; the largest header allowed takes a tenth of it


@pytest.fixture(scope="module")
def good_files(tmp_path_factory) -> list[bytes]:
    """A concept of one text encoder, one of two, one with a picture and an offset, one in the layout of large files."""
    two = {"clip_l": torch.ones(1, 4), "clip_g": torch.ones(2, 6)}
    concepts = [
        make_concept(width=8, value_widths={"middle_block.1.transformer_blocks.0.attn2": 4}),
        make_concept(
            width=10, base_model="sdxl", word_vectors=two, superclass_vectors=two, clip_layer=-2, form="paper"
        ),
        make_concept(width=4, picture=PICTURE, encoding_offset=torch.ones(2, 4)),
        make_concept(width=6, value_widths={f"blocks.{n}.cross_attn": 15_361 + n for n in range(2)}),  # a large one
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
    ours |= {} if concept.encoding_offset is None else {"encoding_offset": concept.encoding_offset}
    ours |= {f"value.{layer}": target for layer, target in concept.value_targets.items()}
    assert ours.keys() == tensors.keys()
    for name, tensor in ours.items():
        in_bytes = tensors[name].dtype == torch.uint8
        assert torch.equal(tensor, from_twelve_bits(tensors[name]) if in_bytes else tensors[name].float())
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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a process to a limit on its address space")
def test_memory_is_bounded_by_the_size_of_the_file(tmp_path, good_files):
    """No number in a file makes the reader ask for memory, be it Python's, torch's or that of safetensors.

    A refusal of the system may end the process, go through, or become a sentence about a damaged file; so each file
    has to end there in what it ends in without a limit.
    """
    (tmp_path / "whole.safetensors").write_bytes(good_files[0])
    for name, (_, mutation) in FAMILIES.items():
        for number in range(20):
            chance = random.Random(f"{name} {number}")
            path = tmp_path / f"{name}-{number}.safetensors"
            path.write_bytes(mutation(chance, chance.choice(good_files)))
    child = Path(__file__).with_name("load_within_memory.py")
    # One arena: glibc would reserve 64 MB of address space for each thread that asks for memory.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, child, tmp_path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    ends = json.loads(done.stdout)
    assert len(ends) == 1 + 20 * len(FAMILIES) and ends["whole.safetensors"] == "loaded"
    for name, end in ends.items():
        found = outcome(tmp_path / name)
        assert end == ("loaded" if isinstance(found, Concept) else found), name
