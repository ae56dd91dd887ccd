"""Whether halting differs between positions, between examples, both or neither, and in which
order; as a function of the examples, so that it can be computed again from others."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.core.masked import masked_mean

Order = Literal["later", "earlier", "none", "unclear"]
"""How the halting goes with the position or the difficulty."""
_SWEEPS = 20
"""Of the least-squares fit where some positions have no answer; else one is exact."""


@dataclass(frozen=True)
class Variation:
    """What varies, of examples that may be repeated."""

    not_halted: float
    """Fraction of answers that had not halted when the loop ended."""
    deviation: float
    """Mean absolute deviation of the iterations run from their median, over answers."""
    same: float
    """Fraction of answers that run as many iterations as the median."""
    near: float
    """Fraction of answers that run as many as the median, or one more or less."""
    positions: float
    """Standard deviation between positions, in iterations, without what examples and single answers
    add to it; NaN for one position."""
    examples: float
    """The same between examples; NaN for one example."""
    position_order: float
    """Spearman's rank correlation of a position's effect with the position; NaN where undefined.
    Where every position is answered in every example, effects are in the order of the means."""
    difficulty_order: float
    """Spearman's rank correlation of an example's mean with its difficulty; NaN where undefined."""


def variation(
    used: Float[Tensor, "example position"],
    halted: Bool[Tensor, "example position"],
    answers: Bool[Tensor, "example position"],
    difficulty: Float[Tensor, " example"] | None,
    draw: Int[Tensor, " sample"],
) -> Variation:
    """What varies among the examples of a draw.

    Arguments:
        used: iterations run until halting.
        answers: the answered positions.
        draw: indices of examples, some of them repeated.
    """
    used, halted, answers = used[draw].double(), halted[draw], answers[draw]
    values = used[answers]
    nan = math.nan
    if not len(values):
        return Variation(nan, nan, nan, nan, nan, nan, nan, nan)
    distance = (values - values.median()).abs()
    places = answers.any(0)
    positions, examples, effects = _components(used[:, places], answers[:, places])
    level = None if difficulty is None else spearman(difficulty[draw], masked_mean(used, answers, 1))
    return Variation(
        not_halted=float((~halted[answers]).double().mean()),
        deviation=float((values - values.quantile(0.5)).abs().mean()),
        same=float((distance == 0).double().mean()),
        near=float((distance <= 1).double().mean()),
        positions=positions,
        examples=examples,
        position_order=spearman(places.nonzero()[:, 0], effects),
        difficulty_order=nan if level is None else level,
    )


def _components(
    used: Float[Tensor, "example position"], answers: Bool[Tensor, "example position"]
) -> tuple[float, float, Float[Tensor, " position"]]:
    """The standard deviations of the additive effects of positions and of examples, fitted by least
    squares, less the noise that single answers bring into them; and the effects of positions."""
    rows, columns, count = *used.shape, int(answers.sum())
    grand = used[answers].mean()
    example, position = torch.zeros(rows, 1).double(), torch.zeros(1, columns).double()
    for _ in range(1 if columns == 1 or bool(answers.all()) else _SWEEPS):
        example = masked_mean(used - grand - position, answers, 1).nan_to_num()[:, None]
        if columns > 1:
            position = masked_mean(used - grand - example, answers, 0)[None]
    rest = (used - grand - example - position)[answers]
    freedom = count - rows - columns + 1
    noise = float(rest.square().sum()) / freedom if freedom > 0 and columns > 1 else 0.0
    present = answers.any(1)
    by_position = _spread(position[0], noise / answers.sum(0).clamp(min=1))
    by_example = _spread(example[present, 0], noise / answers.sum(1)[present])
    return by_position, by_example, position[0].mul(1e9).round().div(1e9)  # rounding is no order


def _spread(effects: Tensor, noise: Tensor) -> float:
    if len(effects) < 2:
        return math.nan
    return math.sqrt(max(0.0, float(effects.var(correction=0)) - float(noise.mean())))


def order(correlation: float, threshold: float) -> Order:
    """In which order halting goes with something; unclear for NaN."""
    if math.isnan(correlation):
        return "unclear"
    if abs(correlation) < threshold:
        return "none"
    return "later" if correlation > 0 else "earlier"


def spearman(x: Tensor, y: Tensor) -> float:
    """Spearman's rank correlation over the places where both are known; NaN for fewer than three,
    or where one of the two is constant."""
    from scipy.stats import spearmanr

    known = ~(x.double().isnan() | y.double().isnan())
    x, y = x[known], y[known]
    if len(x) < 3 or bool((x == x[0]).all()) or bool((y == y[0]).all()):
        return math.nan
    return float(spearmanr(x.numpy(), y.numpy())[0])  # pyright: ignore[reportArgumentType]
