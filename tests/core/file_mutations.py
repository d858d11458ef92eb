"""Ways in which a concept file can be wrong: each takes a source of chance and a whole file, and returns another.

Everything follows from the seed, so a file that fails can be made again by its family and number.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
from collections.abc import Callable

import safetensors.torch
import torch

Mutation = Callable[[random.Random, bytes], bytes]
FAMILIES: dict[str, tuple[int, Mutation]] = {}

NUMBERS = [0, -1, 1, 2, 3, 7, 64, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**300, 10**4000]
ODD_VALUES = [None, True, False, 1.5, -0.0, 1e308, "16", "", [], [[]], {}, {"a": 1}, "\ud800", float("nan")]
DTYPES = ["F16", "F32", "F64", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "C64", "f32", "", "F" * 5000]
TEXTS = [
    *["", " ", "\n", "\0", "null", "nan", "inf", "-inf", "1e999", "-1", "0", "1", "2", "16", "1_6", "0x10", " 16 "],
    *["9" * 30, "9" * 4000, "9" * 6000, "1e-400", "-0", "true", "[]", "{}", "[1]", '"text"', '{"a": NaN}'],
    *["\u0663", "²"],
    *["a\nb", "a\x1b[31mb", "\u202eabc", "\ud800", "é", "größe", "<a>", "<a b>", "<<a>>", "x" * 5000, "<" + "x" * 5000],
    *["[" * 2000, "[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, '{"a":' * 300 + "1" + "}" * 300],
    *['{"a": 1, "a": 2}', '{"\\ud800": "\\udfff"}', '{"a": 1e400}', '{"a": ' + "9" * 5000 + "}", '{"date": "\\n"}'],
    *["data:image/jpeg;base64,", "data:image/jpeg;base64,%%", "data:image/jpeg;base64,AAAA", "gated", "paper", "PAPER"],
    "data:image/jpeg;base64,/9j/" + "A" * 100_000,
]


def family(count: int) -> Callable[[Mutation], Mutation]:
    """Count the function below among the families, with so many mutations."""

    def register(mutation: Mutation) -> Mutation:
        FAMILIES[mutation.__name__] = (count, mutation)
        return mutation

    return register


def packed(header: object, data: bytes, length: int | None = None) -> bytes:
    """Return a file with this header, a thing for JSON or raw bytes, and this or the true length of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def unpacked(content: bytes) -> tuple[dict, bytes]:
    """Return the header and the numbers of a whole file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def tensor_names(header: dict) -> list[str]:
    """Return the names in the header that stand for tensors."""
    return [name for name in header if name != "__metadata__"]


def all_tensors(content: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a whole file."""
    return safetensors.torch.load(content), unpacked(content)[0]["__metadata__"]


# --- bytes ---------------------------------------------------------------------------------------------------------


@family(1000)
def truncated(chance: random.Random, good: bytes) -> bytes:
    return good[: chance.randrange(len(good))]


@family(200)
def with_more_behind(chance: random.Random, good: bytes) -> bytes:
    return good + chance.randbytes(chance.choice([1, 2, 8, 100, 5000]))


