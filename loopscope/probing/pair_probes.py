"""Probes of relations: what can be read off the difference of two states, though perhaps off
neither alone.

Source: "Relational Preference Encoding in Looped Transformer Internal States" 2026 (arXiv
2604.09870): logistic regression on h(a) - h(b), and the flip test: score(a, b) and score(b, a) must
have opposite signs, or the probe listens to the order or to who was shown, and not to the relation.

What can mislead:
- Without pairs in both orders a probe can be right by a constant. Then its flip rate is 0, whatever
  its accuracy.
- A probe of single states can come out clearly below chance where each pair holds one of each kind
  and pairs share examples: it has learned who was in the other half of the pairs. That is a leak,
  not a finding, and no information about the relation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
from . import intervals
from .folds import folding, identities
from .labels import Labels
from .sources import RunSource


def pair_curves(result: "PairProbes") -> Any:
    """Accuracy and flip rate of a relation, by iteration."""
    figure = style.empty(
        "A relation, read off two states", "iterations run", "fraction of pairs held out", 400
    )
    lines = (
        ("both orders right", result.score, style.BLUE, 3, "solid"),
        ("changes sign when turned round", result.flip, style.GREEN, 2, "solid"),
        ("from one state alone", result.single, style.ORANGE, 2, "solid"),
        ("drawn by lot", result.control, style.GREY, 2, "dash"),
    )
    for name, values, colour, width, dash in lines:
        figure.add_scatter(
            x=list(result.iterations), y=[round(v, 4) for v in values.tolist()], name=name, mode="lines+markers",
            line={"color": colour, "width": width, "dash": dash}, hovertemplate=f"{name}: "
                                                                                "%{y:.1%}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


_TOLD = ("score", "low", "high", "control", "single", "flip", "flip_unbiased")


@dataclass(frozen=True)
class PairProbes:
    """Probes of a relation between two examples, by iteration. Fractions of pairs held out."""

    site: str
    iterations: tuple[int, ...]
    score: Float[Tensor, " iteration"]
    """Accuracy, in both orders."""
    low: Float[Tensor, " iteration"]
    high: Float[Tensor, " iteration"]
    flip: Float[Tensor, " iteration"]
    """Pairs whose two orders get opposite signs, as the probe is."""
    flip_unbiased: Float[Tensor, " iteration"]
    """The same with the mean of each probe's scores over both orders taken off."""
    as_given: Float[Tensor, " iteration"]
    """Accuracy in the order in which the pairs were given; the test that a constant can pass."""
    control: Float[Tensor, " iteration"]
    """Accuracy with relations drawn by lot."""
    single: Float[Tensor, " iteration"]
    """Accuracy of a probe that sees one state of a pair and says whether it is the one the relation
    favours."""
    pairs: int
    """Tested."""
    left_out: int
    """Never tested, because their two examples are in different folds."""
    groups: int
    form: str
    swapped: bool
    """Whether the probe was trained on both orders."""

    def __str__(self) -> str:
        k = int(self.score.argmax())
        told = {name: percent(float(getattr(self, name)[k])) for name in _TOLD}
        inverted = (
            " The single states come out below chance: what they tell is how the pairs were put together."
            if float(self.single[k]) < 0.5 - 1.96 * (0.25 / self.pairs) ** 0.5
            else ""
        )
        left = (
            f" {self.left_out} pairs were not tested, as their examples lie in different folds."
            if self.left_out
            else ""
        )
        return (
            f"The relation between two states of '{self.site}' is read best at iteration "
            f"{self.iterations[k]}: {told['score']} of {self.pairs} pairs held out, in both orders (95 % "
            f"interval {told['low']} to {told['high']}); relations drawn by lot {told['control']}, from one "
            f"state alone {told['single']}. Of the pairs {told['flip']} change sign when turned round, "
            f"{told['flip_unbiased']} with the constant taken off.{inverted}{left}"
        )

    def figure(self) -> Any:
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
    a split: folds are made of pairs that hang together, or, where too many do, of examples, and
    pairs across two folds are not tested.

    Arguments:
        pairs: (pair, 2): numbers of examples in the run.
        relation: (pair): True where it holds in this order, False where it holds the other way
            round.
        position: a position, or "pooled".
        form: "difference" of the two states, or "both" of them side by side, which can be fooled by
            order and identity.
        swap: train on both orders. Without, only as given.
    """
    source = RunSource(run, [site], iterations)
    pair, holds = _checked(pairs, relation, source.batch)
    if form not in ("difference", "both"):
        raise LoopscopeError(f"form must be 'difference' or 'both', but is {form!r}.")
    identity, same = identities(source.tokens, source.batch, task_of(run))
    fold, group, count = _split(pair, identity, same, groups, folds=folds, seed=seed)
    tested = fold[pair[:, 0]] == fold[pair[:, 1]]
    split = _Split(fold, group, tested, folds)
    if int(tested.sum()) < 2 * folds:
        raise LoopscopeError(
            f"pairs must have both examples in one fold to be tested, but only {int(tested.sum())} of "
            f"{len(pair)} have. Give more pairs, or fewer folds=."
        )
    rows = []
    lots = np.random.default_rng([seed, 13]).integers(0, 2, (3, len(pair))).astype(bool)
    pairing = _Pairing(pair, holds, lots)
    for k in source.iterations[site]:
        (chunk,) = source.chunks([(site, k)])
        piece = chunk.pieces[site, k]
        if piece.present is not None and not bool(piece.present.all()):
            raise LoopscopeError(
                f"pairs need all examples, but some have left the loop before iteration {k}. Pass "
                "iterations=."
            )
        x = piece.values.cpu().double().numpy()
        x = x.mean(1) if position == "pooled" else x[:, int(position)]
        rows.append(_scores(x, pairing, split, form=form, swap=swap))
    table = torch.tensor(rows, dtype=torch.float64).T
    return PairProbes(
        site, tuple(source.iterations[site]), *table, pairs=int(tested.sum()), left_out=int((~tested).sum()), groups=count,
        form=form, swapped=swap,
    )  # fmt: skip


@dataclass(frozen=True)
class _Pairing:
    """Pairs of examples, and the relation between them."""

    pair: Array
    """(pair, 2): numbers of examples."""
    holds: Array
    """(pair)"""
    lots: Array
    """(lot, pair): relations drawn by lot."""


@dataclass(frozen=True)
class _Split:
    """What is held out when."""

    fold: Array
    """(example)"""
    group: Array
    """(example)"""
    tested: Array
    """(pair)"""
    folds: int


def _scores(x: Array, pairing: _Pairing, split: _Split, *, form: str, swap: bool) -> list[float]:
    """All numbers at one iteration, in the order of PairProbes' fields."""
    pair, holds, tested = pairing.pair, pairing.holds, split.tested
    ahead, behind, middle, control, single = _outputs(x, pairing, split, form=form, swap=swap)
    ahead, behind, middle, truth = ahead[tested], behind[tested], middle[tested], holds[tested]
    hits = 0.5 * ((ahead > 0) == truth) + 0.5 * ((behind > 0) == ~truth)
    cluster = split.group[pair[tested, 0]]
    low, high = intervals.of_share(np.bincount(cluster, hits), np.bincount(cluster), 0.5, split.folds)
    flip = (ahead > 0) != (behind > 0)
    unbiased = ((ahead - middle) > 0) != ((behind - middle) > 0)
    as_given = (ahead > 0) == truth
    return [
        hits.mean(),
        low,
        high,
        flip.mean(),
        unbiased.mean(),
        as_given.mean(),
        control[tested].mean(),
        single[tested].mean(),
    ]


