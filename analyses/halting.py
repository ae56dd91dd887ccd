"""When does the model stop, and does it take longer where the question is harder?

One view of every kind of halting: the model's own (adaptive computation time, PonderNet, an exit gate, a Q-head, a solver's
tolerance), or with `rule=` one that is read from the run's states and answers (`loopscope.rules`), which any run with a model
has. Definitions, position by position, with N the number of iterations that a position uses:

- halting iteration: N - 1, 0-based: the iteration in which the halting probability is used up, the summed chance reaches the
  gate's threshold, the Q-head says halt (for all positions of an example), the residual falls below the tolerance, or the
  rule's condition first holds. A position that never gets there is counted at the last iteration run, and as not halted.
- weights: each iteration's share in the output, or its chance of being the last; all on the halting iteration where
  neither is meant.
- remainder R: the weight of the halting iteration. 0..1.
- ponder cost: N + R, in iterations; what training is charged for with adaptive computation time.
- entropy of the exit distribution: -sum_t w_t log w_t of a position's weights, in nats, 0..log n: how undecided its gate is.
  That of the halting iterations themselves, over examples and positions: how different they are.
- rank correlation: Spearman's, between the mean halting iteration of a position and the position, over the positions that
  are asked for an answer; and between the mean halting iteration of an example and its difficulty, as its task counts it.

Sources: Graves 2016 (arXiv 1603.08983); position by position in the Universal Transformer, Dehghani et al. 2018 (arXiv
1807.03819); Banino et al. 2021 (arXiv 2107.05407); Zhu et al. 2025 (arXiv 2510.25741); Wang et al. 2025 (arXiv 2506.21734); Bai
et al. 2019 (arXiv 1909.01377); rules: Geiping et al. 2025 (arXiv 2502.05171), Kohli et al. 2026 (arXiv 2604.07822).

What can mislead:
- A loop too short cuts the distribution off at its end: look at the fraction not halted before anything else.
- Halting late is not thinking hard: with a flat gate N only tells the gate's bias (p = 0.5 gives N = 2 everywhere).
- A causal model reads more at later positions, so position and difficulty rise together. The task's own difficulty is per
  example, and helps to tell them apart only where examples of one length differ in it.
- A rank correlation over positions says that the order is right, not that the differences are large: read the range.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope import drawing
from loopscope.asked import labels_of, task_of
from loopscope.drawing import Panel, number, percent
from loopscope.errors import LoopscopeError
from loopscope.finding import Finding, Verdict
from loopscope.halting import Halting
from loopscope.rules import Level, rule_halting
from loopscope.run import Run
from loopscope.tasks import Batch

TITLE, PLACE = "Halting", 30
CUT, SPREAD, ORDER = 0.05, 0.5, 0.9


class Stops(Verdict):
    """When positions halt."""

    cut = "The loop ended before a good part of the positions had halted, so their halting iterations are unknown."
    constant = "Every position halts at nearly the same iteration, whatever it is asked."
    later = "Later positions halt later."
    earlier = "Later positions halt earlier."
    varied = "Positions halt at different iterations, in no clear order from left to right."


@dataclass(frozen=True)
class HaltingTimes(Finding):
    """When the positions of a run halted."""

    verdict: Stops
    kind: str
    """What decided it, such as "exit gate" or "rule kl"."""
    share: Float[Tensor, " iteration"]
    """Fraction of all positions that halt in this iteration; those that never halt are missing."""
    by_position: Float[Tensor, "position iteration"]
    """The same at each position: fraction of examples."""
    not_halted: float
    """Fraction of positions that had not halted when the loop ended."""
    mean: float
    """Mean halting iteration."""
    spread: float
    """Its standard deviation over examples and positions, in iterations."""
    mean_by_position: Float[Tensor, " position"]
    """Mean halting iteration of each position."""
    remainder: float
    """Mean remainder, 0..1."""
    remainder_by_position: Float[Tensor, " position"]
    cost: float
    """Mean ponder cost, in iterations."""
    cost_by_position: Float[Tensor, " position"]
    answered: Bool[Tensor, " position"]
    """Positions that are asked for an answer; all, if the task isn't known."""
    correlation: float
    """Spearman's rank correlation of the mean halting iteration with the position, over the answered ones."""
    difficulty: str | None
    """What the task counts as difficulty; None if it isn't known."""
    levels: Float[Tensor, " level"]
    """The difficulties that occur."""
    examples: Int[Tensor, " level"]
    """How many examples have them."""
    by_level: Float[Tensor, "level iteration"]
    """Fraction of their answered positions that halt in this iteration."""
    mean_by_level: Float[Tensor, " level"]
    """Mean halting iteration of the answered positions of these examples."""
    difficulty_correlation: float
    """Spearman's rank correlation of an example's mean halting iteration with its difficulty."""
    by_example: Float[Tensor, " batch"]
    """Mean halting iteration of each example's answered positions."""
    entropy: float
    """Of the exit distribution, nats: mean over answered positions."""
    share_entropy: float
    """Of the halting iterations over all positions, nats; those that never halt count as one more iteration."""
    cut_threshold: float = CUT
    """The verdict is `cut` if a larger fraction has not halted."""
    spread_threshold: float = SPREAD
    """The verdict is `constant` below this standard deviation, in iterations."""
    order_threshold: float = ORDER
    """The verdict is `later` or `earlier` from this size of the correlation on."""

    def summary(self) -> str:
        means = self.mean_by_position[self.answered]
        hard = ""
        if self.difficulty is not None:
            rank = number(self.difficulty_correlation, 2)
            hard = f" Its rank correlation with an example's difficulty ({self.difficulty}) is {rank}."
        return (
            f"{self.verdict.sentence} What decides is the {self.kind}. The mean halting iteration is {self.mean:.2f} (standard "
            f"deviation {self.spread:.2f}, iterations counted from 0); by position it goes from {means.min():.2f} to "
            f"{means.max():.2f}, with a rank correlation of {number(self.correlation, 3)} with the position.{hard} The mean "
            f"remainder is {self.remainder:.3f}, the mean ponder cost {self.cost:.2f} iterations; the exit distribution of a "
            f"position has an entropy of {self.entropy:.2f} nats in the mean, the halting iterations one of "
            f"{self.share_entropy:.2f}; {percent(self.not_halted)} of the positions had not halted when the loop ended. "
            f"Thresholds: cut above {self.cut_threshold:g} not halted, constant below a deviation of {self.spread_threshold:g}, "
            f"ordered from a correlation of {self.order_threshold:g}."
        )


