"""The base of all results of an analysis: frozen dataclasses of numbers, which hold no model."""

import json
import sys
from dataclasses import dataclass, fields
from enum import Enum
from types import ModuleType
from typing import Any

from .to_json import to_json


class Verdict(Enum):
    """A conclusion of an analysis, as an enumeration. The value of each member is its sentence."""

    @property
    def sentence(self) -> str:
        """The conclusion as a sentence."""
        return str(self.value)

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class AnalysisResult:
    """Base of every result. A subclass is a frozen dataclass with a `verdict`, a shape beside each
    field, and `summary()`; its file holds `measure(run) -> result` and `draw(result) -> figure`."""

    verdict: Verdict

    def summary(self) -> str:
        """The result as a paragraph, with its thresholds."""
        raise NotImplementedError(f"{type(self).__name__} must define summary().")

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
        """`to_dict` as JSON text. `options` are those of `json.dumps`."""
        return json.dumps(self.to_dict(), allow_nan=False, **options)


def _question(result: type) -> ModuleType:
    """The module with the `draw` of a result: the result's own, or the package of that module."""
    module = sys.modules[result.__module__]
    return module if hasattr(module, "draw") else sys.modules[result.__module__.rpartition(".")[0]]
