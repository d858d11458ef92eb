"""How far one step of the optimiser goes: in the numbers' own units, or in units of their size.

A step of Adam is as long as its learning rate, whatever the gradient.  But models differ in the size of what is
learned: a component of a token vector of CLIP-L is about .0145, one of the demo model's .5, so that one rate is 41 % of
the one and 1.2 % of the other.  A relative rate means the same for every text encoder and every layer.

The size is the root mean square of the tensor at the start of the training: of the superclass' token vectors, and of
W_V e_super in each layer.  Not of a whole embedding table, which may hold many rows that nothing was ever learned for:
the demo model's has an RMS of .05, and its words one of .5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from .errors import PerfusionError

if TYPE_CHECKING:
    from .training import TrainingSettings

VALUE, WORD = "value.", "word."


def size(tensor: Tensor) -> float:
    """Root mean square of all numbers of a tensor."""
    return tensor.detach().float().square().mean().sqrt().item()


def learning_rates(settings: TrainingSettings, parameters: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the learning rate of each parameter by name.

    parameters: "value.<layer>", [d_out], and "word.<key>", [m, width], as they are at the start.
    Raises PerfusionError where a relative rate has nothing to be relative to.
    """
    of_kind = {
        VALUE: (settings.value_learning_rate, settings.relative_value_rate),
        WORD: (settings.word_learning_rate, settings.relative_word_rate),
    }
    rates = {}
    for name, tensor in parameters.items():
        absolute, relative = of_kind[VALUE if name.startswith(VALUE) else WORD]
        rates[name] = absolute if relative is None else relative * size(tensor)
        if relative and not 0 < rates[name] < math.inf:
            raise PerfusionError(
                f"A relative learning rate needs the size of {name} at the start, but it is {size(tensor)}; use another"
                " superclass, or the preset Custom with its absolute rates."
            )
    return rates


def recorded_rates(rates: Mapping[str, float], parameters: Mapping[str, Tensor]) -> dict[str, object]:
    """Absolute and relative rates for the header of a file: lowest and highest of the values, and the words' by key.

    rates: of `learning_rates`, for these parameters.  A relative rate of what is 0 is None.
    """

    def summary(of_parameter: Mapping[str, float | None]) -> dict[str, object]:
        values = [rate for name, rate in of_parameter.items() if name.startswith(VALUE) and rate is not None]
        words = {name.removeprefix(WORD): rate for name, rate in of_parameter.items() if name.startswith(WORD)}
        return {"values": [min(values), max(values)] if values else None, "words": words}

    sizes = {name: size(tensor) for name, tensor in parameters.items()}
    relative = {name: _short(rate / sizes[name]) if sizes[name] else None for name, rate in rates.items()}
    absolute = {name: _short(rate) for name, rate in rates.items()}
    return {"absolute_rates": summary(absolute), "relative_rates": summary(relative)}


def rate_texts(settings: TrainingSettings) -> tuple[str, str]:
    """The rates of the values and of the word in words: "0.006", or "0.41 of its size"."""

    def one(absolute: float, relative: float | None) -> str:
        return f"{absolute:g}" if relative is None else f"{relative:g} of its size"

    return (
        one(settings.value_learning_rate, settings.relative_value_rate),
        one(settings.word_learning_rate, settings.relative_word_rate),
    )


def _short(number: float) -> float:
    return float(f"{number:.4g}")
