"""Is it a good policy? What the model's own halting, rules read from the run, and a fixed number of iterations are worth.

An item is one answered position of an example, and stops by itself. Definitions:

- sweep: for thresholds at the quantiles of what a rule scored, the mean number of iterations used (N, from 1) and the fraction
  of items that are right where they stop. Depth: everybody stops after the same number.
- full depth: the accuracy after all n iterations of the run. Operating point of a rule: the fewest mean iterations with which it
  comes within MARGIN of it.
- oracle: stops with the answers known. Everybody stops after one iteration, but where more make it right, the cheapest first.
  No rule does better with as many iterations. Regret: the oracle's accuracy at a rule's mean iterations less the rule's.
- underthinking: stopped wrong, though right later. Overthinking: stopped wrong, though right earlier. Fractions of items.
- calibration: of the largest probability at the stop as the chance of being right, and of the model's own halting (ACT's spent
  mass, the gate's summed chance, the sigmoid of the Q-head's logit of halting) after every iteration: bins of a tenth, and the
  expected calibration error. A Q-head speaks of whole examples at the ends of segments, and is held against them.
- agreement: Spearman's rank correlation between two rules' stops at their operating points.

Sources: rules, Geiping et al. 2025 (arXiv 2502.05171), Kohli et al. 2026 (arXiv 2604.07822), Schuster et al. 2022 (arXiv
2207.07061); gates, Graves 2016 (arXiv 1603.08983), Banino et al. 2021 (arXiv 2107.05407), Zhu et al. 2025 (arXiv 2510.25741),
Wang et al. 2025 (arXiv 2506.21734); accuracy against mean exit and static depth, Zhu et al. 2025; calibration error, Guo et al.
2017 (arXiv 1706.04599).

What can mislead:
- Operating points are chosen on the examples they are told for: with few examples two that are close can't be told apart.
- The oracle profits from lucky guesses: an answer that is right by chance for one iteration counts. With few possible answers
  nothing comes near it.
- With adaptive computation time an answer no longer moves once the unit has halted, so that no rule stops later than it, and what
  is read earlier is the output as if the loop had ended. After an exit gate's threshold the loop ends when all are past it.
- Neither a gate's summed chance nor ACT's mass was trained to be the probability of being right; a Q-head was.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope import drawing
from loopscope.asked import labels_of, task_of
from loopscope.drawing import Panel, number, percent
from loopscope.errors import LoopscopeError
from loopscope.finding import Finding, Verdict
from loopscope.maths import signals
from loopscope.rules import RULES, Rule, answers_after, own_rule, scores
from loopscope.run import Run
from loopscope.stopping import Calibration, calibration, oracle
from loopscope.ways import Way, depth, way_of

TITLE, PLACE = "Is halting a good policy?", 31
MARGIN, CLEARLY, FEWEST = 0.01, 0.05, 3


class Policy(Verdict):
    """What stopping is worth."""

    instant = "One iteration is as good as all of them, so there is nothing to decide."
    gate = "The model's own halting comes as close to full depth as any rule read from the run, with the fewest iterations."
    reading = "A rule read from the run comes as close to full depth with fewer iterations than the model's own halting."
    rule = "A rule read from the run comes close to full depth with fewer iterations than a fixed number of them."
    fixed = "No rule needs fewer iterations than a fixed number of them to come close to full depth."


@dataclass(frozen=True)
class PolicyFinding(Finding):
    """What the ways of stopping are worth, by a run's right answers."""

    verdict: Policy
    judged: tuple[Way, ...]
    """Depth, the model's own halting if it has one, then the rules."""
    full: float
    """Accuracy after all iterations."""
    iterations: int
    """All of them."""
    items: int
    examples: int
    frontier: tuple[Float[Tensor, " point"], Float[Tensor, " point"]]
    """Mean iterations and accuracy of the oracle."""
    gate: Calibration | None
    """Of the model's own halting as a probability of being right, over all iterations; None if it has no probability."""
    agreement: Float[Tensor, "rule rule"]
    """Spearman's, in the order of `judged` without depth; NaN where one of them stops everybody at once."""
    margin: float = MARGIN
    """An operating point may be so much less accurate than full depth."""
    clearly_threshold: float = CLEARLY
    """One way needs fewer iterations than another if it saves this fraction of them."""

    def named(self, name: str) -> Way:
        """One of them."""
        return next(one for one in self.judged if one.name == name)

    def summary(self) -> str:
        rows = "; ".join(
            f"{_called(one.name)} {one.iterations:.2f} ({percent(one.accuracy)} right, regret {number(one.lost, 2)})"
            for one in sorted(self.judged, key=lambda one: one.iterations)
        )
        gate = (
            f" As a probability of being right the model's own halting has a calibration error of {self.gate.error:.3f}."
            if self.gate
            else ""
        )
        best = min(self.judged[1:], key=lambda one: one.iterations)
        return (
            f"{self.verdict.sentence} After all {self.iterations} iterations {percent(self.full)} of {self.items} answers are "
            f"right ({self.examples} examples). Mean iterations that come within {self.margin:g} of it: {rows}. The oracle "
            f"needs {number(needed_for(self), 3)}. Of the answers stopped by {_called(best.name)}, {percent(best.under)} are "
            f"wrong though right later, {percent(best.over)} though right earlier; the largest probability there has a "
            f"calibration error of {best.calibration.error:.3f}.{gate} Threshold: "
            f"fewer by {self.clearly_threshold:g} of the iterations."
        )


