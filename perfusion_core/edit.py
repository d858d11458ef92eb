"""The key-locked, gated rank-one edit of cross-attention, made on the text encodings.

Notation.  J concepts act on the encoding e of one token, [d], which a cross-attention layer turns into W_K e and W_V e.

    i_j             target input: the encoding that the word of concept j has in a prompt, [d]
    e_super,j       encoding of its superclass word, [d]
    o_j             its target value in the layer, learned, [d_out]
    C               second moment of text encodings, [d, d]; only C^-1 i_j is ever needed
    beta_j, tau_j   bias and temperature of its gate
    w_j             its strength
    l_j             its lock, 0 (the word's own keys) to 1 (those of its superclass)

Equations, for the forms that a concept can have (paper, gated, unlocked, lockable, residual, anchored).

    s_j = e . C^-1 i_j / (i_j . C^-1 i_j)                              similarity, 1 where e = i_j
    a   = G^-1 S,  G_jk = i_j . C^-1 i_k,  S_j = e . C^-1 i_j          joint coefficients; a = s where J = 1
    s_j = s_j / r_j                                                    r_j: s_j of the word itself in this prompt, where
                                                                       its place is known; not in the paper form
    s_j = min(s_j, a_j / r_j)                                          but for the largest, and in the paper form
    g_j = sigmoid((s_j - beta_j) / tau_j)                              gate
    d_j = sigmoid((s_j - .75) / .10)                                   whether the token is the concept's own

    c_j = a_j (form paper),  g_j a_j (the others)                      how much of i_j is taken out
    v_j = 0 (residual, anchored),  c_j (the others)                    the same, of the values
    t_j = d_j (1 - g_j) a_j (unlocked, lockable, anchored),  0 (the others)    how much of i_j turns into e_super

    e'  = e + sum_j w_j t_j (e_super,j - i_j)
    K   = W_K (e' + sum_j l_j w_j (g_j e_super,j - c_j i_j))
    V   = W_V (e' - sum_j w_j v_j i_j) + sum_j w_j g_j o_j

A concept can be used with any lock; paper and gated were trained with l = 1, unlocked, residual and anchored with 0,
lockable with both.  In residual and anchored o_j is what is added to the word's own values; with o_j = 0 the word is
alone, in anchored while its gate is open.
The form paper is Perfusion (arXiv 2305.01644), Eq. 3, 4 and Appendix B; docs/method.md says why there are others.
How r_j is found: word_in_prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import PerfusionError
from .joint_directions import joint_directions, single_directions
from .word_in_prompt import WordsInPrompt

# Each form with the lock that a concept of it has where nobody chooses another one.
LOCK_OF = {"unlocked": 0.0, "gated": 1.0, "paper": 1.0, "lockable": 1.0, "residual": 0.0, "anchored": 0.0}
FORMS = tuple(LOCK_OF)
# In these the word was learned with keys of its own, so a closing gate puts the superclass in its place.
OWN_KEYS = ("unlocked", "lockable", "anchored")
# In these the word's own values stay below a learned difference.  In the form residual a closing gate leaves the word.
RESIDUAL = ("residual", "anchored")

# The gate by which a concept's own tokens are known whatever bias is in use: that of the paper's training.
OWN_TOKEN_BIAS, OWN_TOKEN_TEMPERATURE = 0.75, 0.10


@dataclass(frozen=True, eq=False)
class ConceptEdit:
    """What the edit needs of one concept.

    target_input: i, [d].  inverse_target_input: C^-1 i times any positive number, [d].  superclass_encoding: [d].
    bias, temperature: of the gate, in units of the similarity.  form: one of FORMS, the one that the concept was
    trained with.  strength: 0 = not there, 1 = as learned.  lock: of the keys, 0 to 1, or a tensor [..., 1] of one for
    each row of the encodings; None takes that of the form.
    """

    target_input: Tensor
    inverse_target_input: Tensor
    superclass_encoding: Tensor
    bias: float
    temperature: float
    form: str
    strength: float = 1.0
    lock: float | Tensor | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise PerfusionError(f"The form of a concept must be one of {', '.join(FORMS)}, but it is {self.form!r}.")
        if not self.temperature > 0:
            raise PerfusionError(f"The gate's temperature must be above 0, but it is {self.temperature}.")
        if self.lock is not None and not is_lock(self.lock):
            raise PerfusionError(f"The lock of a concept must be a number from 0 to 1, but it is {self.lock}.")

    @property
    def lock_in_force(self) -> float | Tensor:
        """The lock that was chosen, otherwise that of the form."""
        return LOCK_OF[self.form] if self.lock is None else self.lock


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


def is_lock(lock: float | Tensor) -> bool:
    """Whether this, or every number of it, is from 0 to 1."""
    return bool(((lock >= 0) & (lock <= 1)).all()) if isinstance(lock, Tensor) else 0 <= lock <= 1


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


def gate(similarities: Tensor, bias: float | Tensor, temperature: float | Tensor) -> Tensor:
    """Return g = sigmoid((s - bias) / temperature), any shape (paper, Eq. 3)."""
    return torch.sigmoid((similarities - bias) / temperature)


def joint_similarities(alone: Tensor, coefficients: Tensor, paper_form: Tensor, own: Tensor | None = None) -> Tensor:
    """Return the similarities by which the gates of several concepts are measured, [..., N, J] (docs/method.md,
    "Several concepts").

    alone: s, each by itself.  coefficients: a.  paper_form: bool, [J]; these keep to themselves.  own: tokens that are
    known to be a concept's, bool [..., N, J]; there its coefficient need not be the largest, and no other's is.
    """
    largest = coefficients == coefficients.amax(dim=-1, keepdim=True)
    if own is not None:
        largest = own | (largest & ~own.any(dim=-1, keepdim=True))
    return torch.where(paper_form | largest, alone, torch.minimum(alone, coefficients))


@dataclass(frozen=True, eq=False)
class _Concepts:
    """The concepts that take part, in the letters of the module: [J, d], and [J] for the last seven, or [..., 1, J]
    for locks that differ from row to row."""

    i: Tensor
    e_super: Tensor
    single: Tensor
    joint: Tensor
    beta: Tensor
    tau: Tensor
    w: Tensor
    lock: Tensor
    paper: Tensor
    own_keys: Tensor
    residual: Tensor


def _equations(e: Tensor, of: _Concepts, words: WordsInPrompt | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The equations of the module: what W_K and W_V are applied to, [..., N, d], and s and g, [..., N, J]."""
    s, a = e @ of.single.T, e @ of.joint.T
    if words is None:
        s = joint_similarities(s, a, of.paper)
    else:
        words = words.without(of.paper)
        s = joint_similarities(words.relative(s), a / words.references(), of.paper, words.own)
    g = gate(s, of.beta, of.tau)
    d = gate(s, OWN_TOKEN_BIAS, OWN_TOKEN_TEMPERATURE)

    c = torch.where(of.paper, a, g * a)
    v = torch.where(of.residual, 0.0, c)
    t = torch.where(of.own_keys, d * (1 - g) * a, 0.0)

    e = e + (of.w * t) @ (of.e_super - of.i)
    lock = of.w * of.lock
    keys = e + (lock * g) @ of.e_super - (lock * c) @ of.i
    values = e - (of.w * v) @ of.i
    return keys, values, s, g


