"""Load Concept Pictures: a folder of pictures, with masks and captions beside them, for the trainer.

The button that uploads pictures into such a folder is web/upload_pictures.js.
"""

from __future__ import annotations

import logging

from comfy_api.latest import io

from ..perfusion_core.errors import PerfusionError
from .declared import as_declared
from .host.old_hosts import search_aliases
from .host.picture_files import (
    INPUT_FOLDER,
    folder_state,
    picture_folder,
    picture_folders,
    picture_names,
    read_pictures,
    whole_input_folder,
)
from .host.progress import NodeProgress
from .types import CATEGORY

logger = logging.getLogger(__name__)


class LoadPictures(io.ComfyNode):
    """See the schema's description."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PerfusionLoadPictures",
            display_name="Load Concept Pictures",
            category=CATEGORY,
            description="Loads pictures of any sizes from a folder below ComfyUI's input folder as lists, for Train "
            "Perfusion Concept; with masks (photo.mask.png) and captions (photo.txt) that lie beside them.",
            **search_aliases("load folder", "load images", "training pictures", "dataset", "load photos"),
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=picture_folders(),
                    default=INPUT_FOLDER,
                    tooltip="A folder below ComfyUI's input folder: upload pictures into one by the button below, or "
                    "make one and press R. Pictures of Load Image lie in the input folder itself; name them below.",
                ),
                io.String.Input(
                    "names",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Which pictures to take, one name a line, in which * stands for anything: IMG_20*. Empty "
                    "takes all.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Image.Output(
                    display_name="images", is_output_list=True, tooltip="The pictures, upright, each in its own size."
                ),
                io.Mask.Output(
                    display_name="masks",
                    is_output_list=True,
                    tooltip="The mask beside each picture, or its alpha channel; white where the thing is. Black where "
                    "there is none, which the trainer takes for no mask.",
                ),
                io.String.Output(
                    display_name="captions", is_output_list=True, tooltip="The caption beside each picture, or nothing."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, folder: str | None = None) -> bool | str:
        """The list may have grown since it was shown; of a folder that is linked nothing is known yet."""
        try:
            if folder is not None:
                picture_folder(folder)
        except PerfusionError as problem:
            return str(problem)
        return True

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = None, names: str | None = "") -> list[str]:
        """Another one when a file changed, so that the node runs again; in any folder, where its name is linked."""
        folders = picture_folders() if folder is None else [folder]
        return [folder_state(picture_folder(one), names or "") for one in folders]

    @classmethod
    @as_declared
    def execute(cls, folder: str, names: str = "") -> io.NodeOutput:
        path = picture_folder(folder)
        loaded = read_pictures(path, picture_names(path, names or ""))
        told = [whole_input_folder(path, names or "", len(loaded.pictures)), loaded.summary()]
        NodeProgress(1, cls.hidden.unique_id).say(" · ".join(part for part in told if part))
        if loaded.skipped:
            logger.warning("Of the folder %s there were skipped: %s.", folder, "; ".join(loaded.skipped))
        return io.NodeOutput(loaded.pictures, loaded.masks, loaded.captions)
