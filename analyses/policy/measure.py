"""What early exit costs and achieves: every exit method at its operating point, the oracle's
frontier, calibration, agreement of the stops, and the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import PositiveCount
from loopscope.common.errors import LoopscopeError
from loopscope.common.text import number, percent, plural
from loopscope.halting.exit_rules import RULES, model_rule
from loopscope.halting.metrics import Calibration, calibration, oracle_accuracy, stop_iterations
from loopscope.halting.observation import answers_after
from loopscope.halting.rule import Rule, scores
from loopscope.maths import output_signals
from loopscope.maths.ranks import centred_ranks
from loopscope.recorder.labels import labels_of, task_of
from loopscope.runs.run import Run
from loopscope.tasks import Batch, Task

from .comparison import Comparison, Stops
from .exit_methods import ExitMethod, Items, fixed_depth, rule_method
from .verdict import MARGIN, SAVED, SAVING, PolicyVerdict, decide, sum_by_example

MIN_ITERATIONS = 3


@dataclass(frozen=True)
class PolicyResult(AnalysisResult):
    """What exit methods cost and achieve."""

    verdict: PolicyVerdict
    methods: tuple[ExitMethod, ...]
    """Fixed depth, the model's own halting if it has one, then the rules."""
    full: float
    """Accuracy after all iterations."""
    iterations: int
    """Iterations of the run."""
    items: int
    examples: int
    frontier: tuple[Float[Tensor, " point"], Float[Tensor, " point"]]
    """Mean iterations and accuracy of the oracle."""
    gate: Calibration | None
    """Of the model's own halting as a probability of being right, over all iterations; None if it
    has no probability."""
    agreement: Float[Tensor, "rule rule"]
    """Spearman's correlation of the stops, in the order of `methods` without depth; NaN where one
    of them stops all items at once."""
    comparison: Comparison
    """The methods on examples that did not choose their thresholds, on which the verdict is
    based."""
    margin: float = MARGIN
    """By how much an operating point may be less accurate than full depth."""
    saving_threshold: float = SAVING
    """A method needs fewer iterations than another if it saves this fraction of them."""

    def method(self, name: str) -> ExitMethod:
        """The exit method of a name: "depth", "model" or a rule's."""
        return next(method for method in self.methods if method.name == name)

    @property
    def best(self) -> ExitMethod:
        """The method with the fewest iterations, fixed depth excepted."""
        return min(self.methods[1:], key=lambda method: method.iterations)

    @property
    def sentence(self) -> str:
        """The verdict, with the accuracy that it is about."""
        text = super().sentence
        if self.verdict in (PolicyVerdict.unclear, PolicyVerdict.instant):
            return text
        reached = self.comparison.model if self.verdict is PolicyVerdict.gate else self.comparison.rule
        return (
            f"{text} Early exit reaches {percent(reached[1])} correct with {reached[0]:.2f} iterations on "
            f"average, all {self.iterations} iterations {percent(self.full)}."
        )

    def summary(self) -> str:
        rows = "; ".join(
            f"{method.label} {method.iterations:.2f} ({percent(method.accuracy)} right, regret "
            f"{number(method.regret, 2)})"
            for method in sorted(self.methods, key=lambda method: method.iterations)
        )
        best = self.best
        return (
            f"{self.sentence} {self.accuracy_sentence()} {self.comparison_sentence()} {self.evidence.how} "
            f"With thresholds chosen on all examples, the mean iterations to come within {self.margin:g} of "
            f"full depth, that of the model's own halting too, are: {rows}. The oracle needs "
            f"{number(oracle_iterations(self), 3)}. Of the answers stopped by {best.label}, "
            f"{percent(best.underthinking)} are wrong and would have become right, "
            f"{percent(best.overthinking)} are wrong and had been right. {self.calibration_sentence()} "
            f"Threshold: fewer by {self.saving_threshold:g} of the iterations."
        )

    def accuracy_sentence(self) -> str:
        """Accuracy at full depth, with the name that a report has for it."""
        return (
            f"Answers correct (of the run's {plural(self.examples, 'example')}, after "
            f"{plural(self.iterations, 'iteration')}): {percent(self.full)} of {self.items}."
        )

    def comparison_sentence(self) -> str:
        """What the best rule and the model's own halting save on held-out examples."""
        c = self.comparison
        names = " on one half and ".join(dict.fromkeys(c.rules))
        halves = f"{names} on the other" if len(set(c.rules)) > 1 else f"{names} on both halves"
        savings = "; ".join(f"{e.name.removeprefix(f'{SAVED}, ')} {e.text}" for e in self.evidence.estimates)
        return (
            f"Chosen on one half of the examples and tried on the other, the best rule ({halves}) runs "
            f"{c.rule[0]:.2f} iterations on average and is right in {percent(c.rule[1])}. Share of "
            f"iterations saved against the other's fewest, with 95 % intervals: {savings}. Below 0 "
            "more are needed. The method compared with may be less accurate by the margin, and its threshold "
            "is chosen on the same examples, so even an equal method can need fewer."
        )

    def calibration_sentence(self) -> str:
        """The expected calibration errors."""
        gate = ""
        if self.gate:
            gate = f", {self.gate.error:.3f} for the model's halting probability over all iterations"
        return (
            f"Expected calibration error: {self.best.calibration.error:.3f} for the largest answer "
            f"probability where {self.best.label} stops{gate}."
        )


