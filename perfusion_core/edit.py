"""The key-locked, gated rank-one edit of cross-attention, on the side of the text encodings.

Notation (Perfusion, arXiv 2305.01644, section 4; several concepts: Eq. 4 and Appendix B). For every concept j:

    i_j      target input: the encoding that the concept's word has in a prompt                          [d]
    C^-1     inverse of the uncentered second moment of text encodings; only C^-1 i_j is ever needed     [d]
    o_V,j    learned target value, one vector per cross-attention layer                                  [d_out]
    e_super  encoding of the superclass word; the locked target key is o_K,j = W_K e_super,j             [d]

For an encoding e of one token:

    coefficients   a = G^-1 S,  G_jk = i_j . C^-1 i_k,  S_j = e . C^-1 i_j     so that e - sum_j a_j i_j is
                                                                               C^-1-orthogonal to every i_k
    similarity     s_j = e . C^-1 i_j / (i_j . C^-1 i_j)                       1 where e = i_j
                   min(s_j, a_j) of all but the concept of the largest a_j; not in the paper form
    gate           g_j = sigmoid((s_j - bias_j) / temperature_j)
    paper form     h = W (e - sum_j a_j i_j)     + sum_j g_j o_j
    gated form     h = W (e - sum_j g_j a_j i_j) + sum_j g_j o_j               a closed gate leaves e alone
    unlocked form  h = W e' of the keys, W (e' - sum_j g_j a_j i_j) + sum_j g_j o_j of the values, with
                   e' = e + sum_j d_j (1 - g_j) a_j (e_super,j - i_j),  d_j = sigmoid((s_j - .75) / .10)

In the unlocked form attention goes where the concept's word sends it. What a closing gate leaves is the superclass, at
the tokens that are the concept's beyond doubt (d_j, the gate of the paper's training): its word was learned together
with its values and is like the thing by itself. The paper has no such form.

The paper measures each similarity as if its concept were alone.  Then a gate opens at the words of other concepts, as
far as these are alike: toys of the demo model have .2 to .4 of each other.  a_j is what of e the others do not explain,
0 at each other's target.  Pictures of two things, both right (the quality benchmark, bias .75): .65 with the paper's
similarity, .69 with this one; with a third loaded .60 and .74.  a_j alone did as well there, but where concepts are
hardly independent it is large at any word: with 16 loaded, some of the same thing, a third of the pictures without
their words changed, where with the minimum, by which no gate is wider open than alone, few do.  The concept with the
largest part in e keeps its s_j, so that no other shuts the gate at its own word.

W is linear, so the subtraction is done once on e instead of in every layer, and the locked key, being W_K of
something, is added on the input side too. What remains for a layer is `add_value_targets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import DependentConceptsError, PerfusionError

FORMS = ("unlocked", "gated", "paper")

# The gate by which the unlocked form knows a concept's own tokens, whatever bias they are used with.
OWN_TOKEN_BIAS, OWN_TOKEN_TEMPERATURE = 0.75, 0.10

# Two concepts whose correlation in the C^-1 metric is 1 - 1e-5 or more are one concept for float32 encodings.
INDEPENDENCE = 1e-5


@dataclass(frozen=True, eq=False)
class ConceptEdit:
    """What the edit needs of one concept.

    target_input: i, [d].  inverse_target_input: C^-1 i times any positive number, [d].  superclass_encoding: [d].
    bias, temperature: of the gate, in units of the similarity.  strength: 0 = not there, 1 = as learned.
    form: one of FORMS, the one that the concept was trained with.
    """

    target_input: Tensor
    inverse_target_input: Tensor
    superclass_encoding: Tensor
    bias: float
    temperature: float
    strength: float = 1.0
    form: str = "gated"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise PerfusionError(f"The form of a concept must be one of {', '.join(FORMS)}, but it is {self.form!r}.")
        if not self.temperature > 0:
            raise PerfusionError(f"The gate's temperature must be above 0, but it is {self.temperature}.")


@dataclass(frozen=True, eq=False)
class EditedEncoding:
    """The edited inputs of cross-attention for one text encoding and J concepts.

    key_context, value_context: inputs of to_k and to_v, [..., N, d], in the encoding's dtype.
    value_gates: gate times strength, the factor of each concept's target value, [..., N, J].
    similarities, gates: s and g, for display, [..., N, J].
    """

    key_context: Tensor
    value_context: Tensor
    value_gates: Tensor
    similarities: Tensor
    gates: Tensor


def working_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype of the computation: float64 stays, everything else becomes float32.

    The similarity is a quotient of two long sums of opposite signs; half precision loses the gate's decision.
    """
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def similarity(encoding: Tensor, target_input: Tensor, inverse_target_input: Tensor) -> Tensor:
    """Return s = e . C^-1 i / (i . C^-1 i) for every token: [..., N, d] -> [..., N] (paper, Eq. 3)."""
    dtype = working_dtype(encoding)
    inverse = inverse_target_input.to(encoding.device, dtype)
    energy = (target_input.to(encoding.device, dtype) * inverse).sum()
    return encoding.to(dtype) @ (inverse / energy)


