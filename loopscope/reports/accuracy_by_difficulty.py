"""The part of the section on accuracy that compares the run's examples by their difficulty."""

from collections.abc import Sequence

from jaxtyping import Bool
from torch import Tensor

from ..common.evidence import Estimate
from ..common.text import level_range, plural
from ..plots import style
from ..plots.panels import Panel
from ..recorder.run_score import RunScore
from .score_curve import ScoreCurve, draw_curve, finish_curves, interval_text

GROUPS = 5
"""Groups of examples by difficulty, at most."""
_LINE = 24
"""Height of a line of a legend in pixels."""


def difficulty_curves(score: RunScore) -> list[ScoreCurve]:
    """The score on examples of neighbouring difficulties."""
    return [
        ScoreCurve(name, score.iterations, score.mean(inside))
        for name, inside in difficulty_groups(score).items()
    ]


def difficulty_groups(score: RunScore) -> dict[str, Bool[Tensor, " example"]]:
    """Which examples are in each of at most GROUPS groups of neighbouring difficulties, of about
    equal numbers."""
    wanted = score.mask.any(1)
    values = score.difficulty[wanted]
    if not bool(values.isfinite().all()):
        return {}
    levels, counts = values.unique(return_counts=True)
    least, groups, first, members = len(values) / GROUPS, {}, 0, 0
    for i, count in enumerate(counts.tolist()):
        members += count
        rest = int(counts[i + 1 :].sum())
        if members < least and rest or 0 < rest < least / 2:
            continue
        low, high = float(levels[first]), float(levels[i])
        inside = wanted & (score.difficulty >= levels[first]) & (score.difficulty <= levels[i])
        name = level_range(low, high, score.task.difficulty_unit)
        groups[name] = inside
        first, members = i + 1, 0
    return groups


def difficulty_panel(score: RunScore, curves: list[ScoreCurve], depth: int) -> Panel:
    """The figure of the score by difficulty, with what it says of the model's own depth."""
    unit, name = score.task.difficulty_unit, score.name
    title = f"{name.capitalize()} by {unit}"
    figure = style.empty(title, "iterations run (k)", name, 340 + _LINE * len(curves))
    for curve, colour in zip(curves, style.COLOURS, strict=False):
        draw_curve(figure, curve, f"{curve.name} ({plural(curve.band.examples, 'example')})", colour)
    finish_curves(figure, curves, depth)
    easy, hard = curves[0].at(depth), curves[-1].at(depth)
    return Panel(
        title,
        figure,
        f"After {plural(depth, 'iteration')}: {interval_text(easy)} at {easy.name}, "
        f"{interval_text(hard)} at {hard.name}.{comparison([curve.at(depth) for curve in curves])}",
        f"This run's examples, grouped by difficulty ({unit}) into groups of about the same number. Bands "
        "are 95 % intervals over the examples of a group.",
    )


def comparison(groups: Sequence[Estimate]) -> str:
    """Whether the intervals of groups of examples tell them apart, as a sentence that begins with a
    blank: the easiest from the hardest, or any two.

    Arguments:
        groups: the score of each, by the group's name, from the easiest to the hardest.
    """
    if any(one.low != one.low for one in groups):
        return ""
    easy, hard = groups[0], groups[-1]
    if _apart(easy, hard):
        return f" The harder ones are answered {'worse' if hard.value < easy.value else 'better'}."
    pairs = [(i, j) for i in range(len(groups)) for j in range(i) if _apart(groups[i], groups[j])]
    if pairs:
        i, j = max(pairs, key=lambda pair: abs(groups[pair[0]].value - groups[pair[1]].value))
        low, high = (i, j) if groups[i].value < groups[j].value else (j, i)
        return (
            " The easiest and the hardest can't be told apart, but others can: "
            f"{interval_text(groups[low])} at {groups[low].name} and {interval_text(groups[high])} at "
            f"{groups[high].name}."
        )
    if len({one.value for one in groups}) == 1:
        return " It is the same in all groups; on other examples they may differ within these intervals."
    return " All intervals overlap: these examples are too few to tell whether difficulty matters then."


def _apart(one: Estimate, other: Estimate) -> bool:
    return one.high < other.low or other.high < one.low
