"""perfusion_core.edit against a plain float64 transcription of the paper's equations, and its properties."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from core_examples import make_edits, random, relative_error, second_moment
from hypothesis import given, settings
from hypothesis import strategies as st

from perfusion_core.edit import (
    FORMS,
    OWN_KEYS,
    RESIDUAL,
    ConceptEdit,
    add_value_targets,
    edit_encoding,
    gate,
    similarity,
)
from perfusion_core.errors import DependentConceptsError, PerfusionError

WIDTH, OUT, TOKENS = 24, 10, 7
INVERSE = torch.linalg.inv(second_moment(WIDTH))
seeds = st.integers(0, 10_000)
forms = st.sampled_from(FORMS)
quick = settings(max_examples=25, deadline=None)


# --- the transcription: one token, one layer, written as in the paper, with C^-1 as a matrix -----------------------


def gates_of(e, edits, inverse):
    """Eq. 3: sim_j = e^T C^-1 i_j, E_j = i_j^T C^-1 i_j, g_j = sigmoid((sim_j / E_j - bias) / temperature).

    All but the concept of the largest joint coefficient, and the paper's form, measure by theirs where smaller."""
    coefficients, gates = paper_joint_coefficients(e, edits, inverse).tolist(), []
    for edit, a in zip(edits, coefficients, strict=True):
        i = edit.target_input.double()
        s = ((e @ inverse @ i) / (i @ inverse @ i)).item()
        if edit.form != "paper" and a < max(coefficients):
            s = min(s, a)
        gates.append(1 / (1 + math.exp(-(s - edit.bias) / edit.temperature)))
    return gates


def paper_joint_coefficients(e, edits, inverse):
    """Appendix B: e - e_perp = sum_j (u_j^T C^-1 e) u_j with u from Cholesky and QR, as coefficients of the i_j."""
    lower = torch.linalg.cholesky(inverse)  # C^-1 = L L^T
    inputs = torch.stack([edit.target_input.double() for edit in edits], dim=1)  # d x J
    q, r = torch.linalg.qr(lower.T @ inputs)
    u = torch.linalg.solve(lower.T, q)  # u_j^T C^-1 u_k = delta_jk, and inputs = u r
    return torch.linalg.solve(r, u.T @ inverse @ e)


def closing_on_the_superclass(e, edits, inverse):
    """e' of the forms unlocked, lockable and anchored, see the module."""
    gates, coefficients = gates_of(e, edits, inverse), paper_joint_coefficients(e, edits, inverse)
    own_tokens = gates_of(e, [replace(edit, bias=0.75, temperature=0.10) for edit in edits], inverse)
    for edit, g, a, d in zip(edits, gates, coefficients, own_tokens, strict=True):
        e = e + d * (1 - g) * a * (edit.superclass_encoding.double() - edit.target_input.double())
    return e


def paper_layer(e, edits, inverse, weight, targets, form):
    """h of one layer for one token: single (Eq. 3) and joint (Eq. 4); all but the paper's form gate the coefficient."""
    gates = gates_of(e, edits, inverse)
    coefficients = paper_joint_coefficients(e, edits, inverse)
    h = weight @ (closing_on_the_superclass(e, edits, inverse) if form in OWN_KEYS else e)
    for edit, g, a, o in zip(edits, gates, coefficients, targets, strict=True):
        if form in RESIDUAL:
            h = h + g * o
            continue
        h = h - (a if form == "paper" else g * a) * (weight @ edit.target_input.double()) + g * o
    return h