def applies(run: Run) -> bool:
    """Whether the run's model halts."""
    return run.halting is not None


def measure(
    run: Run, *, rule: str | None = None, threshold: float | int | None = None, level: Level = "position"
) -> HaltingTimes:
    """When the positions of a run halt, or would by a rule.

    Arguments:
        rule: None: the model's own halting. The name of a rule that is read from the run (`loopscope.rules.names()`), or "own":
            the model's gate at another `threshold`.
        threshold: the rule's, in its own unit; None: as published.
        level: whether positions stop by themselves, or all of an example by the mean over those that answer.

    Raises:
        LoopscopeError: the run's model doesn't halt, or a threshold without a rule.
    """
    run.require_finite()
    labels, task = labels_of(run), task_of(run)
    halting = _halting(run, rule, threshold, level)
    when, halted = halting.iteration.cpu(), halting.halted.cpu()
    n, positions = run.iterations, when.shape[1]
    own = torch.nn.functional.one_hot(when.clamp(max=n - 1), n).float() * halted[..., None]
    answered = torch.ones(positions, dtype=torch.bool) if labels is None else labels.mask.any(0)
    means, mean = when.float().mean(0), when.float()[:, answered].mean(1)
    weights = halting.weights.cpu()[:, :, answered].double()
    entropy = -(weights * weights.clamp(min=1e-300).log()).sum(0)
    correlation = _spearman(torch.arange(positions)[answered], means[answered])
    spread, missing = when.float().std(correction=0).item(), (~halted).float().mean().item()
    return HaltingTimes(
        verdict=_verdict(missing, spread, correlation),
        share=own.mean((0, 1)),
        by_position=own.mean(0),
        not_halted=missing,
        mean=when.float().mean().item(),
        spread=spread,
        mean_by_position=means,
        remainder=halting.remainder.mean().item(),
        remainder_by_position=halting.remainder.mean(0).cpu(),
        cost=halting.cost.mean().item(),
        cost_by_position=halting.cost.mean(0).cpu(),
        answered=answered,
        correlation=correlation,
        difficulty=task.difficulty if labels is not None and task is not None else None,
        **_by_level(labels, mean, own[:, answered].mean(1)),
        by_example=mean,
        entropy=max(entropy.mean().item(), 0.0),
        share_entropy=_entropy(torch.cat([own.mean((0, 1)), torch.tensor([missing])])),
        kind=halting.kind,
        difficulty_correlation=float("nan") if labels is None else _spearman(labels.difficulty, mean),
    )


