"""The verdict on how the answer forms, as a function of the examples, and its evidence."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.evidence import Evidence, by_bootstrap, estimate
from loopscope.common.sample_memory import once_per_sample
from loopscope.common.text import plural
from loopscope.common.verdict import UNCLEAR, Verdict

from .metrics import kappas

START, LATE, JUMP, READ = 0.9, 0.1, 0.5, 0.5
WINDOW = 8
"""What happens within this part of the iterations, or in one, happens at once."""
LEAST_RISE = 0.1
"""Only answers whose probability rises by this much have a way of rising."""
LEAST = 5
"""Examples that a verdict needs."""


class LensVerdict(Verdict):
    """How the answer forms over the iterations."""

    start = "The final answer can be read from the start: the iterations change little of it."
    at_once = "The answer forms at once: most answers appear within the same few iterations."
    one_by_one = "The probability of most answers jumps rather than grows, at different iterations for each."
    gradual = "The answer forms gradually: its probability grows from iteration to iteration."
    changing = "The answer keeps changing up to the last iterations."
    alike = "All final answers are the same token, so how they form cannot be measured."
    hidden = "This lens doesn't read the final answer from the last states, so it can't show how it forms."
    unclear = UNCLEAR


class Formation(NamedTuple):
    """What the verdict rests on, item by item."""

    answers: Int[Tensor, "iteration item"]
    """-1 where there is none."""
    final: Int[Tensor, " item"]
    settled: Int[Tensor, " item"]
    sharpness: Float[Tensor, " item"]
    """As `LensResult.sharpness`."""
    example: Int[Tensor, " item"]
    """To which example each item belongs, 0..examples-1."""
    iterations: tuple[int, ...]


class Numbers(NamedTuple):
    """What decides, on some examples; NaN where it isn't defined."""

    first: float
    """Kappa at the first iteration."""
    last: float
    """At the last."""
    jump: float
    """The largest rise of kappa within the window, as a part of the whole rise."""
    median: float
    """Of the sharpness."""
    late: float
    """Fraction of answers that change in the last quarter of the iterations."""
    alike: bool
    """Whether all final answers are the same token."""


def formation_verdict(formation: Formation) -> tuple[LensVerdict, Evidence]:
    """The verdict, and its evidence."""
    examples, steps = int(formation.example.max()) + 1, _steps(formation)

    @once_per_sample
    def numbers(draw: Int[Tensor, " example"]) -> Numbers:
        return _numbers(formation, torch.bincount(draw, minlength=examples).double())

    verdict, evidence = by_bootstrap(
        lambda draw: _verdict(numbers(draw), steps), examples, unclear=LensVerdict.unclear, least=LEAST
    )
    if numbers(torch.arange(examples)).alike:
        how = f"All {len(formation.final)} answers of the {plural(examples, 'example')} are one token."
        verdict, evidence = LensVerdict.alike, replace(evidence, how=how, alternatives=())
    if (
        verdict is LensVerdict.unclear
        and examples >= LEAST
        and (why := _reason(numbers(torch.arange(examples)), steps))
    ):
        evidence = replace(evidence, how=f"{why} {evidence.how}")
    by_answer = verdict in (LensVerdict.one_by_one, LensVerdict.gradual)
    within = "one iteration" if window(steps) == 1 else f"{window(steps)} iterations"
    answers = {
        "median": f"largest rise of an answer's probability within {within}, as a fraction of its whole "
        "rise, median over answers",
    }
    names = {
        "first": f"agreement with the final answer beyond chance (kappa), k = "
        f"{formation.iterations[_ends(formation)[0]]}",
        "jump": f"largest rise within {within} of the agreement of all answers with their final ones, as a "
        "fraction of its whole rise",
        "late": "fraction of answers that change in the last quarter of the iterations",
    }
    named = answers | names if by_answer else names | answers  # what decides stands first
    estimates = tuple(
        estimate(name, lambda draw, field=field: getattr(numbers(draw), field), examples)
        for field, name in named.items()
        if steps > 1 or field == "first"
    )
    return verdict, replace(evidence, estimates=estimates)


def jump_threshold(steps: int) -> float:
    """Halfway between an even rise over this number of iterations and a rise in one of them."""
    return JUMP + (1 - JUMP) / max(steps, 1)


