"""Every kind of value that a result may hold, as JSON."""

import enum
import json
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
import torch

import loopscope as ls
from loopscope.common.to_json import to_json


class Colour(enum.Enum):
    red = "It is red."


class Small(enum.IntEnum):
    one = 1


class Pair(NamedTuple):
    a: int
    b: float


@dataclass(frozen=True)
class Part:
    values: torch.Tensor
    inner: Pair


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        ("text", "text"),
        (3, 3),
        (0.5, 0.5),
        (math.nan, None),
        (-math.inf, None),
        (1 + 2j, [1.0, 2.0]),
        (range(3), [0, 1, 2]),
        (Pair(1, math.inf), [1, None]),
        ({2: (1, 2)}, {"2": [1, 2]}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Colour.red, {"name": "red", "sentence": "It is red."}),
        (Small.one, {"name": "one", "sentence": "1"}),
        (torch.tensor([1.5, math.nan], dtype=torch.bfloat16), [1.5, None]),
        (torch.tensor([[True]]), [[True]]),
        (torch.tensor(3), 3),
        (np.float32(0.5), 0.5),
        (np.float64(math.inf), None),
        (np.int64(2), 2),
        (np.array([1.0, math.nan]), [1.0, None]),
        (np.complex128(1j), [0.0, 1.0]),
        (np.str_("a"), "a"),
        (torch.float32, "torch.float32"),
        (Part, str(Part)),
        (Part(torch.ones(2), Pair(1, 2.0)), {"values": [1.0, 1.0], "inner": [1, 2.0]}),
        (
            ls.States("x", {(0,): torch.zeros(1, 1)}, ("iteration", "batch", "width"), 1),
            {"iterations": [0], "axes": ("iteration", "batch", "width"), "values": [[[0.0]]]},
        ),
    ],
    ids=str,
)
def test_every_kind_of_value(value: object, expected: object):
    assert to_json(value) == expected
    json.dumps(to_json(value), allow_nan=False)


def test_a_class_registers_itself():
    class Known:
        pass

    @to_json.register
    def _(value: Known) -> object:
        return "known"

    assert to_json([Known()]) == ["known"]