def our_layer(encoding, edits, weight_k, weight_v, targets):
    edited = edit_encoding(encoding, edits)
    keys = edited.key_context @ weight_k.to(encoding.dtype).T
    values = add_value_targets(edited.value_context @ weight_v.to(encoding.dtype).T, edited.value_gates, targets)
    return keys, values


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_equals_the_equations(form, count, dtype, tolerance):
    edits = make_edits(count, WIDTH, INVERSE, form=form)
    encoding = random((2, TOKENS, WIDTH), 3)
    encoding[0, 2] = edits[0].target_input  # a token that is the concept itself
    weight_k, weight_v = random((OUT, WIDTH), 4), random((OUT, WIDTH), 5)
    value_targets = random((count, OUT), 6)
    key_targets = torch.stack([weight_k @ edit.superclass_encoding for edit in edits])  # o_K = W_K e_super

    keys, values = our_layer(encoding.to(dtype), edits, weight_k, weight_v, value_targets)

    if form in ("unlocked", "anchored"):
        closing = torch.stack([closing_on_the_superclass(e, edits, INVERSE) for e in encoding.flatten(0, 1)])
        assert relative_error(keys, (closing @ weight_k.T).view_as(keys)) <= tolerance
        keys, key_targets, weight_k = values, value_targets, weight_v
    if form == "residual":
        assert relative_error(keys, encoding @ weight_k.T) <= tolerance
        keys, key_targets, weight_k = values, value_targets, weight_v
    for ours, weight, targets in ((keys, weight_k, key_targets), (values, weight_v, value_targets)):
        expected = torch.stack(
            [torch.stack([paper_layer(e, edits, INVERSE, weight, targets, form) for e in row]) for row in encoding]
        )
        assert ours.dtype == dtype
        assert relative_error(ours, expected) <= tolerance


@quick
@given(seeds, st.integers(2, 5))
def test_gram_solve_equals_cholesky_and_qr(seed, count):
    """Appendix B's route over Cholesky and QR and the J x J Gram solve are the same projection."""
    edits = [replace(edit, form="paper") for edit in make_edits(count, WIDTH, INVERSE, seed)]
    encoding = random((TOKENS, WIDTH), seed + 1)
    inputs = torch.stack([edit.target_input for edit in edits], dim=1)
    expected = torch.stack([e - inputs @ paper_joint_coefficients(e, edits, INVERSE) for e in encoding])
    found = edit_encoding(encoding, edits).value_context
    assert relative_error(found, expected) <= 1e-10
    assert (found @ INVERSE @ inputs).abs().max() <= 1e-10 * (encoding @ INVERSE @ inputs).abs().max()


def test_sd15_width_in_float32():
    """At CLIP-L's width and a condition number of 1000 the float32 computation still has 1e-6."""
    inverse = torch.linalg.inv(second_moment(768))
    edits = make_edits(3, 768, inverse)
    encoding = random((77, 768), 1)
    precise = edit_encoding(encoding, edits)
    found = edit_encoding(encoding.float(), edits)
    assert relative_error(found.value_context, precise.value_context) <= 1e-6
    assert relative_error(found.key_context, precise.key_context) <= 1e-6
    assert (found.gates - precise.gates).abs().max() <= 1e-5


def test_linear_gate_is_rome_in_weight_space():
    """With g = s the edit is ROME's W + Lambda (C^-1 i)^T, Lambda = (o - W i) / ((C^-1 i)^T i) (Eq. 1, 2)."""
    (edit,) = make_edits(1, WIDTH, INVERSE, form="paper")
    weight, target = random((OUT, WIDTH), 4), random((OUT,), 6)
    encoding = random((TOKENS, WIDTH), 3)
    direction = INVERSE @ edit.target_input
    rome = weight + torch.outer((target - weight @ edit.target_input) / (direction @ edit.target_input), direction)
    edited = edit_encoding(encoding, [edit])
    ours = add_value_targets(edited.value_context @ weight.T, edited.similarities, target[None])
    assert relative_error(ours, encoding @ rome.T) <= 1e-12


def test_gate_values_of_the_method():
    """The table of gate values for the paper's settings."""
    s = torch.tensor([0.0, 0.4, 0.8, 1.0], dtype=torch.float64)
    expected = {(0.75, 0.10): [0.0006, 0.029, 0.623, 0.924], (0.60, 0.15): [0.018, 0.209, 0.791, 0.935]}
    for (bias, temperature), row in expected.items():
        assert gate(s, bias, temperature).tolist() == pytest.approx(row, abs=6e-4)


# --- properties ----------------------------------------------------------------------------------------------------