def _outputs(x: Array, pairing: _Pairing, split: _Split, *, form: str, swap: bool) -> tuple[Array, ...]:
    """By pair, held out: the probe's score in its order and in the other, their mean in its fold;
    the share of right answers of probes of lots, and of probes of one state."""
    pair, holds, lots, fold = pairing.pair, pairing.holds, pairing.lots, split.fold
    a, b = x[pair[:, 0]], x[pair[:, 1]]
    forward, back = (a - b, b - a) if form == "difference" else (np.hstack([a, b]), np.hstack([b, a]))
    ahead, behind, middle, control, single = (np.zeros(len(pair)) for _ in range(5))
    for f in range(split.folds):
        test = split.tested & (fold[pair[:, 0]] == f)
        train = (fold[pair] != f).all(1)
        if not test.any():
            continue
        probe = _logistic(forward[train], back[train], holds[train], swap)
        ahead[test], behind[test] = probe(forward[test]), probe(back[test])
        middle[test] = (ahead[test] + behind[test]).mean() / 2
        for lot in lots:
            drawn = _logistic(forward[train], back[train], lot[train], True)
            control[test] += ((drawn(forward[test]) > 0) == lot[test]) / len(lots)
        alone = _logistic(a[train], b[train], holds[train], True)
        right = (alone(a[test]) > 0) == holds[test], (alone(b[test]) > 0) == ~holds[test]
        single[test] += 0.5 * right[0] + 0.5 * right[1]
    return ahead, behind, middle, control, single


def _logistic(first: Array, second: Array, holds: Array, swap: bool) -> Any:
    """A scorer of rows, above 0 where the relation holds, trained on pairs in the first order, and
    in the second if `swap`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = (np.vstack([first, second]), np.concatenate([holds, ~holds])) if swap else (first, holds)
    if y.all() or not y.any():  # as given the relation always holds: a constant is right
        return lambda rows: np.full(len(rows), 1.0 if y.all() else -1.0)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000)).fit(x, y)
    return probe.decision_function


def _split(
    pair: Array, identity: Array, same: Array, groups: Any, *, folds: int, seed: int
) -> tuple[Array, Array, int]:
    """(fold, group) of each example and the number of groups: of pairs that hang together, or of
    examples."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    batch = len(identity)
    dummy = Labels("numbers", np.arange(batch, dtype=float), np.ones(batch, bool), ())
    single = folding(dummy, identity, same, groups=groups, folds=folds, seed=seed)
    edges = coo_array(
        (np.ones(len(pair)), (single.group[pair[:, 0]], single.group[pair[:, 1]])), shape=(single.groups,) * 2
    )
    count, component = connected_components(edges, directed=False)
    used = len(np.unique(component[single.group[pair]]))
    if used < 4 * folds:
        return single.fold, single.group, single.groups
    whole = folding(dummy, identity, same, groups=component[single.group], folds=folds, seed=seed)
    return whole.fold, whole.group, used


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
