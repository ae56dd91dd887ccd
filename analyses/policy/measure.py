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
from loopscope.common.text import number, percent
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.halting.exit_rules import RULES, model_rule
from loopscope.halting.metrics import Calibration, calibration, oracle_accuracy
from loopscope.halting.observation import answers_after
from loopscope.halting.rule import Rule, scores
from loopscope.maths import output_signals
from loopscope.recorder.labels import labels_of, task_of
from loopscope.runs.run import Run
from loopscope.tasks import Batch, Task

from .exit_methods import DEPTH, MODEL, ExitMethod, Items, fixed_depth, rule_method

MARGIN, SAVING, MIN_ITERATIONS = 0.01, 0.05, 3


class PolicyVerdict(Verdict):
    """What early exit is worth."""

    instant = "One iteration is as accurate as all of them, so there is nothing to decide."
    gate = (
        "The model's own halting comes as close to full depth as any exit rule, with the fewest iterations."
    )
    reading = "An exit rule comes as close to full depth with fewer iterations than the model's own halting."
    rule = "An exit rule comes close to full depth with fewer iterations than a fixed depth."
    fixed = "No exit rule needs fewer iterations than a fixed depth to come close to full depth."
    unclear = UNCLEAR


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

    def summary(self) -> str:
        rows = "; ".join(
            f"{method.label} {method.iterations:.2f} ({percent(method.accuracy)} right, regret "
            f"{number(method.regret, 2)})"
            for method in sorted(self.methods, key=lambda method: method.iterations)
        )
        best = self.best
        return (
            f"{self.sentence} After all {self.iterations} iterations {percent(self.full)} of "
            f"{self.items} answers are right ({self.examples} examples). Mean iterations to come within "
            f"{self.margin:g} of it: {rows}. The oracle needs {number(oracle_iterations(self), 3)}. Of the "
            f"answers stopped by {best.label}, {percent(best.underthinking)} are wrong and would have become "
            f"right, {percent(best.overthinking)} are wrong and had been right. "
            f"{self.calibration_sentence()} Threshold: fewer by {self.saving_threshold:g} of the iterations."
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
    grid = torch.linspace(1, run.iterations, 8 * run.iterations + 1, dtype=torch.float64)
    return PolicyResult(
        verdict=_verdict(methods, items),
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
    from scipy.stats import rankdata

    ranks = torch.stack([torch.from_numpy(rankdata(stop.numpy())).double() for stop in stops])
    ranks = ranks - ranks.mean(1, keepdim=True)
    norm = ranks.norm(dim=1)
    norm = torch.where(norm > 0, norm, torch.nan)
    return (ranks @ ranks.T) / norm[:, None] / norm


def _verdict(methods: Sequence[ExitMethod], items: Items) -> PolicyVerdict:
    if float(items.right[0].double().mean()) >= items.full_depth - MARGIN - 1e-9:
        return PolicyVerdict.instant
    iterations = {method.name: method.iterations for method in methods}
    depth, model = iterations.pop(DEPTH), iterations.pop(MODEL, None)
    rule = min(iterations.values())
    if min(rule, model if model is not None else rule) > (1 - SAVING) * depth:
        return PolicyVerdict.fixed
    if model is None:
        return PolicyVerdict.rule
    return PolicyVerdict.reading if rule < (1 - SAVING) * model else PolicyVerdict.gate
