"""Reading a PyTorch pickle of another program without running anything in it.

A pickle names functions and calls them while it is read. The unpickler of torch.load(weights_only=True) knows those
that build tensors, and no other. The classes added here for one reading are all replaced by `Record`, which only holds
what it is given: the peers' own classes never exist in this process, and neither does their code.
"""

from __future__ import annotations

import os
import re
from typing import Any

import torch

from ..errors import PerfusionError

# Several hundred times what a concept has in the peers' formats.
MAX_FILE_BYTES = 1 << 30

# The word's vector lies in a ParameterDict. The superclass lies in a list of OmegaConf, the peer's configuration
# library, which carries the whole configuration with it, types of settings included.
_SETTINGS = ["omegaconf.listconfig.ListConfig", "omegaconf.dictconfig.DictConfig"]
_SETTINGS += ["omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"]
_SETTINGS += [f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean", "Path")]
_TYPES = [f"builtins.{name}" for name in ("dict", "list", "tuple", "str", "int", "float", "bool", "object")]
_TYPES += [f"typing.{name}" for name in ("Any", "Dict", "List", "Tuple", "Union", "Optional")]
ADMITTED = ["torch.nn.modules.container.ParameterDict", "collections.defaultdict", *_SETTINGS, *_TYPES]


class Record:
    """Stands for an object of a class that is not to be run: keeps its fields, does nothing."""

    def __init__(self, *_: Any) -> None:
        """Take whatever the class would have been called with, and forget it."""

    def __new__(cls, *_: Any) -> Record:
        """As `__init__`."""
        return super().__new__(cls)


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """Return what the pickle holds, tensors on the CPU; objects of the classes in ADMITTED come as `Record`.

    Raises PerfusionError, one sentence, for a file that cannot be read or that names anything else.
    """
    try:
        size = os.stat(path).st_size
        if size > MAX_FILE_BYTES:
            raise PerfusionError(
                f"{path} has {size} bytes, far more than a concept of any program; choose another file."
            )
        with torch.serialization.safe_globals([(Record, name) for name in ADMITTED]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except PerfusionError:
        raise
    except OSError as problem:
        raise PerfusionError(
            f"{path} cannot be opened ({problem.strerror or 'read error'}); choose another file."
        ) from None
    except Exception as problem:  # a file of chance can end in nearly any exception of pickle, zip, or torch
        named = re.search(r"GLOBAL (?:builtins\.)?([\w.]{1,80})", str(problem))
        if named:
            raise PerfusionError(
                f"{path} wants to use {named[1]}, but only tensors and plain containers are read from a pickle; nothing"
                " in it was run, so get the file from its author in another form or leave it."
            ) from None
        raise PerfusionError(
            f"{path} was expected to be a concept of another program (.ckpt or .pt), but PyTorch cannot read it"
            f" ({type(problem).__name__}); get the file again or choose another."
        ) from None
