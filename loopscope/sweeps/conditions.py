"""The cells of a grid: trials that differ in nothing but their seed, and what is known of them
together."""

from dataclasses import dataclass
from functools import cached_property

from .censored_median import Middle, middle
from .grid import Axis, Trial, spelled
from .outcome import Outcome
from .sweep import Sweep

SIGNS = {"generalised": "●", "memorised": "◐", "neither": "○"}
FAILED, MISSING, PLAIN = "×", "–", "·"


@dataclass(frozen=True)
class Cell:
    """One point of the grid, over its seeds."""

    coordinates: tuple[int, ...]
    """By axis of `cell_axes`: which of its values."""
    label: str
    trials: tuple[Trial, ...]
    outcomes: tuple[Outcome, ...]
    dated: bool
    """Whether the cell is judged by its delays rather than by its last scores."""

    @property
    def values(self) -> list[float]:
        """Delays in steps, or last scores; what is known exactly."""
        asked = (
            (o.delay if o.phase == "generalised" else None) if self.dated else o.score for o in self.outcomes
        )
        return [value for value in asked if value is not None]

    @property
    def bounds(self) -> list[float]:
        """What the delays that weren't seen to their end are longer than."""
        return [o.waited for o in self.outcomes if self.dated and o.waited is not None]

    @cached_property
    def middle(self) -> Middle | None:
        """The median over seeds. Who never memorised has no delay, and isn't in it."""
        return middle(self.values, self.bounds)

    @property
    def signs(self) -> str:
        """A sign for each seed, the best first: how it ended."""
        order = [*(SIGNS[key] for key in SIGNS), FAILED, MISSING, PLAIN]
        result = [
            SIGNS[o.phase]
            if o.phase
            else FAILED
            if o.status == "failed"
            else MISSING
            if o.status == "missing"
            else PLAIN
            for o in self.outcomes
        ]
        if len(result) <= 8:
            return "".join(sorted(result, key=order.index))
        return " ".join(f"{result.count(sign)}{sign}" for sign in order if sign in result)


def is_dated(sweep: Sweep) -> bool:
    """Whether any training kept a history that tells when it memorised."""
    return any(result.phase is not None for result in sweep.outcomes)


def cell_axes(sweep: Sweep) -> list[Axis]:
    """The axes that cells differ in: those of more than one value, but the seed's."""
    return [axis for axis in sweep.grid.axes if len(axis.values) > 1 and axis.fields != ("seed",)]


def cells(sweep: Sweep) -> list[Cell]:
    """The grid's cells, in its order."""
    axes, dated = cell_axes(sweep), is_dated(sweep)
    places = [sweep.grid.axes.index(axis) for axis in axes]
    members: dict[tuple[int, ...], list[int]] = {}
    for i, trial in enumerate(sweep.grid.trials):
        members.setdefault(tuple(trial.coordinates[place] for place in places), []).append(i)
    return [
        Cell(
            key,
            ", ".join(f"{axis.short} {spelled(axis.values[i])}" for axis, i in zip(axes, key, strict=True))
            or "all seeds",
            tuple(sweep.grid.trials[i] for i in which),
            tuple(sweep.outcomes[i] for i in which),
            dated,
        )
        for key, which in members.items()
    ]
