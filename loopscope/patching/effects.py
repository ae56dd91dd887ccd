"""Activation patching over iterations: the effect on the answer of replacing the activation of one
iteration and position, for every cell of a grid.

    grid = ls.effects(run, donor)           # the donor's state, by (iteration, position)
    grid.mean[0], grid.figure()             # of the first site
    ls.effects(run, "mean", sites=["core.0.attn.hook_z"], heads=True)
    ls.effects(run, ls.noise(1.0), method="attribution")   # first order, one backward pass

Each cell is one forward pass in which one activation is replaced and everything after it is
computed again; its effect is the metric of that pass minus the metric of the run. Sources:
activation patching, Vig et al. 2020 (arXiv 2004.12265), Meng et al. 2022 (arXiv 2202.05262);
choices of metric and corruption, Zhang & Nanda 2023 (arXiv 2309.16042).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.arguments import Count, MaskOrPositions, PositiveCount, Seed
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..common.progress import progress
from ..common.rng import mixed
from ..core.outside_modes import outside_modes
from ..core.sites import Sites
from ..recorder.provenance import check_same_origin
from ..runs.location import Place, places_of, value_at
from ..runs.run import Run
from .attribution import estimates, slopes
from .counted_cells import counted_groups, finite_estimate, replaceable, unpadded_replacement
from .effects_result import AttributionAgreement, Effects, Method
from .metrics import FLAT, Metric, metric_for
from .patch_cell import PatchCell
from .patch_grid import Indices, PatchGrid, position_count, site_names, with_sites
from .patched_forward import PatchedForward, model_to_patch
from .replacements import Noise, Replacement, replacement_for


# It is long because its docstring explains fourteen arguments.
@guarded
@outside_modes()
def effects(
    run: Run,
    replacement: "Run | str | Noise | Replacement",
    *,
    sites: Sites = "state",
    jointly: bool = False,
    iterations: Sequence[int] | int | None = None,
    positions: Indices = None,
    heads: Sequence[int] | bool | None = None,
    metric: str | Callable[[Tensor], Tensor] | None = None,
    answer_positions: MaskOrPositions | None = None,
    method: Method = "exact",
    exact_cells: Count = 32,
    seed: Seed = 0,
    tokens: PositiveCount | None = None,
    mask: Any = None,
) -> Effects:
    """Patch every cell of a grid and measure the effect on the answer.

    >>> donor = ls.record(model, model.task.batch(64, seed=1).tokens)
    >>> grid = ls.effects(run, donor)
    >>> grid.mean[0, 3]             # effect of the state after 3 iterations: (position, head)
    >>> grid.figure()

    Arguments:
        run: the run to patch, of a model with the four functions, recorded without edits. Sites
            that it lacks are recorded again.
        replacement: a donor run of the same shape; "mean" over the batch; "zero";
            `ls.noise(norm)`; or a function (place, iteration, value) -> value.
        sites: names or patterns of sites inside the loop, one grid for each. `state` is the
            primary tensor of the state.
        jointly: patch all sites in one cell: of a state that is a named tuple, `sites="state*"` is
            the whole state.
        iterations: None: all that the site has. Negative ones count from the end.
        positions: None: each by itself. "all": all jointly. Numbers: these, each by itself. Lists
            of numbers: each list jointly.
        heads: None: all jointly. True: each by itself. Numbers: these, each by itself.
        metric: see `loopscope.patching.metrics`; a name or a function of logits. In exact grids a
            function may give (batch, ...).
        answer_positions: (batch, position) mask, or positions, whose answers count; None: those of
            the task, else the last.
        method: "exact": one pass for each cell, from its iteration on. "attribution": to first
            order.
        exact_cells: with attribution: number of cells, drawn at random by `seed`, that are also
            patched exactly; 0: none.
        tokens: positions (rows times length) that are computed at once; fewer need less memory.
            None: a few thousand.
        mask: which positions count, bool (batch, position); None: those of `run.mask`. Means over
            examples leave out those in which no position of a cell counts, or that a donor lacks.

    Raises:
        LoopscopeError: a run with edits or without its model, a donor that doesn't fit, a site
            outside the loop or unknown, a metric without a slope under attribution.
    """
    if method not in ("exact", "attribution"):
        raise LoopscopeError(f"method must be 'exact' or 'attribution', but is {method!r}.")
    run = run if mask is None else run.with_mask(mask)
    setup = _setup(run, replacement, sites, metric=metric, answer_positions=answer_positions, method=method)
    places = [(place,) for place in places_of(setup.run, setup.names)]
    joint = [tuple(place for (place,) in places)] if jointly else places
    grid = PatchGrid.of(
        setup.run, joint, iterations=iterations, positions=positions, heads=heads, mask=setup.mask
    )
    if method == "exact":
        values, agreement = _exact(setup, grid, grid.cells(setup.run), tokens), None
    else:
        values, agreement = _attributed(setup, grid, exact_cells=exact_cells, seed=seed, tokens=tokens)
    return _result(setup, grid, values, method=method, agreement=agreement)


@dataclass(frozen=True)
class _Setup:
    """The run to patch, its replacement values and its metric."""

    run: Run
    names: Sequence[str]
    """Of the sites."""
    donor: Run | None
    source: str
    """What the replacement values are, in words."""
    forward: PatchedForward
    metric: Metric
    base: Float[Tensor, "batch ..."]
    """The metric without a patch."""
    mask: Bool[Tensor, "batch position"]
    """Where a replacement means something."""


def _setup(
    run: Run, replacement: Any, sites: Sites, *, metric: Any, answer_positions: Any, method: Method
) -> _Setup:
    model_to_patch(run)
    names = site_names(run, sites)
    run = with_sites(run, names)
    if isinstance(replacement, Run):
        check_same_origin(run.origin, replacement.origin, "a patch from a donor run")
    donor = with_sites(replacement, names) if isinstance(replacement, Run) else None
    values, source = replacement_for(run, replacement if donor is None else donor)
    mask = replaceable(run, replacement if donor is None else donor)
    forward = PatchedForward(run, unpadded_replacement(values, run.mask))
    measured = metric_for(run, donor, metric, answer_positions)
    if method == "attribution" and measured.name in FLAT:
        raise LoopscopeError(
            f"the metric '{measured.name}' has no slope where nothing is patched, so attribution would find "
            "nothing. Use 'margin' or 'difference', or method=\"exact\"."
        )
    base = measured(run.logits[run.iterations]).detach()
    return _Setup(run, names, donor, source, forward, measured, base, mask)


def _result(
    setup: _Setup,
    grid: PatchGrid,
    values: Tensor,
    *,
    method: Method,
    agreement: AttributionAgreement | None,
) -> Effects:
    run, donor, metric = setup.run, setup.donor, setup.metric
    target = None
    if donor is not None:
        last = donor.logits[donor.iterations]
        target = metric(last.expand_as(run.logits[run.iterations])).detach()
    return Effects(
        values=values,
        sites=tuple(" + ".join(map(str, group)) for group in grid.places),
        iterations=grid.iterations,
        positions=grid.positions,
        heads=grid.heads,
        method=method,
        metric=metric.name,
        unit=metric.unit,
        source=setup.source,
        base=setup.base,
        target=target,
        agreement=agreement,
        counted=_counted(setup, grid),
    )


def _exact(
    setup: _Setup, grid: PatchGrid, cells: dict[PatchCell, tuple[int, int, int, int]], tokens: int | None
) -> Tensor:
    forward, metric, base = setup.forward, setup.metric, setup.base
    values = base.new_full((*grid.shape, *base.shape), float("nan"))
    changing = [cell for cell in cells if _changes(setup, cell)]
    for cell in cells.keys() - set(changing):
        values[cells[cell]] = base - base
    with progress("patching", len(changing)) as step:
        for patched in forward.states_after(changing, tokens):
            if patched.k < forward.iterations:
                continue
            for cell, logits in zip(patched.cells, forward.decode(patched), strict=True):
                values[cells[cell]] = metric(logits) - base
                step()
    return values


def _changes(setup: _Setup, cell: PatchCell) -> bool:
    """Whether a donor's values differ from the run's own, as those of equal initial states don't:
    such a patch needs no pass, its effect is 0."""
    if setup.donor is None:
        return True
    for place in cell.places:
        value = value_at(setup.run, place, cell.iteration)
        if value is None:
            continue
        patch = setup.forward.replacement(place, cell.iteration, value).to(value.dtype)
        if not torch.equal(torch.where(cell.mask(place, value), patch, value), value):
            return True
    return False


def _attributed(
    setup: _Setup, grid: PatchGrid, *, exact_cells: int, seed: int, tokens: int | None
) -> tuple[Tensor, AttributionAgreement | None]:
    run, forward, metric, base = setup.run, setup.forward, setup.metric, setup.base
    places = [place for group in grid.places for place in group]
    first_order = {
        key: finite_estimate(estimate, key[0], run.mask)
        for key, estimate in estimates(
            run, places, forward.replacement, slopes(forward, places, metric)
        ).items()
    }
    values = base.new_full((*grid.shape, *base.shape), float("nan"))
    cells = grid.cells(run)
    for cell, index in cells.items():
        # a value that is not of floating point has no slope and adds nothing
        parts = [
            _cell_sum(estimate, place, cell)
            for place in cell.places
            if (estimate := first_order.get((place, cell.iteration))) is not None
        ]
        total = torch.stack([torch.zeros_like(base), *parts]).sum(0)
        values[index] = total.masked_fill(base.isnan(), torch.nan)
    if not exact_cells:
        return values, None
    generator = torch.Generator().manual_seed(mixed(seed, 0))
    every = list(cells)
    drawn = [every[i] for i in torch.randperm(len(every), generator=generator)[:exact_cells].tolist()]
    exact = _exact(setup, grid, {cell: cells[cell] for cell in drawn}, tokens)
    counted = _counted(setup, grid)[:, None].expand(values.shape[2:])
    return values, _agreement(values.where(counted, torch.nan), exact, len(drawn))


def _counted(setup: _Setup, grid: PatchGrid) -> Bool[Tensor, "position batch"]:
    """Which examples count for each group of positions."""
    size = position_count(setup.run, grid.places[0][0])
    return counted_groups(setup.run, setup.mask, grid.positions, size).to(setup.base.device)


def _cell_sum(estimate: Tensor, place: Place, cell: PatchCell) -> Float[Tensor, " batch"]:
    """A place's estimate summed over the positions and heads of a cell."""
    axes = [name for name in ("position", "head") if name in place.axes]
    for axis, indices in reversed([(1 + i, getattr(cell, f"{name}s")) for i, name in enumerate(axes)]):
        part = estimate if indices is None else estimate[(slice(None),) * axis + (list(indices),)]
        estimate = part.sum(axis)
    return estimate


def _agreement(values: Tensor, exact: Tensor, cells: int) -> AttributionAgreement:
    both = torch.isfinite(values) & torch.isfinite(exact)
    x, y = values[both].double(), exact[both].double()
    x0, y0 = x - x.mean(), y - y.mean()
    size = x0.norm() * y0.norm()
    nonzero = y != 0
    return AttributionAgreement(
        cells=cells,
        correlation=float((x0 * y0).sum() / size) if float(size) > 0 else float("nan"),
        same_sign=float((x[nonzero].sign() == y[nonzero].sign()).double().mean())
        if bool(nonzero.any())
        else float("nan"),
    )
