"""The exported word, read by the host's own loader of embeddings."""

from __future__ import annotations

import dataclasses
import importlib
import logging

import pytest
import torch
from comfy.sd1_clip import load_embed

concept_module = importlib.import_module("perfusion_pack.perfusion_core.concept")
concept_file = importlib.import_module("perfusion_pack.perfusion_core.concept_file")
word_file = importlib.import_module("perfusion_pack.perfusion_core.word_file")

WIDTHS = {"clip_l": 768, "clip_h": 1024, "clip_g": 1280}


def make_concept(keys: list[str], family: str):
    ones = torch.ones(4) / 2
    vectors = {key: torch.randn(2, WIDTHS[key]) for key in keys}
    return concept_module.Concept(
        "<hugsy>", "bear", family, 4, None, "gated", 0.6, 0.15, "", {}, ones, ones, ones, vectors, vectors, {"a": ones}
    )


@pytest.mark.parametrize(("family", "keys"), [("sd1", ["clip_l"]), ("sd2", ["clip_h"]), ("sdxl", ["clip_l", "clip_g"])])
def test_the_host_reads_the_word(tmp_path, caplog, family, keys):
    caplog.set_level(logging.INFO)
    concept = make_concept(keys, family)
    concept_file.save_concept(tmp_path / "concept.safetensors", concept)
    exported = tmp_path / "embeddings" / "hugsy_word.safetensors"
    assert word_file.main([str(tmp_path / "concept.safetensors"), "--out", str(exported)]) == 0
    assert "hugsy" in caplog.text
    for key in keys:
        found = load_embed("hugsy_word", str(exported.parent), WIDTHS[key], key)
        assert torch.equal(found, concept.word_vectors[key])
        # The concept file itself serves as an embedding, too.
        assert torch.equal(load_embed("concept", str(tmp_path), WIDTHS[key], key), concept.word_vectors[key])


def test_the_concept_itself_is_not_overwritten(tmp_path, caplog):
    path = tmp_path / "concept.safetensors"
    concept_file.save_concept(path, make_concept(["clip_l"], "sd1"))
    before = path.read_bytes()
    assert word_file.main([str(path), "--out", str(path)]) == 1
    assert "choose another" in caplog.text
    assert word_file.main([str(tmp_path / "none.safetensors"), "--out", str(path)]) == 1
    assert path.read_bytes() == before
    assert word_file.main([str(path), "--out", str(tmp_path / "word.safetensors")]) == 0
    with pytest.raises(ValueError, match="textual inversion"):
        concept_file.load_concept(tmp_path / "word.safetensors")


def test_a_file_is_written_over_only_when_asked(tmp_path, caplog):
    path, out = tmp_path / "concept.safetensors", tmp_path / "word.safetensors"
    concept_file.save_concept(path, make_concept(["clip_l"], "sd1"))
    out.write_bytes(b"of somebody else")
    assert word_file.main([str(path), "--out", str(out)]) == 1
    assert "choose another name for --out, or give --replace." in caplog.text
    assert out.read_bytes() == b"of somebody else"
    assert word_file.main([str(path), "--out", str(out), "--replace"]) == 0
    assert len(out.read_bytes()) > 100


def test_an_offset_stays_behind_and_that_is_told(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    concept = make_concept(["clip_l"], "sd1")
    for offset in (None, torch.ones(2, 4)):
        caplog.clear()
        own = dataclasses.replace(concept, encoding_offset=offset)
        concept_file.save_concept(tmp_path / "concept.safetensors", own)
        paths = str(tmp_path / "concept.safetensors"), "--out", str(tmp_path / "word.safetensors")
        assert word_file.main([*paths, "--replace"]) == 0
        assert ("stayed behind" in caplog.text) == (offset is not None)
        for name in ("word", "concept"):  # the concept file too: what is one tensor more misleads no loader
            found = load_embed(name, str(tmp_path), WIDTHS["clip_l"], "clip_l")
            assert torch.equal(found, concept.word_vectors["clip_l"])
