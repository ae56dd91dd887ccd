"""What a lens is applied to: the vectors of a site at an iteration, and the state that carries
them."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..core.looped_model import Looped
from ..core.state_tree import State, primary, with_primary
from ..core.states import States
from ..runs.kept_form import form_of, restored
from ..runs.location import Place, iterations_of, places_of, value_at
from ..runs.run import Run


@dataclass(frozen=True)
class LensInput:
    """The vectors of one place at one iteration."""

    place: Place
    k: int
    """The state after k iterations; of a site inside the loop, its value in iteration k."""
    state: State
    """A whole state, as the model's `decode` takes it."""
    h: Float[Tensor, "batch position width"]
    """The vectors to read out."""
    is_translated: bool = False
    """Whether `h` was changed by a tuned lens, so that it differs from the state's own vectors."""

    @property
    def is_state(self) -> bool:
        """Whether the model's own read-out of `state` is the read-out of `h`."""
        return self.place.site == "state" and not self.is_translated


def lens_places(run: Run, sites: str | Sequence[str]) -> tuple[Place, ...]:
    """The places of recorded sites; a site of an inner loop has one for each turn.

    Arguments:
        sites: names or patterns.

    Raises:
        LoopscopeError: a site that wasn't recorded, or one outside the loop.
    """
    result: list[Place] = []
    for site in [sites] if isinstance(sites, str) else list(sites):
        fields = run.origin.get("fields") or ()
        site = "state" if fields and site == f"state.{fields[0]}" else site
        names = fnmatch.filter(run.names, site) if any(sign in site for sign in "*?[") else [site]
        if not names:
            raise LoopscopeError(f"no recorded site is like {site!r}. {nearest(site, run.names)}")
        for name in names:
            if not isinstance(run[name], States):
                raise LoopscopeError(
                    f"a lens reads a site at every iteration, but '{name}' was called once, outside the "
                    "loop. Take sites inside it, or 'state'."
                )
        result += places_of(run, names)
    if not result:
        raise LoopscopeError('a lens needs one site or more, but got none. Pass sites=["state"].')
    return tuple(dict.fromkeys(result))


def lens_iterations(run: Run, places: Sequence[Place]) -> tuple[int, ...]:
    """The k at which any of the places has a value."""
    return tuple(sorted({k for place in places for k in iterations_of(run, place)}))


def lens_input(run: Run, place: Place, k: int) -> LensInput | None:
    """The vectors of a place after k iterations (in iteration k, for a site inside the loop); None
    where it has no value.

    Raises:
        LoopscopeError: the site doesn't have the shape that the read-out takes.
    """
    value = value_at(run, place, k)
    if value is None:
        return None
    if place.site == "state":
        state = run.state(k)
        return LensInput(place, k, state, _read_vectors(run, state))
    state = _carrier(run, k)
    like = _read_vectors(run, state)
    if value.shape != like.shape:
        raise LoopscopeError(
            f"a lens reads vectors of the shape that the model's read-out takes, {tuple(like.shape[1:])} "
            f"for each example, but '{place.site}' holds {tuple(value.shape[1:])}. Take a site of the "
            "residual stream, such as one that ends in hook_resid_post."
        )
    value = restored(value, form_of(like), run.origin)
    return LensInput(place, k, state, value)


def with_vectors(run: Run, state: State, h: Tensor) -> State:
    """`state` with `h` in place of the vectors that the read-out takes."""
    put = getattr(_model(run), "with_read_vectors", None)
    if put is not None:
        return put(state, h)
    return with_primary(state, h)


def _carrier(run: Run, k: int) -> State:
    """A whole state to put vectors into: the next one that was kept. Of a state that is one tensor
    nothing else is read."""
    kept = run.states.iterations
    return run.state(next((label for label in kept if label > k), kept[-1]))


def _read_vectors(run: Run, state: State) -> Tensor:
    read_vectors = getattr(_model(run), "read_vectors", None)
    return primary(state) if read_vectors is None else read_vectors(state)


def _model(run: Run) -> Any:
    """The run's model if it has the four functions. In other models a method `read_vectors` may
    mean something else."""
    model = run.model if run.has_model else None
    return model if isinstance(model, Looped) else None