@family(1500)
def flipped_bits(chance: random.Random, good: bytes) -> bytes:
    changed = bytearray(good)
    for _ in range(chance.choice([1, 1, 2, 8])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


@family(1500)
def other_bytes_in_header(chance: random.Random, good: bytes) -> bytes:
    """Signs that mean something in JSON, and bytes that are no UTF-8, anywhere in the header."""
    changed = bytearray(good)
    end = 8 + int.from_bytes(good[:8], "little")
    for _ in range(chance.choice([1, 1, 2, 5])):
        changed[chance.randrange(8, end)] = chance.choice(b'"\\{}[],:0123456789-.eEnt \n\0\xff\xc3\x80')
    return bytes(changed)


@family(300)
def moved_pieces(chance: random.Random, good: bytes) -> bytes:
    """A piece cut out, doubled, or put elsewhere."""
    begin = chance.randrange(len(good))
    end = min(len(good), begin + chance.randrange(1, 200))
    piece, rest = good[begin:end], good[:begin] + good[end:]
    if chance.random() < 0.3:
        return rest
    base = rest if chance.random() < 0.5 else good
    place = chance.randrange(len(base) + 1)
    return base[:place] + piece + base[place:]


@family(300)
def lying_length(chance: random.Random, good: bytes) -> bytes:
    """Huge and slightly wrong lengths of the header."""
    true = int.from_bytes(good[:8], "little")
    near = true + chance.choice([-100, -8, -2, -1, 1, 2, 8, 100])
    length = chance.choice([near, 0, 1, 2, len(good), len(good) - 8, 1 << 20, 1 << 30, 1 << 40, 2**63, 2**64 - 1])
    return struct.pack("<Q", max(0, length)) + good[8:]


# --- what the header says of the tensors ---------------------------------------------------------------------------


def _change_entry(chance: random.Random, good: bytes, change: Callable[[dict], None]) -> bytes:
    header, data = unpacked(good)
    for name in chance.sample(tensor_names(header), chance.choice([1, 1, 2])):
        change(header[name])
    return packed(header, data)


@family(900)
def lying_shape(chance: random.Random, good: bytes) -> bytes:
    def change(entry: dict) -> None:
        shape = list(entry["shape"])
        kind = chance.randrange(6)
        if kind == 0:
            shape[chance.randrange(len(shape))] = chance.choice(NUMBERS)
        elif kind == 1:
            shape.insert(chance.randrange(len(shape) + 1), chance.choice([1, 1, 0, *NUMBERS]))
        elif kind == 2:
            shape[chance.randrange(len(shape))] = chance.choice(ODD_VALUES)
        elif kind == 3:
            shape = chance.choice([*ODD_VALUES, *NUMBERS])
        elif kind == 4:
            shape = [chance.choice([1, 1, 2, 10**4000])] * chance.choice([2, 9, 100, 3000]) + shape
        else:
            chance.shuffle(shape)
            shape = [size * 2 for size in shape[:1]] + shape[1:]
        entry["shape"] = shape

    return _change_entry(chance, good, change)


@family(500)
def lying_dtype(chance: random.Random, good: bytes) -> bytes:
    def change(entry: dict) -> None:
        entry["dtype"] = chance.choice([*DTYPES, *ODD_VALUES])

    return _change_entry(chance, good, change)


@family(700)
def lying_offsets(chance: random.Random, good: bytes) -> bytes:
    """Overlaps, gaps, reversed and huge places."""

    def change(entry: dict) -> None:
        offsets = list(entry["data_offsets"])
        kind = chance.randrange(5)
        if kind == 0:
            offsets[chance.randrange(2)] += chance.choice([-8, -4, -1, 1, 4, 8])
        elif kind == 1:
            offsets[chance.randrange(2)] = chance.choice([*NUMBERS, *ODD_VALUES])
        elif kind == 2:
            offsets.reverse()
        elif kind == 3:
            step = chance.choice([-64, -4, 4, 64, 2**40])
            offsets = [offset + step for offset in offsets]
        else:
            offsets = chance.choice([[], [0], [0, 4, 8], "ab", {"0": 1, "1": 2}, 5, None])
        entry["data_offsets"] = offsets

    return _change_entry(chance, good, change)


@family(200)
def shared_places(chance: random.Random, good: bytes) -> bytes:
    """Two tensors in one place, or two that change places."""
    header, data = unpacked(good)
    one, other = chance.sample(tensor_names(header), 2)
    here, there = header[one], header[other]
    if chance.random() < 0.5:
        here["data_offsets"] = there["data_offsets"]
    else:
        here["data_offsets"], there["data_offsets"] = there["data_offsets"], here["data_offsets"]
    return packed(header, data)


@family(300)
def entries_of_another_kind(chance: random.Random, good: bytes) -> bytes:
    header, data = unpacked(good)
    name = chance.choice(list(header))
    if chance.random() < 0.5:
        header[name] = chance.choice(ODD_VALUES)
    elif name != "__metadata__":
        field = chance.choice(list(header[name]))
        header[name].pop(field)
        if chance.random() < 0.5:
            header[name][field.upper()] = 1
    return packed(header, data)


# --- tensors -------------------------------------------------------------------------------------------------------


@family(400)
def true_other_shape(chance: random.Random, good: bytes) -> bytes:
    """A whole file, in which a tensor has another shape than a concept needs."""
    tensors, metadata = all_tensors(good)
    name = chance.choice(sorted(tensors))
    shapes = [(), (0,), (1,), (3,), (1, 1), (2, 3), (0, 4), (4, 0), (1, 2, 3), (1,) * 8, (1,) * 60, (4096,)]
    tensors[name] = torch.ones(chance.choice(shapes))
    return safetensors.torch.save(tensors, metadata)


@family(300)
def true_other_dtype(chance: random.Random, good: bytes) -> bytes:
    tensors, metadata = all_tensors(good)
    name = chance.choice(sorted(tensors))
    dtypes = [torch.float16, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.int8]
    tensors[name] = tensors[name].to(chance.choice(dtypes))
    return safetensors.torch.save(tensors, metadata)


@family(600)
def strange_numbers(chance: random.Random, good: bytes) -> bytes:
    tensors, metadata = all_tensors(good)
    for name in chance.sample(sorted(tensors), chance.choice([1, 2, len(tensors)])):
        flat = tensors[name].view(-1)
        strange = chance.choice([float("nan"), float("inf"), -float("inf"), 0.0, 1e-40, 65504.0, -65504.0])
        flat = flat[:4].view(torch.float32) if flat.dtype == torch.uint8 else flat  # of a vector in bytes, its scale
        flat[chance.randrange(len(flat)) if chance.random() < 0.7 else slice(None)] = strange
    return safetensors.torch.save(tensors, metadata)


@family(400)
def missing_tensors(chance: random.Random, good: bytes) -> bytes:
    tensors, metadata = all_tensors(good)
    for name in chance.sample(sorted(tensors), chance.randrange(1, len(tensors))):
        del tensors[name]
    return safetensors.torch.save(tensors, metadata)


@family(400)
def extra_and_renamed_tensors(chance: random.Random, good: bytes) -> bytes:
    names = ["", "value.", "superclass.", "value.value.", "superclass.superclass.clip_l", "clip_g", "superclass.clip_g"]
    names += [
        "value.x",
        "value.../../x",
        "x" * 5000,
        "a\nb",
        "\x1b[31m",
        "\u043a\u043b\u044e\u0447",
        "target_input ",
        "__proto__",
        "emb_params",
    ]
    tensors, metadata = all_tensors(good)
    new = chance.choice(names)
    if chance.random() < 0.5:
        tensors[new] = torch.ones(chance.choice([(4,), (1, 8), (1,), (0,)]))
    else:
        tensors[new] = tensors.pop(chance.choice(sorted(tensors)))
    return safetensors.torch.save(tensors, metadata)


# --- settings ------------------------------------------------------------------------------------------------------


@family(1200)
def strange_settings(chance: random.Random, good: bytes) -> bytes:
    header, data = unpacked(good)
    metadata = header["__metadata__"]
    for name in chance.sample(sorted(metadata), chance.choice([1, 1, 1, 3])):
        metadata[name] = chance.choice(TEXTS)
    return packed(header, data)


@family(300)
def missing_settings(chance: random.Random, good: bytes) -> bytes:
    header, data = unpacked(good)
    metadata = header["__metadata__"]
    for name in chance.sample(sorted(metadata), chance.randrange(1, len(metadata))):
        del metadata[name]
    if chance.random() < 0.3:
        metadata[chance.choice(["perfusion.extra", "x" * 3000, "\ud800", ""])] = chance.choice([*TEXTS, *ODD_VALUES])
    return packed(header, data)


# --- JSON ----------------------------------------------------------------------------------------------------------


@family(300)
def doubled_names(chance: random.Random, good: bytes) -> bytes:
    """A JSON name given twice: of a tensor, of a setting, or of a field of a tensor."""
    header, data = unpacked(good)
    text = json.dumps(header, separators=(",", ":"))
    name = chance.choice([*header, *header["__metadata__"], "dtype", "shape", "data_offsets"])
    other = chance.choice(['{"dtype":"F32","shape":[1],"data_offsets":[0,4]}', '"1"', "[]", "{}", '"F32"'])
    found = text.find(json.dumps(name) + ":")
    return packed((text[:found] + json.dumps(name) + ":" + other + "," + text[found:]).encode(), data)


@family(150)
def deep_json(chance: random.Random, good: bytes) -> bytes:
    header, data = unpacked(good)
    depth = chance.choice([10, 500, 900, 1000, 5000, 100_000])
    opening, closing = chance.choice([("[", "]"), ('{"a":', "}")])
    deep = opening * depth + ("1" if opening != "[" else "") + (closing * depth if chance.random() < 0.7 else "")
    if chance.random() < 0.4:
        return packed(deep.encode(), data)
    text = json.dumps(header)
    field = chance.choice(['"shape": ', '"dtype": ', '"perfusion.training": ', '"__metadata__": '])
    return packed(text.replace(field, field + deep + ', "old": ', 1).encode(), data)


@family(200)
def other_encodings(chance: random.Random, good: bytes) -> bytes:
    header, data = unpacked(good)
    header["__metadata__"]["perfusion.superclass"] = chance.choice(["bär", "\u718a", "bear"])
    text = json.dumps(header, ensure_ascii=False)
    encoding = chance.choice(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "utf-7"])
    return packed(text.encode(encoding, "replace"), data)


