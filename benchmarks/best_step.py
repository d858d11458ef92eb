"""Does the validation error of a training pick the step at which the concept is best?

    python benchmarks/best_step.py                                       four things, 300 steps: hours on a CPU
    python benchmarks/best_step.py --things hugsy --steps 100 --seeds 1 --sampling-steps 10              minutes

Trains demo things, paints each in new scenes every 25 steps, and reads the pictures with the recogniser: `look` and
`colours` are its likeness to the thing, `scene` the share of pictures that show what was asked for, `both` the harmonic
mean of look and scene.  Printed are the rank correlation (Spearman) of each proxy with these over the steps of a
training, mean over the things, and what is gained by the step that it chooses over the last one.  A proxy is turned so
that more is better.  "validation" is the trainer's own choice; the others are what it might be instead.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from open_pack import open_pack

EVERY = 25
GOALS = ("look", "colours", "scene", "both")
HARMONIC = "validation and obedience"
PROXIES = ("validation", "validation, gate as in use", "mean loss of the last 25 steps", "obedience", HARMONIC)
PROXIES += ("number of steps",)
# Scenes of the obedience, and the noise levels, near the noise, at which a picture's scene is decided.
OBEYED = ("a {} on the beach", "a {} in the snow", "a {} at night", "a {} with a hat")
HIGH_LEVELS = (0.7, 0.85, 0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--things", nargs="+", default=["hugsy", "sippy", "zippy", "finny"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2, help="pictures in each scene at each step")
    parser.add_argument("--sampling-steps", type=int, default=20)
    parser.add_argument("--setting", nargs="*", default=[], help="training settings, as name=number")
    parser.add_argument("--automatic-mask", action="store_true", help="train with automatic masks, not the true ones")
    arguments = parser.parse_args()
    open_pack()
    from perfusion_pack.demo.load import load_demo_model, world_captions
    from perfusion_pack.nodes.host.text.statistics import measure_statistics
    from perfusion_pack.perfusion_core.training import TrainingSettings

    known = TrainingSettings()
    changes = dict(setting.split("=") for setting in arguments.setting)
    changes = {name: type(getattr(known, name))(float(value)) for name, value in changes.items()}
    # One step more, so that the trainer shows the concept of the last one that counts here too.
    settings = TrainingSettings(**{**changes, "steps": arguments.steps + 1, "validate_every": EVERY})
    with torch.inference_mode():
        models = load_demo_model()
        statistics = measure_statistics(models[1], world_captions(), lambda done, total: None)
    trainings = []
    for thing in arguments.things:
        rows = follow(models, statistics, thing, settings, arguments)
        trainings.append(rows)
        print(f"\n{thing}\n\n| step | " + " | ".join((*GOALS, *PROXIES[:5])) + " |\n|---|" + "---|" * 9)
        for row in rows:
            numbers = [f"{row[goal]:.3f}" for goal in GOALS] + [f"{abs(row[proxy]):.5f}" for proxy in PROXIES[:5]]
            print(f"| {row['step']} | " + " | ".join(numbers) + " |", flush=True)
    print("\n" + summary(trainings))


def follow(models: Any, statistics: Any, thing: str, settings: Any, arguments: Any) -> list[dict[str, float]]:
    """Train one thing and return a row of goals and proxies for every 25th step."""
    from perfusion_pack.demo.making.candidates import thing_tensors
    from perfusion_pack.demo.making.measure_concepts import reconstruct
    from perfusion_pack.demo.world.things import THINGS
    from perfusion_pack.nodes.host.training import job as train_module
    from perfusion_pack.nodes.host.training.request import TrainingHooks, TrainingRequest
    from perfusion_pack.perfusion_core.concept import RECOMMENDED_BIAS, RECOMMENDED_TEMPERATURE
    from perfusion_pack.perfusion_core.likeness import harmonic_mean
    from perfusion_pack.perfusion_core.training import ConceptTrainer

    pictures, masks = thing_tensors(thing)
    category, references = THINGS[thing].category, reconstruct(models[2], pictures)
    measured: dict[int, dict[str, float]] = {}
    in_use: dict[int, float] = {}
    obeyed: dict[int, float] = {}

    class AlsoInUse(ConceptTrainer):
        """Validates with the gate of a finished concept too."""

        def validate(self) -> None:
            due = self.choice.is_due(self.step_number)
            super().validate()
            if due:
                training = self.settings
                self.settings = dataclasses.replace(
                    training, bias=RECOMMENDED_BIAS, temperature=RECOMMENDED_TEMPERATURE
                )
                in_use[self.step_number] = self.validation_error()
                obeyed[self.step_number] = obedience(self)
                self.settings = training

    def measure(concept: Any) -> None:
        measured[concept.training["steps"]] = goals(models, concept, category, references, masks, arguments)

    with torch.inference_mode(), mock.patch.object(train_module, "ConceptTrainer", AlsoInUse):
        request = TrainingRequest(
            **dict(zip(("model", "clip", "vae"), models, strict=True)), images=pictures.movedim(1, -1),
            masks=None if arguments.automatic_mask else masks, automatic_mask=arguments.automatic_mask,
            word=f"<{thing}>", superclass=category, settings=settings, statistics=statistics,
        )  # fmt: skip
        result = train_module.TrainingJob(request, TrainingHooks(on_preview=measure, preview_every=EVERY)).train()
    validations = {v.step: v.error for v in result.validations}
    learned_away = validations[0] - min(validations.values()) or 1.0  # where nothing got better than step 0
    learned = {step: (validations[0] - error) / learned_away for step, error in validations.items()}
    print(f"{thing}: trained and painted in {result.seconds:.0f} s", flush=True)
    return [
        {
            "step": step,
            **found,
            "validation": -validations[step],
            "validation, gate as in use": -in_use[step],
            "mean loss of the last 25 steps": -float(np.mean(result.losses[step - EVERY : step])),
            "obedience": obeyed[step],
            HARMONIC: harmonic_mean(learned[step], obeyed[step]),
            "number of steps": step,
        }
        for step, found in measured.items()
    ]


def goals(models: Any, concept: Any, category: str, references: Any, masks: Any, arguments: Any) -> dict[str, float]:
    """What the recogniser finds in pictures of the concept in every scene, at the gate that its file recommends."""
    from perfusion_pack.demo.making.measure_concepts import SCENES, other_category
    from perfusion_pack.demo.making.recogniser import load_recogniser
    from perfusion_pack.nodes.host.gate.patch import apply_concepts
    from perfusion_pack.nodes.host.text.words import add_words
    from perfusion_pack.nodes.host.training.sampling import sample_pictures
    from perfusion_pack.perfusion_core.concept import GatedConcept
    from perfusion_pack.perfusion_core.likeness import harmonic_mean

    recogniser, (model, clip, vae) = load_recogniser(), models
    stack = (GatedConcept(concept, concept.bias, concept.temperature),)
    scenes = [scene for scene in SCENES for _ in range(arguments.seeds)]
    prompts = [scene.format(concept.word, other=other_category(category)) for scene in scenes]
    painted = sample_pictures(
        apply_concepts(model, stack), add_words(clip, stack), vae, prompts, (4, 16, 16), seed=100,
        steps=arguments.sampling_steps,
    ).float().cpu().clone()  # fmt: skip
    like = recogniser.likeness(painted, references, masks)
    asked = [SCENES[scene](reading) for scene, reading in zip(scenes, recogniser.read(painted), strict=True)]
    look, scene = float(like.look.mean()), float(np.mean(asked))
    return {"look": look, "colours": float(like.colours.mean()), "scene": scene, "both": harmonic_mean(look, scene)}


@torch.no_grad()
def obedience(trainer: Any) -> float:
    """How much of what the scenes do to the prediction for the superclass they do to that for the word, 1 for all.

    The changes that scenes make to the prediction for "a {}" from noisy training pictures are compared, one with the
    other: the projection of the word's on the superclass'."""
    from perfusion_pack.perfusion_core.edit import edit_encoding

    task, generator = trainer.task, torch.Generator().manual_seed(7)
    templates = ["a {}", *OBEYED]
    superclass_vectors = {key: vectors.to(task.device) for key, vectors in task.superclass_vectors.items()}
    plain = task.encode(superclass_vectors, templates)[0]
    edited = edit_encoding(task.encode(trainer.word_vectors, templates)[0], [trainer.edit()])
    common, whole = 0.0, 0.0
    for picture, level in enumerate(HIGH_LEVELS):
        clean = task.latents[picture % task.picture_count].expand(len(templates), -1, -1, -1)
        noise = torch.randn(clean[:1].shape, generator=generator).to(task.device).expand_as(clean)
        sigma = task.sigmas_at(torch.full((len(templates),), level))
        noisy = task.noised(clean, noise, sigma)
        of_superclass = task.predict(noisy, sigma, plain)
        of_word = task.denoise(noisy, sigma, edited, trainer.value_targets)
        wanted, found = (predicted[1:] - predicted[:1] for predicted in (of_superclass, of_word))
        common += float((wanted * found).sum())
        whole += float((wanted * wanted).sum())
    return common / whole


def summary(trainings: Sequence[Sequence[Mapping[str, float]]]) -> str:
    """Rank correlations and what each proxy's choice reaches, means over the trainings, as Markdown."""
    lines = [
        "| proxy | " + " | ".join(f"rank correlation with {goal}" for goal in GOALS) + " | steps chosen | "
        + " | ".join(f"{goal} there" for goal in GOALS) + " |",
        "|---|" + "---|" * (2 * len(GOALS) + 1),
    ]  # fmt: skip
    for proxy in PROXIES:
        correlations = [np.nanmean([rank_correlation(rows, proxy, goal) for rows in trainings]) for goal in GOALS]
        chosen = [max(rows, key=lambda row: row[proxy]) for rows in trainings]
        lines.append(_line(proxy, [f"{c:.2f}" for c in correlations], chosen))
    best = [max(rows, key=lambda row: row["both"]) for rows in trainings]
    lines.append(_line("(the best step by both)", ["", "", "", ""], best))
    return "\n".join(lines)


def _line(name: str, correlations: Sequence[str], chosen: Sequence[Mapping[str, float]]) -> str:
    steps = ", ".join(str(row["step"]) for row in chosen)
    reached = [f"{np.mean([row[goal] for row in chosen]):.3f}" for goal in GOALS]
    return f"| {name} | {' | '.join(correlations)} | {steps} | {' | '.join(reached)} |"


def rank_correlation(rows: Sequence[Mapping[str, float]], one: str, other: str) -> float:
    """Spearman's rank correlation of two columns; not a number where one of them stays the same."""
    ranks = [_ranks(np.array([row[name] for row in rows])) for name in (one, other)]
    if min(r.std() for r in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 on; equal values share the mean of theirs."""
    order = values[None, :]
    return (order < values[:, None]).sum(axis=1) + ((order == values[:, None]).sum(axis=1) - 1) / 2


if __name__ == "__main__":
    main()
