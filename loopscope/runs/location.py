"""Place: the location of a value in a run, which is a site inside the loop, and of a site with
inner loops one turn of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.states import States
from .run import Run


@dataclass(frozen=True)
class Place:
    """A site inside the loop, and one turn of each of its inner loops."""

    site: str
    inner: tuple[int, ...] = ()
    """The turn of each inner loop."""
    loops: tuple[str, ...] = ()
    """Names of the inner loops, such as ("low",)."""
    axes: tuple[str, ...] = ("batch", "position", "width")
    """The site's own axes."""

    @property
    def label(self) -> str:
        """Its name in a table: the site, with its turns."""
        turns = ", ".join(f"{name} {turn}" for name, turn in zip(self.loops, self.inner, strict=True))
        return f"{self.site}, {turns}" if turns else self.site

    def axis(self, name: str) -> int | None:
        """The number of an axis among the site's own; None if the site has no axis of this name."""
        return self.axes.index(name) if name in self.axes else None

    def __str__(self) -> str:
        turns = "".join(f"{name}={turn} " for name, turn in zip(self.loops, self.inner, strict=True))
        return turns + self.site


def places_of(run: Run, sites: Sequence[str]) -> list[Place]:
    """The places of these recorded sites, in order; a site with inner loops has one for each turn.

    Raises:
        LoopscopeError: a site was not recorded inside the loop.
    """
    result = []
    for site in sites:
        states = states_in_loop(run, site)
        depth = len(states.inner)
        loops, axes = states.axes[1 : 1 + depth], states.axes[1 + depth :]
        result += [
            Place(site, turn, loops, axes) for turn in product(*(range(size) for size in states.inner))
        ]
    return result


def states_in_loop(run: Run, site: str) -> States:
    """The values of a site inside the loop.

    Raises:
        LoopscopeError: the site was not recorded, or is called outside the loop.
    """
    states = {name: run[name] for name in run.names}.get(site)
    if not isinstance(states, States) or states.axes[0] != "iteration":
        raise LoopscopeError(
            f"a cell of a grid lies at an iteration, but '{site}' is not called inside the loop. Choose a "
            "site that is, such as 'state'."
        )
    return states


def value_at(run: Run, place: Place, iteration: int) -> Tensor | None:
    """The place's value at an iteration; None if it is absent."""
    return run[place.site].get((iteration, *place.inner))


def iterations_of(run: Run, place: Place) -> list[int]:
    """The iterations at which the place has a value, in order."""
    return sorted(index[0] for index in run[place.site].by_index if index[1:] == place.inner)