def oracle_iterations(result: PolicyResult) -> float:
    """Mean iterations with which the oracle comes within the margin of full depth."""
    mean, accuracy = result.frontier
    reached = (accuracy >= result.full - result.margin - 1e-9).nonzero()
    return float(mean[reached[0, 0]]) if len(reached) else float("nan")


def applies(run: Run) -> bool:
    """Whether the run's right answers are known, it can be read out after every iteration, and it
    has enough iterations."""
    task = task_of(run)
    if task is None or task.continuous or run.iterations < MIN_ITERATIONS or labels_of(run) is None:
        return False
    try:
        return hasattr(run.model, "decode") and run.origin.get("whole", True)
    except LoopscopeError:
        return False


def measure(run: Run, *, points: PositiveCount = 48) -> PolicyResult:
    """What each exit method costs and achieves on a run of a known task.

    Arguments:
        points: number of thresholds for each rule.

    Raises:
        LoopscopeError: the run is too short, its right answers are unknown, or it can't be read
            out.
    """
    run.require_finite()
    if not applies(run):
        raise LoopscopeError(
            f"policy needs a run of {MIN_ITERATIONS} iterations or more on examples of its model's task, "
            f"whose answers can be read out, but got {run!r}. Record model.task.batch(64, seed=0).tokens."
        )
    labels, task = labels_of(run), task_of(run)
    assert labels is not None and task is not None
    items, gate = _read_items(run, labels, task), model_rule(run.model)
    rules = [*([gate] if gate else []), *RULES.values()]
    by_rule = scores(rules, run)
    judged = [
        rule_method(rule, by_rule[rule.name][:, labels.mask], items, margin=MARGIN, points=points)
        for rule in rules
    ]
    methods = (fixed_depth(items, MARGIN), *(method for method, _ in judged))
    example = torch.arange(len(labels.mask))[:, None].expand_as(labels.mask)[labels.mask]
    stops = {
        method.name: _stops(rule, method, by_rule[rule.name][:, labels.mask], items.right, example)
        for rule, (method, _) in zip(rules, judged, strict=True)
    }
    comparison, verdict, evidence = decide(stops, items.right, example)
    grid = torch.linspace(1, run.iterations, 8 * run.iterations + 1, dtype=torch.float64)
    return PolicyResult(
        verdict=verdict,
        evidence=evidence,
        comparison=comparison,
        methods=methods,
        full=items.full_depth,
        iterations=run.iterations,
        items=items.right.shape[1],
        examples=len(labels.tokens),
        frontier=(grid, oracle_accuracy(items.right, grid)),
        gate=_gate_calibration(gate, run, items.right, labels.mask),
        agreement=_agreement([stop for _, stop in judged]),
    )


def _read_items(run: Run, labels: Batch, task: Task) -> Items:
    right, confidence = [], []
    with torch.no_grad():
        for k in range(1, run.iterations + 1):
            logits = answers_after(run, k).cpu()
            right.append(task.correctness(logits, labels.targets)[labels.mask] >= 1)
            p = output_signals.log_probabilities(logits)
            confidence.append(output_signals.confidence(p)[labels.mask])
    return Items(torch.stack(right), torch.stack(confidence))


def _gate_calibration(
    gate: Rule | None,
    run: Run,
    right: Bool[Tensor, "iteration item"],
    mask: Bool[Tensor, "batch position"],
) -> Calibration | None:
    """Of the model's own halting as the probability that an item, or a whole example, is right."""
    if gate is None or gate.probability is None:
        return None
    probability = gate.probability(run).cpu()
    if probability.ndim == 3:
        return calibration(probability[:, mask].flatten(), right.flatten())
    example = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
    wrong = torch.zeros(len(right), len(mask)).index_add(1, example, (~right).float())
    present = ~probability.isnan()
    return calibration(probability[present], (wrong == 0)[present])


def _agreement(stops: Sequence[Tensor]) -> Float[Tensor, "rule rule"]:
    ranks = torch.stack([centred_ranks(stop) for stop in stops])
    norm = ranks.norm(dim=1)
    norm = torch.where(norm > 0, norm, torch.nan)
    return (ranks @ ranks.T) / norm[:, None] / norm


def _stops(rule: Rule, method: ExitMethod, score: Tensor, right: Tensor, example: Tensor) -> Stops:
    """The stops of a rule at each threshold of its curve."""
    thresholds = -method.curve.thresholds if rule.stops_above else method.curve.thresholds
    stop = torch.stack([stop_iterations(score, float(threshold)) for threshold in thresholds])
    return Stops(sum_by_example(stop + 1, example), sum_by_example(right.gather(0, stop), example))