def _halting(run: Run, rule: str | None, threshold: float | int | None, level: Level) -> Halting:
    """The model's own, or that by a rule."""
    if rule is None and (threshold is not None or level != "position"):
        raise LoopscopeError("threshold and level belong to a rule, but none was named. Pass rule= too.")
    labels = labels_of(run)
    asked = None if labels is None else labels.mask
    halting = run.halting if rule is None else rule_halting(run, rule, threshold, level, asked=asked)
    if halting is None:
        raise LoopscopeError(
            "halting needs a run of a model that halts, recorded from its first iteration and without keep=, but this one "
            f"({run.origin.get('entry') or run.origin.get('architecture')}) has none: every position used all "
            f'{run.iterations} iterations. Try universal-prefix-parity-act, or a rule: measure("halting", run, rule="kl").'
        )
    return halting


def _by_level(
    labels: Batch | None, mean: Float[Tensor, " example"], share: Float[Tensor, "example iteration"]
) -> dict[str, Any]:
    """Examples, mean and shares at each level of difficulty; fields as in the result."""
    levels, place, examples = (
        torch.empty(0),
        torch.empty(0, dtype=torch.long),
        torch.empty(0, dtype=torch.long),
    )
    if labels is not None:
        levels, place, examples = labels.difficulty.unique(return_inverse=True, return_counts=True)
    mean_by_level = torch.zeros(len(levels)).index_add(0, place, mean[: len(place)]) / examples
    shares = torch.zeros(len(levels), share.shape[1]).index_add(0, place, share[: len(place)])
    return {
        "levels": levels,
        "examples": examples,
        "by_level": shares / examples[:, None],
        "mean_by_level": mean_by_level,
    }


def _entropy(shares: Tensor) -> float:
    """Of fractions that sum to one, in nats."""
    return max(0.0, -float((shares.double() * shares.double().clamp(min=1e-300).log()).sum()))


def _spearman(x: Tensor, y: Tensor) -> float:
    """Rank correlation; NaN where one of the two never changes."""
    from scipy.stats import spearmanr

    if len(x) < 3 or bool((x == x[0]).all()) or bool((y == y[0]).all()):
        return float("nan")
    return float(spearmanr(x.numpy(), y.numpy())[0])  # pyright: ignore[reportArgumentType]


def _verdict(missing: float, spread: float, correlation: float) -> Stops:
    if missing > CUT:
        return Stops.cut
    if spread < SPREAD:
        return Stops.constant
    if abs(correlation) >= ORDER:
        return Stops.later if correlation > 0 else Stops.earlier
    return Stops.varied


def headline(found: HaltingTimes) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    return f"{found.cost:.1f} iterations", f"mean ponder cost. {found.verdict.sentence}"


def draw(found: HaltingTimes) -> Any:
    """Where and when positions halt."""
    figure = drawing.map_of(
        [[round(v, 4) for v in row] for row in found.by_position.T.tolist()],
        "Halting, by position and iteration",
        "halting iteration",
        "fraction of examples",
        hover="position %{x} halts in iteration %{y}: %{z:.1%}",
        zmin=0,
    )
    line = {"color": "white", "width": 2}
    mean = found.mean_by_position.tolist()
    figure.add_scatter(
        y=mean, mode="lines", name="mean", line=line, hovertemplate="mean %{y:.2f}<extra></extra>"
    )
    figure.update_layout(showlegend=False)
    return figure