@quick
@given(seeds, st.integers(1, 4), st.floats(-3, 3), st.floats(-3, 3))
def test_paper_projection_is_linear(seed, count, x, y):
    edits = make_edits(count, WIDTH, INVERSE, seed, form="paper")
    a, b = random((TOKENS, WIDTH), seed + 1), random((TOKENS, WIDTH), seed + 2)
    together = edit_encoding(x * a + y * b, edits).value_context
    apart = x * edit_encoding(a, edits).value_context + y * edit_encoding(b, edits).value_context
    assert torch.allclose(together, apart, rtol=0, atol=1e-10)


@quick
@given(seeds, forms, st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4))
def test_scale_of_c_does_not_matter(seed, form, scales):
    """Neither a common scale of C nor a different one for each concept's file changes anything."""
    edits = make_edits(len(scales), WIDTH, INVERSE, seed, form=form)
    scaled = [replace(e, inverse_target_input=k * e.inverse_target_input) for k, e in zip(scales, edits, strict=True)]
    encoding = random((TOKENS, WIDTH), seed + 1)
    found, expected = edit_encoding(encoding, scaled), edit_encoding(encoding, edits)
    assert torch.allclose(found.key_context, expected.key_context, rtol=0, atol=1e-10)
    assert torch.allclose(found.value_gates, expected.value_gates, rtol=0, atol=1e-10)


@quick
@given(seeds, st.permutations(range(4)), st.lists(forms, min_size=4, max_size=4))
def test_order_of_the_stack_does_not_matter(seed, order, stack_forms):
    edits = make_edits(4, WIDTH, INVERSE, seed)
    edits = [replace(edit, form=form) for edit, form in zip(edits, stack_forms, strict=True)]
    encoding = random((TOKENS, WIDTH), seed + 1)
    found, expected = edit_encoding(encoding, [edits[j] for j in order]), edit_encoding(encoding, edits)
    assert torch.allclose(found.key_context, expected.key_context, rtol=0, atol=1e-10)
    assert torch.allclose(found.value_context, expected.value_context, rtol=0, atol=1e-10)
    assert torch.allclose(found.value_gates, expected.value_gates[..., list(order)], rtol=0, atol=1e-12)


@quick
@given(seeds, st.integers(1, 4), st.sampled_from([torch.float16, torch.float32]))
def test_closed_gate_of_the_gated_form_leaves_a_token_unchanged(seed, count, dtype):
    edits = make_edits(count, WIDTH, INVERSE, seed, bias=100.0, temperature=0.1, form="gated")
    encoding = random((TOKENS, WIDTH), seed + 1, dtype)
    edited = edit_encoding(encoding, edits)
    assert torch.equal(edited.value_context, encoding)
    assert torch.equal(edited.key_context, encoding)
    paper = edit_encoding(encoding, [replace(edit, form="paper") for edit in edits])
    assert not torch.equal(paper.value_context, encoding)  # the paper's form takes the concept's direction away


