"""The pack's exception: a short name for the host's dialog, which writes it before the sentence."""

from __future__ import annotations

import copy
import importlib
import pickle
import traceback

import pytest

errors = importlib.import_module("perfusion_core.errors")


def full_name(error: BaseException) -> str:
    """As the host writes it in `exception_type`."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (errors.PerfusionError("One sentence."), "perfusion.Error"),
        (errors.DependentConceptsError("Two.", (0, 1)), "perfusion.DependentConceptsError"),
    ],
)
def test_the_name_is_short_and_survives_copies(error, name):
    assert full_name(error) == name
    assert traceback.format_exception_only(error) == [f"{name}: {error}\n"]
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(copied) is type(error) and copied.args == error.args and vars(copied) == vars(error)
        assert str(copied) == str(error)


def test_it_is_caught_as_what_it_is():
    with pytest.raises(ValueError, match="Two"):
        raise errors.DependentConceptsError("Two.", (0, 1))
    assert issubclass(errors.DependentConceptsError, errors.PerfusionError)