def panels(found: HaltingTimes) -> list[Panel]:
    """The finding as a report shows it."""
    means = found.mean_by_position[found.answered]
    mode = int(found.share.argmax())
    rows = [
        Panel(
            "When each position halts",
            draw(found),
            f"{found.verdict.sentence} The mean halting iteration goes from {means.min():.1f} to {means.max():.1f} over the "
            f"positions that answer; its rank correlation with the position is {number(found.correlation, 3)}.",
            "Each column is one position, and shows which fraction of the examples halts there in which iteration; time runs "
            "downwards. The white line is the mean.",
        ),
        Panel(
            "How many iterations are used",
            _shares(found),
            f"More positions halt in iteration {mode} than in any other ({percent(float(found.share[mode]))}); the mean "
            f"ponder cost is {found.cost:.2f} iterations, and {percent(found.not_halted)} of the positions had not halted "
            "when the loop ended.",
            "Bars count all examples and positions. The ponder cost is the number of iterations used and the weight of the "
            "last of them.",
        ),
    ]
    if found.difficulty is not None and len(found.levels) > 1:
        low, high = found.mean_by_level[0], found.mean_by_level[-1]
        seen = (
            f"The rank correlation of halting with difficulty is {number(found.difficulty_correlation, 2)}; the mean goes from "
            f"{low:.1f} at {found.difficulty} {found.levels[0]:g} to {high:.1f} at {found.levels[-1]:g}."
        )
        reading = (
            "Each column is one difficulty, and shows which fraction of its answered positions halts in which iteration; time "
            "runs downwards. The white line is the mean, on large points where many examples have this difficulty."
        )
        rows.append(Panel("Does it think longer where it is harder?", _difficulty(found), seen, reading))
    if len(found.by_example) > 1:
        few, many = float(found.by_example.min()), float(found.by_example.max())
        rows.append(
            Panel(
                "How different the examples are",
                _examples(found),
                f"The mean halting iteration of an example's answers goes from {few:.1f} to {many:.1f}.",
                "Bars count examples by the mean over their answers. One bar means that every example is given as long.",
            )
        )
    return rows


def _shares(found: HaltingTimes) -> Any:
    figure = drawing.empty("Halting iterations", "halting iteration", "fraction of positions", 300)
    figure.add_bar(
        y=found.share.tolist(),
        marker={"color": drawing.BLUE},
        hovertemplate="iteration %{x}: %{y:.2%}<extra></extra>",
    )
    return figure


def _difficulty(found: HaltingTimes) -> Any:
    name = drawing.label(found.difficulty)
    figure = drawing.map_of(
        [[round(v, 4) for v in row] for row in found.by_level.T.tolist()],
        "Halting, by difficulty and iteration",
        "halting iteration",
        "fraction of positions",
        hover=f"{name} %{{x}} halts in iteration %{{y}}: %{{z:.1%}}",
        zmin=0,
        x=found.levels.tolist(),
    )
    size = (5 + 9 * (found.examples / found.examples.max()).sqrt()).tolist()
    figure.add_scatter(
        x=found.levels.tolist(), y=found.mean_by_level.tolist(), mode="lines+markers",
        marker={"size": size, "color": "white", "opacity": 1}, line={"color": "white", "width": 2},
        hovertemplate="mean %{y:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(showlegend=False, xaxis={"title": {"text": name}})
    return figure


def _examples(found: HaltingTimes) -> Any:
    figure = drawing.empty("Halting by example", "mean halting iteration of an example", "examples", 300)
    figure.add_histogram(
        x=found.by_example.tolist(),
        nbinsx=24,
        marker={"color": drawing.BLUE},
        hovertemplate="%{x}: %{y} examples<extra></extra>",
    )
    return figure
