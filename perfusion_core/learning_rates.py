"""How far one step of the optimiser goes: in the numbers' own units, or in units of their size.

A step of Adam is as long as its learning rate, whatever the gradient.  But models differ in the size of what is
learned: a component of a token vector of CLIP-L is about .0145, one of the demo model's .5, so that one rate is 41 % of
the one and 1.2 % of the other.  A relative rate means the same for every text encoder and every layer.

The size is the root mean square of the tensor at the start of the training: of the superclass' token vectors, of W_V
e_super in each layer, and of e_super for the offset of the word's encoding, which itself starts at zero.  Not of a
whole embedding table, which may hold many rows that nothing was ever learned for: the demo model's has an RMS of .05,
and its words one of .5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from .encoding_offset import OFFSET
from .errors import PerfusionError

VALUE, WORD = "value.", "word."


class Rate(NamedTuple):
    """A learning rate: in the numbers' own units, and in units of their size, which counts where it is given."""

    absolute: float = 0.0
    relative: float | None = None

    def at(self, size: float) -> float:
        """The rate, in the numbers' own units, of what has this size."""
        return self.absolute if self.relative is None else self.relative * size

    def text(self) -> str:
        """In words: "0.006", or "0.41 of its size"."""
        return f"{self.absolute:g}" if self.relative is None else f"{self.relative:g} of its size"


_NO_RATE = Rate()


def size(tensor: Tensor) -> float:
    """Root mean square of all numbers of a tensor."""
    return tensor.detach().float().square().mean().sqrt().item()


def learning_rates(
    values: Rate, word: Rate, parameters: Mapping[str, Tensor], offset: Rate = _NO_RATE
) -> dict[str, float]:
    """Return the learning rate of each parameter by name.

    parameters: "value.<layer>", [d_out], and "word.<key>", [m, width], as they are at the start; for "encoding_offset"
    the superclass' encoding, [d].
    Raises PerfusionError where a relative rate has nothing to be relative to.
    """
    rates = {}
    for name, tensor in parameters.items():
        rate = offset if name == OFFSET else values if name.startswith(VALUE) else word
        rates[name] = rate.at(size(tensor))
        if rate.relative and not 0 < rates[name] < math.inf:
            raise PerfusionError(
                f"A relative learning rate needs the size of {name} at the start, but it is {size(tensor)}; use another"
                " superclass, or the preset Custom with its absolute rates."
            )
    return rates


def recorded_rates(rates: Mapping[str, float], parameters: Mapping[str, Tensor]) -> dict[str, object]:
    """Absolute and relative rates for the header of a file: lowest and highest of the values, the words' by key, and
    that of an offset where there is one.

    rates: of `learning_rates`, for these parameters.  A relative rate of what is 0 is None.
    """

    def summary(of_parameter: Mapping[str, float | None]) -> dict[str, object]:
        values = [rate for name, rate in of_parameter.items() if name.startswith(VALUE) and rate is not None]
        words = {name.removeprefix(WORD): rate for name, rate in of_parameter.items() if name.startswith(WORD)}
        offset = {"offset": of_parameter[OFFSET]} if OFFSET in of_parameter else {}
        return {"values": [min(values), max(values)] if values else None, "words": words, **offset}

    sizes = {name: size(tensor) for name, tensor in parameters.items()}
    relative = {name: _short(rate / sizes[name]) if sizes[name] else None for name, rate in rates.items()}
    absolute = {name: _short(rate) for name, rate in rates.items()}
    return {"absolute_rates": summary(absolute), "relative_rates": summary(relative)}


def _short(number: float) -> float:
    return float(f"{number:.4g}")
