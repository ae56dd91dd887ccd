"""How learning of the training examples and of others relate, and how sure that is: the curves are
drawn again with their noise, and the looks must be close enough to tell."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.evidence import Estimate, Evidence, by_bootstrap, estimate
from loopscope.common.text import percent, plural
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.maths.changepoints import LEAST

from .curve import Crossing, Curve

MIN_STAGE, DELAY_FACTOR = 0.1, 1.5
LEAST_LOOKS = LEAST
"""With fewer looks the verdict is `unclear`."""
DELAY = "steps from memorisation to generalisation"


class GrokkingVerdict(Verdict):
    """How learning of the training examples and of others relate."""

    nothing = "No transition: not even the training examples were learned."
    memorised = "The training examples were memorised, and nothing generalised."
    partly = "The training examples were learned, and others in part."
    together = "Training examples and others were learned together, without a clear delay."
    grokked = "It grokked: the training examples were memorised first, and generalisation came much later."
    systematic = (
        "It learned in stages: training examples and others of the same distribution first, and last those "
        "beyond it."
    )
    unclear = UNCLEAR


def grokking_verdict(
    steps: Sequence[int],
    accuracy: Mapping[str, Float[Tensor, " look"]],
    level: float,
    sampled: Mapping[str, int | None],
) -> tuple[GrokkingVerdict, Evidence]:
    """The verdict on one training, and its evidence.

    Arguments:
        accuracy: of each set by look, "train" and "test" among them.
        sampled: how many examples each set's accuracy is measured on; None where these are all
            that there are.
    """
    curves = [Curve.of(steps, values, sampled[name]) for name, values in accuracy.items()]
    looks, every = len(steps), torch.arange(len(steps))

    @functools.cache
    def sample(draw: tuple[int, ...]) -> dict[str, Curve]:
        return dict(zip(accuracy, (one.again(draw, i) for i, one in enumerate(curves)), strict=True))

    def again(draw: Tensor) -> dict[str, Curve]:
        return sample(tuple(draw.tolist()))

    def decided(draw: Tensor, place: str) -> GrokkingVerdict:
        drawn = again(draw)
        dates = {name: one.crossing(level) for name, one in drawn.items()}
        return _verdict(dates, drawn["test"].rise >= MIN_STAGE, place)

    def delay(draw: Tensor) -> float:
        drawn = again(draw)
        train, test = (drawn[name].crossing(level) for name in ("train", "test"))
        return torch.nan if train is None or test is None else test.step - train.step

    verdict, evidence = by_bootstrap(
        lambda draw: decided(draw, "between"), looks, unclear=GrokkingVerdict.unclear, least=LEAST_LOOKS
    )
    evidence = replace(evidence, examples=1)
    if looks < LEAST_LOOKS:
        how = f"{plural(looks, 'look')} are too few for a verdict, which needs {LEAST_LOOKS}."
        return verdict, replace(evidence, how=how)
    given = decided(every, "between")
    how = (
        f"One training, measured at {plural(looks, 'look')}. With the noise of its curves drawn again, "
        f"{percent(evidence.support.get(given.name, 0.0))} of the samples give the verdict that the "
        "measured curves give."
    )
    dates = {name: one.crossing(level) for name, one in again(every).items()}
    evidence = replace(evidence, how=how, estimates=_delays(estimate(DELAY, delay, looks), dates))
    extremes = tuple(dict.fromkeys(decided(every, place) for place in ("early", "late")))
    if verdict is not GrokkingVerdict.unclear and len(extremes) > 1:
        how = "The looks are too far apart to tell: what happened between two of them decides."
        return GrokkingVerdict.unclear, replace(evidence, how=how, alternatives=extremes)
    return verdict, evidence


def _delays(noise: Estimate, dates: Mapping[str, Crossing | None]) -> tuple[Estimate, ...]:
    """The delay, its interval at least what the spacing of the looks leaves open; none without
    memorisation or generalisation."""
    train, test = dates["train"], dates["test"]
    if train is None or test is None:
        return ()
    low, high = test.before - train.after, test.after - train.before
    # a NaN, where few of the samples have a delay, stays
    return (replace(noise, low=min(noise.low, low), high=max(noise.high, high)),)


def _verdict(dates: Mapping[str, Crossing | None], rose: bool, place: str) -> GrokkingVerdict:
    """The verdict if each event happened between its two looks at this place: "early" is the
    shortest delay of the others behind the training examples that the looks allow, "late" the
    longest, "between" that of straight lines."""
    train, test = dates["train"], dates["test"]
    if train is None:
        return GrokkingVerdict.nothing
    if test is None:
        return GrokkingVerdict.partly if rose else GrokkingVerdict.memorised
    first = {"early": train.after, "late": train.before, "between": train.step}[place]

    def at(other: Crossing) -> float:
        return {"early": other.before, "late": other.after, "between": other.step}[place]

    further = [date for name, date in dates.items() if name not in ("train", "test") and date is not None]
    ends = {"early": test.after, "late": test.before, "between": test.step}[place]
    if any(at(date) > ends and at(date) >= DELAY_FACTOR * first for date in further):
        return GrokkingVerdict.systematic
    much_later = at(test) > first and at(test) >= DELAY_FACTOR * first
    return GrokkingVerdict.grokked if much_later else GrokkingVerdict.together
