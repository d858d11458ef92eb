"""Pictures, masks and captions as people connect them: batches, lists, lists of lists, with an alpha channel or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from .errors import PerfusionError

# What the host's loaders give for a picture that has no mask: zeros of this size, whatever the picture's own is.  Any
# black mask of another size than its picture's is taken for it.
NO_MASK_SIZE = (64, 64)

OPAQUE = 0.999  # an alpha channel that is nowhere below this marks nothing


def pictures_in(images: object) -> list[Tensor]:
    """The pictures of a batch [B, H, W, C], a picture [H, W, C], or lists of them in any nesting; C is 1, 3 or 4.

    Each comes as [H, W, C] with 3 or 4 channels.  Raises PerfusionError for what is none, and for none at all.
    """
    found = [_checked(picture, number) for number, picture in enumerate(_parts(images, 3, "images"), start=1)]
    if not found:
        raise PerfusionError("The images input needs at least one picture, but got none; connect some.")
    return found


def _checked(picture: Tensor, number: int) -> Tensor:
    height, width, channels = picture.shape
    if channels not in (1, 3, 4) or min(height, width) < 1:
        raise PerfusionError(
            f"The images input needs pictures [height, width, channels] of 1, 3 or 4 channels, but picture {number} is"
            f" {height} x {width} x {channels}; connect an IMAGE output."
        )
    if not picture.isfinite().all():
        raise PerfusionError(
            f"Picture {number} of the images input holds numbers that are not finite; look at it with Preview Image and"
            " mend or remove it."
        )
    return picture.expand(-1, -1, 3) if channels == 1 else picture


def masks_in(masks: object) -> list[Tensor]:
    """The masks of a batch [B, H, W], a mask [H, W], or lists of them in any nesting, each as [H, W]; None gives none.

    A single channel, [B, 1, H, W] or [B, H, W, 1], is taken as well.  Raises PerfusionError for what is no mask.
    """
    found = list(_parts(masks, 2, "masks"))
    for number, mask in enumerate(found, start=1):
        if not mask.isfinite().all():
            raise PerfusionError(
                f"Mask {number} of the masks input holds numbers that are not finite; paint it anew, or leave the input"
                " open."
            )
    return found


def _parts(given: object, dimensions: int, socket: str) -> Iterator[Tensor]:
    """The tensors of so many dimensions in it, whatever lists and batches they are in."""
    if given is None:
        return
    if isinstance(given, list | tuple):
        for part in given:
            yield from _parts(part, dimensions, socket)
        return
    if not isinstance(given, Tensor):
        raise PerfusionError(
            f"The {socket} input needs tensors of the host, but got {type(given).__name__}; connect an output of the"
            " socket's kind."
        )
    if dimensions == 2 and given.dim() == 4 and 1 in (given.shape[1], given.shape[3]):
        given = given.squeeze(1 if given.shape[1] == 1 else 3)
    if given.dim() not in (dimensions, dimensions + 1):
        raise PerfusionError(
            f"The {socket} input needs {'masks [B, H, W]' if dimensions == 2 else 'pictures [B, H, W, C]'}, but got a"
            f" tensor of shape {list(given.shape)}; "
            + ("use Convert Image to Mask." if dimensions == 2 else "connect an IMAGE output.")
        )
    yield from given[None] if given.dim() == dimensions else given


def masks_of(pictures: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor | None]:
    """The mask [h, w] of each picture [H, W, C], or None where it has none.

    As many masks as pictures are theirs, in their order.  Fewer leave the alpha channel of pictures that have one as
    their mask: one serves all the others, or there is one for each of the others.  Raises PerfusionError for any other
    number.
    """
    alphas = [_alpha(picture) for picture in pictures]
    given = [None if _is_stand_in(mask, picture) else mask for mask, picture in zip(masks, pictures, strict=False)]
    if len(masks) == len(pictures):
        return [alpha if mask is None else mask for mask, alpha in zip(given, alphas, strict=True)]
    if not masks:
        return alphas
    others = [number for number, alpha in enumerate(alphas) if alpha is None]
    if len(masks) not in (1, len(others)):
        transparent = f" ({len(alphas) - len(others)} have an alpha channel)" if len(others) < len(alphas) else ""
        raise PerfusionError(
            f"The masks input needs one mask for each of the {len(pictures)} pictures or one for all{transparent}, but"
            f" got {len(masks)}; connect as many masks as pictures."
        )
    spread = list(masks) if len(masks) == len(others) else [masks[0]] * len(others)
    found = list(alphas)
    for number, mask in zip(others, spread, strict=True):
        found[number] = None if _is_stand_in(mask, pictures[number]) else mask
    return found


def _alpha(picture: Tensor) -> Tensor | None:
    """The alpha channel of a picture, where it has one that marks anything."""
    if picture.shape[-1] != 4 or picture[..., 3].min() >= OPAQUE:
        return None
    return picture[..., 3]


def _is_stand_in(mask: Tensor, picture: Tensor) -> bool:
    return mask.shape != picture.shape[:2] and not mask.any()


def captions_in(captions: object, pictures: int) -> list[str]:
    """One caption for each picture, empty where it has none: from a list, or from a text with one line a picture.

    Raises PerfusionError for another number of them.
    """
    parts = list(_texts(captions))
    if len(parts) == 1 and pictures > 1:
        lines = [line.strip() for line in parts[0].strip("\n").split("\n")]
        parts = [line for line in lines if line] if len(lines) != pictures else lines
    parts = [" ".join(part.split()) for part in parts]
    if not any(parts):
        return []
    if len(parts) != pictures:
        raise PerfusionError(
            f"The captions input needs one caption for each of the {pictures} pictures, a list or a text with one line"
            f" a picture, but got {len(parts)}; leave a line empty where there is nothing to say."
        )
    return parts


def _texts(captions: object) -> Iterator[str]:
    if captions is None:
        return
    if isinstance(captions, list | tuple):
        for part in captions:
            yield from _texts(part)
        return
    yield str(captions)
