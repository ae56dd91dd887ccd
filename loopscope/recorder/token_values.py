"""The part of a pass that computed a token: the rows that were returned, up to the position from
which the token was read."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..core.indexing import indices
from ..core.states import States
from ..runs.keep import Keep
from ..runs.run import Run
from ..wrapping.call_tracker import ITERATION


def part_of_run(run: Run, rows: Tensor, size: tuple[int, int], end: int, keep: Keep) -> Run:
    """A run's part: these rows, up to a position.

    Arguments:
        rows: (row,) by number in the pass's batch; -1: absent, NaN.
        size: the batch and the positions of the pass.
        end: how many of its positions.
        keep: what of the run was kept.
    """
    batch, length = size
    kept = _kept(keep, length)
    sites: dict[str, States | Tensor] = {}
    for name in run.names:
        site = run[name]
        states = site if isinstance(site, States) else as_states(name, site)
        axes, depth = states.axes, len(states.axes) - _width(states)
        values: dict[tuple[int, ...], Tensor] = {}
        masks: dict[tuple[int, ...], Tensor] = {}
        for index, whole in states.items():
            value = whole
            axis = _position_axis(axes[depth:], value, len(kept))
            if axis is not None:
                at = [number for number, position in enumerate(kept) if position < end]
                value = value.index_select(axis, torch.tensor(at, dtype=torch.long, device=value.device))
            if value.ndim and value.shape[0] == batch:
                value, masks[index] = _with_rows(value, rows, states.rows.get(index))
            values[index] = value
        masks = {index: mask for index, mask in masks.items() if not mask.all()}
        cut = States(name, values, axes, states.iteration_range, rows=masks, without_grad=states.without_grad)
        sites[name] = cut if isinstance(site, States) else values[(0,)]
    output = run.output
    if isinstance(output, Tensor) and output.ndim and output.shape[0] == batch:
        if output.ndim > 2:
            output = output[:, : output.shape[1] - (length - end)]
        output = _with_rows(output, rows, None)[0]
    tokens, inputs, whole = run.tokens, dict(run.inputs), isinstance(run.tokens, Tensor)
    if whole and tokens.shape[:2] == size:
        # A row that has met its end is still in the pass, as filling.
        sources = torch.arange(len(rows)) if len(rows) == batch else rows.clamp(min=0)
        sources = torch.where(rows < 0, sources, rows).to(tokens.device)
        tokens, inputs = tokens[sources, :end], {name: value[sources, :end] for name, value in inputs.items()}
        if bool((rows < 0).any()):  # it doesn't count
            mask = inputs.get("attention_mask", torch.ones_like(tokens))
            inputs["attention_mask"] = mask * (rows >= 0).to(mask)[:, None]
    part = Run(
        tokens=tokens,
        inputs=inputs,
        iterations=run.iterations,
        sites=sites,
        output=output,
        origin=run.origin,
        reader=run.reader if run.has_model else None,
    )
    return part


def values_at(
    site: str,
    runs: Sequence[Run],
    total: int,
    rows: Mapping[int, tuple[Tensor, Tensor, int, int]],
    keep: Keep,
) -> tuple[dict[tuple[int, ...], tuple[Tensor, Tensor]], tuple[str, ...]]:
    """The values of a site at the position from which a token was read.

    Arguments:
        total: how many rows were returned.
        rows: by pass: the returned rows that it computed, the same in its batch, the position, and
            the number of its positions.

    Returns:
        by loop index the values of all returned rows, NaN where absent, and which are present; and
        the names of the axes without positions.
    """
    result: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
    axes: tuple[str, ...] = ()
    for number, (returned, sources, position, length) in rows.items():
        if site not in runs[number]:
            continue
        recorded = runs[number][site]
        states = recorded if isinstance(recorded, States) else as_states(site, recorded)
        kept = _kept(keep, length)
        depth = len(states.axes) - _width(states)
        for index, value in states.items():
            axis = _position_axis(states.axes[depth:], value, len(kept))
            if axis is not None:
                if position not in kept:
                    continue
                value = value.select(axis, kept.index(position))
            elif position < length - 1:
                continue  # one value for all positions of the pass, those after the token too
            elif "position" in states.axes[depth:]:
                axis = _single_axis(states.axes[depth:], value)  # of the last position alone
                value = value if axis is None else value.select(axis, 0)
            names = states.axes[depth:]
            axes = states.axes[:depth] + tuple(n for d, n in enumerate(names) if d != axis)
            whole, present = result.get(index) or (
                _absent(value, total),
                torch.zeros(total, dtype=torch.bool),
            )
            there = torch.ones(len(sources), dtype=torch.bool)
            if index in states.rows:
                there = states.rows[index][sources]
            target = returned[there].to(value.device)
            result[index] = (
                whole.index_copy(0, target, value[sources[there].to(value.device)]),
                present.index_fill(0, returned[there], True),
            )
    return result, axes


def as_states(name: str, value: Tensor) -> States:
    """A value outside the loop as if it were of one iteration."""
    axes = (*ITERATION, "batch", "position", "width")
    return States(name, {(0,): value}, axes[: value.ndim + 1], 1)


def _kept(keep: Keep, length: int) -> list[int]:
    """The positions of a pass that were kept."""
    if keep.positions is None:
        return list(range(length))
    where = keep.positions if isinstance(keep.positions, slice) else list(keep.positions)
    kept = indices(where, length, "position")
    return [kept] if isinstance(kept, int) else kept


def _position_axis(axes: tuple[str, ...], value: Tensor, count: int) -> int | None:
    """The axis of positions; None if there is none, as after a mean over positions."""
    axis = axes.index("position") if "position" in axes else None
    return None if axis is None or value.shape[axis] != count else axis


def _single_axis(axes: tuple[str, ...], value: Tensor) -> int | None:
    """The axis of positions, if there is one of them; else None."""
    axis = axes.index("position")
    return axis if value.shape[axis] == 1 else None


def _width(states: States) -> int:
    """How many axes each value has."""
    return next((value.ndim for _, value in states.items()), 0)


def _with_rows(value: Tensor, rows: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """These rows of a value, NaN where absent, and which are present."""
    there = rows >= 0
    if present is not None:
        there = there & present[rows.clamp(min=0)]
    picked = value.index_select(0, rows.clamp(min=0).to(value.device))
    if not there.all():
        picked[(~there).to(value.device)] = float("nan") if value.is_floating_point() else 0
    return picked, there


def _absent(value: Tensor, rows: int) -> Tensor:
    shape = (rows, *value.shape[1:])
    return value.new_full(shape, float("nan")) if value.is_floating_point() else value.new_zeros(shape)
