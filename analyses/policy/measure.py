"""The measurement: policy of a run. See the package for the question and its references."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number, percent
from loopscope.halting.exit_rules import RULES, model_rule
from loopscope.halting.metrics import Calibration, calibration, oracle_accuracy
from loopscope.halting.observation import answers_after
from loopscope.halting.rule import Rule, scores
from loopscope.maths import output_signals
from loopscope.recorder.labels import labels_of, task_of
from loopscope.runs.run import Run

from .stopping_methods import Way, depth, way_of

MARGIN, CLEARLY, FEWEST = 0.01, 0.05, 3


class Policy(Verdict):
    """What stopping is worth."""

    instant = "One iteration is as good as all of them, so there is nothing to decide."
    gate = "The model's own halting comes as close to full depth as any rule read from the run, with the fewest iterations."
    reading = "A rule read from the run comes as close to full depth with fewer iterations than the model's own halting."
    rule = "A rule read from the run comes close to full depth with fewer iterations than a fixed number of them."
    fixed = "No rule needs fewer iterations than a fixed number of them to come close to full depth."


@dataclass(frozen=True)
class PolicyResult(AnalysisResult):
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
    """Of the model's own halting as a probability of being right, over all iterations; None if it
    has no probability."""
    agreement: Float[Tensor, "rule rule"]
    """Spearman's, in the order of `judged` without depth; NaN where one of them stops everybody at
    once."""
    margin: float = MARGIN
    """An operating point may be so much less accurate than full depth."""
    clearly_threshold: float = CLEARLY
    """One way needs fewer iterations than another if it saves this fraction of them."""

    def named(self, name: str) -> Way:
        """One of them."""
        return next(one for one in self.judged if one.name == name)

    def summary(self) -> str:
        rows = "; ".join(
            f"{_called(one.name)} {one.iterations:.2f} ({percent(one.accuracy)} right, regret "
            f"{number(one.lost, 2)})"
            for one in sorted(self.judged, key=lambda one: one.iterations)
        )
        gate = (
            " As a probability of being right the model's own halting has a calibration error of "
            f"{self.gate.error:.3f}."
            if self.gate
            else ""
        )
        best = min(self.judged[1:], key=lambda one: one.iterations)
        return (
            f"{self.verdict.sentence} After all {self.iterations} iterations {percent(self.full)} of "
            f"{self.items} answers are right ({self.examples} examples). Mean iterations that come within "
            f"{self.margin:g} of it: {rows}. The oracle needs {number(needed_for(self), 3)}. Of the answers "
            f"stopped by {_called(best.name)}, {percent(best.under)} are wrong though right later, "
            f"{percent(best.over)} though right earlier; the largest probability there has a calibration "
            f"error of {best.calibration.error:.3f}.{gate} Threshold: fewer by {self.clearly_threshold:g} "
            "of the iterations."
        )


def needed_for(result: PolicyResult) -> float:
    """Mean iterations with which the oracle comes within the margin of full depth."""
    mean, accuracy = result.frontier
    reached = (accuracy >= result.full - result.margin - 1e-9).nonzero()
    return float(mean[reached[0, 0]]) if len(reached) else float("nan")


def applies(run: Run) -> bool:
    """Whether the run's answers are known, can be read out after every iteration, and there are a
    few iterations."""
    task = task_of(run)
    if task is None or task.continuous or run.iterations < FEWEST or labels_of(run) is None:
        return False
    try:
        return hasattr(run.model, "decode") and run.origin.get("whole", True)
    except LoopscopeError:
        return False


def measure(run: Run, *, points: int = 48) -> PolicyResult:
    """What each way of stopping is worth on a run of a known task.

    Arguments:
        points: thresholds tried for each rule.
    """
    run.require_finite()
    if not applies(run):
        raise LoopscopeError(
            f"policy needs a run of {FEWEST} iterations or more on examples of its model's task, whose "
            f"answers can be read out, but got {run!r}. Record model.task.batch(64, seed=0).tokens."
        )
    labels, task = labels_of(run), task_of(run)
    assert labels is not None and task is not None
    mask = labels.mask
    with torch.no_grad():
        logits = [answers_after(run, k).cpu() for k in range(1, run.iterations + 1)]
        right = torch.stack([task.correctness(one, labels.targets)[mask] >= 1 for one in logits])
        sure = torch.stack(
            [output_signals.confidence(output_signals.log_probabilities(one))[mask] for one in logits]
        )
    own = model_rule(run.model)
    rules = [*([own] if own else []), *RULES.values()]
    items = {name: score[:, mask] for name, score in scores(rules, run).items()}
    full = float(right[-1].double().mean())
    ways = [
        way_of(rule, items[rule.name], right, sure, full=full, margin=MARGIN, points=points) for rule in rules
    ]
    judged = (depth(right, sure, full, MARGIN), *(way for way, _ in ways))
    grid = torch.linspace(1, run.iterations, 8 * run.iterations + 1, dtype=torch.float64)
    return PolicyResult(
        verdict=_verdict(judged, right, full),
        judged=judged,
        full=full,
        iterations=run.iterations,
        items=right.shape[1],
        examples=len(labels.tokens),
        frontier=(grid, oracle_accuracy(right, grid)),
        gate=_gate(own, run, right, mask),
        agreement=_agreement([stop for _, stop in ways]),
    )


def _gate(own: Rule | None, run: Run, right: Tensor, mask: Tensor) -> Calibration | None:
    """The model's own halting as a probability that the answer is right: of each item, or of whole
    examples."""
    if own is None or own.probability is None:
        return None
    said = own.probability(run).cpu()
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
    own = ways.pop("model", None)
    read = min(ways.values())
    if min(read, own if own is not None else read) > (1 - CLEARLY) * depth:
        return Policy.fixed
    if own is None:
        return Policy.rule
    return Policy.reading if read < (1 - CLEARLY) * own else Policy.gate


def _called(name: str) -> str:
    return {"model": "the model's own halting", "depth": "a fixed depth"}.get(name, f"rule {name}")
