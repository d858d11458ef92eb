"""Inputs as a node's schema declares them, whatever a wire or an API prompt brings.

The host checks what stands in a widget. Of what comes by a wire it knows the type alone, which says nothing where the
wire is of any type; and a value that an API prompt puts into a socket it does not look at. Both would end somewhere
inside, in words that help nobody.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..perfusion_core.concept import GatedConcept
from ..perfusion_core.errors import PerfusionError, quoted
from ..perfusion_core.prompt_edit import PromptEdit
from ..perfusion_core.text_statistics import TextStatistics
from .host.debug_log import tell_inputs
from .types import PerfusionConcept, PerfusionEdit, PerfusionStatistics

Execute = Callable[..., io.NodeOutput]

# What no wire of the host's types carries.
_PLAIN = (str, bool, int, float, list, dict)


def as_declared(execute: Execute) -> Execute:
    """Decorate a node's `execute`, under its `classmethod`: it gets what its schema declares.

    Numbers are taken as texts and texts as numbers where they can be; an optional input that is None was not given.
    Anything else raises PerfusionError, which names the input. Where the node takes lists every entry is looked at.
    """
    names = [*inspect.signature(execute).parameters][1:]

    @functools.wraps(execute)
    def checked(cls: type[io.ComfyNode], *values: Any, **inputs: Any) -> io.NodeOutput:
        inputs |= dict(zip(names, values, strict=False))
        schema = cls.define_schema()
        tell_inputs(schema, inputs, {one.id for one in schema.inputs if _looked_at_by_the_node(cls, one.id)})
        for one in schema.inputs:
            value, looked_at = inputs.get(one.id), _looked_at_by_the_node(cls, one.id)
            if one.optional and (value is None or (isinstance(value, list) and value == [None])):
                inputs.pop(one.id, None)
            elif one.id in inputs and schema.is_input_list and isinstance(value, list):
                inputs[one.id] = [_declared(one, entry, looked_at) for entry in value]
            elif one.id in inputs:
                inputs[one.id] = _declared(one, value, looked_at)
        return execute(cls, **inputs)

    return checked


def _looked_at_by_the_node(cls: type[io.ComfyNode], name: str) -> bool:
    """By the host's own rule: it leaves the choices and the limits of such an input to the node."""
    return name in inspect.signature(cls.validate_inputs).parameters


def _declared(one: io.Input, value: Any, looked_at: bool) -> Any:
    if isinstance(one, io.String.Input):
        return _text(one, value)
    if isinstance(one, io.Int.Input | io.Float.Input):
        return _number(one, value)
    if isinstance(one, io.Boolean.Input):
        return _switch(one, value)
    if isinstance(one, io.Combo.Input):
        return _choice(one, value, looked_at)
    if hasattr(one, "template"):  # a socket that grows: of what is connected, what carries something
        return _grown(one, value or {})
    return _carried(one.get_io_type(), one.id, value)


def _grown(one: Any, sockets: Any) -> dict[str, Any]:
    if not isinstance(sockets, dict):
        raise _error(one.id, "wires", sockets)
    kind = one.template.input.get_io_type()
    return {name: _carried(kind, name, value) for name, value in sockets.items() if value is not None}


def _text(one: io.Input, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, str | int):
        raise _error(one.id, "a text", value)
    return str(value)


def _number(one: Any, value: Any) -> int | float:
    whole = isinstance(one, io.Int.Input)
    low, high = (-math.inf if one.min is None else one.min), (math.inf if one.max is None else one.max)
    try:
        number = value if isinstance(value, int) else float(value)
    except (TypeError, ValueError, RuntimeError):  # of a tensor of several numbers
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high) or (whole and number != int(number)):
        raise _error(one.id, f"a {'whole ' if whole else ''}number from {low:g} to {high:g}", value)
    return int(number) if whole else float(number)


def _switch(one: io.Input, value: Any) -> bool:
    if not isinstance(value, bool | int | float):
        raise _error(one.id, "true or false", value)
    return bool(value)


def _choice(one: Any, value: Any, looked_at: bool) -> Any:
    options = [*(one.options or ())]
    if value in options or (looked_at and isinstance(value, str)):
        return value
    raise _error(one.id, f"one of {', '.join(map(str, options[:12])) or 'its choices'}", value)


def _carried(kind: str, name: str, value: Any) -> Any:
    """What came by a wire; only the pack's own types are looked at closely, since other packs extend the host's."""
    fits = value is not None and not isinstance(value, _PLAIN)
    if kind == PerfusionConcept.io_type:
        fits = isinstance(value, tuple) and all(isinstance(entry, GatedConcept) for entry in value)
    elif kind == PerfusionStatistics.io_type:
        fits = isinstance(value, TextStatistics)
    elif kind == PerfusionEdit.io_type:
        fits = isinstance(value, PromptEdit)
    elif kind == io.Latent.io_type:
        fits = isinstance(value, dict) and isinstance(value.get("samples"), Tensor)
    elif kind in (io.Image.io_type, io.Mask.io_type):
        fits = _are_tensors(value)
    elif kind.startswith("COMFY_") or kind == "*":
        fits = True
    if not fits:
        raise _error(name, f"a {kind} from a wire", value)
    return value


def _are_tensors(value: Any) -> bool:
    """Some nodes make lists of pictures, and lists of these."""
    return isinstance(value, Tensor) or (isinstance(value, list) and all(map(_are_tensors, value)))


def _error(name: str, expected: str, found: Any) -> PerfusionError:
    return PerfusionError(f"The input {name} expected {expected}, but found {quoted(found)}; connect or type that.")
