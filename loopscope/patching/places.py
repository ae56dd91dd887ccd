"""Places: where a cell of a grid writes. A site, one turn of its inner loops if it has any, and the
names of its axes."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.sites import is_state
from ..recorder.resume_run import resume
from ..runs.location import Place, states_in_loop
from ..runs.run import Run


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
    """The run with these sites recorded too: iterated again from its own states[0], where it lacks
    them."""
    missing = [site for site in sites if site not in run]
    if not missing:
        return run
    first = run.states.iterations[0]
    if first != 0:
        raise LoopscopeError(
            f"the sites {missing} were not recorded, and this run kept no state 0 to start from again. "
            f"Record it with sites={missing}."
        )
    result = resume(run.model, run, run.iterations, start=0, sites=missing)
    for site in missing:
        states_in_loop(result, site)
    return result


def whole(place: Place) -> bool:
    """Whether the place is the state, or one of its fields, and no site inside an iteration."""
    return is_state(place.site)
