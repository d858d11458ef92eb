"""The recogniser: a small network that reads what a picture of the demo world shows, and measures likeness.

It reads the attributes of a scene (category, colour, pattern, background, accessory, second object and its colour),
gives an embedding of the main object's individual look, and predicts where its body is.  Two instruments for likeness
build on it: the cosine of embeddings, and the match of the colour histograms inside the body, which depends on no
learned likeness.

The names of the attributes are kept in the file of weights, so that this module needs neither the world nor the host.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHTS = Path(__file__).parent / "weights" / "recogniser.safetensors"
SIZE = 128  # side of the pictures, in pixels
EMBEDDING = 48  # width of the look's embedding
MASK_SIZE = 32  # side of the predicted body mask
WIDTH = 96  # channels of the features that are attended to
GRID = 16  # side of those features
MAPS = 2  # attention maps for an attribute
LOOK_MAPS = 4  # attention maps for the embedding
LEVELS = 6  # levels of each colour channel in a histogram
CHUNK = 64  # pictures read at once


@dataclass(frozen=True)
class Reading:
    """What the recogniser sees in one picture.

    `second` is "none" where there is no second object, and `second_colour` is then empty.  `colour` and `pattern` say
    nothing about looks that words cannot describe.  `confidences` holds the probability of every value read, 0..1.
    """

    category: str
    colour: str
    pattern: str
    background: str
    accessory: str
    second: str
    second_colour: str
    confidences: Mapping[str, float]


@dataclass(frozen=True)
class Likeness:
    """How much pictures are like their references: `look`, cosine of the embeddings (-1..1), and `colours`, share of
    the body's colours that match (0..1); both [B]."""

    look: Tensor
    colours: Tensor


def convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution, normalised over the batch and rectified."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()
    )


