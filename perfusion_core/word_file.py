"""The word of a concept as an ordinary textual inversion file, for programs that know nothing of concepts.

    python -m perfusion_core.word_file hugsy.safetensors --out embeddings/hugsy_word.safetensors

The word alone carries what its vector learned. The gate, the values of the cross-attention layers, which make up most
of the likeness, and the offset of the word's encoding stay behind.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from .concept import Concept
from .concept_file import ARCHITECTURES, load_concept
from .errors import PerfusionError
from .tensor_file import check_replacing, write_tensors

logger = logging.getLogger(__name__)

# The name of the only tensor in files for models of one text encoder; with several, each has its encoder's key.
SINGLE = "emb_params"


def save_word(path: str | os.PathLike[str], concept: Concept, replace: bool = True) -> None:
    """Write the word's vectors, [n, width] per text encoder, as other programs expect them.  replace: as for
    `write_tensors`.

    Raises PerfusionError where the file cannot be written.
    """
    vectors = dict(concept.word_vectors)
    if len(vectors) == 1:
        vectors = {SINGLE: next(iter(vectors.values()))}
    architecture = ARCHITECTURES.get(concept.base_model, concept.base_model)
    metadata = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": f"{concept.word.strip('<>')} ({concept.superclass})",
        "modelspec.architecture": f"{architecture}/textual-inversion",
        "modelspec.trigger_phrase": concept.word.strip("<>"),
    }
    write_tensors(path, vectors, metadata, replace)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m perfusion_core.word_file",
        description="Write the word of a concept as a textual inversion file. Only the word's vector goes along.",
    )
    parser.add_argument("concept", help="the concept file")
    parser.add_argument("--out", required=True, help="the textual inversion file to write, .safetensors")
    parser.add_argument("--replace", action="store_true", help="write it over a file of that name")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        concept = load_concept(given.concept)
        if os.path.exists(given.out) and os.path.samefile(given.out, given.concept):
            raise PerfusionError(
                f"{given.out} is the concept itself, which would be lost; choose another name for --out."
            )
        check_replacing(given.out, given.replace)
        save_word(given.out, concept, given.replace)
    except PerfusionError as problem:
        logger.error("%s", problem)
        return 1
    logger.info("The word of %s was saved to %s.", concept.word, given.out)
    if concept.encoding_offset is not None:
        logger.info("The offset of its encoding, which is part of the word, stayed behind: other programs add none.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
