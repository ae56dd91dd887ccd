"""The base of all results of an analysis: frozen dataclasses of numbers, which hold no model."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum
from types import ModuleType
from typing import Any, Literal, TypeVar

from .to_json import to_json


class Verdict(Enum):
    """A conclusion of an analysis, as an enumeration. The value of each member is its sentence."""

    @property
    def sentence(self) -> str:
        """The conclusion as a sentence."""
        return str(self.value)

    def __str__(self) -> str:
        return self.sentence


Fate = Literal["rests", "cycles", "moves", "grows", "unclear"]
"""Where states go. What moves doesn't rest: it may go round a cycle or grow."""

V = TypeVar("V", bound=Verdict)


def joint_verdict(verdicts: Sequence[V], mixed: V, unresolved: V) -> V:
    """The verdict on several examples: that of all, `mixed` where they differ, or `unresolved`
    where it depends on examples whose own verdict is that.

    Arguments:
        verdicts: one for each example.
    """
    known = {verdict for verdict in verdicts if verdict is not unresolved}
    if len(known) > 1:
        return mixed
    return unresolved if unresolved in verdicts or not known else known.pop()


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

    @property
    def fate(self) -> Fate:
        """Where the states go by this result: "unclear" unless it says so. Results of one run whose
        fates exclude each other contradict each other (`loopscope.reports.contradictions`)."""
        return "unclear"

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
