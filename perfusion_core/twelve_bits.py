"""Vectors in 12 bits a number: whole numbers from -2047 to 2047, times one scale for each vector.

What is lost is at most half a step, 1/4094 of the largest number of the vector, so of numbers of one size less than in
bfloat16 and more than in float16, in three quarters of the room of both.

Bytes of a vector: its scale, float32; then two numbers, each 2048 more than it is, in three bytes, lower bits first.
The scale is kept to 20 significant bits, so that what was read and is written again gives the same bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST = 2047
_OFFSET = 2048
_SCALE_BYTES = 4
_SCALE_BITS = 20
# Bytes on their way to numbers take twenty times their room; so few go that way at once.
_TRIPLES_AT_ONCE = 2**14
# A vector that is smaller than anything a model tells from zero; so no scale ends among the smallest float32 numbers.
_NOTHING = 2.0**-100


def to_twelve_bits(vector: Tensor) -> Tensor:
    """[d], finite -> its bytes, uint8 [4 + ceil(1.5 d)]."""
    scale = _scale(vector)
    numbers = torch.zeros(len(vector) + len(vector) % 2, dtype=torch.int32)
    if scale:
        numbers[: len(vector)] = (vector.double() / scale).round().clamp(-_LARGEST, _LARGEST).int()
    first, second = (numbers + _OFFSET).view(-1, 2).unbind(dim=1)
    triples = torch.stack([first & 255, (first >> 8) | ((second & 15) << 4), second >> 4], dim=1)
    own = triples.to(torch.uint8).flatten()[: (3 * len(vector) + 1) // 2]
    return torch.cat([torch.tensor([scale], dtype=torch.float32).view(torch.uint8), own])


def from_twelve_bits(packed: Tensor) -> Tensor:
    """The vector of these bytes, of a number that `width_of_bytes` knows: uint8 [n] -> float32 [d]."""
    scale = packed[:_SCALE_BYTES].clone().view(torch.float32).double()
    own = packed[_SCALE_BYTES:]
    vector = torch.empty(2 * len(own) // 3, dtype=torch.float32)
    for read, room in zip(own.split(3 * _TRIPLES_AT_ONCE), vector.split(2 * _TRIPLES_AT_ONCE), strict=True):
        low, middle, high = torch.nn.functional.pad(read.int(), (0, -len(read) % 3)).view(-1, 3).unbind(dim=1)
        numbers = torch.stack([low | ((middle & 15) << 8), (middle >> 4) | (high << 4)], dim=1).flatten()
        room.copy_((numbers[: len(room)] - _OFFSET).double() * scale)
    return vector


def width_of_bytes(count: int) -> int | None:
    """Of how many numbers a vector of so many bytes is; None where no vector has as many."""
    own = count - _SCALE_BYTES
    return None if own < 2 or own % 3 == 1 else 2 * own // 3


def in_twelve_bits(vector: Tensor) -> Tensor:
    """What 12 bits give back of a vector: finite [d] -> float32 [d]."""
    return from_twelve_bits(to_twelve_bits(vector))


def _scale(vector: Tensor) -> float:
    """The step between two numbers; 0 for a vector that is as good as 0."""
    step = vector.detach().abs().max().double() / _LARGEST
    if step < _NOTHING:
        return 0.0
    mantissa, exponent = torch.frexp(step)
    return torch.ldexp((mantissa * 2**_SCALE_BITS).round() / 2**_SCALE_BITS, exponent).item()