@family(100)
def padding(chance: random.Random, good: bytes) -> bytes:
    """Blanks around the header, and things behind it."""
    header, data = unpacked(good)
    text = json.dumps(header).encode()
    filler = chance.choice([b" ", b"\n", b"\0", b"\t", b"{}"]) * chance.choice([1, 8, 5000])
    return packed(text + filler if chance.random() < 0.5 else filler + text, data)


@family(60)
def very_long_header(chance: random.Random, good: bytes) -> bytes:
    """Within the million bytes that a header may have, and beyond."""
    kind = chance.randrange(4)
    long = chance.choice([200_000, 900_000, 1_100_000])
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    if kind == 0:
        shape = ",".join(["9"] * (long // 2))
        return packed(('{"a":{"dtype":"F32","shape":[' + shape + '],"data_offsets":[0,4]}}').encode(), b"1234")
    if kind == 1:
        return packed(("{" + ",".join(f'"{n}":{entry}' for n in range(long // 60)) + "}").encode(), b"1234")
    if kind == 2:
        return packed(('{"' + "x" * long + '":' + entry + "}").encode(), b"1234")
    header, data = unpacked(good)
    header["__metadata__"][chance.choice(["perfusion.word", "perfusion.training", "perfusion.form"])] = "1" * long
    return packed(header, data)


# --- other files ---------------------------------------------------------------------------------------------------


@family(300)
def files_of_other_programs(chance: random.Random, good: bytes) -> bytes:
    """LoRA, textual inversion, checkpoint, statistics, pickle, archive, picture, text, random bytes."""
    rank, width = chance.choice([1, 4]), chance.choice([4, 8])
    ups, downs = torch.randn(width, rank), torch.randn(rank, width)
    metadata = chance.choice([None, {"ss_network_dim": "4"}, {"format": "pt"}, {"modelspec.title": "a"}])
    archive = io.BytesIO()
    torch.save({"string_to_param": {"*": torch.ones(1, 4)}}, archive)
    choices = [
        safetensors.torch.save({"lora_unet_a.lora_up.weight": ups, "lora_unet_a.lora_down.weight": downs}, metadata),
        safetensors.torch.save({"t.0.lora_A.weight": downs, "t.0.lora_B.weight": ups}, metadata),
        safetensors.torch.save({"emb_params": ups}, metadata),
        safetensors.torch.save({"clip_l": ups, "clip_g": torch.ones(1, 12)}, metadata),
        safetensors.torch.save({"model.diffusion_model.out.2.bias": torch.ones(4)}, metadata),
        safetensors.torch.save({"inverse": ups}, {"perfusion.format": "perfusion-text-statistics"}),
        safetensors.torch.save({}, metadata),
        archive.getvalue(),
        pickle.dumps({1: io.BytesIO}, protocol=chance.choice([0, 2, 4])),
        b"GGUF" + chance.randbytes(200),
        b"\xff\xd8\xff\xe0" + chance.randbytes(300),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 61440\n",
        chance.randbytes(chance.randrange(300)),
        b"",
    ]
    return chance.choice(choices)


@family(150)
def two_files_in_one(chance: random.Random, good: bytes) -> bytes:
    """The header of one concept over the numbers of another file."""
    tensors, metadata = all_tensors(good)
    key = chance.choice(["clip_l", "superclass.clip_l", "target_input"])
    tensors[key] = torch.cat([tensors[key], tensors[key]])
    header, data = unpacked(safetensors.torch.save(tensors, metadata))
    own_header, own_data = unpacked(good)
    return packed(header, own_data) if chance.random() < 0.5 else packed(own_header, data)
