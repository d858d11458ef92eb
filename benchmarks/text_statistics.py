"""Which tokens should count in the text statistics C, and how many captions are enough?

    python benchmarks/text_statistics.py                 the demo model's encoder and a CLIP filled at random
    python benchmarks/text_statistics.py --width 768 --layers 12 --captions 20000     a CLIP of SD1's size

For every rule the metric C^-1 is measured, and with it the similarity of the tokens of held-out captions to a noun's
mean encoding in the paper's nine templates, as if the noun were a concept: of the noun itself (which should open the
gate), of other nouns, of the words after it, and of the tokens that are no words (which should leave it shut).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from open_pack import open_pack
from torch import Tensor

DEMO_NOUNS = ("teddy", "ball", "cup", "car", "tree", "house", "fish", "star")
NOUNS = ("dog", "cat", "horse", "teddy", "cup", "chair", "car", "boat", "house", "castle", "tree", "apple", "woman")
HELD_OUT = 24  # captions for each noun
BOUNDS = (1e5, 1e4, 1e3, 100, 30, 10)  # of the condition number
OF_LONG_PROMPTS = 12  # held-out prompts for each noun
BIAS, TEMPERATURE = 0.65, 0.15  # a gate in use, the one of the committed tables


def random_clip(width: int, layers: int) -> Any:
    """A CLIP of SD1's kind filled at random as CLIP's training starts: embeddings .02, projections 1/sqrt(width)."""
    import comfy.sd
    import comfy.sd1_clip

    class Target:
        params: Mapping[str, Any] = {}
        clip = comfy.sd1_clip.SD1ClipModel
        tokenizer = comfy.sd1_clip.SD1Tokenizer

    size = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": max(1, width // 64)}
    options = {"dtype": torch.float32, "clip_l_model_config": {**size, "intermediate_size": 4 * width}}
    clip = comfy.sd.CLIP(Target(), model_options=options)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in clip.cond_stage_model.named_parameters():
            if "norm" in name:  # scales and shifts of its own for every feature, as training gives them
                parameter.copy_(float(name.endswith("weight")) + torch.randn(parameter.shape, generator=draw) * 0.2)
            elif parameter.dim() < 2:
                parameter.zero_()
            else:
                scale = 0.02 if "token" in name else 0.01 if "position" in name else width**-0.5
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * scale)
    return clip


def rules() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Which positions count: (what stands there, random numbers) -> weights."""
    from perfusion_pack.nodes.host.text.statistics import TokenKind

    word, end, padding = TokenKind.WORD, TokenKind.END, TokenKind.PADDING
    return {
        "all positions": lambda kinds, _: torch.ones(kinds.shape),
        "start to end": lambda kinds, _: (kinds != padding).float(),
        "words and end": lambda kinds, _: ((kinds == word) | (kinds == end)).float(),
        "words": lambda kinds, _: (kinds == word).float(),
        "a fifth of the words": lambda kinds, chance: ((kinds == word) & (chance < 0.2)).float(),
    }


def moments(clip: Any, captions: Sequence[str], counts: Sequence[int] = ()) -> dict[str, Tensor]:
    """C under each rule; and under the rule "start to end" after each of `counts` captions, by that number."""
    from perfusion_pack.nodes.host.text.statistics import encoded_captions
    from perfusion_pack.perfusion_core.text_statistics import SecondMoment

    draw, found, sums = torch.Generator().manual_seed(0), {}, {}
    for encodings, kinds, done in encoded_captions(clip, captions):
        chance = torch.rand(kinds.shape, generator=draw)
        for name, rule in rules().items():
            sums.setdefault(name, SecondMoment(encodings.shape[-1])).add(encodings, rule(kinds, chance))
        found.update({str(count): sums["start to end"].matrix() for count in counts if done - 32 < count <= done})
    return {**{name: moment.matrix() for name, moment in sums.items()}, **found}