def edit_encoding(encoding: Tensor, edits: Sequence[ConceptEdit], words: WordsInPrompt | None = None) -> EditedEncoding:
    """Return the inputs of to_k and to_v under all concepts at once (module docstring).

    encoding: [..., N, d].  words: where the words of all these concepts stand in it; None where that is not known, and
    then similarities are what they are.  Differentiable in the encoding and in the tensors of the edits. A concept of
    strength 0 takes no part, exactly; where none takes part both contexts are the encoding itself.
    Raises PerfusionError for a wrong width, DependentConceptsError for concepts that cannot be told apart.
    """
    for index, edit in enumerate(edits):
        _check_width(encoding, edit, index)
    alone = [similarity(encoding, edit.target_input, edit.inverse_target_input) for edit in edits]
    similarities = _stack_last(alone, encoding)
    gates = _stack_last([gate(s, edit.bias, edit.temperature) for s, edit in zip(alone, edits, strict=True)], encoding)
    value_gates = torch.zeros_like(gates)
    active = [j for j, edit in enumerate(edits) if edit.strength != 0]
    if not active:
        return EditedEncoding(encoding, encoding, value_gates, similarities, gates)

    concepts = _stacked(edits, active, similarities)
    columns = torch.tensor(active, device=encoding.device)
    keys, values, s, g = _equations(
        encoding.to(similarities.dtype), concepts, None if words is None else words.of(columns)
    )
    return EditedEncoding(
        keys.to(encoding.dtype),
        values.to(encoding.dtype),
        value_gates.index_copy(-1, columns, concepts.w * g),
        similarities.index_copy(-1, columns, s),
        gates.index_copy(-1, columns, g),
    )


