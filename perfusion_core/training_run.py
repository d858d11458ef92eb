"""Running a training to its end, whatever happens: work is kept, and where memory runs out less of it is asked for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from .errors import GradientOverflowError, PerfusionError
from .out_of_memory import is_out_of_memory
from .step_choice import StepChoice
from .step_pace import StepPace
from .training import ConceptTrainer
from .training_status import StepReport

logger = logging.getLogger(__name__)

STEPS_BETWEEN_KEEPING = 25


def train(
    trainer: ConceptTrainer,
    on_step: Callable[[StepReport], None],
    keep: Callable[[], None] = lambda: None,
    release_memory: Callable[[], None] = lambda: None,
    pace: StepPace | None = None,
    keep_every: int = STEPS_BETWEEN_KEEPING,
) -> list[float]:
    """Make the remaining steps and return the losses of all.

    The training is validated as its settings say, for the choice of the best step.
    on_step: called after every step; may raise to stop.  keep: writes the trainer's work to disk; called every
    `keep_every` steps and when anything, Cancel too, stops the training after a step that was not yet kept.
    release_memory: called where memory ran out, before the step is made again with a smaller micro-batch.
    pace: tells where steps take too long, which is warned of once and reported with each step.
    Raises PerfusionError where a step gives numbers that are not finite or one picture at a time is too much.
    """
    kept, warned = trainer.step_number, False
    try:
        validate_within_memory(trainer, release_memory)  # step 0, or one that was stopped before its validation
        while trainer.step_number < trainer.settings.steps:
            started = time.monotonic()
            report = step_within_memory(trainer, release_memory)
            slowdown = pace and pace.slowdown(time.monotonic() - started)
            if slowdown and not warned:
                warned = True
                logger.warning(
                    "Steps take %.0f times what they should: graphics memory may be spilling into main memory, or"
                    " another program is using the device. Close other programs, or take the preset Low memory.",
                    slowdown,
                )
            validate_within_memory(trainer, release_memory)
            best = trainer.choice.best
            if trainer.step_number % keep_every == 0:
                keep()
                kept = trainer.step_number
            given_up = trainer.choice.every == 0 < trainer.settings.validate_every
            on_step(
                replace(report, best_step=best and best.step, validation_given_up=given_up, slowdown=slowdown or None)
            )
    except BaseException:
        if trainer.step_number > kept:
            try:
                keep()
            except Exception:  # the reason for stopping is the one to tell
                logger.exception("The training stopped at step %d and could not be kept.", trainer.step_number)
        raise
    return list(trainer.losses)


def validate_within_memory(trainer: ConceptTrainer, release_memory: Callable[[], None]) -> None:
    """Validate the present step if that is due; where memory runs out the training goes on without choosing a step."""
    try:
        trainer.validate()
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    trainer.choice = StepChoice(every=0)
    release_memory()
    logger.warning("Memory ran out while step %d was validated; the last step is taken.", trainer.step_number)


def best_step_within_memory(trainer: ConceptTrainer, release_memory: Callable[[], None]) -> int:
    """The step to keep; where memory runs out while the last one is validated, the best of those before it.

    The steps are all made by then, and what they learned is worth more than this one comparison.
    """
    try:
        return trainer.best_step()
    except Exception as error:
        best = trainer.choice.best
        if best is None or not is_out_of_memory(error):
            raise
    release_memory()
    logger.warning(
        "Memory ran out while the last step, %d, was validated; step %d is taken, the best of those before it.",
        trainer.step_number,
        best.step,
    )
    return best.step


def step_within_memory(trainer: ConceptTrainer, release_memory: Callable[[], None]) -> StepReport:
    """Make one step; where memory runs out, make it again with half the micro-batch, down to one picture at a time, and
    then with gradient checkpointing.

    The pictures of a step stay as many, and their gradients are added up, so that only the time of a step changes.
    Where gradients overflow, which half precision does, the step is made again with their scale halved.
    Raises PerfusionError, saying what would help, where one picture at a time is too much.
    """
    while True:
        try:
            return trainer.step()
        except GradientOverflowError:
            if not trainer.task.lower_gradient_scale():
                raise
            logger.warning(
                "Gradients overflowed at step %d; going on with half their scale, which changes no number that is"
                " learned.",
                trainer.step_number + 1,
            )
            continue
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if trainer.micro_batch == 1 and trainer.task.gradient_checkpointing:
                raise PerfusionError(
                    f"Memory ran out at step {trainer.step_number + 1} with a single picture at a time and gradient"
                    " checkpointing, the least there is; train on smaller pictures, load the model in a smaller type"
                    " (bf16 or fp8), or close other programs that use the device."
                ) from None
        # Here, not in the handler: while it lasts, the exception's frames hold the tensors of the failed step.
        if trainer.micro_batch > 1:
            trainer.micro_batch = (trainer.micro_batch + 1) // 2
        else:
            trainer.task.gradient_checkpointing = True
        release_memory()
        logger.warning(
            "Memory ran out at step %d; going on with %d pictures at a time%s, the same number in all.",
            trainer.step_number + 1,
            trainer.micro_batch,
            " and gradient checkpointing" if trainer.task.gradient_checkpointing else "",
        )