def needed_for(found: PolicyFinding) -> float:
    """Mean iterations with which the oracle comes within the margin of full depth."""
    mean, accuracy = found.frontier
    reached = (accuracy >= found.full - found.margin - 1e-9).nonzero()
    return float(mean[reached[0, 0]]) if len(reached) else float("nan")


def applies(run: Run) -> bool:
    """Whether the run's answers are known, can be read out after every iteration, and there are a few iterations."""
    task = task_of(run)
    if task is None or task.continuous or run.iterations < FEWEST or labels_of(run) is None:
        return False
    try:
        return hasattr(run.model, "decode") and run.origin.get("whole", True)
    except LoopscopeError:
        return False


def measure(run: Run, *, points: int = 48) -> PolicyFinding:
    """What each way of stopping is worth on a run of a known task.

    Arguments:
        points: thresholds tried for each rule.
    """
    run.require_finite()
    if not applies(run):
        raise LoopscopeError(
            f"policy needs a run of {FEWEST} iterations or more on examples of its model's task, whose answers can be read out, "
            f"but got {run!r}. Record model.task.batch(64, seed=0).tokens."
        )
    labels, task = labels_of(run), task_of(run)
    assert labels is not None and task is not None
    mask = labels.mask
    with torch.no_grad():
        logits = [answers_after(run, k).cpu() for k in range(1, run.iterations + 1)]
        right = torch.stack([task.right(one, labels.targets)[mask] >= 1 for one in logits])
        sure = torch.stack([signals.confidence(signals.log_probabilities(one))[mask] for one in logits])
    own = own_rule(run.model)
    rules = [*([own] if own else []), *RULES.values()]
    items = {name: score[:, mask] for name, score in scores(rules, run).items()}
    full = float(right[-1].double().mean())
    ways = [
        way_of(rule, items[rule.name], right, sure, full=full, margin=MARGIN, points=points) for rule in rules
    ]
    judged = (depth(right, sure, full, MARGIN), *(way for way, _ in ways))
    grid = torch.linspace(1, run.iterations, 8 * run.iterations + 1, dtype=torch.float64)
    return PolicyFinding(
        verdict=_verdict(judged, right, full),
        judged=judged,
        full=full,
        iterations=run.iterations,
        items=right.shape[1],
        examples=len(labels.tokens),
        frontier=(grid, oracle(right, grid)),
        gate=_gate(own, run, right, mask),
        agreement=_agreement([stop for _, stop in ways]),
    )


def _gate(own: Rule | None, run: Run, right: Tensor, mask: Tensor) -> Calibration | None:
    """The model's own halting as a probability that the answer is right: of each item, or of whole examples."""
    if own is None or own.chance is None:
        return None
    said = own.chance(run).cpu()
    if said.ndim == 3:
        return calibration(said[:, mask].flatten(), right.flatten())
    example = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
    wrong = torch.zeros(len(right), len(mask)).index_add(1, example, (~right).float())
    judged = ~said.isnan()
    return calibration(said[judged], (wrong == 0)[judged])


