"""The grid of patches that `effects` makes: its sites, iterations, positions and heads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Bool
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.pattern_sites import listed
from ..core.sites import Sites, resolve, site_modules
from ..recorder.resume_run import resume
from ..runs.location import Place, iterations_of, states_in_loop, value_at
from ..runs.run import Run
from ..runs.run_mask import with_more_positions
from .patch_cell import PatchCell

Indices = Literal["all"] | Sequence[int] | Sequence[Sequence[int]] | int | None
"""Positions to patch: each number by itself, each list jointly, "all" jointly, None: each."""


@dataclass(frozen=True)
class PatchGrid:
    """Every combination of places, iterations, positions and heads."""

    places: Sequence[tuple[Place, ...]]
    """The places of each entry of the axis `site`, which one cell replaces jointly."""
    iterations: tuple[int, ...]
    positions: tuple[tuple[int, ...], ...]
    """Groups of positions that one cell replaces jointly; an empty group is all."""
    heads: tuple[int, ...]
    """Empty: all jointly."""

    @classmethod
    def of(
        cls,
        run: Run,
        places: Sequence[tuple[Place, ...]],
        *,
        iterations: Sequence[int] | int | None,
        positions: Indices,
        heads: Sequence[int] | bool | None,
        mask: Bool[Tensor, "batch position"],
    ) -> "PatchGrid":
        """The grid that the arguments of `effects` name. If it names no positions, those where a
        replacement means something in some example (`mask`).

        Raises:
            LoopscopeError: an iteration, position or head that the run lacks, or places that don't
                share an axis.
        """
        every = [place for group in places for place in group]
        return cls(
            places,
            _iterations(run, every, iterations),
            _positions(run, every, positions, mask),
            _heads(run, every, heads),
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Lengths of the axes site, iteration, position and head; 1 where all heads are patched
        jointly."""
        return len(self.places), len(self.iterations), len(self.positions), max(1, len(self.heads))

    def cells(self, run: Run) -> dict[PatchCell, tuple[int, int, int, int]]:
        """Every cell whose places have values in the run, with its index in the grid."""
        result = {}
        for s, places in enumerate(self.places):
            for i, k in enumerate(self.iterations):
                if any(value_at(run, place, k) is None for place in places):
                    continue
                for p, group in enumerate(self.positions):
                    for h, head in enumerate(self.heads or (None,)):
                        cell = PatchCell(places, k, group or None, None if head is None else (head,))
                        result[cell] = (s, i, p, h)
        return result


def site_names(run: Run, sites: Sites) -> list[str]:
    """The names of the sites that names and patterns match; the primary field of the state is
    `state`."""
    modules = site_modules(run.model)
    fields = run.origin.get("fields", ())
    alias = {f"state.{fields[0]}": "state"} if fields else {}
    names = resolve(sites, [*modules, *alias], list(getattr(run.model, "hook_dict", listed(modules))))
    if not names:
        raise LoopscopeError(
            "a grid of patches needs one site or more, but sites selects none. Try sites='state'."
        )
    return list(dict.fromkeys(alias.get(name, name) for name in names))


def with_sites(run: Run, sites: Iterable[str]) -> Run:
    """The run with these sites recorded; where it lacks some, they are recorded in another pass
    from its states[0].

    Raises:
        LoopscopeError: the run kept no states[0], or a site is outside the loop.
    """
    missing = [site for site in sites if site not in run]
    if not missing:
        return run
    if run.states.iterations[0] != 0:
        raise LoopscopeError(
            f"the sites {missing} were not recorded, and this run kept no state 0 to start from again. "
            f"Record it with sites={missing}."
        )
    result = resume(run.model, run, run.iterations, start=0, sites=missing)
    for site in missing:
        states_in_loop(result, site)
    return result


def _iterations(run: Run, places: Sequence[Place], iterations: Sequence[int] | int | None) -> tuple[int, ...]:
    present = sorted({k for place in places for k in iterations_of(run, place)})
    if iterations is None:
        return tuple(present)
    last = max(present)
    result = [k + last + 1 if k < 0 else k for k in _as_list(iterations)]
    absent = [k for k in result if k not in present]
    if absent:
        raise LoopscopeError(
            f"the iterations must be among {present[0]}..{last} of this run, but {absent} are not. "
            "Choose others."
        )
    return tuple(result)


def position_count(run: Run, place: Place) -> int | None:
    """How many positions a place has; None for a place without."""
    return _size(run, place, "position")


def _positions(
    run: Run, places: Sequence[Place], positions: Indices, mask: Bool[Tensor, "batch position"]
) -> tuple[tuple[int, ...], ...]:
    if positions == "all":
        return ((),)
    sizes = {_size(run, place, "position") for place in places}
    if len(sizes) > 1:
        raise LoopscopeError(
            f"the sites of one grid must have the same positions, but {[str(p) for p in places]} have "
            f"{sizes}. Make one grid for each."
        )
    size = sizes.pop()
    if size is None:
        if positions is not None:
            raise LoopscopeError(f"'{places[0]}' has no positions to choose from. Leave positions= out.")
        return ((),)
    groups = (
        [[p] for p in with_more_positions(mask, size).any(0).nonzero()[:, 0].tolist()]
        if positions is None
        else [_as_list(group) for group in _as_list(positions)]
    )
    if not groups or not all(groups):
        raise LoopscopeError("positions must name one position or more, but is empty. None patches each.")
    return tuple(tuple(_index(p, size, "position") for p in group) for group in groups)


def _heads(run: Run, places: Sequence[Place], heads: Sequence[int] | bool | None) -> tuple[int, ...]:
    if heads is None or heads is False:
        return ()
    sizes = {_size(run, place, "head") for place in places}
    size = sizes.pop()
    if sizes or size is None:
        raise LoopscopeError(
            f"heads can be patched one by one where every site has them, but {[str(p) for p in places]} do "
            "not. Choose sites such as 'core.0.attn.hook_z', or leave heads= out."
        )
    return tuple(range(size)) if heads is True else tuple(_index(h, size, "head") for h in _as_list(heads))


def _size(run: Run, place: Place, axis: str) -> int | None:
    number = place.axis(axis)
    value = value_at(run, place, iterations_of(run, place)[0])
    return None if number is None or value is None else value.shape[number]


def _index(number: int, size: int, axis: str) -> int:
    if not -size <= number < size:
        raise LoopscopeError(f"there is no {axis} {number}: there are {size}, 0..{size - 1}. Choose another.")
    return number % size


def _as_list(value: Any) -> list[Any]:
    return [value] if isinstance(value, int) else list(value)
