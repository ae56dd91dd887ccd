"""Values that a user may pass where something else is expected, for the law of bad input."""

import enum
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

BAD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "far below": lambda: -99,
    "a fraction": lambda: 1.5,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "a complex number": lambda: 1j,
    "a word": lambda: "nonsense",
    "an empty string": lambda: "",
    "a string with a null byte": lambda: "a\0b",
    "bytes": lambda: b"state",
    "an empty list": lambda: [],
    "a list of fractions": lambda: [1.5],
    "a list of words": lambda: ["nonsense"],
    "a nested list": lambda: [[0, 1], [2]],
    "an empty dict": lambda: {},
    "a dict": lambda: {"a": 1},
    "a set": lambda: {1, 2},
    "an object": lambda: object(),
    "a class": lambda: dict,
    "a function": lambda: lambda *args, **kwargs: None,
    "a function that fails": lambda: _fails,
    "a generator": lambda: _counting(),
    "an ellipsis": lambda: ...,
    "a backward slice": lambda: slice(3, 1, -1),
    "a slice of words": lambda: slice("a", "b"),
    "a missing path": lambda: Path("no such folder") / "no such file.safetensors",
    "the root folder": lambda: Path(os.sep),
    "an empty tensor": lambda: torch.empty(0),
    "a vector": lambda: torch.ones(3),
    "a matrix of NaN": lambda: torch.full((2, 2), float("nan")),
    "a complex tensor": lambda: torch.ones(2, 2, dtype=torch.complex64),
    "a tensor without data": lambda: torch.ones(2, 2, device="meta"),
    "a sparse tensor": lambda: torch.eye(2).to_sparse(),
    "an array of objects": lambda: np.array([None, "a"], dtype=object),
    "an array of strings": lambda: np.array(["a", "b"]),
    "a member of an enumeration": lambda: _Colour.RED,
    "a module": lambda: torch.nn.Linear(2, 2),
}
"""By name, a function that makes the value anew: an earlier call can't have changed it."""

SAME: dict[str, tuple[Callable[[], Any], Any]] = {
    "an integer of NumPy": (lambda: np.int64(1), 1),
    "a small integer of NumPy": (lambda: np.int8(-1), -1),
    "an integer of PyTorch": (lambda: torch.tensor(2), 2),
    "an array of integers": (lambda: np.array([0, 1]), [0, 1]),
    "a tensor of integers": (lambda: torch.tensor([1, 0]), [1, 0]),
    "a range": (lambda: range(2), [0, 1]),
    "a tuple": (lambda: (0, 1), [0, 1]),
    "a number of NumPy": (lambda: np.float64(0.5), 0.5),
    "a number of PyTorch": (lambda: torch.tensor(0.25), 0.25),
    "True of NumPy": (lambda: np.True_, True),
    "a string of NumPy": (lambda: np.str_("state"), "state"),
}
"""By name, a value and the canonical form that it must mean wherever it is accepted."""


class _Colour(enum.Enum):
    RED = "red"


def _fails(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("the caller's own function failed")


def _counting() -> Iterator[int]:
    yield from (0, 1)
