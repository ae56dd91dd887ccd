"""Findings: what an analysis says about a run. Small frozen results that hold numbers, never a model."""

import json
import math
import sys
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .states import States


class Verdict(Enum):
    """A conclusion as an enumeration: the value of each member is its sentence."""

    @property
    def sentence(self) -> str:
        return str(self.value)

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Finding:
    """Base of every result. A subclass is a frozen dataclass with a `verdict`, a shape beside each field, and `summary()`;
    its file holds `measure(run) -> result` and `draw(result) -> figure`."""

    def summary(self) -> str:
        """The result as a paragraph, with its thresholds."""
        raise NotImplementedError(f"{type(self).__name__} must say its summary().")

    def __str__(self) -> str:
        return self.summary()

    def figure(self) -> Any:
        """The plotly figure of this result."""
        return sys.modules[type(self).__module__].draw(self)

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain numbers, lists and strings; NaN and infinity become None, as JSON has neither."""
        found = {field.name: plain(getattr(self, field.name)) for field in fields(self)}
        return {"analysis": type(self).__module__.rsplit(".", 1)[-1], **found, "summary": self.summary()}

    def to_json(self, **options: Any) -> str:
        return json.dumps(self.to_dict(), allow_nan=False, **options)


def plain(value: Any) -> Any:
    """`value` as JSON can say it."""
    if isinstance(value, States):
        return {"iterations": value.iterations, "axes": value.axes, "values": plain(value.tensor)}
    if isinstance(value, Tensor):
        return plain(
            value.detach().cpu().to(torch.float64 if value.is_floating_point() else value.dtype).tolist()
        )
    if isinstance(value, Enum):
        return {"name": value.name, "sentence": str(value.value)}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, list | tuple | range):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return value if isinstance(value, str | int | bool | None) else str(value)
