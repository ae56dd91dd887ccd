"""Damage to files: changes of bytes, as disks and transfers make them, and of what the header says,
as a wrong program makes them. All of them follow from a seed."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file as save_packed

HOSTILE: list[Any] = [
    None, True, -1, 0, 3, 2**53, 2**64, -(2**70), 10**30, 0.5, float("nan"), float("inf"), 1e308,
    "", "x", "state", "../../etc/passwd", "\ud800", "\0", "é" * 300,
    [], [[]], {}, {"": None}, {"part": "Fixed"}, {"part": []}, [1, 2], [0, 10**12], ["batch"] * 9,
    {"a": {"a": {"a": {}}}}, [[[[[[[[1]]]]]]]],
]  # fmt: skip
"""Values that a header should not have just anywhere."""


def deep(depth: int) -> Any:
    """Lists inside each other."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


# Bytes


def flipped(data: bytes, draw: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        result[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(result)


def flipped_in_the_header(data: bytes, draw: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    result = bytearray(data)
    result[draw.randrange(8 + length)] ^= 1 << draw.randrange(8)
    return bytes(result)


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.choice([0, 1, 8, 9, len(data) - 1, draw.randrange(len(data))])]


def lengthened(data: bytes, draw: random.Random) -> bytes:
    return data + draw.randbytes(draw.choice([1, 64, 500]))


def swapped(data: bytes, draw: random.Random) -> bytes:
    size = draw.choice([1, 4, 64, 512])
    a, b = sorted(draw.randrange(max(1, len(data) - size)) for _ in range(2))
    b = max(b, a + size)
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def overwritten(data: bytes, draw: random.Random) -> bytes:
    size, at = draw.choice([1, 8, 512]), draw.randrange(len(data))
    filler = draw.choice([bytes(size), b"\xff" * size, draw.randbytes(size)])
    return (data[:at] + filler + data[at + size :])[: len(data)]


# The header


def paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values inside a JSON value."""
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value)) if isinstance(value, list) else []
    return [above, *(path for key, one in inner for path in paths(one, (*above, key)))]


def edited(value: Any, draw: random.Random) -> Any:
    """A JSON value with one place of it removed, renamed, doubled or replaced."""
    result = json.loads(json.dumps(value))
    places = [path for path in paths(result) if path]
    if not places:
        return draw.choice(HOSTILE)
    path = draw.choice(places)
    holder = result
    for key in path[:-1]:
        holder = holder[key]
    last, kind = path[-1], draw.choice(["remove", "rename", "replace", "replace", "replace", "deepen"])
    if kind == "remove":
        del holder[last]
    elif kind == "rename" and isinstance(holder, dict):
        holder[draw.choice(["x", "", "kind", "é", last + "/0"])] = holder.pop(last)
    else:
        holder[last] = deep(300) if kind == "deepen" else draw.choice(HOSTILE)
    return result


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _joined(entries: Any, rest: bytes) -> bytes:
    content = json.dumps(entries).encode()
    return struct.pack("<Q", len(content)) + content + rest


def header_edited(data: bytes, draw: random.Random) -> bytes:
    """What loopscope wrote into the header is another, the rest is the same."""
    entries, rest = _split(data)
    header = json.loads(entries["__metadata__"]["loopscope"])
    entries["__metadata__"]["loopscope"] = json.dumps(edited(header, draw))
    return _joined(entries, rest)


def layout_edited(data: bytes, draw: random.Random) -> bytes:
    """Anything at all in safetensors' own header is another."""
    entries, rest = _split(data)
    return _joined(edited(entries, draw), rest)


# Tensors, in a file that is whole


def tensors_changed(data: bytes, draw: random.Random, folder: Path) -> bytes:
    """A tensor is missing, has another name, shape, type or number, or is there twice; safetensors
    itself finds nothing wrong."""
    path = folder / "changed.safetensors"
    path.write_bytes(data)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    name = draw.choice(sorted(tensors))
    value = tensors.pop(name)
    kind = draw.choice(["drop", "rename", "reshape", "retype", "change", "add", "exchange"])
    if kind == "rename":
        tensors[draw.choice(["x", name + "/0", "weights.x", "0/x", "1/2/3/4", "é"])] = value
    elif kind == "reshape":
        tensors[name] = value.reshape(-1)[: max(0, value.numel() - draw.randrange(2))].clone()
    elif kind == "retype":
        tensors[name] = value.to(draw.choice([torch.float64, torch.float16, torch.int64, torch.bool]))
    elif kind == "change":
        tensors[name] = value + 1 if value.dtype != torch.bool else ~value
    elif kind == "add":
        tensors |= {name: value, "more": torch.zeros(2)}
    elif kind == "exchange" and tensors:
        other = draw.choice(sorted(tensors))
        tensors[name], tensors[other] = tensors[other].clone(), value
    save_packed(tensors, path, metadata=metadata)
    return path.read_bytes()


BYTES: list[Callable[[bytes, random.Random], bytes]] = [
    flipped, flipped_in_the_header, cut, lengthened, swapped, overwritten, header_edited, layout_edited,
]  # fmt: skip


def damaged(data: bytes, number: int, folder: Path) -> tuple[str, bytes]:
    """The n-th damage of a file: its kind, and the bytes."""
    draw = random.Random(number)
    kind = number % (len(BYTES) + 1)
    if kind == len(BYTES):
        return "tensors_changed", tensors_changed(data, draw, folder)
    return BYTES[kind].__name__, BYTES[kind](data, draw)
