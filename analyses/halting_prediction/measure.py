"""R² of the halting iteration, predicted after each iteration from the state, from the signals of
exit rules and from the position, with a shuffled control; and the verdict."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import Finite, Index, PositiveCount, Seed
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import Estimate, Evidence, by_bootstrap, estimate
from loopscope.common.text import number, plural
from loopscope.halting.exit_rules import rule_halting
from loopscope.halting.halting_record import Halting
from loopscope.recorder.further_examples import further_examples
from loopscope.recorder.labels import task_of
from loopscope.runs.run import Run

from .predictors import FOLDS, MAX_POSITIONS, MIN_POSITIONS, Items, Predictions, items_of, predict
from .verdict import EARLY, LEAD, PREDICTORS, R2, SPREAD, HaltingPredictionVerdict, verdict_on

OBSERVATIONS = 10
"""Halting iterations for each number of the state, without which what isn't predicted may yet be
predictable: the usual least number of observations for each predictor of a regression."""
_EXAMPLES, _STATES = 2000, 200_000  # the most examples, and states of their positions, to record


@dataclass(frozen=True)
class HaltingPredictionResult(AnalysisResult):
    """How well the halting iteration is predicted."""

    verdict: HaltingPredictionVerdict
    kind: str
    """The halting mechanism, such as "exit gate"."""
    iterations: Int[Tensor, " point"]
    """The k after which predictions are made."""
    running: Int[Tensor, " point"]
    """Number of positions that had not halted by then."""
    r2: dict[str, Float[Tensor, " point"]]
    """R² on held-out examples, by predictor."""
    spread: Float[Tensor, " point"]
    """Standard deviation of the halting iterations of the running positions, in iterations."""
    examples: str
    """Where the examples come from, as a sentence."""
    r2_threshold: float = R2
    """The halting iteration counts as predicted from this R² of the state above the control."""
    lead_threshold: float = LEAD
    """The state predicts better if its R² exceeds those of signals and position by this, on average
    over the first half of the iterations."""
    early_threshold: int = EARLY
    """Early is by this k."""

    @property
    def best(self) -> int:
        """The index of the largest R² of the state, among early k where the verdict is of those."""
        values = self.r2["state"].nan_to_num(-math.inf)
        verdict = HaltingPredictionVerdict
        early = (self.iterations <= self.early_threshold).nonzero()[:, 0]
        if self.verdict in (verdict.early, verdict.early_more) and len(early):
            return int(early[values[early].argmax()])
        return int(values.argmax())

    @property
    def sentence(self) -> str:
        """The verdict, with R² where the state's is largest."""
        text = super().sentence
        if not len(self.iterations) or self.verdict is HaltingPredictionVerdict.unclear:
            return text
        state, signals, position = (number(float(self.r2[name][self.best]), 2) for name in PREDICTORS[:3])
        return (
            f"{text} R² after {plural(int(self.iterations[self.best]), 'iteration')}: {state} from the "
            f"state, {signals} from the signals, {position} from the position."
        )

    def summary(self) -> str:
        rows = "; ".join(
            f"after {plural(int(k), 'iteration')} ({plural(int(count), 'position')}) "
            + ", ".join(f"{name} {number(float(self.r2[name][i]), 2)}" for name in PREDICTORS)
            for i, (k, count) in enumerate(zip(self.iterations, self.running, strict=True))
            if i in {0, len(self.iterations) // 2, len(self.iterations) - 1}
        )
        first = "; ".join(f"{e.name} {e.text}" for e in self.evidence.estimates)
        numbers = f" R² of the iterations still to come, on held-out examples: {rows}." if rows else ""
        numbers += f" At the first of them, with 95 % intervals: {first}." if first else ""
        return (
            f"{self.sentence} Halting mechanism: {self.kind}.{numbers} {self.examples} {self.evidence.how} "
            f"Thresholds: predicted from an R² of {self.r2_threshold:g}, early by iteration "
            f"{self.early_threshold}; better than the signals from a lead of {self.lead_threshold:g}."
        )


def applies(run: Run) -> bool:
    """Whether the run's model halts, and there are enough positions to fit probes, or further
    examples of its task can be recorded."""
    if run.halting is None or run.states.axes != ("iteration", "batch", "position", "width"):
        return False
    if not hasattr(run.model, "decode") or not run.origin.get("whole", True):
        return False
    more = task_of(run) is not None and not run.origin.get("edits")
    return run.iterations >= 1 and (more or items_of(run, run.halting.iteration.cpu()).enough())


def measure(
    run: Run,
    *,
    rule: str | None = None,
    threshold: Index | Finite | None = None,
    examples: PositiveCount | None = None,
    seed: Seed = 0,
) -> HaltingPredictionResult:
    """How well the state after each iteration predicts when a position halts.

    Arguments:
        rule: None: the model's own halting; else that of an exit rule, as in `halting`.
        threshold: of the rule.
        examples: how many; if the run has fewer, and its model is known, other examples of its task
            are recorded. None: enough for MAX_POSITIONS answers and twice OBSERVATIONS for each
            number of the state, or fewer where they are long.
        seed: of other examples.

    Raises:
        LoopscopeError: the run's model doesn't halt and there is no rule, or it has too few
            positions.
    """
    run.require_finite()
    own = run
    run, halting, how = _with_more_examples(own, rule, threshold, examples=examples, seed=seed)
    items = items_of(run, halting.iteration.cpu())
    if not items.enough():
        raise LoopscopeError(
            f"halting_prediction needs {MIN_POSITIONS} answered positions of {2 * FOLDS} examples, but this "
            f"run has {len(items.stop)} of {len(items.example.unique())}. Record more examples."
        )
    points = items.points(run.iterations)
    if not points:
        return _nothing_to_predict(halting, items, how)
    predictions, k, count = predict(run, items, points), torch.tensor(points), len(items.mask)
    fitted = predictions.observations >= OBSERVATIONS * run.states[0].shape[-1]

    def verdict_of(draw: Int[Tensor, " sample"]) -> HaltingPredictionVerdict:
        weight = _weight(draw, count)
        return verdict_on(k, predictions.r2(weight), predictions.spread(weight), fitted)

    unclear, called = HaltingPredictionVerdict.unclear, "example" if run is own else "fresh example"
    verdict, evidence = by_bootstrap(verdict_of, count, unclear=unclear, least=2 * FOLDS, called=called)
    every = _weight(torch.arange(count), count)
    r2, spread = predictions.r2(every), predictions.spread(every)
    kept = (spread > SPREAD).nonzero()[:, 0]
    return HaltingPredictionResult(
        verdict=verdict,
        evidence=replace(evidence, estimates=_estimates(predictions, k, kept.tolist(), count)),
        kind=halting.kind,
        iterations=k[kept],
        running=torch.tensor([int((items.stop >= j).sum()) for j in k[kept].tolist()]).long(),
        r2={name: values[kept] for name, values in r2.items()},
        spread=spread[kept],
        examples=how,
    )


def _weight(draw: Int[Tensor, " sample"], count: int) -> Float[Tensor, " example"]:
    return torch.bincount(draw, minlength=count).double()


def _estimates(
    predictions: Predictions, k: Int[Tensor, " point"], points: list[int], count: int
) -> tuple[Estimate, ...]:
    """R² at the first of these points, with intervals."""
    if not points:
        return ()
    return tuple(
        estimate(
            f"R² from the {name} after {plural(int(k[points[0]]), 'iteration')}",
            lambda draw, name=name: float(predictions.r2(_weight(draw, count))[name][points[0]]),
            count,
        )
        for name in ("state", "signals", "position")
    )


def _with_more_examples(
    run: Run, rule: str | None, threshold: float | int | None, *, examples: int | None, seed: int
) -> tuple[Run, Halting, str]:
    """The run, or one of more examples of its task, its halting, and where the examples come
    from."""
    halting = halting_of(run, rule, threshold)
    if halting is None:
        raise LoopscopeError(
            "halting_prediction needs a run of a model that halts, or a rule, but this one has neither. "
            'Pass rule=, such as "latent".'
        )
    count = len(run.tokens)
    examples = example_count(run, halting) if examples is None else examples
    larger = further_examples(run, examples, seed=seed)
    more = None if larger is None else halting_of(larger, rule, threshold)
    if larger is None or more is None:
        return run, halting, f"The run's own {plural(count, 'example')}."
    how = (
        f"{examples} other test examples of the task were recorded, as the run's own {count} are too few. "
        "They are drawn so that the same run always gets the same ones."
    )
    return larger, more, how


def example_count(run: Run, halting: Halting) -> int:
    """How many examples are used if the caller doesn't say."""
    answers = len(items_of(run, halting.iteration.cpu()).stop) / max(1, len(run.tokens))
    observations = 2 * OBSERVATIONS * run.states[0].shape[-1]  # some halt in the first iteration
    needed = max(MAX_POSITIONS / max(1.0, answers), observations)
    size = halting.iteration.shape[1] * (run.iterations + 1)
    return min(int(needed), _EXAMPLES, _STATES // size)


def halting_of(run: Run, rule: str | None, threshold: float | int | None) -> Halting | None:
    """The run's own halting, or by a rule; None if there is none."""
    return run.halting if rule is None else rule_halting(run, rule, threshold)


def _nothing_to_predict(halting: Halting, items: Items, how: str) -> HaltingPredictionResult:
    """The result where all that still run halt alike, none does, or too few still run to tell."""
    stops = items.stop[items.stop >= 1]
    verdict, sentence = HaltingPredictionVerdict.constant, "All positions that still run halt alike."
    if not items.enough(1) or len(stops.unique()) > 1:
        verdict = HaltingPredictionVerdict.unclear
        sentence = (
            f"After the first iteration {plural(len(stops), 'position')} still run, with "
            f"{items.observations(1)} halting iterations (one for positions of an example that halt "
            f"together), which are too few: it needs {MIN_POSITIONS} of {2 * FOLDS} examples."
        )
    elif not bool(halting.halted.cpu()[items.mask].any()):
        verdict, sentence = HaltingPredictionVerdict.never, "The loop ended before any answer had halted."
    none = torch.empty(0)
    return HaltingPredictionResult(
        verdict=verdict,
        evidence=Evidence(len(items.example.unique()), {verdict.name: 1.0}, sentence),
        kind=halting.kind,
        iterations=none.long(),
        running=none.long(),
        r2=dict.fromkeys(PREDICTORS, none),
        spread=none,
        examples=how,
    )
