"""Places: where a cell of a grid writes. A site, one turn of its inner loops if it has any, and the names of its axes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ..errors import LoopscopeError
from ..location import Place
from ..recorder import resume
from ..run import Run
from ..sites import is_state
from ..states import States


@dataclass(frozen=True)
class Cell:
    """One write: places (several: all of them together), an iteration, positions and heads."""

    places: tuple[Place, ...]
    iteration: int
    """t of a site inside the body; k of `state`."""
    positions: tuple[int, ...] | None
    """None: all, or a site that has none."""
    heads: tuple[int, ...] | None = None

    def mask(self, place: Place, value: Tensor) -> Tensor:
        """Where it writes in a value of one of its places, broadcasting to it."""
        shape = [1] * value.ndim
        mask = torch.ones(shape, dtype=torch.bool, device=value.device)
        for name, chosen in (("position", self.positions), ("head", self.heads)):
            axis = place.axis(name)
            if chosen is None or axis is None:
                continue
            own = torch.zeros(value.shape[axis], dtype=torch.bool, device=value.device)
            own[list(chosen)] = True
            mask = mask & own.reshape([-1 if i == axis else 1 for i in range(value.ndim)])
        return mask


def with_sites(run: Run, sites: Iterable[str]) -> Run:
    """The run with these sites recorded too: iterated again from its own states[0], where it lacks them."""
    missing = [site for site in sites if site not in run]
    if not missing:
        return run
    first = run.states.iterations[0]
    if first != 0:
        raise LoopscopeError(
            f"the sites {missing} were not recorded, and this run kept no state 0 to start from again. Record it with "
            f"sites={missing}."
        )
    found = resume(run.model, run, run.iterations, start=0, sites=missing)
    for site in missing:
        _inside(found, site)
    return found


def places_of(run: Run, sites: Sequence[str]) -> list[Place]:
    """Every place that these recorded sites stand for, in order: a site with inner loops has one for each turn."""
    found = []
    for site in sites:
        states = _inside(run, site)
        depth = len(states.inner)
        loops, axes = states.axes[1 : 1 + depth], states.axes[1 + depth :]
        found += [Place(site, turn, loops, axes) for turn in product(*(range(size) for size in states.inner))]
    return found


def _inside(run: Run, site: str) -> States:
    """A site of the loop, or the sentence that says that it is none."""
    states = {name: run[name] for name in run.names}.get(site)
    if not isinstance(states, States) or states.axes[0] != "iteration":
        raise LoopscopeError(
            f"a cell of a grid lies at an iteration, but '{site}' is not called inside the loop. Choose a site that is, such as "
            "'state'."
        )
    return states


def value_at(run: Run, place: Place, iteration: int) -> Tensor | None:
    """The place's value at an iteration; None where there is none."""
    return run[place.site]._values.get((iteration, *place.inner))


def iterations_of(run: Run, place: Place) -> list[int]:
    """The iterations at which the place has a value, in order."""
    return sorted(index[0] for index, _ in run[place.site].items() if index[1:] == place.inner)


def whole(place: Place) -> bool:
    """Whether the place is the state, or one of its fields, and no site inside an iteration."""
    return is_state(place.site)
