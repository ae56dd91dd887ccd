"""The conditions of a grid: trials that differ in nothing but their seed, taken together."""

from dataclasses import dataclass
from functools import cached_property

from .censored_median import CensoredMedian, censored_median
from .grid import Axis, Trial, format_value
from .sweep_result import SweepResult
from .trial_result import TrialResult

SIGNS = {"generalised": "●", "memorised": "◐", "neither": "○"}
FAILED, MISSING, NO_DATES = "×", "–", "·"


@dataclass(frozen=True)
class Condition:
    """One point of the grid, over its seeds."""

    coordinates: tuple[int, ...]
    """By axis of `condition_axes`: the index of its value."""
    label: str
    trials: tuple[Trial, ...]
    results: tuple[TrialResult, ...]
    by_delay: bool
    """Whether `values` are delays; otherwise they are last scores."""

    @property
    def values(self) -> list[float]:
        """The delays in steps, or the last scores, that are known exactly."""
        values = (
            (result.delay if result.phase == "generalised" else None) if self.by_delay else result.score
            for result in self.results
        )
        return [value for value in values if value is not None]

    @property
    def bounds(self) -> list[float]:
        """Lower bounds of the delays that are longer than their training."""
        return [r.delay_bound for r in self.results if self.by_delay and r.delay_bound is not None]

    @cached_property
    def median(self) -> CensoredMedian | None:
        """The median over seeds. A seed that never memorised has no delay and is left out."""
        return censored_median(self.values, self.bounds)

    @property
    def signs(self) -> str:
        """A sign for each seed, the best first: how it ended."""
        order = [*SIGNS.values(), FAILED, MISSING, NO_DATES]
        signs = [_sign(result) for result in self.results]
        if len(signs) <= 8:
            return "".join(sorted(signs, key=order.index))
        return " ".join(f"{signs.count(sign)}{sign}" for sign in order if sign in signs)


def _sign(result: TrialResult) -> str:
    if result.phase:
        return SIGNS[result.phase]
    return {"failed": FAILED, "missing": MISSING}.get(result.status, NO_DATES)


def condition_axes(sweep: SweepResult) -> list[Axis]:
    """The axes that conditions differ in: those of more than one value, without the seed's."""
    return [axis for axis in sweep.grid.axes if len(axis.values) > 1 and axis.fields != ("seed",)]


def conditions(sweep: SweepResult) -> list[Condition]:
    """The grid's conditions, in its order."""
    axes = condition_axes(sweep)
    places = [sweep.grid.axes.index(axis) for axis in axes]
    members: dict[tuple[int, ...], list[int]] = {}
    for i, trial in enumerate(sweep.grid.trials):
        members.setdefault(tuple(trial.coordinates[place] for place in places), []).append(i)
    return [
        Condition(
            coordinates,
            ", ".join(
                f"{axis.short_name} {format_value(axis.values[i])}"
                for axis, i in zip(axes, coordinates, strict=True)
            )
            or "all seeds",
            tuple(sweep.grid.trials[i] for i in indices),
            tuple(sweep.results[i] for i in indices),
            sweep.has_histories,
        )
        for coordinates, indices in members.items()
    ]
