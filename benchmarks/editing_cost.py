"""What an edit costs in a step, against an unedited batch of the same pictures.

    python benchmarks/editing_cost.py [--shapes sd15-shallow sdxl-shallow] [--latent 24] [--rounds 2] [--smallest]

A source and an edit, with both halves of the guidance, beside an unedited batch of the same two prompts; two runs take
a step in turn, all windows open.  UNets of full width and random weights as in cost.py, *shallow* with one block at
each level; one thread, processor time on a CPU.  Memory is counted: what is held beside an unedited step while one
cross-attention layer runs, for each edited row of SDXL's largest layer, 1024 pixels.  `--smallest` tries everything in
a minute; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from cost import SHAPES, make_clip, make_model
from open_pack import open_pack

BAR, MEMORY_BAR = 1.05, 30e6
UNETS = ("sd15", "sd15-shallow", "sdxl", "sdxl-shallow")
STEPS = 9  # of a run; the first is left out, since it loads the model and makes the factors
SOURCE = "a photo of a red cat on the grass"
WHOLE = (0.0, 1.0)


def edits() -> dict[str, Any]:
    """An edit of each kind, with all its windows open."""
    from perfusion_pack.perfusion_core.prompt_edit import LocalBlend, PromptEdit

    swap, refined = "a photo of a red dog on the grass", "a photo of a red cat with a hat on the grass"
    return {
        "swap": PromptEdit(swap, WHOLE, WHOLE, blend=None),
        "refinement": PromptEdit(refined, WHOLE, WHOLE, blend=None),
        "refinement with a blend": PromptEdit(refined, WHOLE, WHOLE, blend=LocalBlend(window=WHOLE)),
    }


def run(model: Any, positive: list, negative: list, latent: dict, after_step: Callable[..., None]) -> None:
    """A run of the host's sampler."""
    import comfy.sample

    noise = comfy.sample.prepare_noise(latent["samples"], 1, latent["batch_index"])
    comfy.sample.sample(
        model, noise, STEPS, 5.0, "euler", "normal", positive, negative, latent["samples"], disable_pbar=True, seed=1,
        callback=after_step,
    )  # fmt: skip


def in_turn(runs: Sequence[Callable[[Callable[..., None]], None]]) -> list[list[float]]:
    """Seconds of processor time of each step of each run but the first; the runs take a step in turn, so that whatever
    else the machine does meets both.  Each has a thread of its own, of which one at a time is awake."""
    turns = [threading.Semaphore(0) for _ in runs]
    ends: list[list[float]] = [[] for _ in runs]

    def take(number: int) -> None:
        following = turns[(number + 1) % len(runs)]

        def after_step(*_: Any) -> None:
            ends[number].append(time.thread_time())
            following.release()
            turns[number].acquire()

        turns[number].acquire()
        try:
            torch.set_num_threads(1)
            with torch.inference_mode():
                runs[number](after_step)
        finally:
            following.release()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(len(runs))]
    for thread in threads:
        thread.start()
    turns[0].release()
    for thread in threads:
        thread.join()
    return [[end - start for start, end in zip(one, one[1:], strict=False)] for one in ends]


def measured(shape: str, rounds: int, smallest: bool, size: int) -> list[str]:
    """Rows of the table for a shape."""
    from perfusion_pack.nodes.host.editing.edit_masks import EditMasks
    from perfusion_pack.nodes.host.editing.edit_patch import apply_edits
    from perfusion_pack.nodes.host.editing.edited_latents import in_rows
    from perfusion_pack.nodes.host.editing.edited_prompts import plan_edits

    model, clip, width = make_model(shape, smallest), make_clip(shape), SHAPES[shape][1]["context_dim"]
    pooled = torch.randn(1, 1280)
    rows = []
    for name, edit in edits().items():
        plan, _ = plan_edits(clip, SOURCE, [edit])
        generator = torch.Generator().manual_seed(0)
        encoding = torch.randn(2, plan.length, width, generator=generator)
        extra = {"pooled_output": pooled.repeat(2, 1), "perfusion_prompt_edit": plan.name}
        positive, negative = [[encoding, extra]], [[encoding[:1] * 0, {"pooled_output": pooled}]]
        latent = in_rows({"samples": torch.zeros(1, 4, size, size)}, plan.rows)
        edited = apply_edits(model, plan, EditMasks())
        both: list[list[float]] = [[], []]
        for number in range(rounds):
            order = [0, 1][:: -1 if number % 2 else 1]
            sides = [functools.partial(run, one, positive, negative, latent) for one in (model, edited)]
            for index, times in zip(order, in_turn([sides[index] for index in order]), strict=True):
                both[index] += times
        ratios = sorted(after / before for before, after in zip(*both, strict=True))
        middle, quarter = statistics.median(ratios), len(ratios) // 4
        verdict, shortest = "met" if middle <= BAR else "missed", min(both[1]) / min(both[0])
        rows.append(
            f"| {shape} | {name} | {statistics.median(both[0]):.2f} | {middle:.3f} | {ratios[quarter]:.3f} to"
            f" {ratios[-1 - quarter]:.3f} | {shortest:.3f} | {verdict} |"
        )
        print(rows[-1], flush=True)
    return rows


