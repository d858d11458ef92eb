"""What do captions keep out of a concept?

    python benchmarks/captions.py --cache DIR                                        hugsy and sippy: eight trainings

Five pictures of a thing of the demo world, all taken in one place, are learned with and without captions that name the
place ("a photo of a {} on the beach"), with and without automatic masks.  Printed are, over 24 prompts of other
scenes: the likeness to the thing and the share of pictures that show the place that the prompt names; and, over 12
pictures of "a photo of a {}", the share that shows the place of the training anyway.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_pack import open_pack

PLACE = "beach"
BIAS = 0.75
PLAIN_SEEDS = 12
VARIANTS = {
    "no mask, templates": {"mask": False, "captioned": False},
    "no mask, captions": {"mask": False, "captioned": True},
    "automatic mask, templates": {"mask": "attention", "captioned": False},
    "automatic mask, captions": {"mask": "attention", "captioned": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder of finished work; shared with quality/run.py")
    parser.add_argument("--things", nargs="+", default=["hugsy", "sippy"])
    parser.add_argument("--steps", type=int, help="of a training; the preset's where not given")
    arguments = parser.parse_args()
    open_pack()
    import quality.single
    from quality.archive import NAME, unpack
    from quality.cache import Cache
    from quality.methods import METHODS
    from quality.plan import FULL, PERFUSION, Variant
    from quality.run import RESULTS
    from quality.workbench import open_workbench

    METHODS["perfusion, one place"] = one_place()
    cache = Cache(arguments.cache)
    unpack(RESULTS / NAME, cache)
    bench = open_workbench(cache, FULL.sampling_steps, FULL.sampler, FULL.precision)
    scores = quality.single.Scores(bench, FULL.prompts)
    found: dict[str, list[list[float]]] = {label: [] for label in VARIANTS}
    for thing in arguments.things:
        for label, settings in VARIANTS.items():
            own = {**settings, **({"steps": arguments.steps} if arguments.steps else {})}
            use = quality.single.Use(Variant(PERFUSION, "perfusion, one place", (BIAS,)), own, thing, 0, BIAS)
            read = quality.single.rows(bench, use, FULL.prompts, 0)
            likeness = float(scores.of(use, 1)[0, 1])
            obeyed = sum(one["found"]["background"] for one in read) / len(read)
            found[label].append([likeness, obeyed, share_of_the_place(bench, use)])
            print(thing, label, *(f"{value:.3f}" for value in found[label][-1]), flush=True)
    print(f"\nPlace: {PLACE}; bias {BIAS:g}; {', '.join(arguments.things)}\n")
    print("| training | likeness | place of the prompt right | place of the training, unasked |\n|---|---|---|---|")
    for label, values in found.items():
        means = [sum(column) / len(column) for column in zip(*values, strict=True)]
        print(f"| {label} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")


def share_of_the_place(bench: Any, use: Any) -> float:
    """The share of pictures of a prompt without a place that show the place of the training."""
    import quality.single
    from quality.methods import METHODS
    from quality.painting import paint

    method = METHODS[use.variant.method]

    def make() -> float:
        concept = quality.single.artefact(bench, use)
        model, clip = method.apply(bench, [concept], use.knob)
        latents = paint(bench, model, clip, [f"a photo of a {concept.word}"] * PLAIN_SEEDS, seed=1)
        readings = bench.recogniser.read(bench.decode(latents))
        return sum(reading.background == PLACE for reading in readings) / len(readings)

    facts = {**use.painting_facts(bench, 1, 1), "seeds": PLAIN_SEEDS, "place": PLACE}
    return bench.cache.numbers("place", facts, make)


def one_place() -> Any:
    """The method, Perfusion on pictures that were taken in one place."""
    import numpy as np
    import torch
    from perfusion_pack.demo.making.candidates import _tensor
    from perfusion_pack.demo.world.backgrounds import PHRASES
    from perfusion_pack.demo.world.scenes import Scene, render
    from perfusion_pack.demo.world.things import THINGS
    from perfusion_pack.nodes.host.training.job import TrainingJob
    from perfusion_pack.nodes.host.training.request import TrainingRequest
    from perfusion_pack.perfusion_core.training import TrainingSettings
    from quality.methods.perfusion import Perfusion

    def pictures(thing: str) -> torch.Tensor:
        rng = np.random.default_rng([7, *thing.encode()])
        scenes = [
            Scene(THINGS[thing].placed(), PLACE, size=size, place=place, seed=int(rng.integers(2**31)))
            for size, place in (("", ""), ("big", ""), ("", "left"), ("", "right"), ("big", ""))
        ]
        return torch.stack([_tensor(render(scene)[0]) for scene in scenes])

    class OnePlace(Perfusion):
        training = "perfusion, one place"
        version = 1

        def train(self, bench: Any, lesson: Any, settings: Mapping[str, Any], seed: int) -> Any:
            own = self.complete(settings)
            mask, captioned = own.pop("mask"), own.pop("captioned")
            statistics = bench.statistics(own.pop("captions"))
            images = pictures(lesson.thing)
            with torch.inference_mode():
                request = TrainingRequest(
                    model=bench.model, clip=bench.clip, vae=bench.vae, images=images, word=lesson.word,
                    superclass=lesson.superclass, settings=TrainingSettings(**own, seed=seed), statistics=statistics,
                    automatic_mask=mask == "attention",
                    captions=[f"a photo of a {{}} {PHRASES[PLACE]}"] * len(images) if captioned else None,
                )  # fmt: skip
                return TrainingJob(request).train().concept

    return OnePlace("local")


if __name__ == "__main__":
    main()