@quick
@given(seeds, forms, st.integers(0, 2))
def test_strength_zero_is_exactly_as_if_the_concept_were_not_there(seed, form, position):
    edits = make_edits(2, WIDTH, INVERSE, seed, form=form)
    absent = replace(edits[0], strength=0.0)  # parallel to a concept that is there: must not disturb the solve
    stack = [*edits[:position], absent, *edits[position:]]
    encoding = random((TOKENS, WIDTH), seed + 1, torch.float32)
    found, expected = edit_encoding(encoding, stack), edit_encoding(encoding, edits)
    assert torch.equal(found.key_context, expected.key_context)
    assert torch.equal(found.value_context, expected.value_context)
    assert (found.value_gates[..., position] == 0).all()
    values, targets = random((TOKENS, OUT), 1, torch.float32), random((3, OUT), 2, torch.float32)
    others = [j for j in range(3) if j != position]
    assert torch.equal(
        add_value_targets(values, found.value_gates, targets),
        add_value_targets(values, expected.value_gates, targets[others]),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nothing_active_returns_the_encoding_itself(dtype):
    edits = make_edits(2, WIDTH, INVERSE, strength=0.0)
    encoding = random((2, TOKENS, WIDTH), 1, dtype)
    values = random((2, TOKENS, OUT), 2, dtype)
    for stack in ([], edits):
        edited = edit_encoding(encoding, stack)
        assert edited.key_context is encoding
        assert edited.value_context is encoding
        assert edited.gates.shape == edited.value_gates.shape == (2, TOKENS, len(stack))
        targets = torch.ones(len(stack), OUT)
        assert torch.equal(add_value_targets(values, edited.value_gates, targets), values)


@quick
@given(seeds, forms, st.floats(0.05, 2.0))
def test_strength_interpolates(seed, form, strength):
    edits = make_edits(1, WIDTH, INVERSE, seed, form=form)
    encoding = random((TOKENS, WIDTH), seed + 1)
    full, part = edit_encoding(encoding, edits), edit_encoding(encoding, [replace(edits[0], strength=strength)])
    expected = encoding + strength * (full.key_context - encoding)
    assert torch.allclose(part.key_context, expected, rtol=0, atol=1e-10)
    assert torch.allclose(part.value_gates, strength * full.gates, rtol=0, atol=1e-12)


def test_mixed_forms_share_the_joint_coefficients():
    """In a mixed stack the paper concept is subtracted whole, the gated one times its gate."""
    first, second = make_edits(2, WIDTH, INVERSE)
    encoding = random((TOKENS, WIDTH), 1)
    mixed = [replace(first, form="paper"), replace(second, form="gated")]
    found = edit_encoding(encoding, mixed)
    for e, result in zip(encoding, found.value_context, strict=True):
        a = paper_joint_coefficients(e, mixed, INVERSE)
        g = gates_of(e, mixed, INVERSE)
        expected = e - a[0] * first.target_input - g[1] * a[1] * second.target_input
        assert relative_error(result, expected) <= 1e-12


def test_a_closing_gate_leaves_the_superclass_of_an_unlocked_concept_and_other_tokens_alone():
    """The concept's own token becomes the superclass; a token with next to no similarity stays."""
    (edit,) = make_edits(1, WIDTH, INVERSE, form="unlocked")
    edit = replace(edit, temperature=0.01)
    i, c = edit.target_input.double(), edit.inverse_target_input.double()
    other = random((WIDTH,), 1)
    other = other - (other @ c) / (i @ c) * i  # similarity 0
    encoding = torch.stack([i, other])
    open_gate, closed = (edit_encoding(encoding, [replace(edit, bias=bias)]) for bias in (0.5, 2.0))
    assert relative_error(open_gate.key_context, encoding) <= 1e-12
    assert open_gate.value_context[0].abs().max() <= 1e-12 * i.abs().max()
    for context in (closed.key_context, closed.value_context):
        own = 1 / (1 + math.exp(-2.5))  # of the own token, by the gate that knows it
        assert relative_error(context[0], i + own * (edit.superclass_encoding.double() - i)) <= 1e-12
        assert relative_error(context[1], other) <= 1e-12
    assert closed.value_gates.max() <= 1e-12


def test_only_the_locked_concepts_of_a_mixed_stack_lock_keys():
    first, second = make_edits(2, WIDTH, INVERSE)
    first, second = replace(first, form="unlocked", bias=-100.0), replace(second, form="gated")
    encoding = random((TOKENS, WIDTH), 1)
    mixed = edit_encoding(encoding, [first, second])
    for e, result in zip(encoding, mixed.key_context, strict=True):
        a, g = (of(e, [first, second], INVERSE)[1] for of in (paper_joint_coefficients, gates_of))
        expected = e - g * a * second.target_input + g * second.superclass_encoding
        assert relative_error(result, expected) <= 1e-12


# --- types, shapes, gradients, errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    edits = make_edits(2, WIDTH, INVERSE)
    encoding = random((1, TOKENS, WIDTH), 1, dtype)
    found, precise = edit_encoding(encoding, edits), edit_encoding(encoding.double(), edits)
    assert found.key_context.dtype == found.value_context.dtype == dtype
    assert found.gates.dtype == found.value_gates.dtype == torch.float32
    assert (found.gates - precise.gates).abs().max() <= 1e-5
    assert relative_error(found.value_context, precise.value_context) <= torch.finfo(dtype).eps
    values = random((1, TOKENS, OUT), 2, dtype)
    assert add_value_targets(values, found.value_gates, torch.ones(2, OUT)).dtype == dtype


def test_any_leading_dimensions():
    edits = make_edits(2, WIDTH, INVERSE)
    encoding = random((2, 3, TOKENS, WIDTH), 1)
    whole = edit_encoding(encoding, edits)
    assert whole.gates.shape == (2, 3, TOKENS, 2)
    assert torch.allclose(whole.key_context[1, 2], edit_encoding(encoding[1, 2], edits).key_context)


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form):
    """Differentiable in the encoding and in every tensor of the edits, with one concept and with two."""
    for count in (1, 2):
        edits = make_edits(count, 6, torch.linalg.inv(second_moment(6)), form=form)
        tensors = [t for e in edits for t in (e.target_input, e.inverse_target_input, e.superclass_encoding)]
        inputs = [tensor.clone().requires_grad_() for tensor in (random((3, 6), 1), *tensors)]

        def contexts(encoding, *parts, edits=edits):
            stack = [
                ConceptEdit(*parts[3 * j : 3 * j + 3], e.bias, e.temperature, e.form, 0.8) for j, e in enumerate(edits)
            ]
            edited = edit_encoding(encoding, stack)
            return edited.key_context, edited.value_context, edited.value_gates

        assert torch.autograd.gradcheck(contexts, inputs)


