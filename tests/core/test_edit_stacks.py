"""The edit of whole stacks, with every form, strength and degree of kinship mixed, against a plain transcription."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from core_examples import make_edits, random, relative_error, second_moment
from hypothesis import given, settings
from hypothesis import strategies as st

from perfusion_core.edit import FORMS, add_value_targets, edit_encoding

WIDTH, OUT, TOKENS = 20, 6, 5
INVERSE = torch.linalg.inv(second_moment(WIDTH))

one_concept = st.fixed_dictionaries(
    {
        "form": st.sampled_from(FORMS),
        "strength": st.sampled_from([0.0, 0.3, 1.0, 1.7]),
        "bias": st.floats(-1, 2),
        "temperature": st.floats(0.02, 1),
        "lock": st.none() | st.sampled_from([0.0, 1.0]) | st.floats(0, 1),
    }
)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def layer(e, edits, weight_k, weight_v, targets):
    """Keys, values, similarities and gates of one token in one layer, concept by concept and number by number.

    Written from the docstring of perfusion_core/edit.py, with C^-1 as a matrix and without the pack's functions."""
    there = [j for j, edit in enumerate(edits) if edit.strength != 0]
    i = [edit.target_input.double() for edit in edits]
    s = [((e @ INVERSE @ i_j) / (i_j @ INVERSE @ i_j)).item() for i_j in i]
    gram = torch.tensor([[(i[j] @ INVERSE @ i[k]).item() for k in there] for j in there], dtype=torch.float64)
    projections = torch.tensor([(e @ INVERSE @ i[j]).item() for j in there], dtype=torch.float64)
    a = dict(zip(there, torch.linalg.solve(gram, projections).tolist(), strict=True)) if there else {}
    for j in there:
        if edits[j].form != "paper" and a[j] < max(a.values()):
            s[j] = min(s[j], a[j])
    g = [sigmoid((s_j - edit.bias) / edit.temperature) for s_j, edit in zip(s, edits, strict=True)]

    base, key, value, added = e.clone(), torch.zeros_like(e), torch.zeros_like(e), torch.zeros(OUT, dtype=torch.float64)
    for j in there:
        edit, superclass = edits[j], edits[j].superclass_encoding.double()
        taken = a[j] if edit.form == "paper" else g[j] * a[j]
        if edit.form in ("unlocked", "lockable", "anchored"):
            own = sigmoid((s[j] - 0.75) / 0.10)
            base += edit.strength * own * (1 - g[j]) * a[j] * (superclass - i[j])
        own_keys = edit.form in ("unlocked", "residual", "anchored")
        lock = edit.lock if edit.lock is not None else 0.0 if own_keys else 1.0
        key += lock * edit.strength * (g[j] * superclass - taken * i[j])
        value -= 0.0 if edit.form in ("residual", "anchored") else edit.strength * taken * i[j]
        added += edit.strength * g[j] * targets[j]
    return weight_k @ (base + key), weight_v @ (base + value) + added, s, g


@settings(max_examples=200, deadline=None)
@given(st.lists(one_concept, max_size=5), st.integers(0, 10_000), st.floats(0, 3))
def test_any_stack_equals_the_transcription(stack, seed, kinship):
    """kinship: how much of their target inputs the concepts share."""
    plain = make_edits(len(stack), WIDTH, INVERSE, seed)
    edits = [replace(edit, **own) for edit, own in zip(plain, stack, strict=True)]
    common = kinship * random((WIDTH,), seed + 3)
    shared = [edit.target_input + common for edit in edits]
    edits = [
        replace(edit, target_input=i, inverse_target_input=3.0 * INVERSE @ i)
        for edit, i in zip(edits, shared, strict=True)
    ]
    encoding = random((TOKENS, WIDTH), seed + 1)
    for token, i in enumerate(shared[:2]):
        encoding[token] = i  # words of the concepts, where gates are open
    weight_k, weight_v, targets = random((OUT, WIDTH), 4), random((OUT, WIDTH), 5), random((len(edits), OUT), 6)

    edited = edit_encoding(encoding, edits)
    found = (
        edited.key_context @ weight_k.T,
        add_value_targets(edited.value_context @ weight_v.T, edited.value_gates, targets),
        edited.similarities,
        edited.gates,
    )

    rows = [layer(e, edits, weight_k, weight_v, targets) for e in encoding]
    for ours, theirs in zip(found, zip(*rows, strict=True), strict=True):
        expected = torch.stack([torch.as_tensor(one, dtype=torch.float64) for one in theirs])
        assert ours.shape == expected.shape
        if expected.numel():
            assert relative_error(ours, expected) <= 1e-12
    strengths = [edit.strength for edit in edits]
    assert torch.equal(edited.value_gates, edited.gates * edited.gates.new_tensor(strengths))
