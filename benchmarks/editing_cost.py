"""What an edit costs in a step, against an unedited batch of the same pictures.

    python benchmarks/editing_cost.py [--shapes sd15 sdxl] [--rounds 5] [--smallest]

A source and an edit, with both halves of the guidance, beside an unedited batch of the same two prompts; runs of both
take turns, all windows open. UNets as in cost.py, one thread, processor time on a CPU. Memory is counted: what is held
beside an unedited step while one cross-attention layer runs, for each edited row of SDXL's largest layer, 1024 pixels.
`--smallest` tries everything in a minute; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from cost import SHAPES, make_clip, make_model
from open_pack import open_pack

BAR, MEMORY_BAR = 1.05, 30e6
UNETS = ("sd15", "sdxl")  # of cost.py's shapes, those that can be edited
STEPS = 3  # of a run; the first is left out, since it loads the model and makes the factors
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


def times_of(model: Any, positive: list, negative: list, latent: dict) -> list[float]:
    """Seconds of processor time of each step of a run but the first."""
    import comfy.sample

    ends: list[float] = []
    noise = comfy.sample.prepare_noise(latent["samples"], 1, latent["batch_index"])
    comfy.sample.sample(
        model, noise, STEPS, 5.0, "euler", "normal", positive, negative, latent["samples"], disable_pbar=True, seed=1,
        callback=lambda *_: ends.append(time.process_time()),
    )  # fmt: skip
    return [end - start for start, end in zip(ends, ends[1:], strict=False)]


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
        ratios = []
        for number in range(rounds):
            pair = [(model, "base"), (edited, "edited")][:: 1 if number % 2 else -1]
            took = {label: times_of(one, positive, negative, latent) for one, label in pair}
            ratios.append(statistics.median(took["edited"]) / statistics.median(took["base"]))
        middle = statistics.median(ratios)
        rows.append(
            f"| {shape} | {name} | {middle:.3f} | {min(ratios):.3f} to {max(ratios):.3f} |"
            f" {'met' if middle <= BAR else 'missed'} |"
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
    parser.add_argument("--shapes", nargs="+", default=[*UNETS], choices=UNETS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latent", type=int, default=32)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--counted", action="store_true", help="only what is counted; it takes a moment")
    arguments = parser.parse_args()
    open_pack()
    torch.set_num_threads(1)
    if arguments.counted:
        print(f"{memory()}\n\n{arithmetic()}")
        return
    print(
        memory() + "\n\n| shape | edit | of an unedited step | all rounds | bar 1.05 |\n|---|---|---|---|---|",
        flush=True,
    )
    with torch.inference_mode():
        for shape in arguments.shapes:
            measured(shape, arguments.rounds, arguments.smallest, arguments.latent)


if __name__ == "__main__":
    main()
