"""The base of results that say what becomes of each example's states."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..common.analysis_result import AnalysisResult
from ..common.fate import Fate
from ..common.verdict import Verdict
from .outcome import CRITERION, Outcome, fates_of


@dataclass(frozen=True)
class OutcomeResult(AnalysisResult):
    """Base of the results of stability, fixed points and path independence."""

    verdicts: tuple[Verdict, ...]
    """Of each example."""
    rows: tuple[int, ...]
    """The examples, by their index in the run."""
    outcomes: tuple[Outcome, ...]
    """Where each of them ends from the model's own start."""

    @property
    def fates(self) -> Mapping[int, Fate]:
        return fates_of(self.rows, self.outcomes)

    @property
    def examined(self) -> tuple[int, ...]:
        return self.rows

    @property
    def fate_criterion(self) -> str:
        return CRITERION
