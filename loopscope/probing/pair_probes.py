"""Probes of relations: what can be decoded from the difference of two states, though perhaps from
neither of them.

Source: "Relational Preference Encoding in Looped Transformer Internal States" 2026 (arXiv
2604.09870): logistic regression on h(a) - h(b), and the flip test: score(a, b) and score(b, a) must
have opposite signs, or the probe uses the order or the identity of the examples, not the relation.

What can mislead:
- Without pairs in both orders a probe can be right by a constant. Then its flip rate is 0, whatever
  its accuracy.
- A probe of single states can be clearly below chance where each pair holds one of each kind and
  pairs share examples: it has memorised the examples of the other pairs. That is a leak and no
  information about the relation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray as Array
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.text import percent
from ..plots import style
from ..recorder.labels import task_of
from ..runs.run import Run
from .folds import input_hashes
from .pair_fit import Pairing, PairSplit, pair_scores, pair_split
from .sources import RunSource, pooled

if TYPE_CHECKING:
    import plotly.graph_objects as go


def pair_curves(result: "PairProbes") -> "go.Figure":
    """Accuracy and flip rate of a relation, by iteration."""
    figure = style.empty(
        "A relation, decoded from two states", "iterations run", "fraction of held-out pairs", 400
    )
    lines = (
        ("both orders right", result.score, style.BLUE, 3, "solid"),
        ("changes sign when swapped", result.flip, style.GREEN, 2, "solid"),
        ("from one state only", result.single, style.ORANGE, 2, "solid"),
        ("random relations", result.control, style.GREY, 2, "dash"),
    )
    for name, values, colour, width, dash in lines:
        figure.add_scatter(
            x=list(result.iterations), y=[round(v, 4) for v in values.tolist()], name=name,
            mode="lines+markers",
            line={"color": colour, "width": width, "dash": dash}, hovertemplate=f"{name}: "
                                                                                "%{y:.1%}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


_PRINTED = ("score", "low", "high", "control", "single", "flip", "flip_unbiased")


@dataclass(frozen=True)
class PairProbes:
    """Probes of a relation between two examples, by iteration. Fractions of held-out pairs."""

    site: str
    iterations: tuple[int, ...]
    score: Float[Tensor, " iteration"]
    """Accuracy, in both orders."""
    low: Float[Tensor, " iteration"]
    high: Float[Tensor, " iteration"]
    flip: Float[Tensor, " iteration"]
    """Pairs whose two orders get opposite signs."""
    flip_unbiased: Float[Tensor, " iteration"]
    """The same after subtracting the mean of each probe's scores over both orders."""
    ordered: Float[Tensor, " iteration"]
    """Accuracy in the order of `pairs` only, a test that a constant can pass."""
    control: Float[Tensor, " iteration"]
    """Accuracy with random relations."""
    single: Float[Tensor, " iteration"]
    """Accuracy of a probe of one state of a pair: is it the one that the relation favours?"""
    pairs: int
    """Tested."""
    untested: int
    """Pairs whose two examples are in different folds."""
    groups: int
    form: str
    swapped: bool
    """Whether the probe was trained on both orders."""

    def __str__(self) -> str:
        k = int(self.score.argmax())
        printed = {name: percent(float(getattr(self, name)[k])) for name in _PRINTED}
        inverted = (
            " The single states are below chance, which is an effect of how the pairs were sampled."
            if float(self.single[k]) < 0.5 - 1.96 * (0.25 / self.pairs) ** 0.5
            else ""
        )
        left = (
            f" {self.untested} pairs were not tested, as their examples lie in different folds."
            if self.untested
            else ""
        )
        return (
            f"The relation between two states of '{self.site}' is decoded best at iteration "
            f"{self.iterations[k]}: {printed['score']} of {self.pairs} held-out pairs, in both orders (95 % "
            f"interval {printed['low']} to {printed['high']}); random relations {printed['control']}, from "
            f"one state only {printed['single']}. Of the pairs {printed['flip']} change sign when swapped, "
            f"{printed['flip_unbiased']} after subtracting the constant.{inverted}{left}"
        )

    def figure(self) -> "go.Figure":
        """Accuracy and flip rate over iterations."""
        return pair_curves(self)