def gate(similarities: Tensor, bias: float, temperature: float) -> Tensor:
    """Return g = sigmoid((s - bias) / temperature), any shape (paper, Eq. 3)."""
    return torch.sigmoid((similarities - bias) / temperature)


def joint_similarities(alone: Tensor, coefficients: Tensor, paper_form: Tensor) -> Tensor:
    """The similarities by which several concepts' gates are measured, [..., N, J] (module docstring).

    alone: each by itself.  coefficients: a.  paper_form: bool, [J]; these keep to themselves."""
    largest = coefficients == coefficients.amax(dim=-1, keepdim=True)
    return torch.where(paper_form | largest, alone, torch.minimum(alone, coefficients))


def edit_encoding(encoding: Tensor, edits: Sequence[ConceptEdit]) -> EditedEncoding:
    """Return the inputs of to_k and to_v under all concepts at once (module docstring; paper, Eq. 3, 4).

    encoding: [..., N, d]. Differentiable in the encoding and in the tensors of the edits. A concept of strength 0
    takes no part, exactly; where none takes part both contexts are the encoding itself.
    Raises PerfusionError for a wrong width, DependentConceptsError for concepts that cannot be told apart.
    """
    for index, edit in enumerate(edits):
        _check_width(encoding, edit, index)
    similarities = _stack_last([similarity(encoding, e.target_input, e.inverse_target_input) for e in edits], encoding)
    active = [j for j, edit in enumerate(edits) if edit.strength != 0]
    if not active:
        gates = _gates(similarities, edits)
        return EditedEncoding(encoding, encoding, torch.zeros_like(gates), similarities, gates)

    dtype, device = similarities.dtype, encoding.device
    dual = _dual_directions([edits[j] for j in active], active).to(device, dtype)
    target_inputs = torch.stack([edits[j].target_input for j in active]).to(device, dtype)
    superclass_encodings = torch.stack([edits[j].superclass_encoding for j in active]).to(device, dtype)
    forms = [edits[j].form for j in active]
    locked, paper_form = (
        torch.tensor(of, device=device) for of in ([f != "unlocked" for f in forms], [f == "paper" for f in forms])
    )

    precise = encoding.to(dtype)
    joint = precise @ dual.T
    if len(active) > 1:
        similarities[..., active] = joint_similarities(similarities[..., active], joint, paper_form)
    gates = _gates(similarities, edits)
    strengths = similarities.new_tensor([edit.strength for edit in edits])
    value_gates = torch.where(strengths == 0, 0.0, gates * strengths)

    coefficients = joint * strengths[active]
    gates_active = gates[..., active]
    if "unlocked" in forms:
        own_tokens = gate(similarities[..., active], OWN_TOKEN_BIAS, OWN_TOKEN_TEMPERATURE)
        closed = torch.where(locked, 0.0, own_tokens * (1 - gates_active) * coefficients)
        precise = precise + closed @ (superclass_encodings - target_inputs)
    coefficients = torch.where(paper_form, coefficients, coefficients * gates_active)

    value_context = precise - coefficients @ target_inputs
    key_gates = torch.where(locked, value_gates[..., active], 0.0)
    key_context = precise - torch.where(locked, coefficients, 0.0) @ target_inputs + key_gates @ superclass_encodings
    return EditedEncoding(
        key_context.to(encoding.dtype), value_context.to(encoding.dtype), value_gates, similarities, gates
    )