def window(steps: int) -> int:
    """So many of this number of iterations are taken together."""
    return max(1, steps // WINDOW)


def sharpness(probability: Float[Tensor, "site iteration item"]) -> Float[Tensor, "site item"]:
    """The largest rise of a probability within the window over its largest rise overall, 0..1; NaN
    where that is below `LEAST_RISE`, or there is but one value."""
    columns = []
    for one in probability:
        present = ~one.isnan().all(1)
        p = one[present].nan_to_num(0.0)
        if len(p) < 2:
            columns.append(torch.full_like(probability[0, 0], torch.nan))
            continue
        width = window(len(p) - 1)
        whole = (p - p.cummin(0).values).amax(0)
        within = (p[width:] - p[:-width]).amax(0)
        columns.append(torch.where(whole >= LEAST_RISE, within / whole.clamp(min=LEAST_RISE), torch.nan))
    return torch.stack(columns)


def _ends(formation: Formation) -> tuple[int, int]:
    """Index of the first and the last iteration with answers."""
    present = (formation.answers >= 0).any(1).nonzero()[:, 0]
    return (int(present[0]), int(present[-1])) if len(present) else (0, 0)


def _steps(formation: Formation) -> int:
    first, last = _ends(formation)
    return last - first


def _numbers(formation: Formation, times: Float[Tensor, " example"]) -> Numbers:
    """What decides, where each example counts so many times."""
    weight = times[formation.example]
    kappa = kappas(formation.answers[None], formation.final, weight)[0]
    i, m = _ends(formation)
    whole, width, values = float(kappa[m] - kappa[i]), window(m - i), kappa[i : m + 1]
    jump = math.nan
    if whole > 0 and len(values) > width:
        jump = float((values[width:] - values[:-width]).nan_to_num(-1.0).max()) / whole
    first, last = formation.iterations[i], formation.iterations[m]
    late = (formation.settled > first + 0.75 * (last - first)).double()
    final = formation.final[weight > 0]
    return Numbers(
        first=float(kappa[i]),
        last=float(kappa[m]),
        jump=jump,
        median=_median(formation.sharpness, weight),
        late=float((late * weight).sum() / weight.sum()),
        alike=bool((final == final[0]).all()),
    )


def _verdict(numbers: Numbers, steps: int) -> LensVerdict:
    """The verdict that some numbers give.

    Arguments:
        steps: how many iterations lie between the first and the last answer.
    """
    if numbers.alike:
        return LensVerdict.alike
    if math.isnan(numbers.first) or math.isnan(numbers.last) or math.isnan(numbers.late):
        return LensVerdict.unclear
    if numbers.last < READ:
        return LensVerdict.hidden
    if numbers.first >= START:
        return LensVerdict.start
    if steps >= 4 and numbers.late >= LATE:
        return LensVerdict.changing
    if steps < 2 or math.isnan(numbers.jump):
        return LensVerdict.unclear  # what happens in one iteration says nothing of others
    if numbers.jump >= jump_threshold(steps):
        return LensVerdict.at_once
    if math.isnan(numbers.median):
        return LensVerdict.unclear
    return LensVerdict.one_by_one if numbers.median >= jump_threshold(steps) else LensVerdict.gradual


def _reason(numbers: Numbers, steps: int) -> str:
    """Why some numbers give no verdict; empty where they give one."""
    if steps < 2:
        return "In a single iteration answers can't be seen to form at once or step by step."
    if math.isnan(numbers.first) or math.isnan(numbers.last):
        return "Kappa isn't defined, so it can't be said how the answers form."
    if math.isnan(numbers.jump):
        return "Agreement with the final answer doesn't rise over several iterations."
    if math.isnan(numbers.median):
        return (
            f"The probability of the final answers rises by less than {LEAST_RISE:g} in all of them, so it "
            "can't be said whether they form at once or gradually."
        )
    return ""


def _median(values: Tensor, weight: Tensor) -> float:
    """The weighted median of the values that aren't NaN; NaN if there are none."""
    known = ~values.isnan() & (weight > 0)
    if not bool(known.any()):
        return math.nan
    order = values[known].argsort()
    share = weight[known][order].cumsum(0)
    return float(values[known][order][int((share >= share[-1] / 2).int().argmax())])
