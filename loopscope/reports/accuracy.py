"""The section on accuracy: that of the run's own examples by iteration, and of longer examples."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .. import models
from ..common.errors import LoopscopeError
from ..common.evidence import Estimate
from ..common.price import Price
from ..common.score_band import score_band
from ..common.text import percent, plural
from ..plots import style
from ..plots.heatmaps import position_heatmap
from ..plots.panels import Panel
from ..recorder.labels import labels_of, position_names, symbol_of, task_of
from ..recorder.prices import in_passes
from ..recorder.run_depth import RunDepth, depth_of
from ..recorder.run_score import RunScore, score_of
from ..runs.run import Run
from ..training.evaluate import accuracy
from .accuracy_by_difficulty import difficulty_curves, difficulty_panel
from .score_curve import ScoreCurve, draw_curve, finish_curves, interval_text
from .section import Section, Tile

EXAMPLES, SEED, LONGEST = 128, 1, 96
"""Fresh examples of each longer length, their seed, and the most iterations run on them."""
CORRECT = 0.95
"""Fraction of examples from which on a position counts as answered correctly."""
_INTERVALS = ": by bootstrap, and by Wilson's score where each example is wholly right or wholly wrong"
_STRETCH = (2, 3)


def section(run: Run, longer: bool = True) -> Section | None:
    """How correct the run's answers are; None for a run without labels, or that can't be read out.

    Arguments:
        longer: whether to run fresh examples that are longer (`longer_price`).
    """
    score = score_of(run)
    if score is None:
        return None
    depth = depth_of(run).iterations
    main = ScoreCurve(score.name, score.iterations, score.mean())
    whole = None
    if score.whole_name is not None:
        whole = ScoreCurve(score.whole_name, score.iterations, score.whole())
    stretched = _longer(run, score) if longer else []
    has_card = run.origin.get("entry") in models.entries()
    panels = [_score_panel(score, main, whole, stretched, depth=depth_of(run), has_card=has_card)]
    groups = difficulty_curves(score)
    if len(groups) > 1:
        panels.append(difficulty_panel(score, groups, depth))
    if score.task.shape is None and not score.task.continuous and int(score.mask.any(0).sum()) > 1:
        panels.append(_position_panel(run, score))
    data = {"depth": depth, "score": main, "whole": whole, "by_difficulty": groups}
    data["longer"] = [curve for curve, _ in stretched]
    return Section(
        "accuracy",
        "Accuracy",
        1,
        panels,
        tiles=_tiles(score, main, whole, stretched, depth=depth),
        data=data,
        group="answers",
        topic="model",
        claim=_claim(score, [main] if whole is None else [main, whole], stretched, depth_of(run))
        + _only_answer(run, score, depth),
        rank=1,
    )


def _claim(
    score: RunScore, curves: list[ScoreCurve], longer: list[tuple[ScoreCurve, int]], depth: RunDepth
) -> str:
    """The scores at the model's own depth, and on longer examples, as a sentence."""
    values = ", ".join(f"{curve.name} {interval_text(curve.at(depth.iterations))}" for curve in curves)
    return (
        f"After {plural(depth.iterations, 'iteration')}, {depth.text}, on "
        f"{plural(score.examples, 'example')} of {score.task.name}: {values}{_longer_clause(longer)}."
    )


def _only_answer(run: Run, score: RunScore, depth: int) -> str:
    """A sentence where all answers at the model's own depth are one token, although the correct
    ones differ."""
    labels = labels_of(run)
    if score.task.continuous or labels is None or len(labels.targets[score.mask].unique()) < 2:
        return ""
    tokens = run.logits[depth].argmax(-1).cpu()[score.mask].unique().tolist()
    if len(tokens) > 1:
        return ""
    return f" It answers “{symbol_of(run)(tokens[0])}” everywhere, whatever the input."


def _longer_clause(longer: list[tuple[ScoreCurve, int]]) -> str:
    """The scores on longer examples, as the end of a sentence."""
    values = [
        f"{percent(curve.at(k).value)} at {curve.name} after {plural(k, 'iteration')}" for curve, k in longer
    ]
    return f"; on longer examples, {', '.join(values)}" if values else ""


