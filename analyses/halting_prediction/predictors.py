"""R² of predictors of the halting iteration: ridge regressions, tested on held-out examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.halting.exit_rules import RULES
from loopscope.halting.rule import scores
from loopscope.recorder.extend import vectors
from loopscope.recorder.labels import labels_of
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_of

from .verdict import PREDICTORS

MIN_POSITIONS, MAX_POSITIONS, FOLDS = 60, 4000, 5


class Items(NamedTuple):
    """The answered positions of all examples."""

    stop: Int[Tensor, " item"]
    """Halting iteration."""
    example: Int[Tensor, " item"]
    position: Int[Tensor, " item"]
    mask: Bool[Tensor, "batch position"]
    """Which positions they are."""

    def enough(self, k: int = 0) -> bool:
        """Whether those still running after k iterations are enough positions of enough examples to
        fit probes."""
        running = self.stop >= k
        return int(running.sum()) >= MIN_POSITIONS and len(self.example[running].unique()) >= 2 * FOLDS

    def observations(self, k: int) -> int:
        """How many halting iterations those still running have. Positions of one example that halt
        together are one observation of it."""
        running = self.stop >= k
        return torch.stack([self.example, self.stop])[:, running].unique(dim=1).shape[1]

    def points(self, n: int) -> list[int]:
        """The k after which enough are running, and halt at different iterations."""
        return [
            k
            for k in range(1, n)
            if self.enough(k)
            and self.observations(k) >= MIN_POSITIONS
            and len(self.stop[self.stop >= k].unique()) > 1
        ]


def items_of(run: Run, stop: Int[Tensor, "batch position"]) -> Items:
    """The answered positions of a run, or all that count where its task is unknown."""
    labels = labels_of(run)
    mask = mask_of(run, *stop.shape)
    if labels is not None and labels.mask.shape == stop.shape:
        mask = labels.mask
    example, position = mask.nonzero(as_tuple=True)
    return Items(stop[mask], example, position, mask)


@dataclass(frozen=True)
class Predictions:
    """What was predicted for held-out examples, after each k: enough for R² on any of them."""

    errors: tuple[dict[str, Float[Tensor, "4 example"]], ...]
    """By point and predictor, sums by example: the number of positions, what is predicted, its
    square, and squared errors."""
    observations: Int[Tensor, " point"]
    """How many halting iterations were observed (`Items.observations`)."""

    def r2(self, weight: Float[Tensor, " example"]) -> dict[str, Float[Tensor, " point"]]:
        """R² by predictor where each example counts so many times; NaN where nothing varies."""
        return {name: torch.tensor([_r2(row[name] @ weight) for row in self.errors]) for name in PREDICTORS}

    def spread(self, weight: Float[Tensor, " example"]) -> Float[Tensor, " point"]:
        """Standard deviation of what is predicted, in iterations; 0 where nothing is running."""
        sums = torch.stack([row["shuffled"][:3] @ weight for row in self.errors])
        count = sums[:, 0].clamp(min=1)
        return (sums[:, 2] / count - (sums[:, 1] / count).square()).clamp(min=0).sqrt()


def predict(run: Run, items: Items, points: Sequence[int]) -> Predictions:
    """Predict the iterations still to come, with each predictor, after each of these k."""
    states, signals = vectors(run.states)[:, items.mask], _signals(run, items.mask)
    errors = []
    for k in points:
        rows = (items.stop >= k).nonzero()[:, 0]
        rows = rows[:: -(-len(rows) // MAX_POSITIONS)]
        errors.append(_errors_of_predictors(states[k][rows], signals[k - 1][rows], items, rows=rows, k=k))
    return Predictions(tuple(errors), torch.tensor([items.observations(k) for k in points]))


def _signals(run: Run, mask: Tensor) -> Float[Tensor, "iteration item signal"]:
    """What exit rules read after each iteration, and its logarithm."""
    by_rule = scores(RULES.values(), run)
    values = torch.stack([by_rule[name][:, mask] for name in RULES], -1).float()
    return torch.cat([values, values.abs().clamp(min=1e-12).log()], -1).nan_to_num(0.0, 0.0, 0.0)


def _errors_of_predictors(
    states: Float[Tensor, "row width"],
    signals: Float[Tensor, "row signal"],
    items: Items,
    *,
    rows: Int[Tensor, " row"],
    k: int,
) -> dict[str, Float[Tensor, "4 example"]]:
    """The sums of `Predictions.errors` after k iterations, by predictor."""
    target, group = (items.stop[rows] - k).double().numpy(), items.example[rows].numpy()
    shuffled = np.random.default_rng(0).permutation(target)
    position = torch.nn.functional.one_hot(items.position[rows]).float()
    examples = len(items.mask)

    def errors(x: Tensor, *targets: np.ndarray) -> list[Float[Tensor, "4 example"]]:
        return _errors(x.double().numpy(), np.stack(targets, 1), group, examples)

    state, control = errors(states, target, shuffled)
    (of_signals,), (of_position,) = errors(signals, target), errors(position, target)
    return {"state": state, "signals": of_signals, "position": of_position, "shuffled": control}


def _errors(
    x: np.ndarray, targets: np.ndarray, group: np.ndarray, examples: int
) -> list[Float[Tensor, "4 example"]]:
    """Sums by example of 1, y, y² and squared errors of predictions for held-out groups, for each
    target y, a column of (row, target). All are fitted from one decomposition of x."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ridge = RidgeCV(alphas=(1.0, 10.0, 100.0, 1000.0, 1e4, 1e5), alpha_per_target=True)
    probe = make_pipeline(StandardScaler(), ridge)
    predicted = np.asarray(cross_val_predict(probe, x, targets, groups=group, cv=GroupKFold(FOLDS)))
    result = []
    for y, guess in zip(targets.T, predicted.reshape(targets.shape).T, strict=True):
        sums = torch.from_numpy(np.stack([np.ones_like(y), y, y**2, (guess - y) ** 2]))
        result.append(
            torch.zeros(4, examples, dtype=torch.float64).index_add(1, torch.from_numpy(group), sums)
        )
    return result


def _r2(sums: Float[Tensor, "4"]) -> float:
    """R² from the sums of all examples."""
    count, total, squares, missed = sums.tolist()
    spread = squares - total**2 / count if count else 0.0
    return 1 - missed / spread if spread > 1e-9 else float("nan")
