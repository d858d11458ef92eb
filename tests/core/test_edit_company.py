"""Gates of several concepts: what the company of others does to each one's."""

from __future__ import annotations

from dataclasses import replace

import torch
from core_examples import make_edits, random, second_moment
from hypothesis import given, settings
from hypothesis import strategies as st

from perfusion_core.edit import FORMS, edit_encoding

WIDTH, TOKENS = 24, 7
INVERSE = torch.linalg.inv(second_moment(WIDTH))
seeds = st.integers(0, 10_000)
quick = settings(max_examples=25, deadline=None)


@quick
@given(seeds, st.sampled_from(["unlocked", "gated"]), st.integers(2, 5))
def test_at_the_word_of_one_concept_no_other_gate_opens(seed, form, count):
    """However alike the concepts are; each one's own gate is as open as if it were alone."""
    edits = alike(make_edits(count, WIDTH, INVERSE, seed, form=form), seed)
    edited = edit_encoding(torch.stack([edit.target_input for edit in edits]), edits)
    others = ~torch.eye(count, dtype=torch.bool)
    assert edited.similarities[others].max() <= 1e-8
    alone = [edit_encoding(edit.target_input[None], [edit]).gates[0, 0] for edit in edits]
    assert torch.allclose(edited.gates.diagonal(), torch.stack(alone), rtol=0, atol=1e-8)
    paper = edit_encoding(edits[0].target_input[None], [replace(edit, form="paper") for edit in edits])
    assert paper.similarities[0, 1] > 0.2, "these concepts are not alike, so the test says nothing"


@quick
@given(seeds, st.sampled_from(FORMS), st.integers(2, 5))
def test_no_gate_opens_wider_in_company_than_alone_and_one_as_wide(seed, form, count):
    edits = alike(make_edits(count, WIDTH, INVERSE, seed, form=form), seed)
    encoding = random((TOKENS, WIDTH), seed + 1) + random((1, WIDTH), seed + 7)
    together = edit_encoding(encoding, edits).gates
    alone = torch.cat([edit_encoding(encoding, [edit]).gates for edit in edits], dim=-1)
    assert (together <= alone + 1e-12).all()
    assert ((together - alone).abs().min(dim=-1).values <= 1e-12).all()


def alike(edits, seed):
    """The concepts with much in common, as things of one kind have."""
    common = random((WIDTH,), seed + 7)
    shared = [edit.target_input + 4 * common for edit in edits]
    return [
        replace(edit, target_input=i, inverse_target_input=INVERSE @ i) for edit, i in zip(edits, shared, strict=True)
    ]