def longer_price(run: Run) -> Price:
    """What the accuracy on longer examples costs, at most; an example of twice the length counts
    twice."""
    task: Any = task_of(run)
    if task is None or not run.has_model or not isinstance(task.options.get(task.difficulty_option), int):
        return Price(0.0)
    iterations = max(run.iterations, min(LONGEST, max(_STRETCH) * getattr(run.model, "iterations", 0)))
    return Price(in_passes(run, sum(_STRETCH) * EXAMPLES * iterations))


def _longer(run: Run, score: RunScore) -> list[tuple[ScoreCurve, int]]:
    """The score on fresh, longer examples, as far as task and model allow them, with iterations in
    proportion to their length."""
    task: Any = score.task
    model: Any = run.model if run.has_model else None
    if run.origin.get("edits") or not hasattr(model, "decode") or not hasattr(model, "iterations"):
        return []  # with edits, the model alone isn't what made the run
    own = task.options[task.difficulty_option]
    if not isinstance(own, int):
        return []
    iterations = max(run.iterations, min(LONGEST, max(_STRETCH) * model.iterations))
    curves = []
    for stretch in _STRETCH:
        length: dict[str, Any] = {task.difficulty_option: stretch * own}
        try:
            result = accuracy(model, task, iterations, EXAMPLES, seed=SEED, **length)
        except LoopscopeError:  # the task, or learned positions, have a largest length
            break
        name = f"{task.difficulty_option} = {stretch * own}"
        curve = ScoreCurve(name, range(result.iterations + 1), score_band(result.correctness, result.mask))
        curves.append((curve, min(model.iterations * stretch, result.iterations)))
    return curves


def _tiles(
    score: RunScore,
    main: ScoreCurve,
    whole: ScoreCurve | None,
    longer: list[tuple[ScoreCurve, int]],
    *,
    depth: int,
) -> list[Tile]:
    ways = [(main, depth, f"{plural(score.examples, 'example')} of this run")]
    if whole is not None and score.task.shape is not None:
        ways.append((whole, depth, "the same examples"))
    ways += [(c, k, f"{plural(EXAMPLES, 'fresh example')}, longer than in training") for c, k in longer]
    tiles = []
    for curve, k, who in ways[:2]:
        estimate = curve.at(k)
        interval = (
            f"; 95 % interval {percent(estimate.low)} to {percent(estimate.high)}"
            if estimate.low == estimate.low
            else ""
        )
        name = curve.name if curve is main or curve is whole else f"{score.name} at {curve.name}"
        caption = f"{name} after {plural(k, 'iteration')} ({who}{interval})"
        tiles.append(Tile(percent(estimate.value), caption))
    return tiles


def _score_panel(
    score: RunScore,
    main: ScoreCurve,
    whole: ScoreCurve | None,
    longer: list[tuple[ScoreCurve, int]],
    *,
    depth: RunDepth,
    has_card: bool,
) -> Panel:
    name, dial = score.name, score.task.difficulty_option
    figure = style.empty(f"{name.capitalize()} after k iterations", "iterations run (k)", name)
    own = f"{name}, this run's {plural(score.examples, 'example')}"
    draw_curve(figure, main, own, style.BLUE)
    if whole is not None:
        draw_curve(figure, whole, f"{whole.name}, the same examples", style.BLUE, dash="dash")
    for (curve, _), colour in zip(longer, style.COLOURS[1:], strict=False):
        draw_curve(figure, curve, f"{name} at {curve.name}, {plural(EXAMPLES, 'fresh example')}", colour)
    k = depth.iterations
    finish_curves(figure, [main, *(curve for curve, _ in longer)], k)
    observed = f"After {plural(k, 'iteration')} {_clause(name, main.at(k))}"
    if whole is not None:
        observed += f"; {_clause(whole.name, whole.at(k))}"
    observed += "."
    if longer:
        values = "; ".join(
            f"{interval_text(curve.at(last))} at {curve.name} after {plural(last, 'iteration')}"
            for curve, last in longer
        )
        observed += f" On fresh examples: {values}."
    fresh = (
        f" The others are {plural(EXAMPLES, 'fresh test example')} for each larger value of the task's "
        f"option {dial}, which is {score.task.options[dial]} in training."
        if longer
        else ""
    )
    card = " The model card has it on many more." if has_card else ""
    return Panel(
        f"{name.capitalize()} after k iterations",
        figure,
        observed,
        f"The answers are those that the model would give if it stopped after k iterations, on this run's "
        f"own {plural(score.examples, 'example')}.{fresh} Bands are 95 % intervals over "
        f"examples{_INTERVALS if not score.task.continuous else ''}: the score on very many such examples "
        f"is expected within them, but one band in twenty misses it.{card} The dotted line marks "
        f"{plural(k, 'iteration')}, {depth.text}.",
    )