class Residual(nn.Module):
    """x plus `depth` convolutions of x."""

    def __init__(self, channels: int, depth: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(convolution(channels, channels) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Recogniser(nn.Module):
    """Convolutions to a 16 x 16 grid of features, which every attribute pools with attention of its own.

    Attention with positions, and not a mean over the picture, lets the heads of the main and of the second object
    look at different places.  attributes: the values that each attribute can take, by its name."""

    def __init__(self, attributes: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.attributes = {name: tuple(values) for name, values in attributes.items()}
        self.fine = nn.Sequential(nn.PixelUnshuffle(2), convolution(12, 32, stride=2), Residual(32))  # 32 x 32
        self.middle = nn.Sequential(convolution(32, 64, stride=2), Residual(64, depth=2))  # 16 x 16
        self.coarse = nn.Sequential(convolution(64, 72, stride=2), Residual(72))  # 8 x 8
        self.merge = nn.Conv2d(64 + 72, WIDTH, 1)
        self.rows = nn.Parameter(torch.randn(WIDTH, GRID, 1) * 0.1)
        self.columns = nn.Parameter(torch.randn(WIDTH, 1, GRID) * 0.1)
        self.attention = nn.Conv2d(WIDTH, MAPS * len(self.attributes) + LOOK_MAPS, 1)
        self.heads = nn.ModuleDict(
            {name: nn.Linear((MAPS + 1) * WIDTH, len(values)) for name, values in self.attributes.items()}
        )
        self.look = nn.Linear(LOOK_MAPS * WIDTH, EMBEDDING)
        self.body = nn.Sequential(convolution(32 + 16, 16), nn.Conv2d(16, 1, 1))
        self.body_context = nn.Conv2d(WIDTH, 16, 1)

    def forward(self, pictures: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Logits of every attribute [B, values], embeddings of length 1 [B, EMBEDDING] and logits of the body mask
        [B, MASK_SIZE, MASK_SIZE] of pictures [B, 3, SIZE, SIZE] in 0..1."""
        fine = self.fine((pictures * 4 - 2).contiguous(memory_format=torch.channels_last))
        middle = self.middle(fine)
        coarse = F.interpolate(self.coarse(middle), scale_factor=2.0, mode="nearest")
        features = F.relu(self.merge(torch.cat((middle, coarse), dim=1)) + self.rows + self.columns)
        weights = self.attention(features).float().flatten(2).softmax(dim=-1)
        pooled = weights @ features.float().flatten(2).transpose(1, 2)  # [B, maps, WIDTH]
        mean = features.float().mean(dim=(2, 3))
        logits = {
            name: head(torch.cat((pooled[:, MAPS * i : MAPS * (i + 1)].flatten(1), mean), dim=1))
            for i, (name, head) in enumerate(self.heads.items())
        }
        look = F.normalize(self.look(pooled[:, -LOOK_MAPS:].flatten(1)).float(), dim=-1)
        context = F.interpolate(self.body_context(features), scale_factor=2.0, mode="nearest")
        return logits, look, self.body(torch.cat((fine, context), dim=1)).squeeze(1)

    @torch.no_grad()
    def read(self, pictures: Tensor) -> list[Reading]:
        """Read pictures, [B, 3, SIZE, SIZE] or [B, SIZE, SIZE, 3] in 0..1.  Raises ValueError on another shape."""
        parts = [self(chunk)[0] for chunk in self._chunks(pictures)]
        found = {
            name: torch.cat([part[name] for part in parts]).float().softmax(dim=-1).max(dim=-1)
            for name in self.attributes
        }
        confidences = {name: best.values.tolist() for name, best in found.items()}
        values = {name: [self.attributes[name][i] for i in best.indices.tolist()] for name, best in found.items()}
        readings = []
        for i in range(len(pictures)):
            seen = {name: values[name][i] for name in self.attributes}
            if seen["second"] == "none":
                seen["second_colour"] = ""
            readings.append(Reading(**seen, confidences={name: confidences[name][i] for name in self.attributes}))
        return readings

    @torch.no_grad()
    def embed(self, pictures: Tensor) -> Tensor:
        """Embeddings of the main object's look, [B, EMBEDDING] of length 1; pictures as in `read`."""
        return torch.cat([self(chunk)[1] for chunk in self._chunks(pictures)])

    @torch.no_grad()
    def body_mask(self, pictures: Tensor) -> Tensor:
        """Probability that a pixel shows the main object itself (not its accessory), [B, SIZE, SIZE]; pictures as in
        `read`."""
        masks = torch.cat([self(chunk)[2].float().sigmoid() for chunk in self._chunks(pictures)])
        return F.interpolate(masks[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]

    def likeness(self, pictures: Tensor, reference_pictures: Tensor, reference_masks: Tensor | None = None) -> Likeness:
        """Likeness of pictures [B, ...] to a thing shown in reference_pictures [R, ...], all as in `read`.

        reference_masks: true masks of its body [R, SIZE, SIZE] in 0..1; predicted ones where None.
        """
        centre = F.normalize(self.embed(reference_pictures).mean(dim=0), dim=0)
        if reference_masks is None:
            reference_masks = self.body_mask(reference_pictures)
        reference = colour_histogram(reference_pictures, reference_masks).mean(dim=0)
        own = colour_histogram(pictures, self.body_mask(pictures))
        return Likeness(self.embed(pictures) @ centre, torch.minimum(own, reference.to(own)).sum(dim=-1))

    def candidates(self, pictures_of: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mean embedding of each look of which pictures are given, as `nearest` wants it."""
        return {name: F.normalize(self.embed(pictures).mean(dim=0), dim=0) for name, pictures in pictures_of.items()}

    def nearest(self, pictures: Tensor, candidates: Mapping[str, Tensor]) -> list[str]:
        """The name of the candidate look that each picture is most like by its embedding."""
        names = list(candidates)
        return [
            names[i] for i in (self.embed(pictures) @ torch.stack(list(candidates.values())).T).argmax(dim=-1).tolist()
        ]

    def is_thing(self, pictures: Tensor, name: str, candidates: Mapping[str, Tensor]) -> Tensor:
        """Whether each picture is more like the thing `name` than like any other candidate, bool [B]."""
        return torch.tensor([found == name for found in self.nearest(pictures, candidates)])

    def _chunks(self, pictures: Tensor) -> tuple[Tensor, ...]:
        weight = self.merge.weight
        return channels_first(pictures).to(weight.device, weight.dtype).split(CHUNK)


def channels_first(pictures: Tensor) -> Tensor:
    """Pictures [B, 3, SIZE, SIZE] or [B, SIZE, SIZE, 3] as [B, 3, SIZE, SIZE].  Raises ValueError on another shape."""
    if pictures.ndim == 4 and pictures.shape[1:] == (3, SIZE, SIZE):
        return pictures
    if pictures.ndim == 4 and pictures.shape[1:] == (SIZE, SIZE, 3):
        return pictures.movedim(-1, 1)
    raise ValueError(
        f"The recogniser reads pictures of shape [B, 3, {SIZE}, {SIZE}] or [B, {SIZE}, {SIZE}, 3], "
        f"but was given {list(pictures.shape)}; scale them first."
    )


def colour_histogram(pictures: Tensor, masks: Tensor) -> Tensor:
    """Soft RGB histograms [B, LEVELS ** 3], each with the sum 1, of what lies inside the masks.

    pictures as in `Recogniser.read`; masks [B, SIZE, SIZE] in 0..1.  A colour is shared among its neighbouring
    levels, so that a slight shift of colour costs little.  Pixels at the border of the mask, which mix two colours,
    count less."""
    pictures = F.avg_pool2d(channels_first(pictures).float(), 2).flatten(2)  # [B, 3, N]
    weights = F.avg_pool2d(masks[:, None].float(), 2).flatten(2).mul(2).sub(1).clamp(min=0).to(pictures)
    levels = torch.linspace(0, 1, LEVELS, device=pictures.device)[:, None]
    shares = (1 - (pictures[:, :, None] - levels).abs() * (LEVELS - 1)).clamp(min=0)  # [B, 3, LEVELS, N]
    red_green = (shares[:, 0, :, None] * shares[:, 1, None]).flatten(1, 2) * weights  # [B, LEVELS^2, N]
    histogram = (red_green @ shares[:, 2].transpose(1, 2)).flatten(1)
    return histogram / histogram.sum(dim=1, keepdim=True).clamp(min=1e-6)


def save_recogniser(recogniser: Recogniser, path: Path = WEIGHTS) -> None:
    """Write the weights in half precision, with the names of the attributes in the header."""
    from safetensors.torch import save_file

    tensors = {
        name: (tensor.detach().half() if tensor.is_floating_point() else tensor.detach()).contiguous().cpu()
        for name, tensor in recogniser.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path.with_suffix(".part"), metadata={"attributes": json.dumps(recogniser.attributes)})
    path.with_suffix(".part").replace(path)


def load_recogniser(path: Path = WEIGHTS) -> Recogniser:
    """The recogniser in the file `path`, on the CPU and ready to read.  Raises FileNotFoundError where there is
    none."""
    from safetensors import safe_open

    if not path.is_file():
        raise FileNotFoundError(
            f"No recogniser was found in {path}: make it with `python demo/making/run.py train_recogniser`."
        )
    with safe_open(path, framework="pt") as file:
        recogniser = Recogniser(json.loads(file.metadata()["attributes"]))
        recogniser.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
    return recogniser.eval().requires_grad_(False)
