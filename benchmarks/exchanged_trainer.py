"""Trainings by another trainer than the pack's, for experiments: what every one of them needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

from perfusion_pack.nodes.host.training import job as job_module

Trainer = TypeVar("Trainer")


class AroundTask:
    """A task that is another one in all that a subclass does not say."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


@contextmanager
def learning_with(make: Callable[..., Trainer]) -> Iterator[list[Trainer]]:
    """Trainings in this context have the trainers that `make` makes of the pack's arguments; the list gets them."""
    trainers: list[Trainer] = []

    def made(*arguments: Any, **options: Any) -> Trainer:
        trainers.append(make(*arguments, **options))
        return trainers[-1]

    with mock.patch.object(job_module, "ConceptTrainer", made):
        yield trainers