def test_similarity_of_the_concept_with_itself_is_one():
    (edit,) = make_edits(1, WIDTH, INVERSE)
    s = similarity(edit.target_input[None], edit.target_input, edit.inverse_target_input)
    assert s.item() == pytest.approx(1)


def test_parallel_concepts_are_named():
    first, second = make_edits(2, WIDTH, INVERSE)
    for factor in (1.0, -2.0):
        twin = replace(
            first, target_input=factor * first.target_input, inverse_target_input=factor * first.inverse_target_input
        )
        with pytest.raises(DependentConceptsError, match=r"Concepts 0, 2 ") as caught:
            edit_encoding(random((TOKENS, WIDTH), 1, torch.float32), [first, second, twin])
        assert caught.value.indices == (0, 2)


def test_indices_count_the_concepts_that_were_dropped():
    first, second = make_edits(2, WIDTH, INVERSE)
    with pytest.raises(DependentConceptsError) as caught:
        edit_encoding(random((TOKENS, WIDTH), 1), [replace(second, strength=0.0), first, first])
    assert caught.value.indices == (1, 2)


def test_three_dependent_concepts_are_named():
    first, second = make_edits(2, WIDTH, INVERSE)
    third_input = first.target_input + second.target_input
    third = replace(first, target_input=third_input, inverse_target_input=INVERSE @ third_input)
    with pytest.raises(DependentConceptsError) as caught:
        edit_encoding(random((TOKENS, WIDTH), 1), [first, second, third])
    assert caught.value.indices == (0, 1, 2)


def test_many_similar_concepts_are_not_refused():
    """Eight concepts of correlation 0.98 are hard to tell apart, yet far from impossible."""
    common = random((WIDTH,), 1)
    edits = []
    for edit in make_edits(8, WIDTH, INVERSE):
        target_input = 6 * common + (edit.target_input - common)
        edits.append(replace(edit, target_input=target_input, inverse_target_input=INVERSE @ target_input))
    assert torch.isfinite(edit_encoding(random((TOKENS, WIDTH), 1, torch.float32), edits).key_context).all()


@pytest.mark.parametrize("factor", [-1.0, 0.0, math.nan])
def test_energy_must_be_positive(factor):
    (edit,) = make_edits(1, WIDTH, INVERSE)
    broken = replace(edit, inverse_target_input=factor * edit.inverse_target_input)
    with pytest.raises(PerfusionError, match="positive number"):
        edit_encoding(random((TOKENS, WIDTH), 1), [broken])


def test_wrong_settings():
    (edit,) = make_edits(1, WIDTH, INVERSE)
    with pytest.raises(PerfusionError, match=f"gives width {WIDTH + 1}"):
        edit_encoding(random((TOKENS, WIDTH + 1), 1), [edit])
    with pytest.raises(PerfusionError, match="gated, paper"):
        replace(edit, form="linear")
    with pytest.raises(PerfusionError, match="above 0"):
        replace(edit, temperature=0.0)
