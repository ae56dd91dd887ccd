"""Attention of two roles in one iteration: of the updates in an inner loop, and of the update that
closes the iteration.

For each answered cell, from its row of attention (mean over heads): the share that goes to its
neighbours by the task's rules, the entropy over ln of the number of cells, and the share that goes
to cells in conflict on the board that the read-out of the state fills in. The inner update is the
first of an iteration. Differences are taken board by board, and are positive where the inner role
is the more local: neighbours and conflicts inner - outer, entropy outer - inner.

After Shen, Su & Kyrillidis 2026 (arXiv 2605.17811). Their neighbours include the cell itself; here
they don't, as attention to oneself follows no rule: `self` is that share, and adding it gives
theirs. Their boards are read out whole; here the cells of the input keep their values.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.core.states import States
from loopscope.maths.attention import evenness, mass
from loopscope.runs.run import Run

LABELS = {
    "neighbours": "attention to neighbours",
    "entropy": "concentration (entropy / ln n, sign reversed)",
    "conflicts": "attention to cells in conflict",
}
"""The quantities that are compared, in words."""


@dataclass(frozen=True)
class BoardMean:
    """A mean over boards with its 95 % interval, mean ± 1.96 standard errors; NaN for fewer than
    two boards."""

    mean: float
    half_width: float
    boards: int


@dataclass(frozen=True)
class AttentionContrast:
    """What the two roles of an iteration attend to. `layer` counts the blocks of each role in
    order."""

    inner_axis: str
    """The axis of the inner loop, such as "low"."""
    layers: tuple[tuple[str, str], ...]
    """The sites of both roles, (inner, outer), by layer."""
    inner: dict[str, Float[Tensor, "iteration layer"]]
    """By quantity (neighbours, self, entropy, conflicts), mean over boards, in the inner role; NaN
    where no board has a conflict."""
    outer: dict[str, Float[Tensor, "iteration layer"]]
    """The same in the outer role."""
    differences: dict[str, tuple[BoardMean, ...]]
    """By quantity, for each layer, mean over iterations and then boards."""
    chance: float
    """The share of neighbours if attention were uniform over cells."""

    def summary(self) -> str:
        """The differences in a sentence."""
        parts = []
        for name, words in LABELS.items():
            values = ", ".join(
                f"{d.mean:+.3f} ± {d.half_width:.3f}" if d.boards else "unknown"
                for d in self.differences[name]
            )
            parts.append(f"{words} {values}")
        return (
            f"Differences of attention by layer, positive where the {self.inner_axis} updates are more "
            f"local (mean ± half of the 95 % interval over boards): {'; '.join(parts)}."
        )


def attention_contrast(
    run: Run,
    names: list[str],
    answer_positions: Bool[Tensor, "batch position"],
    neighbours: Bool[Tensor, "position position"],
    *,
    conflicts: Bool[Tensor, "iteration batch position"],
) -> AttentionContrast | None:
    """The attention of two roles; None if the sites aren't those of two roles with as many layers.

    Arguments:
        run: with the patterns recorded.
        names: the sites of the patterns, as the model names them.
        answer_positions: the cells whose attention counts.
        conflicts: by the iteration that reads them.
    """
    sites = [name for name in run.names if name.partition("@")[0] in names and isinstance(run[name], States)]
    inner = [name for name in sites if run[name].inner and "call" not in run[name].axes]
    outer = [name for name in sites if not run[name].inner and run[name].axes[0] == "iteration"]
    if not inner or len(inner) != len(outer) or len(run[inner[0]].inner) != 1:
        return None
    options = {"answer_positions": answer_positions, "neighbours": neighbours, "conflicts": conflicts}
    first = _by_layer([_attention(run[name], 0, **options) for name in inner])
    second = _by_layer([_attention(run[name], None, **options) for name in outer])
    return AttentionContrast(
        inner_axis=run[inner[0]].axes[1],
        layers=tuple(zip(inner, outer, strict=True)),
        inner={name: value.nanmean(-1) for name, value in first.items()},
        outer={name: value.nanmean(-1) for name, value in second.items()},
        differences={
            name: tuple(
                _board_mean(
                    (second[name] - first[name] if name == "entropy" else first[name] - second[name])[
                        :, layer
                    ]
                )
                for layer in range(len(inner))
            )
            for name in LABELS
        },
        chance=float(neighbours.double().mean(1).mean()),
    )


def _by_layer(layers: list[dict[str, Tensor]]) -> dict[str, Float[Tensor, "iteration layer board"]]:
    return {name: torch.stack([layer[name] for layer in layers], 1) for name in layers[0]}


def _attention(
    site: States, turn: int | None, *, answer_positions: Tensor, neighbours: Tensor, conflicts: Tensor
) -> dict[str, Float[Tensor, "iteration board"]]:
    """One layer in one role, board by board."""
    result: dict[str, list[Tensor]] = {"neighbours": [], "self": [], "entropy": [], "conflicts": []}
    for t in site.iterations:
        value = site[t] if turn is None else site[t][turn]
        pattern = value.detach().double().cpu().mean(1)  # (batch, query, key), mean over heads
        has_conflict = conflicts[t].any(-1)
        rows = {
            "neighbours": mass(pattern, neighbours),
            "self": mass(pattern, torch.eye(pattern.shape[-1], dtype=torch.bool)),
            "entropy": evenness(pattern),
            "conflicts": mass(pattern, conflicts[t][:, None, :]).where(has_conflict[:, None], math.nan),
        }
        for name, row in rows.items():
            result[name].append(row.where(answer_positions, 0).sum(-1) / answer_positions.sum(-1))
    return {name: torch.stack(values) for name, values in result.items()}


def _board_mean(x: Float[Tensor, "iteration board"]) -> BoardMean:
    boards = x.nanmean(0)
    boards = boards[~boards.isnan()]
    if not len(boards):
        return BoardMean(math.nan, math.nan, 0)
    half_width = 1.96 * float(boards.std()) / math.sqrt(len(boards)) if len(boards) > 1 else math.nan
    return BoardMean(float(boards.mean()), half_width, len(boards))