def add_value_targets(values: Tensor, value_gates: Tensor, targets: Tensor) -> Tensor:
    """Return values + sum_j w_j g_j o_j, the only part of the edit that differs from layer to layer (paper, Eq. 4).

    values: W_V of the value context, [..., N, d_out].  value_gates: [..., N, J].  targets: [J, d_out].
    The dtype of the values is kept.
    """
    dtype = working_dtype(values)
    added = value_gates.to(values.device, dtype) @ targets.to(values.device, dtype)
    return (values.to(dtype) + added).to(values.dtype)


def _stacked(edits: Sequence[ConceptEdit], active: Sequence[int], like: Tensor) -> _Concepts:
    """The concepts that take part as one tensor for each letter, of the dtype and on the device of `like`."""
    taking_part = [edits[j] for j in active]
    precise = torch.stack([edit.target_input.to("cpu", torch.float64) for edit in taking_part])
    inverses = torch.stack([edit.inverse_target_input.to("cpu", torch.float64) for edit in taking_part])
    single = single_directions(precise, inverses, active)
    tensors = {
        "i": torch.stack([edit.target_input for edit in taking_part]),
        "e_super": torch.stack([edit.superclass_encoding for edit in taking_part]),
        "single": single,
        "joint": joint_directions(single, precise, active),
    }
    return _Concepts(
        **{name: tensor.to(like.device, like.dtype) for name, tensor in tensors.items()},
        beta=like.new_tensor([edit.bias for edit in taking_part]),
        tau=like.new_tensor([edit.temperature for edit in taking_part]),
        w=like.new_tensor([edit.strength for edit in taking_part]),
        lock=_locks([edit.lock_in_force for edit in taking_part], like),
        paper=torch.tensor([edit.form == "paper" for edit in taking_part], device=like.device),
        own_keys=torch.tensor([edit.form in OWN_KEYS for edit in taking_part], device=like.device),
        residual=torch.tensor([edit.form in RESIDUAL for edit in taking_part], device=like.device),
    )


def _locks(locks: Sequence[float | Tensor], like: Tensor) -> Tensor:
    """Locks as one tensor: [J], or [..., 1, J] where any of them differs from row to row."""
    tensors = [torch.as_tensor(lock, dtype=like.dtype, device=like.device) for lock in locks]
    return torch.stack(torch.broadcast_tensors(*tensors), dim=-1)


def _stack_last(columns: list[Tensor], encoding: Tensor) -> Tensor:
    """Stack [..., N] columns to [..., N, J], also where J = 0."""
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