def add_value_targets(values: Tensor, value_gates: Tensor, targets: Tensor) -> Tensor:
    """Return values + sum_j g_j o_V,j, the only part of the edit that differs from layer to layer (paper, Eq. 4).

    values: W_V of the value context, [..., N, d_out].  value_gates: [..., N, J].  targets: [J, d_out].
    The dtype of the values is kept.
    """
    dtype = working_dtype(values)
    added = value_gates.to(values.device, dtype) @ targets.to(values.device, dtype)
    return (values.to(dtype) + added).to(values.dtype)


def _gates(similarities: Tensor, edits: Sequence[ConceptEdit]) -> Tensor:
    """The gate of each concept, [..., N, J]."""
    return _stack_last([gate(similarities[..., j], e.bias, e.temperature) for j, e in enumerate(edits)], similarities)


def _stack_last(columns: list[Tensor], encoding: Tensor) -> Tensor:
    """Stack [..., N] columns to [..., N, J], also where J = 0; then like an encoding or similarities, [..., N, ?]."""
    if not columns:
        return encoding.new_zeros((*encoding.shape[:-1], 0), dtype=working_dtype(encoding))
    return torch.stack(columns, dim=-1)


def _check_width(encoding: Tensor, edit: ConceptEdit, index: int) -> None:
    expected = (encoding.shape[-1],)
    for tensor in (edit.target_input, edit.inverse_target_input, edit.superclass_encoding):
        if tuple(tensor.shape) != expected:
            raise PerfusionError(
                f"Concept {index} was made for text encodings of width {tuple(tensor.shape)}, but this text encoder"
                f" gives width {encoding.shape[-1]}; use a concept that was trained for this kind of model."
            )


def _dual_directions(edits: Sequence[ConceptEdit], indices: Sequence[int]) -> Tensor:
    """Return D = G^-1 A C^-1, [J, d], whose rows give the joint coefficients a = D e; float64 on the CPU.

    Each row of G and of A C^-1 is first divided by i_j . C^-1 i_j, which leaves the solution as it is and makes it
    independent of the scale each C^-1 i_j was stored with. The system is J x J and tiny: on the CPU it has float64
    and a solver, which not every accelerator has, and the check of its condition is free of device quirks.
    """
    target_inputs = torch.stack([edit.target_input.to("cpu", torch.float64) for edit in edits])
    inverses = torch.stack([edit.inverse_target_input.to("cpu", torch.float64) for edit in edits])
    energies = (target_inputs * inverses).sum(-1, keepdim=True)
    for index, energy in zip(indices, energies.flatten().tolist(), strict=True):
        if not 0 < energy < float("inf"):
            raise DependentConceptsError(
                f"Concept {index} has a target input of energy i.C^-1 i = {energy:.3g} where a positive number is"
                " needed; its file is damaged or it was made with faulty text statistics, so train it again.",
                [index],
            )
    directions = inverses / energies
    if len(edits) == 1:
        return directions
    gram = directions @ target_inputs.T
    _check_independence(gram.detach(), indices)
    return torch.linalg.solve(gram, directions)


def _check_independence(gram: Tensor, indices: Sequence[int]) -> None:
    """Refuse a Gram matrix with unit diagonal that is singular for practical purposes.

    It is similar to the matrix of correlations G_jk / sqrt(G_jj G_kk), so it has the same eigenvalues; for two
    concepts the smaller one is 1 - |correlation|. Three concepts can also depend on each other without any two
    being parallel.
    """
    if torch.linalg.eigvals(gram).abs().min().item() > INDEPENDENCE:
        return
    correlation = (gram * gram.T).abs().sqrt().fill_diagonal_(0)
    row, column = divmod(int(correlation.argmax()), len(indices))
    if correlation[row, column].item() >= 1 - INDEPENDENCE:
        culprits = sorted([indices[row], indices[column]])
    else:
        culprits = list(indices)
    names = ", ".join(str(index) for index in culprits)
    raise DependentConceptsError(
        f"Concepts {names} have target inputs that depend on each other, so the text encoder cannot tell them apart;"
        " remove one of them or set its strength to 0.",
        culprits,
    )
