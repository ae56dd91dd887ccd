"""effects: what changes if the activation of one iteration and position is another. A grid of
patches with one result.

    grid = ls.effects(run, donor)                          # the donor's state, cell by cell, (iteration, position)
    grid.mean[0], grid.figure()                            # of the first site
    ls.effects(run, "mean", sites=["core.0.attn.hook_z"], heads=True)
    ls.effects(run, ls.noise(1.0), method="attribution")   # all cells to first order, from one backward pass

Each cell is a pass of its own in which one thing is written and everything after it is computed
anew; what an example's cell holds is the metric there minus the metric of the run. Sources:
activation patching, Vig et al. 2020 (arXiv 2004.12265), Meng et al. 2022 (arXiv 2202.05262);
choices of metric and corruption, Zhang & Nanda 2023 (arXiv 2309.16042).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..common.rng import mixed
from ..core.sites import Sites, is_state, resolve, site_modules
from ..runs.location import Place, iterations_of, places_of, value_at
from ..runs.run import Run
from .attribution import estimates, slopes
from .metrics import FLAT, Judge, judge
from .patched_forward import Resumed, resumable
from .places import Cell, with_sites
from .replacements import source

Method = Literal["exact", "attribution"]
Chosen = Literal["all"] | Sequence[int] | Sequence[Sequence[int]] | int | None


@dataclass(frozen=True)
class Agreement:
    """Attribution beside exact patches, on cells drawn at random."""

    cells: int
    correlation: float
    """Pearson's, over cells and examples."""
    same_sign: float
    """Fraction of them whose estimate has the sign of the exact effect, where that is not 0."""


@dataclass(frozen=True)
class Effects:
    """What each write did to the metric."""

    values: Float[Tensor, "site iteration position head batch ..."]
    """Metric of the patched pass minus metric of the run; NaN where a site has no value, or an
    example no metric."""
    sites: tuple[str, ...]
    """A turn of an inner loop is a site of its own, such as "low=0 core.0.hook_resid_post"."""
    iterations: tuple[int, ...]
    """t of a site inside the body, k of `state`."""
    positions: tuple[tuple[int, ...], ...]
    """Those that each cell writes together; of sites without positions, or where all are written,
    one empty group."""
    heads: tuple[int, ...]
    """Empty where all heads are written together."""
    method: Method
    metric: str
    unit: str
    source: str
    """What was written."""
    base: Float[Tensor, "batch ..."]
    """The metric of the run."""
    target: Float[Tensor, "batch ..."] | None
    """The metric of the donor run itself; None without one."""
    agreement: Agreement | None = None
    """Of attribution with exact patches on a sample."""

    @property
    def mean(self) -> Float[Tensor, "site iteration position head"]:
        """Over the examples that have a metric; NaN where none has."""
        return self.values.flatten(4).nanmean(-1)

    @property
    def carried(self) -> Float[Tensor, "site iteration position head"]:
        """The effect as a fraction of the way from the run's metric to the donor's, means over
        examples: 0 nothing, 1 all."""
        if self.target is None:
            raise LoopscopeError(
                "what is carried over is told against a donor run, but there was none. Look at .mean."
            )
        way = (self.target - self.base).flatten().nanmean()
        return self.mean / way

    def figure(self, site: str | None = None) -> Any:
        """A map of the effect, iteration by position (or by head where one group of positions was
        written)."""
        from .figures import effect_map

        chosen = self.sites[0] if site is None else site
        if chosen not in self.sites:
            raise LoopscopeError(f"there is no site {chosen!r} in this grid. {nearest(chosen, self.sites)}")
        cells = self.mean[self.sites.index(chosen)]
        counted = (
            "iterations run before the write" if is_state(chosen.split(" ")[-1]) else "iteration of the write"
        )
        quantity = f"change of {self.metric}" + (f" [{self.unit}]" if self.unit else "")
        title = f"What writing {self.source} into '{chosen}' does"
        if len(self.heads) > 1 and len(self.positions) == 1:
            return effect_map(
                cells[:, 0],
                self.iterations,
                self.heads,
                title,
                x="head written",
                y=counted,
                quantity=quantity,
            )
        if len(self.heads) > 1:
            title += ", mean over heads"
        columns = [
            group[0] if len(group) == 1 else ", ".join(map(str, group)) or "all" for group in self.positions
        ]
        return effect_map(
            cells.nanmean(-1),
            self.iterations,
            columns,
            title,
            x="position written",
            y=counted,
            quantity=quantity,
        )

    def __repr__(self) -> str:
        return (
            f"Effects of {self.source} on {self.metric} · {self.method} · {len(self.sites)} sites × "
            f"{len(self.iterations)} iterations × {len(self.positions)} positions × "
            f"{max(1, len(self.heads))} heads × {len(self.base)} examples"
        )