def _agreement(stops: list[Tensor]) -> Float[Tensor, "rule rule"]:
    from scipy.stats import rankdata

    ranks = torch.stack([torch.from_numpy(rankdata(stop.numpy())).double() for stop in stops])
    ranks = ranks - ranks.mean(1, keepdim=True)
    size = ranks.norm(dim=1)
    return (
        (ranks @ ranks.T)
        / torch.where(size > 0, size, torch.nan)[:, None]
        / torch.where(size > 0, size, torch.nan)
    )


def _verdict(judged: tuple[Way, ...], right: Tensor, full: float) -> Policy:
    if float(right[0].double().mean()) >= full - MARGIN - 1e-9:
        return Policy.instant
    depth, ways = judged[0].iterations, {one.name: one.iterations for one in judged[1:]}
    own = ways.pop("own", None)
    read = min(ways.values())
    if min(read, own if own is not None else read) > (1 - CLEARLY) * depth:
        return Policy.fixed
    if own is None:
        return Policy.rule
    return Policy.reading if read < (1 - CLEARLY) * own else Policy.gate


def _called(name: str) -> str:
    return {"own": "the model's own halting", "depth": "a fixed depth"}.get(name, f"rule {name}")


def _short(name: str) -> str:
    return {"own": "own halting", "depth": "fixed depth"}.get(name, name)


def headline(found: PolicyFinding) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    best = min(found.judged[1:], key=lambda one: one.iterations)
    return (
        f"{best.iterations:.1f} of {found.iterations}",
        f"iterations in the mean are enough for {_called(best.name)}. {found.verdict.sentence}",
    )