class Probe:
    """Encodings of held-out captions, sorted by what they are to each noun."""

    def __init__(self, clip: Any, nouns: Sequence[str], captions: Sequence[str]) -> None:
        from perfusion_pack.nodes.host.text.statistics import TokenKind, encoded_captions
        from perfusion_pack.perfusion_core.caption_templates import TEMPLATES

        self._clip = clip
        chosen = [c for noun in nouns for c in [c for c in captions if noun in c.split()][:HELD_OUT]]
        parts = list(encoded_captions(clip, chosen))
        encodings = torch.cat([part[0] for part in parts]).reshape(len(chosen), -1, parts[0][0].shape[-1])
        kinds = torch.cat([part[1] for part in parts]).reshape(encodings.shape[:2])
        tokens = torch.tensor([self._tokens(caption) for caption in chosen])
        ids = {noun: self._tokens(noun)[1] for noun in nouns}
        is_noun = torch.isin(tokens, torch.tensor(list(ids.values())))
        self.groups: dict[str, dict[str, Tensor]] = {}
        self.targets: dict[str, Tensor] = {}
        for noun, number in ids.items():
            own = tokens == number
            without = ~own.any(dim=1, keepdim=True)
            before = own.cumsum(dim=1) > 0
            self.groups[noun] = {
                "own": encodings[own],
                "other nouns": encodings[is_noun & without],
                "other words": encodings[(kinds == TokenKind.WORD) & without & ~is_noun],
                "words after it": encodings[(kinds == TokenKind.WORD) & before & ~own],
                "end": encodings[(kinds == TokenKind.END) & without],
                "padding": encodings[(kinds == TokenKind.PADDING) & without],
                "start": encodings[kinds == TokenKind.START],
            }
            asked = [template.format(noun) for template in TEMPLATES]
            encoded = torch.cat([part[0] for part in encoded_captions(clip, asked)]).reshape(
                len(asked), -1, encodings.shape[-1]
            )
            at_noun = torch.tensor([self._tokens(text) for text in asked]) == number
            self.targets[noun] = encoded[at_noun].mean(dim=0)

    def _tokens(self, caption: str) -> list[int]:
        return [entry[0] for entry in next(iter(self._clip.tokenize(caption).values()))[0]]

    def similarities(self, inverse: Tensor) -> dict[str, Tensor]:
        """Similarity of every token of each group to its noun, all nouns together."""
        found: dict[str, list[Tensor]] = {}
        for noun, groups in self.groups.items():
            target = self.targets[noun].double()
            direction = inverse @ target
            for name, encodings in groups.items():
                found.setdefault(name, []).append(encodings.double() @ direction / (target @ direction))
        return {name: torch.cat(values) for name, values in found.items()}


def table(probe: Probe, measured: Mapping[str, Tensor], first: str, bounds: Mapping[str, float] | None = None) -> str:
    """Markdown: one row for each C, shrunk to a condition number of at most `bounds` where there are any."""
    from perfusion_pack.perfusion_core.text_statistics import MAX_CONDITION, statistics_from_moment

    head = [first, "condition of C", "shrinkage", "own: mean (5 %)", "other nouns: mean (95 %)", "other words (95 %)",
            "words after it (95 %)", "start", "end (95 %)", "padding (95 %)", "margin", "gate: own",
            "gate: others"]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for name, moment in measured.items():
        made = statistics_from_moment(moment, 1, "", (bounds or {}).get(name, MAX_CONDITION))
        values = torch.linalg.eigvalsh(moment)
        s = probe.similarities(made.inverse.double())
        high = {group: value.quantile(0.95).item() for group, value in s.items()}
        opened, leak = (
            torch.sigmoid((values - BIAS) / TEMPERATURE).mean().item()
            for values in (s["own"], torch.cat([s["other nouns"], s["other words"]]))
        )
        low = s["own"].quantile(0.05).item()
        rows.append([
            name, f"{values[-1] / values[0].clamp(min=1e-12):.0f}", f"{made.shrinkage:.1e}",
            f"{s['own'].mean():.2f} ({low:.2f})", f"{s['other nouns'].mean():.2f} ({high['other nouns']:.2f})",
            f"{high['other words']:.2f}", f"{high['words after it']:.2f}", f"{s['start'].mean():.2f}",
            f"{high['end']:.2f}", f"{high['padding']:.2f}", f"{low - high['other nouns']:.2f}",
            f"{opened:.2f}", f"{leak:.4f}",
        ])  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def length(caption: str) -> int:
    """In words and commas, about as many as its tokens."""
    return len(caption.split()) + caption.count(",")


