"""Places: where a lens looks, and the vectors that stand there."""

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..core.looped_model import Looped
from ..core.state_tree import State, primary, with_primary
from ..core.states import States
from ..runs.location import Place
from ..runs.run import Run


@dataclass(frozen=True)
class Sight:
    """What stands at a place of a run."""

    place: Place
    k: int
    """The state after k iterations; of a site inside the loop, its value in iteration k."""
    state: State
    """A whole state, as the model's `decode` takes it."""
    h: Tensor
    """(batch, position, width): the vectors to be read."""
    translated: bool = False
    """Whether `h` stands for something else than what the state holds."""

    @property
    def plain(self) -> bool:
        """Whether `state` can be read out as it is: the model does so, with all that it carries."""
        return self.place.site == "state" and not self.translated


def places(run: Run, sites: str | Sequence[str]) -> tuple[Place, ...]:
    """The places that `sites` names: names or patterns of recorded sites; a site of an inner loop
    gives one for each turn."""
    result: list[Place] = []
    for site in [sites] if isinstance(sites, str) else list(sites):
        fields = run.origin.get("fields") or ()
        site = "state" if fields and site == f"state.{fields[0]}" else site
        names = fnmatch.filter(run.names, site) if any(sign in site for sign in "*?[") else [site]
        if not names:
            raise LoopscopeError(f"no recorded site is like {site!r}. {nearest(site, run.names)}")
        for name in names:
            values = run[name]
            if not isinstance(values, States):
                raise LoopscopeError(
                    f"a lens reads a site at every iteration, but '{name}' was called once, outside the "
                    "loop. Take sites inside it, or 'state'."
                )
            depth = len(values.inner)
            loops, axes = values.axes[1 : 1 + depth], values.axes[1 + depth :]
            result += [Place(name, turns, loops, axes) for turns in product(*map(range, values.inner))]
    if not result:
        raise LoopscopeError('a lens needs one site or more, but got none. Pass sites=["state"].')
    return tuple(dict.fromkeys(result))


def labels(run: Run, where: Sequence[Place]) -> tuple[int, ...]:
    """The k at which any of the places has a value."""
    return tuple(sorted({k for place in where for k, *_ in _indices(run, place)}))


def _indices(run: Run, place: Place) -> Iterator[tuple[int, ...]]:
    for index, _ in run[place.site].items():
        if index[1:] == place.inner:
            yield index


def sight(run: Run, place: Place, k: int) -> Sight | None:
    """What stands at a place after k iterations (in iteration k, for a site inside the loop); None
    where nothing does."""
    values: States = run[place.site]
    value = dict(values.items()).get((k, *place.inner))
    if value is None:
        return None
    if place.site == "state":
        state = run.state(k)
        return Sight(place, k, state, _stream(run, state))
    state = _carrier(run, k)
    like = _stream(run, state)
    if value.shape != like.shape:
        raise LoopscopeError(
            f"a lens reads vectors of the shape that the model's read-out takes, {tuple(like.shape[1:])} "
            f"for each example, but '{place.site}' holds {tuple(value.shape[1:])}. Take a site of the "
            "residual stream, such as one that ends in hook_resid_post."
        )
    return Sight(place, k, state, value)


def shown(run: Run, state: State, h: Tensor) -> Any:
    """`state` with `h` for the vectors that are read out."""
    put = getattr(_model(run), "with_read_vectors", None)
    if put is not None:
        return put(state, h)
    return with_primary(state, h)


def _carrier(run: Run, k: int) -> Any:
    """A whole state to put vectors in: the next one that was kept. Of a state that is one tensor
    nothing else is read."""
    kept = run.states.iterations
    return run.state(next((label for label in kept if label > k), kept[-1]))


def _stream(run: Run, state: State) -> Tensor:
    read_vectors = getattr(_model(run), "read_vectors", None)
    return primary(state) if read_vectors is None else read_vectors(state)


def _model(run: Run) -> Any:
    """The run's model, if it offers the four functions: what others call `read_vectors` is
    theirs."""
    model = run.model if run.has_model else None
    return model if isinstance(model, Looped) else None
