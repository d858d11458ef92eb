"""Do pictures of several aspect ratios cost likeness?

    python benchmarks/mixed_sizes.py --cache DIR                              the tuning things: twenty minutes on a CPU
    python benchmarks/mixed_sizes.py --cache DIR --things hugsy
    python benchmarks/mixed_sizes.py --denoising       how the model alone does at these sizes: a minute

Trains things of the demo world on their five pictures, of which four are cut to landscapes and portraits, and compares
likeness and obedience with those of the square pictures, read as the comparison of methods reads them
(benchmarks/quality).  What a cache holds is not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_pack import open_pack

# Width and height of each cut.
CUTS = ((128, 128), (128, 96), (96, 128), (128, 80), (96, 128))
BIASES = (0.65, 0.75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--denoising", action="store_true", help="print the model's own error at several sizes instead")
    parser.add_argument("--cache", type=Path, help="folder of finished work; shared with quality/run.py")
    parser.add_argument("--things", nargs="+")
    parser.add_argument("--steps", type=int, help="of a training; the preset's where not given")
    arguments = parser.parse_args()
    open_pack()
    if arguments.denoising:
        denoising_errors()
        return
    if arguments.cache is None:
        parser.error("--cache is needed")
    import quality.single
    from quality.archive import NAME, unpack
    from quality.cache import Cache
    from quality.methods import METHODS
    from quality.plan import FULL, PERFUSION, Variant
    from quality.run import RESULTS
    from quality.workbench import open_workbench

    METHODS["perfusion, mixed sizes"] = mixed_sizes()
    cache = Cache(arguments.cache)
    unpack(RESULTS / NAME, cache)
    bench = open_workbench(cache, FULL.sampling_steps, FULL.sampler, FULL.precision)
    scores = quality.single.Scores(bench, FULL.prompts)
    settings = {"steps": arguments.steps} if arguments.steps else {}
    rows: dict[float, list[list[float]]] = {bias: [] for bias in BIASES}
    for bias in BIASES:
        print(f"\nBias {bias:g}:\n\n| thing | likeness: square | mixed | difference | obedience: square | mixed |")
        print("|---|---|---|---|---|---|")
        for thing in arguments.things or FULL.tuning:
            found = []
            for method in ("perfusion local", "perfusion, mixed sizes"):
                use = quality.single.Use(Variant(PERFUSION, method, BIASES), settings, thing, 0, bias)
                found.append(scores.of(use, 1)[0])
            square, mixed = found
            rows[bias].append([square[1], mixed[1], square[0], mixed[0]])
            print(row(thing, rows[bias][-1]), flush=True)
        print(row("mean", [sum(column) / len(column) for column in zip(*rows[bias], strict=True)]))


def row(thing: str, values: list[float]) -> str:
    """One row of the table."""
    square, mixed, obeyed, obeyed_mixed = values
    return f"| {thing} | {square:.3f} | {mixed:.3f} | {mixed - square:+.3f} | {obeyed:.3f} | {obeyed_mixed:.3f} |"


def denoising_errors() -> None:
    """The model's error of the clean latents, per number, for plain teddies cut to each size; no concept."""
    import torch
    from perfusion_pack.demo.load import load_demo_model
    from perfusion_pack.demo.making.candidates import plain_tensors
    from perfusion_pack.nodes.host.text.encoders import encode_superclass_vectors
    from perfusion_pack.nodes.host.training.denoising_task import HostDenoisingTask

    with torch.inference_mode():
        model, clip, vae = load_demo_model()
    pictures = torch.cat([plain_tensors("teddy", colour, count=4) for colour in ("red", "blue")]).movedim(1, -1)
    levels = (0.2, 0.4, 0.6, 0.8, 0.95)
    print("| size | " + " | ".join(f"noise level {level:g}" for level in levels) + " |\n|---" + "|---" * 5 + "|")
    for width, height in ((128, 128), (128, 96), (96, 128), (96, 96)):
        left, top = (128 - width) // 2, (128 - height) * 2 // 3
        with torch.inference_mode():
            latents = vae.encode(pictures[:, top : top + height, left : left + width])
        with torch.inference_mode(False), torch.no_grad():
            vectors = encode_superclass_vectors(clip, "teddy")
            with HostDenoisingTask(model, clip, latents.clone(), None, "<it>", vectors) as task:
                encoding, _ = task.encode(vectors, ["a photo of a {}"])
                clean, errors = task.latents, []
                noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
                for level in levels:
                    sigma = task.sigmas_at(torch.full((len(clean),), level))
                    noisy = task.noised(clean, noise, sigma)
                    denoised = task.predict(noisy, sigma, encoding.expand(len(clean), -1, -1))
                    errors.append((denoised - clean).square().mean().item())
        print(f"| {width} x {height} | " + " | ".join(f"{error:.3f}" for error in errors) + " |", flush=True)


def mixed_sizes() -> Any:
    """The method, Perfusion on pictures that were cut."""
    import torch
    from perfusion_pack.nodes.host.model_family import training_size
    from perfusion_pack.nodes.host.text.encoders import text_encoders
    from perfusion_pack.nodes.host.training.job import TrainingJob
    from perfusion_pack.nodes.host.training.request import TrainingRequest
    from perfusion_pack.perfusion_core.picture_fitting import Fit, fitted
    from perfusion_pack.perfusion_core.training import TrainingSettings
    from quality.methods.perfusion import Perfusion

    def cut_of(mask: torch.Tensor, size: tuple[int, int]) -> Fit:
        """The cut in which the thing has the place that it has in the square, as a share; nothing is scaled."""
        side = mask.shape[0]
        row, column = (mask > 0.5).nonzero().float().mean(dim=0).tolist()
        left, top = round(column / side * (side - size[0])), round(row / side * (side - size[1]))
        return Fit((side, side), (side, side), left, top, size)

    class MixedSizes(Perfusion):
        training = "perfusion, mixed sizes"
        version = 4  # 1 cut around the middle of the thing, 1 and 2 trained at four sizes, 3 cut to squares

        def train(self, bench: Any, lesson: Any, settings: Mapping[str, Any], seed: int) -> Any:
            own = self.complete(settings)
            own.pop("mask")
            statistics = bench.statistics(own.pop("captions"))
            fits = [cut_of(mask, size) for mask, size in zip(lesson.masks, CUTS, strict=True)]
            pictures = lesson.pictures.movedim(1, -1)
            images = [fitted(picture, fit) for picture, fit in zip(pictures, fits, strict=True)]
            masks = [fitted(mask[..., None], fit)[..., 0] for mask, fit in zip(lesson.masks, fits, strict=True)]
            with torch.inference_mode():
                request = TrainingRequest(
                    model=bench.model, clip=bench.clip, vae=bench.vae, images=images, masks=masks, word=lesson.word,
                    superclass=lesson.superclass, settings=TrainingSettings(**own, seed=seed), statistics=statistics,
                    resolution=training_size(bench.model, text_encoders(bench.clip))[0],
                )  # fmt: skip
                print(f"{lesson.thing}: {request.pictures.described()}", flush=True)
                return TrainingJob(request).train().concept

    return MixedSizes("local")


if __name__ == "__main__":
    main()
