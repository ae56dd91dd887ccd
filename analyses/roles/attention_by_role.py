"""Attention of two roles in one iteration: of the updates in an inner loop, and of the update that
closes the iteration.

For each asked cell, from its row of attention (mean over heads): the share that goes to its
neighbours by the task's rules, the entropy over ln of the number of cells, and the share that goes
to cells in conflict in the board that the states' read-out fills in. The inner update looked at is
the first of an iteration. Differences are taken board by board, so that they are positive where the
inner role is the more local: neighbours and conflicts inner - outer, entropy outer - inner.

After Shen, Su & Kyrillidis 2026 (arXiv 2605.17811). Their neighbours include the cell itself; here
they don't, as a cell that looks at itself looks at no rule: `own` is that share, and adding it
gives theirs. Their boards are read out whole; here what is given stands as given.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.core.states import States
from loopscope.maths.attention import evenness, mass
from loopscope.runs.run import Run

NAMES = {
    "neighbours": "to neighbours",
    "entropy": "narrowness (entropy / ln n)",
    "conflicts": "to cells in conflict",
}


@dataclass(frozen=True)
class Interval:
    """A mean over boards with its 95 % interval, mean ± 1.96 standard errors; NaN for fewer than
    two boards."""

    mean: float
    half: float
    boards: int


@dataclass(frozen=True)
class Contrast:
    """What the two roles of an iteration attend to. `layer` counts the blocks of each role in their
    order."""

    inner: str
    """The axis of the inner loop, such as "low"."""
    layers: tuple[tuple[str, str], ...]
    """The sites of both roles, (inner, outer), by layer."""
    inside: dict[str, Float[Tensor, "iteration layer"]]
    """By quantity (neighbours, own, entropy, conflicts), mean over boards, at the inner role; NaN
    where none has a conflict."""
    outside: dict[str, Float[Tensor, "iteration layer"]]
    """The same at the outer role."""
    differences: dict[str, tuple[Interval, ...]]
    """By quantity, for each layer, mean over iterations and then boards."""
    chance: float
    """The share of neighbours if attention went to all cells alike."""


def contrast(
    run: Run,
    names: list[str],
    answer_positions: Bool[Tensor, "batch position"],
    neighbours: Bool[Tensor, "position position"],
    *,
    conflicts: Bool[Tensor, "iteration batch position"],
) -> Contrast | None:
    """The attention of two roles; None if the sites aren't those of two roles with as many layers.

    Arguments:
        run: with the patterns recorded.
        names: the sites of the patterns, as the model knows them.
        answer_positions: the cells whose attention counts.
        conflicts: by the iteration that reads them.
    """
    sites = [name for name in run.names if name.partition("@")[0] in names and isinstance(run[name], States)]
    inner = [name for name in sites if run[name].inner and "call" not in run[name].axes]
    outer = [name for name in sites if not run[name].inner and run[name].axes[0] == "iteration"]
    if not inner or len(inner) != len(outer) or len(run[inner[0]].inner) != 1:
        return None
    axis = run[inner[0]].axes[1]
    seen = [
        [_seen(run[name], role, answer_positions, neighbours, conflicts=conflicts) for name in result]
        for role, result in ((0, inner), (None, outer))
    ]
    first, second = ({k: torch.stack([one[k] for one in role], 1) for k in role[0]} for role in seen)
    return Contrast(
        inner=axis,
        layers=tuple(zip(inner, outer, strict=True)),
        inside={name: value.nanmean(-1) for name, value in first.items()},
        outside={name: value.nanmean(-1) for name, value in second.items()},
        differences={
            name: tuple(
                _interval(
                    (second[name] - first[name] if name == "entropy" else first[name] - second[name])[:, i]
                )
                for i in range(len(inner))
            )
            for name in NAMES
        },
        chance=float(neighbours.double().mean(1).mean()),
    )


def _seen(
    site: States, turn: int | None, answer_positions: Tensor, neighbours: Tensor, *, conflicts: Tensor
) -> dict[str, Float[Tensor, "iteration board"]]:
    """One layer in one role, board by board."""
    result: dict[str, list[Tensor]] = {"neighbours": [], "own": [], "entropy": [], "conflicts": []}
    for t in site.iterations:
        value = site[t] if turn is None else site[t][turn]
        pattern = value.detach().double().cpu().mean(1)  # (batch, query, key), mean over heads
        there = conflicts[t].any(-1)
        rows = {
            "neighbours": mass(pattern, neighbours),
            "own": mass(pattern, torch.eye(pattern.shape[-1], dtype=torch.bool)),
            "entropy": evenness(pattern),
            "conflicts": mass(pattern, conflicts[t][:, None, :]).where(there[:, None], math.nan),
        }
        for name, row in rows.items():
            result[name].append(row.where(answer_positions, 0).sum(-1) / answer_positions.sum(-1))
    return {name: torch.stack(values) for name, values in result.items()}


def _interval(x: Float[Tensor, "iteration board"]) -> Interval:
    per = x.nanmean(0)
    per = per[~per.isnan()]
    if not len(per):
        return Interval(math.nan, math.nan, 0)
    half = 1.96 * float(per.std()) / math.sqrt(len(per)) if len(per) > 1 else math.nan
    return Interval(float(per.mean()), half, len(per))


def told(result: Contrast) -> str:
    """The differences in a sentence."""
    parts = []
    for name, words in NAMES.items():
        values = ", ".join(
            f"{d.mean:+.3f} ± {d.half:.3f}" if d.boards else "unknown" for d in result.differences[name]
        )
        parts.append(f"{words} {values}")
    return (
        f"Attention by layer, positive where the {result.inner} updates are the more local (mean ± half of "
        f"the 95 % interval over boards): {'; '.join(parts)}."
    )
