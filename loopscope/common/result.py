"""Findings: what an analysis says about a run. Small frozen results that hold numbers, never a
model."""

import json
import sys
from dataclasses import dataclass, fields
from enum import Enum
from types import ModuleType
from typing import Any

from .to_json import to_json


class Verdict(Enum):
    """A conclusion as an enumeration: the value of each member is its sentence."""

    @property
    def sentence(self) -> str:
        return str(self.value)

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class AnalysisResult:
    """Base of every result. A subclass is a frozen dataclass with a `verdict`, a shape beside each
    field, and `summary()`; its file holds `measure(run) -> result` and `draw(result) -> figure`."""

    def summary(self) -> str:
        """The result as a paragraph, with its thresholds."""
        raise NotImplementedError(f"{type(self).__name__} must say its summary().")

    def __str__(self) -> str:
        return self.summary()

    def figure(self) -> Any:
        """The plotly figure of this result."""
        return _question(type(self)).draw(self)

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain numbers, lists and strings; NaN and infinity become None, as JSON
        has neither."""
        result = {field.name: to_json(getattr(self, field.name)) for field in fields(self)}
        return {
            "analysis": _question(type(self)).__name__.rsplit(".", 1)[-1],
            **result,
            "summary": self.summary(),
        }

    def to_json(self, **options: Any) -> str:
        return json.dumps(self.to_dict(), allow_nan=False, **options)


def _question(result: type) -> ModuleType:
    """The module that offers `draw` for a result: its own, or the package that its module is a part
    of."""
    module = sys.modules[result.__module__]
    return module if hasattr(module, "draw") else sys.modules[result.__module__.rpartition(".")[0]]