def effects(
    run: Run,
    replacement: Any,
    *,
    sites: Sites = "state",
    jointly: bool = False,
    iterations: Sequence[int] | int | None = None,
    positions: Chosen = None,
    heads: Sequence[int] | bool | None = None,
    metric: Any = None,
    answer_positions: Any = None,
    method: Method = "exact",
    exact_cells: int = 32,
    seed: int = 0,
    tokens: int | None = None,
) -> Effects:
    """Patch every cell of a grid and measure what it does.

    Arguments:
        run: what is patched, of a model with the four functions, recorded without edits. Sites
            that it lacks are made again.
        replacement: a donor run of the same shape; "mean" over the batch; "zero"; `ls.noise(norm)`; or
            a function (place, iteration, value) -> value.
        sites: names or patterns of sites inside the loop; one grid for each. `state` is the
            primary tensor of the state.
        jointly: write all the sites in one cell, as one: of a state that is a named tuple,
            `sites="state*"` is the whole state.
        iterations: None: all that the site has. Negative ones count from the end.
        positions: None: each by itself. "all": all of them together. Numbers: these, each by
            itself. Lists of numbers: each list together.
        heads: None: all together. True: each by itself. Numbers: these.
        metric: see `loopscope.patching.metrics`; a name or a function of logits. A function may
            give (batch, ...) in exact grids.
        answer_positions: (batch, position) mask, or positions, whose answers count; None: those the task
            asks for, else the last.
        method: "exact": a pass for each cell, from its iteration on. "attribution": to first order.
        exact_cells: for attribution: cells drawn at random (`seed`) and patched exactly too; 0: none.
        tokens: positions (rows times length) that are computed at once; less needs less memory.
            None: a few thousand.

    Raises:
        LoopscopeError: a run with edits or without its model, a donor that doesn't fit, a site
            outside the loop or unknown, a metric without a slope under attribution.
    """
    if method not in ("exact", "attribution"):
        raise LoopscopeError(f"method must be 'exact' or 'attribution', but is {method!r}.")
    patched = _patched(
        run, replacement, sites, metric=metric, answer_positions=answer_positions, method=method
    )
    places = [(place,) for place in places_of(patched.run, patched.names)]
    joint = [tuple(place for (place,) in places)] if jointly else places
    grid = _Grid.of(patched.run, joint, iterations=iterations, positions=positions, heads=heads)
    if method == "exact":
        values, agreement = _exact(patched, grid, grid.cells(patched.run), tokens), None
    else:
        values, agreement = _attributed(patched, grid, exact_cells=exact_cells, seed=seed, tokens=tokens)
    return _effects(patched, grid, values, method=method, agreement=agreement)


@dataclass(frozen=True)
class _Patched:
    """What is patched, with what, and how its answers are judged."""

    run: Run
    names: Sequence[str]
    """Of the sites."""
    donor: Run | None
    source: str
    """What the values that are written are, in words."""
    resumed: Resumed
    judged: Judge
    base: Float[Tensor, "batch ..."]
    """The metric without a patch."""


