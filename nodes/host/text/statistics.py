"""Measuring the text statistics C of a CLIP, and keeping them under the hash of its encoder.

They are of the encodings as the cross-attention layers see them.  Where a MODEL makes something else of the text first,
it takes part in the measuring and in the hash.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import folder_paths
import torch
from comfy.sd import CLIP
from torch import Tensor

from ....perfusion_core.captions import CAPTIONS_ATTACHMENT, built_in_captions
from ....perfusion_core.errors import PerfusionError
from ....perfusion_core.text_statistics import (
    SecondMoment,
    TextStatistics,
    load_statistics,
    save_statistics,
    statistics_from_moment,
)
from .encoders import list_name, text_encoders, tokenizers_alone

logger = logging.getLogger(__name__)

CAPTIONS_PER_BATCH = 32

# Which tokens count. The padding, most of a short caption's positions, would cost the words; and what does not count,
# such as the end token, would not be kept apart from a concept (benchmarks/text_statistics.md).
TOKEN_RULE = "start to end"  # part of a kept file's name

# Of the built-in corpus, when nobody asks for more: enough for wide encoders, and minutes on a CPU.
CAPTIONS_MEASURED = 2000

# What is said meanwhile, with how many captions of how many.
MEASURING = "Measuring text statistics: {} of {} captions"


class TokenKind(IntEnum):
    """What stands at a position of an encoded caption."""

    START = 0
    WORD = 1
    END = 2
    PADDING = 3


class AtLayers(Protocol):
    """What a MODEL makes of a text encoding before its layers see it: [1, N, e] -> [1, N', d].

    hash: names what it does.  Called with the encoding and what the CLIP gives besides.
    """

    @property
    def hash(self) -> str: ...

    def __call__(self, encoding: Tensor, extra: Mapping[str, Any]) -> Tensor: ...


def encoder_hash(clip: CLIP, at_layers: AtLayers | None = None) -> str:
    """16 hexadecimal digits that name the CLIP's weights, patches and layer, whether or not they are loaded now.

    at_layers: of the MODEL whose layers see something else than the encodings."""
    digest = hashlib.sha256(f"{clip.layer_idx}".encode())
    if at_layers is not None:
        digest.update(at_layers.hash.encode())
    for key, encoder in sorted(text_encoders(clip).items()):
        for name, tensor in sorted(encoder.model.state_dict().items()):
            # Where a LoRA is patched into the weights, the host keeps the weight itself in the backup.
            backup = clip.patcher.backup.get(f"{key}.{name}")
            digest.update(f"{key}.{name} {tuple(tensor.shape)}".encode())
            add_to_digest(digest, tensor if backup is None else backup.weight)
    for name, patches in sorted(clip.patcher.patches.items()):
        digest.update(name.encode())
        add_to_digest(digest, patches)
    return digest.hexdigest()[:16]


def add_to_digest(digest: Any, value: Any) -> None:
    """Add what a weight or a patch (numbers, names and tensors in tuples and adapters) consists of."""
    if isinstance(value, torch.Tensor):
        # A few hundred numbers of each tensor tell two encoders apart; hashing a gigabyte would take seconds.
        few = value.detach().flatten()[:: max(1, value.numel() // 256)]
        digest.update(few.float().cpu().numpy().tobytes())
    elif isinstance(value, list | tuple):
        for part in value:
            add_to_digest(digest, part)
    elif hasattr(value, "weights"):  # the host's adapters: LoRA, LoHa, ...
        add_to_digest(digest, (type(value).__name__, value.weights))
    elif isinstance(value, str | int | float | None):
        digest.update(f"{value!r} ".encode())


def encoded_captions(
    clip: CLIP, captions: Sequence[str], at_layers: AtLayers | None = None
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Encode the captions in batches: (encodings [n, d], what stands at each position [n], captions done so far).

    at_layers: see `encoder_hash`."""
    for start in range(0, len(captions), CAPTIONS_PER_BATCH):
        batch = [
            clip.tokenize(caption, return_word_ids=True) for caption in captions[start : start + CAPTIONS_PER_BATCH]
        ]
        done = min(start + CAPTIONS_PER_BATCH, len(captions))
        if at_layers is not None or len({len(chunk) for tokens in batch for chunk in next(iter(tokens.values()))}) > 1:
            yield *_one_by_one(clip, batch, at_layers), done
            continue
        # All captions' chunks as chunks of one prompt: the host encodes them in one batch, each by itself.
        joined = {
            name: [[entry[:2] for entry in chunk] for tokens in batch for chunk in tokens[name]] for name in batch[0]
        }
        kinds = torch.cat([_token_kinds(chunk) for tokens in batch for chunk in next(iter(tokens.values()))])
        encoded: Any = clip.encode_from_tokens(joined)
        yield encoded[0], kinds, done


def _one_by_one(clip: CLIP, batch: Sequence[Mapping[str, list]], at_layers: AtLayers | None) -> tuple[Tensor, Tensor]:
    """Encodings [n, d] of tokenized captions and what stands at each position [n], of prompts of any length."""
    # The positions behind a model that reads the text with a second tokenizer are that tokenizer's.
    own = list_name(next(iter(tokenizers_alone(clip)), next(iter(batch[0])))) if at_layers else next(iter(batch[0]))
    encoded = []
    for tokens in batch:  # all of them first, so that CLIP and MODEL do not take turns in the memory
        lists = {name: [[entry[:2] for entry in chunk] for chunk in chunks] for name, chunks in tokens.items()}
        encoded.append(dict(clip.encode_from_tokens(lists, return_dict=True)))
    encodings, kinds = [], []
    for tokens, extra in zip(batch, encoded, strict=True):
        encoding = extra.pop("cond")
        encoding = encoding if at_layers is None else at_layers(encoding, extra)
        kind = torch.full((encoding.shape[1],), TokenKind.PADDING)
        known = torch.cat([_token_kinds(chunk) for chunk in tokens[own]])[: len(kind)]
        kind[: len(known)] = known
        encodings.append(encoding[0])
        kinds.append(kind)
    return torch.cat(encodings), torch.cat(kinds)


def _token_kinds(chunk: list[tuple]) -> Tensor:
    """TokenKind at each position; word id 0 marks what is no word.  Some tokenizers have no start or no end."""
    kinds = torch.full((len(chunk),), TokenKind.PADDING)
    words = [index for index, entry in enumerate(chunk) if entry[2] != 0]
    kinds[words] = TokenKind.WORD
    end = words[-1] + 1 if words else 1
    kinds[end : end + 1] = TokenKind.END
    if chunk and chunk[0][2] == 0:
        kinds[0] = TokenKind.START
    return kinds


def measure_statistics(
    clip: CLIP,
    captions: Sequence[str],
    on_captions: Callable[[int, int], None],
    at_layers: AtLayers | None = None,
) -> TextStatistics:
    """C over the captions, from the start token to the end token of each (padding says nothing of language).

    at_layers: see `encoder_hash`.  `on_captions` is called with the number of captions measured so far and that of all,
    and may raise to stop.
    """
    moment: SecondMoment | None = None
    for encodings, kinds, done in encoded_captions(clip, captions, at_layers):
        moment = moment or SecondMoment(encodings.shape[-1])
        moment.add(encodings, kinds != TokenKind.PADDING)
        on_captions(done, len(captions))
    assert moment is not None, "callers pass at least one caption"
    return statistics_from_moment(moment.matrix(), len(captions), encoder_hash(clip, at_layers))


def own_captions(clip: CLIP) -> Callable[[], Sequence[str]] | None:
    """What gives the captions that a CLIP brings along, as the demo model's does; None for most."""
    return clip.patcher.get_attachment(CAPTIONS_ATTACHMENT)


def cached_statistics(
    clip: CLIP,
    on_captions: Callable[[int, int], None],
    captions: Sequence[str] | None = None,
    count: int = CAPTIONS_MEASURED,
    at_layers: AtLayers | None = None,
) -> TextStatistics:
    """The statistics of the CLIP, measured once for each encoder and set of captions, and kept in the user folder.

    at_layers: see `encoder_hash`.  captions: to measure on; by default those that the CLIP brings along, else the first
    `count` built-in ones.
    A kept file that cannot be read any more is measured and written anew.
    """
    captions = captions or (own_captions(clip) or partial(built_in_captions, count))()
    text_hash = hashlib.sha256("\n".join([TOKEN_RULE, *captions]).encode()).hexdigest()[:8]
    folder = Path(folder_paths.get_user_directory()) / "perfusion"
    path = folder / f"text_statistics_{encoder_hash(clip, at_layers)}_{text_hash}.safetensors"
    statistics = _kept(path)
    if statistics is None:
        statistics = measure_statistics(clip, captions, on_captions, at_layers)
        folder.mkdir(parents=True, exist_ok=True)
        save_statistics(path, statistics)
    logger.info("Text statistics: %s.", statistics.summary())
    return statistics


def _kept(path: Path) -> TextStatistics | None:
    if not path.exists():
        return None
    try:
        return load_statistics(path)
    except PerfusionError as error:
        logger.warning("The kept text statistics are measured again: %s", error)
        return None