def _clause(name: str, estimate: Estimate) -> str:
    """Such as "90 % (95 % interval 80 % to 95 %) of the answers are correct"."""
    for ending, verb in (
        (" wholly correct", "are wholly correct"),
        (" correct", "are correct"),
        (" solved", "are solved"),
    ):
        if name.endswith(ending):
            return f"{interval_text(estimate)} of the {name.removesuffix(ending)} {verb}"
    return f"the {name} is {interval_text(estimate)}"


def _position_panel(run: Run, score: RunScore) -> Panel:
    share = score.correctness.nanmean(1)
    names = position_names(run, share.shape[1])
    title = f"{score.name.capitalize()} by position"
    figure = position_heatmap(
        [[None if v != v else round(v, 3) for v in row] for row in share.tolist()],
        title,
        "iterations run (k)",
        score.name,
        hover="position %{x}, k = %{y}: %{z:.1%}",
        height=440,
        names=names,
        iterations=score.iterations,
        zmin=0,
        zmax=1,
        bar={"tickformat": ".0%"},
    )
    return Panel(
        title,
        figure,
        _position_sentence(share, score.iterations, score.examples),
        f"Each cell is the share of this run's {plural(score.examples, 'example')} whose answer at the "
        "position is correct after k iterations; k increases downwards. Empty: no answer is to be given. A "
        "slanted edge is an answer that spreads along the positions as the loop runs.",
    )


def _position_sentence(share: Tensor, iterations: Sequence[int], examples: int) -> str:
    """After how many iterations positions are correct to stay, as a sentence.

    Arguments:
        share: (iteration, position) of examples; NaN where no answer is to be given.
        iterations: k of each row.
        examples: how many there are.
    """
    answered = (~share.isnan()).all(0).nonzero()[:, 0].tolist()
    reached: dict[int, int] = {}
    for p in answered:
        wrong = (share[:, p] < CORRECT).nonzero()[:, 0].tolist()
        first = wrong[-1] + 1 if wrong else 0
        if first < len(iterations):
            reached[p] = iterations[first]
    those = f"at least {percent(CORRECT)} of the {plural(examples, 'example')}"
    if not reached:
        return f"At the end no position is correct in {those}."
    if len(reached) == len(answered) > 1:
        who = f"All {len(answered)} positions are"
    elif len(answered) == 1:
        who = f"Position {answered[0]}, the only one with an answer, is"
    else:
        verb = "is" if len(reached) == 1 else "are"
        who = f"{len(reached)} of {plural(len(answered), 'position')} {verb}"
    early, late = min(reached, key=lambda p: reached[p]), max(reached, key=lambda p: reached[p])
    if reached[early] == reached[late]:
        return f"{who} correct in {those} {_from(reached[early])}."
    return (
        f"{who} correct in {those} at the end: position {early} {_from(reached[early])}, position {late} as "
        f"the last {_from(reached[late])}."
    )


def _from(k: int) -> str:
    return f"from {plural(k, 'iteration')} on" if k else "from before the loop on"