def _patched(
    run: Run, replacement: Any, sites: Sites, *, metric: Any, answer_positions: Any, method: Method
) -> _Patched:
    resumable(run)
    names = _names(run, sites)
    run = with_sites(run, names)
    donor = with_sites(replacement, names) if isinstance(replacement, Run) else None
    write_from, called = source(run, replacement if donor is None else donor)
    resumed = Resumed(run, write_from)
    judged = judge(run, donor, metric, answer_positions)
    if method == "attribution" and judged.name in FLAT:
        raise LoopscopeError(
            f"the metric '{judged.name}' has no slope where nothing is patched, so attribution would find "
            "nothing. Use 'margin' "
            "or 'difference', or method=\"exact\"."
        )
    base = judged(run.logits[run.iterations]).detach()
    return _Patched(run, names, donor, called, resumed, judged, base)


def _effects(
    patched: _Patched, grid: "_Grid", values: Tensor, *, method: Method, agreement: Agreement | None
) -> Effects:
    run, donor, judged = patched.run, patched.donor, patched.judged
    target = None
    if donor is not None:
        last = donor.logits[donor.iterations]
        target = judged(last.expand_as(run.logits[run.iterations])).detach()
    return Effects(
        values=values,
        sites=tuple(" + ".join(map(str, one)) for one in grid.places),
        iterations=grid.iterations,
        positions=grid.positions,
        heads=grid.heads,
        method=method,
        metric=judged.name,
        unit=judged.unit,
        source=patched.source,
        base=patched.base,
        target=target,
        agreement=agreement,
    )


@dataclass(frozen=True)
class _Grid:
    """The cells that are asked for."""

    places: Sequence[tuple[Place, ...]]
    """What each cell writes together."""
    iterations: tuple[int, ...]
    positions: tuple[tuple[int, ...], ...]
    heads: tuple[int, ...]

    @classmethod
    def of(
        cls, run: Run, places: Sequence[tuple[Place, ...]], *, iterations: Any, positions: Chosen, heads: Any
    ) -> "_Grid":
        every = [place for one in places for place in one]
        have = sorted({k for place in every for k in iterations_of(run, place)})
        if iterations is None:
            chosen = have
        else:
            last = max(have)
            chosen = [k + last + 1 if k < 0 else k for k in _listed(iterations)]
            absent = [k for k in chosen if k not in have]
            if absent:
                raise LoopscopeError(
                    f"the iterations must be among {have[0]}..{last} of this run, but {absent} are not. "
                    "Choose others."
                )
        return cls(places, tuple(chosen), _positions(run, every, positions), _heads(run, every, heads))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.places), len(self.iterations), len(self.positions), max(1, len(self.heads))

    def cells(self, run: Run) -> dict[Cell, tuple[int, int, int, int]]:
        """Every cell that has a value, with its place in the grid."""
        result = {}
        for s, places in enumerate(self.places):
            for i, k in enumerate(self.iterations):
                if any(value_at(run, place, k) is None for place in places):
                    continue
                for p, group in enumerate(self.positions):
                    for h, head in enumerate(self.heads or (None,)):
                        cell = Cell(places, k, group or None, None if head is None else (head,))
                        result[cell] = (s, i, p, h)
        return result


def _exact(
    patched: _Patched, grid: _Grid, cells: dict[Cell, tuple[int, int, int, int]], tokens: int | None
) -> Tensor:
    resumed, judged, base = patched.resumed, patched.judged, patched.base
    values = base.new_full((*grid.shape, *base.shape), float("nan"))
    for outcome in resumed.outcomes(list(cells), tokens):
        if outcome.k < resumed.iterations:
            continue
        for cell, logits in zip(outcome.cells, resumed.decode(outcome), strict=True):
            values[cells[cell]] = judged(logits) - base
    return values


def _attributed(
    patched: _Patched, grid: _Grid, *, exact_cells: int, seed: int, tokens: int | None
) -> tuple[Tensor, Agreement | None]:
    run, resumed, judged, base = patched.run, patched.resumed, patched.judged, patched.base
    places = [place for one in grid.places for place in one]
    told = estimates(run, places, resumed.source, slopes(resumed, places, judged))
    values = base.new_full((*grid.shape, *base.shape), float("nan"))
    cells = grid.cells(run)
    for cell, at in cells.items():
        known = [(told.get((place, cell.iteration)), place) for place in cell.places]
        # what is no floating-point number has no slope, and no part in it
        parts = [_summed(one, place, cell) for one, place in known if one is not None]
        values[at] = torch.stack([torch.zeros_like(base), *parts]).sum(0).masked_fill(base.isnan(), torch.nan)
    if not exact_cells:
        return values, None
    generator = torch.Generator().manual_seed(mixed(seed, 0))
    every = list(cells)
    drawn = [every[i] for i in torch.randperm(len(every), generator=generator)[:exact_cells].tolist()]
    exact = _exact(patched, grid, {cell: cells[cell] for cell in drawn}, tokens)
    return values, _agreement(values, exact, len(drawn))