def table_of_long_prompts(clip: Any, captions: int) -> str:
    """Markdown: C over short captions alone, over the built-in mixture and over long ones alone; each met by long
    prompts that hold a noun, through the gate that is recommended."""
    from perfusion_pack.nodes.host.text.statistics import TokenKind, encoded_captions
    from perfusion_pack.perfusion_core.caption_templates import TEMPLATES
    from perfusion_pack.perfusion_core.captions import built_in_captions
    from perfusion_pack.perfusion_core.concept import RECOMMENDED_BIAS, RECOMMENDED_TEMPERATURE
    from perfusion_pack.perfusion_core.text_statistics import statistics_from_moment

    everything, held_out = built_in_captions(24_000)[:20_000], built_in_captions(24_000)[20_000:]
    sets = {
        "short": [c for c in everything if length(c) < 40],
        "every fourth long": everything,
        "long": [c for c in everything if length(c) >= 46],
    }

    def tokens(text: str) -> Tensor:
        return torch.tensor([entry[0] for chunk in clip.tokenize(text)["l"] for entry in chunk])

    met, targets = [], {}
    for noun in NOUNS:
        number, asked = tokens(noun)[1], [template.format(noun) for template in TEMPLATES]
        encoded = torch.cat([part[0] for part in encoded_captions(clip, asked)])
        targets[noun] = encoded[torch.cat([tokens(text) for text in asked]) == number].double().mean(dim=0)
        chosen = [c for c in held_out if noun in c.split() and length(c) >= 46][:OF_LONG_PROMPTS]
        for prompt in chosen:
            ((encodings, kinds, _),) = encoded_captions(clip, [prompt])
            met.append((noun, encodings.double(), tokens(prompt) == number, kinds != TokenKind.PADDING))
    rows = [["captions of C", "tokens", "own: mean", "others: mean, deviation", "others: 95 %, 99 %", "gate: others"]]
    rows.append(["---"] * len(rows[0]))
    for name, chosen in sets.items():
        measured = moments(clip, chosen[:captions])["start to end"]
        inverse, own, others = statistics_from_moment(measured, 1, "").inverse.double(), [], []
        for noun, encodings, at_noun, counts in met:
            s = encodings @ (inverse @ targets[noun]) / (targets[noun] @ inverse @ targets[noun])
            own.append(s[at_noun])
            others.append(s[~at_noun & counts])
        mine, s = torch.cat(own), torch.cat(others)
        gate = torch.sigmoid((s - RECOMMENDED_BIAS) / RECOMMENDED_TEMPERATURE).mean()
        count = sum(
            int((kinds != TokenKind.PADDING).sum()) for _, kinds, _ in encoded_captions(clip, chosen[:captions])
        )
        rows.append([
            name, f"{count}", f"{mine.mean():.2f}", f"{s.mean():.3f}, {s.std():.3f}",
            f"{s.quantile(0.95):.2f}, {s.quantile(0.99):.2f}", f"{gate:.4f}",
        ])  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--captions", type=int, default=4000)
    options = parser.parse_args()
    open_pack()
    from perfusion_pack.demo.load import load_clip, world_captions
    from perfusion_pack.perfusion_core.captions import built_in_captions

    corpora = {
        "The demo model's encoder, captions of its world": (load_clip(), DEMO_NOUNS, world_captions),
        f"A CLIP filled at random, width {options.width}, {options.layers} layers, built-in captions": (
            random_clip(options.width, options.layers), NOUNS, built_in_captions,
        ),
    }  # fmt: skip
    counts = [count for count in (250, 500, 1000, 2000, 4000, 8000, 16000) if count <= options.captions]
    with torch.inference_mode():
        for title, (clip, nouns, captions_of) in corpora.items():
            captions = captions_of(options.captions + 4000)
            probe = Probe(clip, nouns, captions[options.captions :])
            measured = moments(clip, captions[: options.captions], counts)
            print(f"\n### {title} ({options.captions})\n")
            print(table(probe, {name: measured[name] for name in rules()}, "tokens that count"))
            shrunk = {f"{bound:.0f}": bound for bound in BOUNDS}
            moment = measured["start to end"]
            print(f"\n{table(probe, dict.fromkeys(shrunk, moment), 'largest condition, start to end', shrunk)}")
            print(f"\n{table(probe, {str(count): measured[str(count)] for count in counts}, 'captions, start to end')}")
        print(f"\n### Long prompts, the CLIP filled at random ({options.captions})\n")
        print(table_of_long_prompts(random_clip(options.width, options.layers), options.captions))


if __name__ == "__main__":
    main()