def memory() -> str:
    """Bytes beside an unedited step, for each edited row, in SDXL's largest layer at 1024 pixels in half precision."""
    places, channels, tokens, heads, half, single = 64 * 64, 640, 77, 10, 2, 4
    queries, output = places * channels * half, places * channels * half
    keys_and_values = 3 * tokens * channels * half
    softmax = places * tokens * heads * single
    parts = {"queries of the source": queries, "the edit's own attention": output, "keys and values": keys_and_values,
             "the softmax of a local blend": softmax}  # fmt: skip
    total = sum(parts.values())
    lines = [f"| {name} | {size / 1e6:.1f} MB |" for name, size in parts.items()]
    verdict = "met" if total <= MEMORY_BAR else "missed"
    return "\n".join(
        [
            "| beside an unedited step, each edited row | |",
            "|---|---|",
            *lines,
            f"| all | {total / 1e6:.1f} MB ({verdict}) |",
        ]
    )


def arithmetic() -> str:
    """Multiplications and additions of a pair, both halves of the guidance, over those of an unedited batch of two.

    Counted without weights: an edit adds one more attention to the words in the conditional half of its row, and a
    softmax where its blend is recorded.
    """
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from torch.utils.flop_counter import FlopCounterMode

    lines = ["| UNet, pixels | GFLOP a row | an edit adds | of an unedited step |", "|---|---|---|---|"]
    heads = {"sd15": {"num_heads": 8}, "sdxl": {"num_head_channels": 64}}
    for shape, latent in (("sd15", 64), ("sdxl", 128)):
        config = {**SHAPES[shape][1], "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320}
        config |= heads[shape] | {"dtype": torch.float32, "device": "meta"}
        unet = UNetModel(**config, operations=comfy.ops.disable_weight_init)
        added: list[int] = []

        def note(attention: Any, inputs: tuple, _output: Any, added: list[int] = added) -> None:
            multiplied = inputs[0].shape[1] * 77 * attention.to_q.out_features  # queries times keys
            added.append(2 * (2 * multiplied + multiplied))  # times values too, and the softmax of the blend

        for name, module in unet.named_modules():
            if name.endswith("attn2"):
                module.register_forward_hook(note)
        inputs = [torch.zeros(1, 4, latent, latent), torch.zeros(1), torch.zeros(1, 77, config["context_dim"])]
        pooled = torch.zeros(1, config["adm_in_channels"], device="meta") if config.get("adm_in_channels") else None
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            unet(*(one.to("meta") for one in inputs), y=pooled)
        row, more = counted.get_total_flops(), sum(added)
        lines.append(
            f"| {shape}, {8 * latent} | {row / 1e9:.0f} | {more / 1e9:.0f} GFLOP | {1 + more / (4 * row):.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["sd15-shallow", "sdxl-shallow"], choices=UNETS)
    parser.add_argument("--rounds", type=int, default=2, help="pairs of runs, of eight measured steps each")
    parser.add_argument("--latent", type=int, default=24, help="side of the latent, a multiple of 8")
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--counted", action="store_true", help="only what is counted; it takes a moment")
    arguments = parser.parse_args()
    open_pack()
    torch.set_num_threads(1)
    if arguments.counted:
        print(f"{memory()}\n\n{arithmetic()}")
        return
    print(f"{memory()}\n\nlatent {arguments.latent}, {arguments.rounds} pairs of runs\n")
    heads = "| UNet | edit | an unedited step, s | of an unedited step | middle half | shortest | bar 1.05 |"
    print(f"{heads}\n|---|---|---|---|---|---|---|", flush=True)
    with torch.inference_mode():
        for shape in arguments.shapes:
            measured(shape, arguments.rounds, arguments.smallest, arguments.latent)


if __name__ == "__main__":
    main()