def _summed(estimate: Tensor, place: Place, cell: Cell) -> Tensor:
    """A place's estimate over the positions and heads of a cell, (batch,)."""
    axes = [name for name in ("position", "head") if name in place.axes]
    for axis, chosen in reversed([(1 + i, getattr(cell, f"{name}s")) for i, name in enumerate(axes)]):
        part = estimate if chosen is None else estimate[(slice(None),) * axis + (list(chosen),)]
        estimate = part.sum(axis)
    return estimate


def _agreement(values: Tensor, exact: Tensor, cells: int) -> Agreement:
    both = torch.isfinite(values) & torch.isfinite(exact)
    x, y = values[both].double(), exact[both].double()
    x0, y0 = x - x.mean(), y - y.mean()
    size = x0.norm() * y0.norm()
    moved = y != 0
    return Agreement(
        cells=cells,
        correlation=float((x0 * y0).sum() / size) if float(size) > 0 else float("nan"),
        same_sign=float((x[moved].sign() == y[moved].sign()).double().mean())
        if bool(moved.any())
        else float("nan"),
    )


def _names(run: Run, sites: Sites) -> list[str]:
    """The sites' names, the primary field under `state`."""
    modules = site_modules(run.model)
    fields = run.origin.get("fields", ())
    alias = {f"state.{fields[0]}": "state"} if fields else {}
    names = resolve(sites, [*modules, *alias], list(getattr(run.model, "hook_dict", modules)))
    return list(dict.fromkeys(alias.get(name, name) for name in names))


def _positions(run: Run, places: Sequence[Place], answer_positions: Chosen) -> tuple[tuple[int, ...], ...]:
    if answer_positions == "all":
        return ((),)
    sizes = {_size(run, place, "position") for place in places}
    if len(sizes) > 1:
        raise LoopscopeError(
            f"the sites of one grid must have the same positions, but {[str(p) for p in places]} have "
            f"{sizes}. Make one grid each."
        )
    size = sizes.pop()
    if size is None:
        if answer_positions is not None:
            raise LoopscopeError(f"'{places[0]}' has no positions to choose from. Leave positions= out.")
        return ((),)
    groups = (
        [[p] for p in range(size)]
        if answer_positions is None
        else [_listed(one) for one in _listed(answer_positions)]
    )
    return tuple(tuple(_within(p, size, "position") for p in group) for group in groups)


def _heads(
    run: Run, places: Sequence[Place], answer_positions: Sequence[int] | bool | None
) -> tuple[int, ...]:
    if answer_positions is None or answer_positions is False:
        return ()
    sizes = {_size(run, place, "head") for place in places}
    size = sizes.pop()
    if sizes or size is None:
        raise LoopscopeError(
            f"heads can be patched one by one where every site has them, but {[str(p) for p in places]} do "
            "not. Choose sites such as 'core.0.attn.hook_z', or leave heads= out."
        )
    return (
        tuple(range(size))
        if answer_positions is True
        else tuple(_within(h, size, "head") for h in _listed(answer_positions))
    )


def _size(run: Run, place: Place, axis: str) -> int | None:
    where = place.axis(axis)
    result = value_at(run, place, iterations_of(run, place)[0])
    return None if where is None or result is None else result.shape[where]


def _within(number: int, size: int, what: str) -> int:
    if not -size <= number < size:
        raise LoopscopeError(f"there is no {what} {number}: there are {size}, 0..{size - 1}. Choose another.")
    return number % size


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, int) else list(value)
