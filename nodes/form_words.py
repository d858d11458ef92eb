"""What the form of a concept means, in words: of its keys, of its values, of its closing gate."""

from __future__ import annotations

from ..perfusion_core.edit import OWN_KEYS

KEYS = {
    "lockable": "drawn from own to locked in training",
    "unlocked": "own",
    "gated": "locked",
    "paper": "locked",
    "residual": "own",
    "anchored": "own",
}

# Of the forms whose values are learned as a difference.
_VALUES = {"residual": "a difference to the word's own", "anchored": "near the word's own"}

# What a closing gate leaves in the place of the word, where that is not the word.
CLOSING = dict.fromkeys(OWN_KEYS, "leaves the superclass") | {"paper": "leaves the word less its part of the concept"}


def form_text(form: str) -> str:
    """A form in words: "form anchored: keys own, values near the word's own"."""
    values = f", values {_VALUES[form]}" if form in _VALUES else ""
    return f"form {form}: keys {KEYS[form]}{values}"
