"""The base of all results of an analysis: frozen dataclasses of numbers, which hold no model."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import Any

from .evidence import Evidence
from .fate import Fate
from .guard import guarded
from .latex_table import latex_table
from .notebook import paragraph, show, table, with_figure
from .result_tables import estimates_table, field_table
from .to_json import to_json
from .verdict import Verdict


@dataclass(frozen=True)
class AnalysisResult:
    """Base of every result. A subclass is a frozen dataclass with a `verdict`, a shape beside each
    field, and `summary()`; its file holds `measure(run) -> result` and `draw(result) -> figure`."""

    verdict: Verdict
    evidence: Evidence = field(kw_only=True)
    """What the verdict rests on, with intervals."""

    def summary(self) -> str:
        """The result as a paragraph, with its thresholds."""
        raise NotImplementedError(f"{type(self).__name__} must define summary().")

    def __str__(self) -> str:
        return self.summary()

    @property
    def sentence(self) -> str:
        """The verdict as a sentence; for `unclear`, with the conclusions that the numbers allow."""
        return self.evidence.unclear_sentence if self.verdict.name == "unclear" else self.verdict.sentence

    @property
    def fates(self) -> Mapping[int, Fate]:
        """Where the states of each example go, by its index in the run; empty unless this result
        says so. A report reconciles the fates of all results (`loopscope.reports.fates`)."""
        return {}

    @property
    def examined(self) -> Sequence[int]:
        """The examples whose states it follows, by their index in the run: those too of which it
        can't say where they go."""
        return tuple(self.fates)

    @property
    def fate_iterations(self) -> int | None:
        """The k up to which its `fates` follow the states; None where it doesn't say."""
        return None

    @property
    def fates_by_position(self) -> Mapping[int, Sequence[Fate | None]]:
        """The same for each position of an example, None where it doesn't count; empty unless this
        result tells positions apart."""
        return {}

    @property
    def fate_criterion(self) -> str:
        """By what it is decided where states go, such as "relative steps below 0.001 to the end"; a
        report says it where results disagree. Empty if this result doesn't speak of it."""
        return ""

    @property
    def contracting(self) -> Sequence[int]:
        """The examples of which it says that small differences die out although their states come
        to no fixed point, by their index in the run; a report says why both can hold."""
        return ()

    @property
    def kept(self) -> int:
        """How many positions stop at once, from a full step to none, as what is kept where it halts
        does."""
        return 0

    @property
    def caveat(self) -> str:
        """Where its own measures of one thing disagree, a sentence that a report's summary
        repeats; empty if they don't."""
        return ""

    def figure(self) -> Any:
        """The plotly figure of this result."""
        return _question(type(self)).draw(self)

    @guarded
    def to_pandas(self, field: str | None = None) -> Any:
        """A DataFrame: of the estimates and of every field that is one number; or of one field that
        holds an array, in long format (`loopscope.common.result_tables` has the rule).

        >>> result.to_pandas()                      # name, value, low, high
        >>> result.to_pandas("effect")              # iteration, position, effect

        Raises:
            LoopscopeError: no such field holds an array, or pandas isn't installed (extra: pandas).
        """
        return estimates_table(self) if field is None else field_table(self, field)

    def to_latex(self) -> str:
        """The verdict and the estimates as a table for LaTeX, with the package booktabs."""
        return latex_table(self)

    def _description_html(self) -> str:
        """The verdict, what it rests on, and the estimates."""
        name = _question(type(self)).__name__.rsplit(".", 1)[-1].replace("_", " ")
        how = paragraph(self.evidence.how) if self.evidence.how else ""
        rows = [(one.name, one.text) for one in self.evidence.estimates]
        estimates = table(("quantity", "value (95 % interval)"), rows) if rows else ""
        return paragraph(self.sentence, strong=f"{name}:") + how + estimates

    def _repr_html_(self) -> str:
        return with_figure(self._description_html(), self.figure())

    def _ipython_display_(self) -> None:
        show(self._description_html(), self.figure(), str(self))

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