def fit_pairs(
    run: Run,
    pairs: Any,
    relation: Any,
    *,
    site: str = "state",
    iterations: Sequence[int] | None = None,
    position: int | str = -1,
    form: str = "difference",
    swap: bool = True,
    groups: Any = None,
    folds: int = 5,
    seed: int = 0,
) -> PairProbes:
    """Train probes of a relation: logistic regression on the difference of two states, standardised
    in the training folds.

    Two examples of a pair, pairs that share an example, and equal inputs are never on both sides of
    a split: folds consist of connected components of pairs, or, where there are too few of these,
    of examples; pairs across two folds are not tested.

    Arguments:
        pairs: (pair, 2): numbers of examples in the run.
        relation: (pair): True where it holds in this order, False where it holds the other way
            round.
        position: a position, or "pooled".
        form: "difference" of the two states, or "both" of them concatenated, which can learn the
            order or the identity instead.
        swap: train on both orders; False: only in the order of `pairs`.

    Raises:
        LoopscopeError: pairs of other shapes, too few of them, or examples that have left the loop.
    """
    source = RunSource(run, [site], iterations)
    pair, holds = _checked(pairs, relation, source.batch)
    if form not in ("difference", "both"):
        raise LoopscopeError(f"form must be 'difference' or 'both', but is {form!r}.")
    identity, same = input_hashes(source.tokens, source.batch, task_of(run), source.mask)
    _require_counted(source, pair, position)
    fold, group, count = pair_split(pair, identity, same, groups, folds=folds, seed=seed)
    tested = fold[pair[:, 0]] == fold[pair[:, 1]]
    split = PairSplit(fold, group, tested, folds)
    if int(tested.sum()) < 2 * folds:
        raise LoopscopeError(
            f"pairs must have both examples in one fold to be tested, but only {int(tested.sum())} of "
            f"{len(pair)} have. Give more pairs, or fewer folds=."
        )
    rows = []
    controls = np.random.default_rng([seed, 13]).integers(0, 2, (3, len(pair))).astype(bool)
    pairing = Pairing(pair, holds, controls)
    for k in source.iterations[site]:
        x = _state_vectors(source, site, k, position)
        rows.append(pair_scores(x, pairing, split, form=form, swap=swap))
    table = torch.tensor(rows, dtype=torch.float64).T
    return PairProbes(
        site, tuple(source.iterations[site]), *table, pairs=int(tested.sum()),
        untested=int((~tested).sum()), groups=count,
        form=form, swapped=swap,
    )  # fmt: skip


def _state_vectors(source: RunSource, site: str, k: int, position: int | str) -> Array:
    """(example, width): the states of all examples after k iterations."""
    (chunk,) = source.chunks([(site, k)])
    features = chunk.pieces[site, k]
    if features.present is not None and not bool(features.present.all()):
        raise LoopscopeError(
            f"pairs need all examples, but some have left the loop before iteration {k}. Pass iterations=."
        )
    x = features.values.cpu().double().numpy()
    if position == "pooled":
        return x.mean(1) if source.mask is None else pooled(x, source.mask.numpy())
    return x[:, int(position)]


def _require_counted(source: RunSource, pair: Array, position: int | str) -> None:
    """Raise LoopscopeError if the position doesn't count in an example of a pair."""
    if source.mask is None:
        return
    mask = source.mask.any(1) if position == "pooled" else source.mask[:, int(position)]
    without = [int(row) for row in np.unique(pair) if not bool(mask[int(row)])]
    if without:
        raise LoopscopeError(
            f"the position must count in every example of a pair, but position {position} does not in "
            f'example {without[0]} (padding). Pass another position, or position="pooled".'
        )


def _checked(pairs: Any, relation: Any, batch: int) -> tuple[Array, Array]:
    pair = np.asarray(pairs.cpu() if isinstance(pairs, Tensor) else pairs)
    holds = np.asarray(relation.cpu() if isinstance(relation, Tensor) else relation)
    if pair.ndim != 2 or pair.shape[1] != 2 or pair.dtype.kind not in "iu" or holds.shape != (len(pair),):
        raise LoopscopeError(
            f"pairs must be (pair, 2) numbers of examples, and relation (pair), but are {pair.shape} and "
            f"{holds.shape}."
        )
    if len(pair) == 0 or pair.min() < 0 or pair.max() >= batch or (pair[:, 0] == pair[:, 1]).any():
        raise LoopscopeError(f"each pair must be of two different examples of 0..{batch - 1}.")
    return pair, holds.astype(bool)
