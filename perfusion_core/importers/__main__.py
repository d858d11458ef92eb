"""The command: one file of another program in, one concept file out. Needs no network and no host."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..concept_file import save_concept
from ..errors import PerfusionError
from ..tensor_file import check_replacing
from . import chendaryen, lucidrains
from .base_model import read_base_model, tokens_of
from .conversion import BIAS, TEMPERATURE, convert
from .pickle_file import read_pickle

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 after one sentence on what is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        _import(_parser().parse_args(arguments))
    except PerfusionError as problem:
        logger.error("%s", problem)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m perfusion_core.importers",
        description="Turn a concept of ChenDarYen's implementation (.ckpt) or of perfusion-pytorch (.pt) into a concept"
        " file of this pack. Nothing in the file is run.",
    )
    parser.add_argument("file", help="the other program's file")
    parser.add_argument("--checkpoint", required=True, help="the SD1 or SD2 model it was trained on, .safetensors")
    parser.add_argument("--out", required=True, help="the concept file to write, .safetensors")
    parser.add_argument("--replace", action="store_true", help="write it over a file of that name")
    parser.add_argument("--word", help="what prompts will call it, such as hugsy (default: the name of the new file)")
    parser.add_argument("--superclass", help="the plain word it is a kind of (a .ckpt says it itself)")
    tokens = parser.add_mutually_exclusive_group(required=True)
    tokens.add_argument("--vocabulary", help="CLIP's vocab.json (in ComfyUI: comfy/sd1_tokenizer/vocab.json)")
    tokens.add_argument("--superclass-tokens", type=int, nargs="+", help="or the superclass' numbers in it")
    parser.add_argument("--bias", type=float, default=BIAS, help="recommended bias (default: %(default)s, the peers')")
    parser.add_argument("--temperature", type=float, default=TEMPERATURE, help="likewise (default: %(default)s)")
    parser.add_argument(
        "--clip-layer", type=int, help="layer of the text encoder (default: the usual one of the model)"
    )
    parser.add_argument(
        "--concept", type=int, default=0, help="which one, in a .pt that holds several (default: the first)"
    )
    parser.add_argument(
        "--positions", type=int, nargs="+", help="in a .ckpt: the mean of which positions' values to take"
    )
    return parser


def _import(arguments: argparse.Namespace) -> None:
    check_replacing(arguments.out, arguments.replace)
    content = read_pickle(arguments.file)
    if chendaryen.looks_like_it(content):
        superclass = arguments.superclass or chendaryen.superclass_in(content)
    elif lucidrains.looks_like_it(content):
        superclass = arguments.superclass
    else:
        raise PerfusionError(
            f"{arguments.file} was expected to be a concept of ChenDarYen's implementation or of perfusion-pytorch, but"
            " it has the parts of neither; choose another file."
        )
    if not superclass:
        raise PerfusionError(f"{arguments.file} does not say its superclass; give it with --superclass.")
    tokens = arguments.superclass_tokens or tokens_of(superclass, arguments.vocabulary)
    base = read_base_model(arguments.checkpoint, tokens)
    if chendaryen.looks_like_it(content):
        positions = arguments.positions or chendaryen.TEMPLATE_POSITIONS
        peer = chendaryen.read(content, arguments.file, base, positions)
    else:
        peer = lucidrains.read(content, arguments.file, base, arguments.concept)
    concept, notes = convert(
        peer,
        base,
        arguments.file,
        arguments.word or Path(arguments.out).stem,
        superclass,
        bias=arguments.bias,
        temperature=arguments.temperature,
        clip_layer=arguments.clip_layer,
    )
    save_concept(arguments.out, concept, arguments.replace)
    for note in notes:
        logger.warning("%s", note)
    logger.info("%s is a kind of %s for %s, saved to %s.", concept.word, superclass, base.family, arguments.out)


if __name__ == "__main__":
    sys.exit(main())
