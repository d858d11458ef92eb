"""How similar the learned word is to its concept in many prompts, as the model's own text encoder encodes it."""

from __future__ import annotations

import logging

import torch

from ....perfusion_core.encoding_offset import with_offset
from ....perfusion_core.errors import PerfusionError
from ....perfusion_core.learned_tensors import LearnedTensors
from ....perfusion_core.varied_prompts import VARIED_PROMPTS, WordSimilarity, measured_similarity
from .denoising_task import HostDenoisingTask

logger = logging.getLogger(__name__)


def word_similarity(task: HostDenoisingTask, learned: LearnedTensors) -> WordSimilarity | None:
    """Measure it on the training's text encoder, without gradients; None for a word of too many tokens for that."""
    vectors = {key: rows.to(task.device) for key, rows in learned.word_vectors.items()}
    try:
        with torch.no_grad():
            encodings, positions = task.encode(vectors, VARIED_PROMPTS)
            encodings, positions = encodings.cpu().float(), positions.cpu()
    except PerfusionError as error:
        logger.info("The word's similarity was not measured: %s", error)
        return None
    spoken = with_offset(encodings, positions, learned.encoding_offset)
    return measured_similarity(spoken, positions, learned.target_input, learned.inverse_target_input)
