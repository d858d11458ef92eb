"""One training loop for the methods that are compared: a word, and any part of the diffusion model's weights.

Loss, templates, mirroring and masks are those of Perfusion's training, so that only what is learned differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
from perfusion_pack.nodes.host.text.words import ConceptWord, with_words
from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask
from perfusion_pack.nodes.host.training.latents import latent_masks
from perfusion_pack.perfusion_core.caption_templates import TEMPLATES
from perfusion_pack.perfusion_core.edit import EditedEncoding
from perfusion_pack.perfusion_core.learning_rates import size
from perfusion_pack.perfusion_core.training_batch import Batch
from torch import Tensor, nn

from ..painting import load_latents, paint, save_latents
from ..workbench import Lesson, Workbench
from .protocol import Artefact

DEFAULTS = {
    "steps": 300, "batch_size": 8, "learning_rate": 1e-4, "relative_word_rate": 0.012, "mask": False,
    "prior_weight": 0.0, "prior_pictures": 48,
}  # fmt: skip


def learn(
    bench: Workbench,
    lesson: Lesson,
    settings: Mapping[str, Any],
    seed: int,
    phrase: str,
    chosen: Callable[[str], bool],
    learn_word: bool,
) -> dict[str, Tensor]:
    """The differences of the learned weights by their name ("weight.<name>", float16), and the word's vectors
    ("word.<key>", "superclass.<key>").

    phrase: what stands for the thing, with {} for its word.  chosen: whether the diffusion model's weight of that name
    is learned.  learn_word: whether the word's vectors are; else they stay random, as a rare token's are.
    Settings: DEFAULTS, all of them; the word's rate is in units of its vectors' size at the start.  With prior_weight
    the superclass, as the model itself paints it, is learned too."""
    prior_latents = prior(bench, lesson.superclass, settings["prior_pictures"]) if settings["prior_weight"] else None
    latents, mirrored = (bench.encode_pictures(shown) for shown in (lesson.pictures, lesson.pictures.flip(-1)))
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as open_tasks:
        superclass_vectors = encode_superclass_vectors(bench.clip, lesson.superclass)
        masks = latent_masks(lesson.masks.clone(), len(latents), latents.shape[-2:]) if settings["mask"] else None

        def task(shown: Tensor, weights: Tensor | None, mirrored: Tensor) -> HostDenoisingTask:
            models = bench.model, bench.clip
            pictures = {"mirrored_latents": mirrored.clone()}
            made = HostDenoisingTask(*models, shown.clone(), weights, lesson.word, superclass_vectors, **pictures)
            return open_tasks.enter_context(made)

        own = task(latents, masks, mirrored)
        prior_task = None
        if prior_latents is not None:
            prior_task = task(prior_latents, None, bench.encode_pictures(bench.decode(prior_latents).flip(-1)))
        on_device = {key: value.to(own.device) for key, value in superclass_vectors.items()}
        start = on_device if learn_word else rare_word(bench, lesson)
        vectors = {key: value.to(own.device, copy=True).requires_grad_(learn_word) for key, value in start.items()}
        weights = open_tasks.enter_context(trainable(bench.model.model.diffusion_model, chosen))
        groups = [{"params": list(weights.values()), "lr": settings["learning_rate"]}] if weights else []
        if learn_word:
            groups += [{"params": [v], "lr": settings["relative_word_rate"] * size(v)} for v in vectors.values()]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.01 if weights else 0.0)
        generator = torch.Generator().manual_seed(seed)
        templates = [template.replace("{}", phrase) for template in TEMPLATES]
        for _ in range(settings["steps"]):
            optimiser.zero_grad(set_to_none=True)
            loss = denoising_loss(own, vectors, templates, settings["batch_size"], generator)
            if prior_task is not None:
                prior_loss = denoising_loss(prior_task, on_device, TEMPLATES, settings["batch_size"], generator)
                loss = loss + settings["prior_weight"] * prior_loss
            loss.backward()
            optimiser.step()
        differences = {name: (new - weights.before[name]).detach() for name, new in weights.items()}
    learned = {f"weight.{name}": difference.half().cpu() for name, difference in differences.items()}
    learned |= {f"word.{key}": value.detach().clone().cpu() for key, value in vectors.items()}
    return learned | {f"superclass.{key}": value.clone() for key, value in superclass_vectors.items()}


def denoising_loss(
    task: HostDenoisingTask, vectors: Mapping[str, Tensor], templates: Sequence[str], count: int, gen: torch.Generator
) -> Tensor:
    """The loss of one batch drawn at random, without any edit of the attention."""
    batch = Batch(
        pictures=torch.randint(task.picture_count, (count,), generator=gen),
        mirrored=torch.rand(count, generator=gen) < 0.5,
        templates=torch.randint(len(templates), (count,), generator=gen),
    )
    used, rows = batch.templates.unique(return_inverse=True)
    encodings = task.encode(vectors, [templates[index] for index in used.tolist()])[0][rows]
    closed = torch.zeros(*encodings.shape[:2], 1, device=encodings.device)
    unedited = EditedEncoding(encodings, encodings, closed, closed, closed)
    no_targets = task.value_outputs(torch.zeros(encodings.shape[-1], device=encodings.device))
    return task.loss(batch, unedited, no_targets, gen)


class Trainable(dict[str, nn.Parameter]):
    """The weights under training by name; `before` holds what they were."""

    before: dict[str, Tensor]


@contextmanager
def trainable(module: nn.Module, chosen: Callable[[str], bool]) -> Iterator[Trainable]:
    """Put trainable copies in the place of the chosen weights while the block runs; the originals come back."""
    weights = Trainable()
    weights.before = {name: tensor for name, tensor in module.named_parameters() if chosen(name)}
    owners = {name: module.get_submodule(name.rpartition(".")[0]) for name in weights.before}
    try:
        for name, original in weights.before.items():
            weights[name] = nn.Parameter(original.detach().clone())
            owners[name]._parameters[name.rpartition(".")[2]] = weights[name]
        yield weights
    finally:
        for name, original in weights.before.items():
            owners[name]._parameters[name.rpartition(".")[2]] = original


def rare_word(bench: Workbench, lesson: Lesson) -> dict[str, Tensor]:
    """A random vector in the spread of the text encoder's words, another one for each thing: the token "sks"."""
    generator = torch.Generator().manual_seed(int.from_bytes(lesson.thing.encode()[:7], "little"))
    known = [encode_superclass_vectors(bench.clip, word) for word in ("teddy", "cup", "red", "beach")]
    vectors = {}
    for key in known[0]:
        spread = torch.cat([rows[key] for rows in known]).std(dim=-1).mean()
        vectors[key] = spread * torch.randn(1, known[0][key].shape[-1], generator=generator)
    return vectors


def prior(bench: Workbench, superclass: str, count: int) -> Tensor:
    """Latents [count, 4, 16, 16] of the superclass as the model paints it, for prior preservation (DreamBooth)."""
    facts = {"superclass": superclass, "count": count, **bench.exact().sampling}

    def make(path: Any) -> None:
        texts = [TEMPLATES[index % len(TEMPLATES)].format(superclass) for index in range(count)]
        save_latents(path, paint(bench.exact(), bench.model, bench.clip, texts))

    return load_latents(bench.cache.file("prior", facts, ".safetensors", make)).float()


def with_learned_words(clip: Any, artefacts: Sequence[Artefact]) -> Any:
    """The CLIP with the words of the artefacts."""

    def vectors(artefact: Artefact, kind: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(f"{kind}."): tensor
            for name, tensor in artefact.tensors.items()
            if name.startswith(f"{kind}.")
        }

    return with_words(clip, [ConceptWord(a.word, vectors(a, "word"), vectors(a, "superclass")) for a in artefacts])
