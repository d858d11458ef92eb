"""A concept and another patch in one graph: what must hold of every such pair, whatever the other patch is.

`check_pair` draws the same latents in every order of connection that there is and compares them with each other, with
either patch alone, and with `reference_model`, whose projections are replaced for good by a float64 transcription of
the edit. The numbers are recorded with the test; `benchmarks/coexistence.py` makes a table of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from comfy.model_patcher import ModelPatcher
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from perfusion_pack.nodes.host.text.superclass_encoding import fit_superclass_encoding, superclass_encoding_of
from perfusion_pack.nodes.host.text.words import add_words
from perfusion_pack.perfusion_core.concept import ConceptStack
from reference import own_words, reference_model
from tiny_models import difference, encode, gated, make_concept, sample, tiny_clip, tiny_model
from torch import Tensor

Patch = Callable[[ModelPatcher], ModelPatcher]

# Float32 in another order, in units of the largest latent; an effect must be far above it to count as one.
ROUNDING = 2e-5
EFFECT = 20 * ROUNDING

PROMPT, NEGATIVE = "a photo of <hugsy> beside a <cuppy>", "blurry, dark"


@dataclass(frozen=True, eq=False)
class Scene:
    """A MODEL, a CLIP that knows two concepts' words, and prompts that use them; settings: of `tiny_model`."""

    model: ModelPatcher
    clip: object
    stack: ConceptStack
    positive: list
    negative: list
    settings: Mapping[str, object]

    @cache  # noqa: B019 - a scene lives as long as the tests that share it
    def without_partner(self, lock: str | None, **sampling: object) -> Tensor:
        """Return the latents of the MODEL with the concepts alone, or of the base where the lock is None."""
        model = self.model if lock is None else apply_concepts(self.model, self.stack, lock)
        return sample(model, self.positive, self.negative, **sampling)

    def closed(self) -> ConceptStack:
        """Return the concepts with a window that never opens: all of the patch is there and nothing may come of it."""
        return tuple(gated(one.concept, start_percent=1.0) for one in self.stack)

    def reference(self, conditioning: list, lock: str) -> ModelPatcher:
        """Return the scene's MODEL with the concepts built into it, for these prompts."""
        return reference_model(self.stack, locked_pairs(conditioning, lock), own_words(conditioning), **self.settings)

    def absent(self) -> ConceptStack:
        """Return the concepts with strength 0."""
        return tuple(gated(one.concept, strength=0.0) for one in self.stack)


def make_scene(embeddings: str | None = None, **settings: object) -> Scene:
    """Return the scene that pairs are tested in; both prompts carry superclass encodings too.

    One concept has the form that the trainer makes by default, the other the gated one, so that every pair meets both.

    embeddings: a folder for `embedding:` words.  settings: of `tiny_model`.
    """
    model, clip = tiny_model(**settings), tiny_clip(embeddings=embeddings)
    stack = (
        gated(make_concept(model, clip, form="unlocked"), bias=0.6, temperature=0.1),
        gated(make_concept(model, clip, "<cuppy>", "cup", seed=4), strength=0.8, temperature=0.1),
    )
    spoken = add_words(clip, stack, "global")
    return Scene(model, spoken, stack, encode(spoken, PROMPT), encode(spoken, NEGATIVE), settings)


def locked_pairs(conditioning: list, lock: str) -> list[tuple[Tensor, Tensor]]:
    """Return what the global lock puts in each encoding's place, for `reference_model`."""
    if lock == "local":
        return []
    return [
        (encoding[0], fit_superclass_encoding(superclass_encoding_of(encoding, extra), encoding)[0])
        for encoding, extra in conditioning
    ]


@dataclass(frozen=True)
class Partner:
    """What a concept is to live with: a patch of the MODEL, a change of both conditionings, another way to sample.

    patch: None where there is none, and with it nothing that could come before or after the concepts.
    """

    patch: Patch | None = None
    conditioning: Callable[[list, list], tuple[list, list]] = staticmethod(lambda *both: both)
    draw: Callable[..., Tensor] = staticmethod(sample)

    def patched(self, model: ModelPatcher) -> ModelPatcher:
        """Return the MODEL with the patch, if there is one."""
        return model if self.patch is None else self.patch(model)

    def drawn(self, model: ModelPatcher, positive: list, negative: list, **sampling: object) -> Tensor:
        """Return the latents of a MODEL that has the patch already."""
        return self.draw(model, *self.conditioning(positive, negative), **sampling)


def check_pair(
    scene: Scene,
    name: str,
    partner: Partner,
    record_property: Callable[[str, object], None],
    *,
    lock: str = "local",
    neutral: Partner | None = None,
    neutral_tolerance: float = 0.0,
    reference: Patch | None = None,
    **sampling: object,
) -> None:
    """Assert all that must hold of the scene's concepts and their partner, in both orders where there are two.

    neutral: the partner set to do nothing; with it the concepts must act as alone, up to `neutral_tolerance` in units
    of the largest latent.  reference: what stands for the partner's patch on the reference model, where that is not
    the patch itself.
    """
    model, prompts = scene.model, (scene.positive, scene.negative)

    def concepts_first(stack: ConceptStack, with_: Partner) -> Tensor:
        return with_.drawn(with_.patched(apply_concepts(model, stack, lock)), *prompts, **sampling)

    def concepts_last(stack: ConceptStack, with_: Partner) -> Tensor:
        return with_.drawn(apply_concepts(with_.patched(model), stack, lock), *prompts, **sampling)

    orders = [concepts_first] if partner.patch is None else [concepts_first, concepts_last]
    base, concepts = scene.without_partner(None, **sampling), scene.without_partner(lock, **sampling)
    alone = partner.drawn(partner.patched(model), *prompts, **sampling)
    size = alone.abs().max().item()
    results = [drawn(scene.stack, partner) for drawn in orders]
    expected = (reference or partner.patched)(scene.reference(sum(prompts, []), lock))
    numbers = {
        "concept closed": difference(concepts_first(scene.closed(), partner), alone),
        "concept at strength 0": difference(concepts_last(scene.absent(), partner), alone),
        "reference": difference(results[0], partner.drawn(expected, *prompts, **sampling)) / size,
        "concept's effect": difference(results[0], alone) / size,
        "partner's effect": difference(results[0], concepts) / size,
    }
    if len(orders) == 2:
        numbers["two orders"] = difference(*results)
    if neutral is not None:
        numbers["partner at 0"] = max(difference(drawn(scene.stack, neutral), concepts) for drawn in orders) / size
    record_pair(record_property, f"{name}, global lock" if lock == "global" else name, **numbers)

    assert numbers["concept closed"] == numbers["concept at strength 0"] == 0.0
    assert numbers.get("two orders", 0.0) == 0.0
    assert numbers["reference"] <= ROUNDING
    assert numbers["concept's effect"] > EFFECT and numbers["partner's effect"] > EFFECT
    assert numbers.get("partner at 0", 0.0) <= neutral_tolerance
    assert torch.equal(sample(model, *prompts, **sampling), base), "nothing may be left on the base MODEL"


def record_pair(record_property: Callable[[str, object], None], name: str, **numbers: float) -> None:
    """Keep a pair's numbers in the test's report, for the table."""
    record_property("pair", name)
    for key, number in numbers.items():
        record_property(key, number)
    print(f"{name}:", {key: f"{number:.2g}" for key, number in numbers.items()})
