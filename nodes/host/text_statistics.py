"""Measuring the text statistics C of a CLIP, and keeping them under the hash of its encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import folder_paths
import torch
from comfy.sd import CLIP

from ...perfusion_core.captions import built_in_captions
from ...perfusion_core.statistics import (
    SecondMoment,
    TextStatistics,
    load_statistics,
    save_statistics,
    statistics_from_moment,
)
from .text_encoders import text_encoders

CAPTIONS_PER_BATCH = 32
CAPTIONS_MEASURED = 2000  # of the built-in corpus, when nobody asks for more

# Under this key a CLIP's patcher may carry a function that gives captions of its own world, as the demo model's does.
CAPTIONS_ATTACHMENT = "perfusion_for_comfyui.captions"


def encoder_hash(clip: CLIP) -> str:
    """16 hexadecimal digits that name the CLIP's weights, patches and layer."""
    digest = hashlib.sha256(f"{clip.layer_idx} {clip.patcher.patches_uuid if clip.patcher.patches else ''}".encode())
    for key, encoder in sorted(text_encoders(clip).items()):
        for name, tensor in sorted(encoder.model.state_dict().items()):
            digest.update(f"{key}.{name} {tuple(tensor.shape)}".encode())
            # A few hundred numbers of each tensor tell two encoders apart; hashing a gigabyte would take seconds.
            digest.update(tensor.detach().flatten()[:: max(1, tensor.numel() // 256)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def measure_statistics(clip: CLIP, captions: Sequence[str], on_captions: Callable[[int, int], None]) -> TextStatistics:
    """C over the captions, from the start token to the end token of each (padding says nothing of language).

    `on_captions` is called with the number of captions measured so far and that of all, and may raise to stop.
    """
    moment: SecondMoment | None = None
    for start in range(0, len(captions), CAPTIONS_PER_BATCH):
        batch = [
            clip.tokenize(caption, return_word_ids=True) for caption in captions[start : start + CAPTIONS_PER_BATCH]
        ]
        # All captions' chunks as chunks of one prompt: the host encodes them in one batch, each by itself.
        joined = {
            name: [[entry[:2] for entry in chunk] for tokens in batch for chunk in tokens[name]] for name in batch[0]
        }
        counted = torch.cat([_until_end(chunk) for tokens in batch for chunk in next(iter(tokens.values()))])
        encoding = clip.encode_from_tokens(joined)[0]
        moment = moment or SecondMoment(encoding.shape[-1])
        moment.add(encoding, counted[: len(encoding)])
        on_captions(min(start + CAPTIONS_PER_BATCH, len(captions)), len(captions))
    assert moment is not None, "callers pass at least one caption"
    return statistics_from_moment(moment.matrix(), len(captions), encoder_hash(clip))


def _until_end(chunk: list[tuple]) -> torch.Tensor:
    """True for the start token, the words and the first token after the last word; word id 0 marks what is no word."""
    words = [index for index, entry in enumerate(chunk) if entry[2] != 0]
    last = words[-1] + 1 if words else 1
    return torch.arange(len(chunk)) <= last


def cached_statistics(
    clip: CLIP, on_captions: Callable[[int, int], None], captions: Sequence[str] | None = None
) -> TextStatistics:
    """The statistics of the CLIP, measured once for each encoder and set of captions and kept in the host's user
    folder.
    """
    own_captions = clip.patcher.get_attachment(CAPTIONS_ATTACHMENT) or partial(built_in_captions, CAPTIONS_MEASURED)
    captions = captions or own_captions()
    text_hash = hashlib.sha256("\n".join(captions).encode()).hexdigest()[:8]
    path = (
        Path(folder_paths.get_user_directory())
        / "perfusion"
        / f"text_statistics_{encoder_hash(clip)}_{text_hash}.safetensors"
    )
    if path.exists():
        return load_statistics(path)
    statistics = measure_statistics(clip, captions, on_captions)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_statistics(path, statistics)
    return statistics