def draw(found: PolicyFinding) -> Any:
    """Accuracy against mean iterations for each way of stopping."""
    figure = drawing.empty(
        "Accuracy against iterations", "mean iterations used", "fraction of answers right", 480
    )
    mean, accuracy = found.frontier
    figure.add_scatter(
        x=mean.tolist(), y=accuracy.tolist(), name="oracle", line={"color": drawing.GREY, "width": 2, "dash": "dash"}
    )  # fmt: skip
    dashes = ("solid", "dot", "dashdot")
    for place, one in enumerate(found.judged):
        order = one.curve.iterations.argsort()
        main = one.name in ("depth", "own")
        colour = drawing.COLOURS[place % len(drawing.COLOURS)]
        dash = dashes[place // len(drawing.COLOURS)]
        figure.add_scatter(
            x=one.curve.iterations[order].tolist(), y=one.curve.accuracy[order].tolist(),
            name=_short(one.name), mode="lines",
            line={"color": colour, "width": 3.5 if main else 1.75, "dash": dash},
            customdata=one.curve.thresholds[order].tolist(),
            hovertemplate=f"{drawing.label(_called(one.name))} at %{{customdata:.3g}}: %{{y:.1%}} right, %{{x:.2f}} iterations"
            "<extra></extra>",
        )  # fmt: skip
    best = [one for one in found.judged if one.published[0] == one.published[0]]
    figure.add_scatter(
        x=[one.published[0] for one in best], y=[one.published[1] for one in best], mode="markers", name="usual threshold",
        marker={"symbol": "diamond-open", "size": 9, "color": drawing.GREY, "line": {"width": 2}},
        text=[_called(one.name) for one in best], hovertemplate="%{text}, usual threshold: %{y:.1%}, %{x:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(tickformat=".0%")
    figure.update_layout(margin={"t": 120})
    return figure


def panels(found: PolicyFinding) -> list[Panel]:
    """The finding as a report shows it."""
    depth, best = found.named("depth"), min(found.judged[1:], key=lambda one: one.iterations)
    under = max(found.judged, key=lambda one: one.under)
    over = max(found.judged, key=lambda one: one.over)
    rows = [
        Panel(
            "Accuracy against iterations, for every way of stopping",
            draw(found),
            f"Within {found.margin:g} of full depth ({percent(found.full)} after {found.iterations}), {_called(best.name)} needs "
            f"{best.iterations:.2f} iterations in the mean, a fixed depth {depth.iterations:.2f}, and the oracle "
            f"{number(needed_for(found), 3)}.",
            "Each line is one way of stopping over its threshold; further up and to the left is better. Diamonds stand at the "
            "threshold of its source, or of the model. The oracle knows the answers.",
        ),
        Panel(
            "How far each is from the oracle",
            _bars(found),
            f"Stopped wrong though right later: at most {percent(under.under)} ({_called(under.name)}). Stopped wrong though "
            f"right earlier: at most {percent(over.over)} ({_called(over.name)}).",
            f"At each one's operating point, the fewest iterations within {found.margin:g} of full depth. Regret is what the "
            "oracle has right more with as many iterations.",
        ),
        Panel(
            "Is it right when it is sure?",
            _reliability(found, best),
            f"The largest probability where {_called(best.name)} stops has a calibration error of {best.calibration.error:.3f}"
            + (f", the model's own halting one of {found.gate.error:.3f}." if found.gate else "."),
            "Points are bins of a tenth; on the diagonal a probability is what it says. Large points hold many answers.",
        ),
    ]
    if len(found.agreement) > 1 and bool(found.agreement.isfinite().any()):
        rows.append(
            Panel(
                "Do they stop at the same answers?",
                _agreeing(found),
                _alike(found),
                "Rank correlation between the stops of two ways at their operating points: 1 is the same order, 0 none. Empty "
                "where one stops everybody at once.",
            )
        )
    return rows


def _bars(found: PolicyFinding) -> Any:
    figure = drawing.empty("Regret and mistaken stops", "", "fraction of answers", 360)
    names = [_short(one.name) for one in found.judged]
    for values, name, colour in (
        ([one.lost for one in found.judged], "regret", drawing.GREY),
        ([one.under for one in found.judged], "underthinking", drawing.BLUE),
        ([one.over for one in found.judged], "overthinking", drawing.ORANGE),
    ):
        figure.add_bar(x=names, y=values, name=name, marker={"color": colour})
    figure.update_layout(barmode="group", xaxis={"title": {"text": "way of stopping"}})
    figure.update_yaxes(tickformat=".1%")
    return figure


def _reliability(found: PolicyFinding, best: Way) -> Any:
    figure = drawing.empty("Reliability", "probability said", "fraction right", 400)
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", showlegend=False, line={"color": drawing.GREY, "width": 1, "dash": "dot"}
    )  # fmt: skip
    both = [(best.calibration, f"largest probability, {_called(best.name)}", drawing.BLUE)]
    both += [(found.gate, "the model's own halting", drawing.ORANGE)] if found.gate else []
    for told, name, colour in both:
        seen = told.count > 0
        size = (6 + 14 * (told.count[seen] / told.count.max()).sqrt()).tolist()
        figure.add_scatter(
            x=told.said[seen].tolist(), y=told.right[seen].tolist(), mode="lines+markers", name=drawing.label(name),
            line={"color": colour, "width": 1.5}, marker={"size": size, "color": colour},
            customdata=told.count[seen].tolist(), hovertemplate="%{x:.2f} said, %{y:.1%} right of %{customdata}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%")
    return figure


def _agreeing(found: PolicyFinding) -> Any:
    names = [_short(one.name) for one in found.judged[1:]]
    cells = [[None if v != v else round(v, 3) for v in row] for row in found.agreement.tolist()]
    figure = drawing.empty("Rank correlation of the stops", "way of stopping", "way of stopping", 460)
    figure.add_heatmap(
        z=cells, x=names, y=names, colorscale=drawing.SCALE, zmax=1, colorbar=drawing.colourbar("rank correlation"),
        hovertemplate="%{x} and %{y}: %{z:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure


def _alike(found: PolicyFinding) -> str:
    names = [one.name for one in found.judged[1:]]
    pairs = [
        (float(found.agreement[i, j]), names[i], names[j])
        for i in range(len(names))
        for j in range(i)
        if found.agreement[i, j] == found.agreement[i, j]
    ]
    if not pairs:
        return "No two ways can be compared."
    low, high = min(pairs), max(pairs)
    return (
        f"Most alike are {_called(high[1])} and {_called(high[2])} ({high[0]:.2f}), least {_called(low[1])} and "
        f"{_called(low[2])} ({low[0]:.2f})."
    )
