"""R² of the halting iteration, predicted after each iteration from the state, from the signals of
exit rules and from the position, with a shuffled control; and the verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import Finite, Index
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import Evidence, by_bootstrap, estimate
from loopscope.common.text import number, plural
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.halting.exit_rules import RULES, rule_halting
from loopscope.halting.rule import scores
from loopscope.recorder.extend import vectors
from loopscope.recorder.labels import labels_of
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_of

R2, LEAD, EARLY = 0.5, 0.1, 2
MIN_POSITIONS, MAX_POSITIONS, FOLDS, SPREAD = 60, 4000, 5, 0.2
PREDICTORS = ("state", "signals", "position", "shuffled")


class HaltingPredictionVerdict(Verdict):
    """How early the halting iteration can be predicted."""

    early_more = (
        "The state predicts the halting iteration early, and better than the exit rules' signals and the "
        "position do."
    )
    early = (
        "The halting iteration can be predicted early, from the exit rules' signals or the position as well "
        "as from the state."
    )
    late = "The halting iteration can be predicted only late in the loop."
    unknown = (
        "Linear probes of the state do not predict the halting iteration well, after any number of "
        "iterations; another read-out might."
    )
    constant = (
        "There is nothing to predict: the answers that still run halt after the same number of iterations."
    )
    unclear = UNCLEAR


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
    r2_threshold: float = R2
    """The halting iteration counts as predicted from this R² of the state above the control."""
    lead_threshold: float = LEAD
    """The state predicts better if its R² exceeds those of signals and position by this, on average
    over the first half of the iterations."""
    early_threshold: int = EARLY
    """Early is by this k."""

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
            f"{self.sentence} Halting mechanism: {self.kind}.{numbers} {self.evidence.how} Thresholds: "
            f"predicted from an R² of {self.r2_threshold:g}, early by iteration {self.early_threshold}; "
            f"better than the signals from a lead of {self.lead_threshold:g}."
        )


class _Items(NamedTuple):
    """The answered positions of all examples."""

    stop: Int[Tensor, " item"]
    """Halting iteration."""
    example: Int[Tensor, " item"]
    position: Int[Tensor, " item"]
    mask: Bool[Tensor, "batch position"]
    """Which positions they are."""


def applies(run: Run) -> bool:
    """Whether the run's model halts, at different iterations, and there are enough positions to fit
    probes."""
    if run.halting is None or run.states.axes != ("iteration", "batch", "position", "width"):
        return False
    try:
        items = _items(run, run.halting.iteration.cpu())
    except LoopscopeError:
        return False
    whole = hasattr(run.model, "decode") and run.origin.get("whole", True)
    return bool(whole and _points(items, run.iterations))


def measure(
    run: Run, *, rule: str | None = None, threshold: Index | Finite | None = None
) -> HaltingPredictionResult:
    """How well the state after each iteration predicts when a position halts.

    Arguments:
        rule: None: the model's own halting; else that of an exit rule, as in `halting`.
        threshold: of the rule.

    Raises:
        LoopscopeError: the run's model doesn't halt and there is no rule, or too few positions halt
            at different iterations.
    """
    run.require_finite()
    if rule is None and run.halting is None:
        raise LoopscopeError(
            "halting_prediction needs a run of a model that halts, or a rule, but this one has neither. "
            'Pass rule=, such as "latent".'
        )
    halting = run.halting if rule is None else rule_halting(run, rule, threshold)
    assert halting is not None
    items = _items(run, halting.iteration.cpu())
    points = _points(items, run.iterations)
    if not points and _enough(items, items.stop >= 1):
        return _constant(halting.kind, items)
    if not points:
        raise LoopscopeError(
            f"halting_prediction needs {MIN_POSITIONS} positions or more that halt at different iterations, "
            "but this run has too few after its first iteration. Record more examples."
        )
    states, signals = vectors(run.states)[:, items.mask], _signals(run, items.mask)
    rows = [_errors_of_predictors(states[k], signals[k - 1], items, k) for k in points]
    count = int(items.example.max()) + 1

    def r2_on(draw: Int[Tensor, " sample"]) -> dict[str, Tensor]:
        weight = torch.bincount(draw, minlength=count).double()
        return {name: torch.tensor([_r2(row[name], weight) for row in rows]) for name in PREDICTORS}

    r2 = r2_on(torch.arange(count))
    verdict, evidence = by_bootstrap(
        lambda draw: verdict_on(torch.tensor(points), r2_on(draw)),
        count,
        unclear=HaltingPredictionVerdict.unclear,
        least=2 * FOLDS,
    )
    first = (
        estimate(f"R² from the {name}", lambda draw, name=name: float(r2_on(draw)[name][0]), count)
        for name in ("state", "signals", "position")
    )
    running = [items.stop[items.stop >= k] for k in points]
    return HaltingPredictionResult(
        verdict=verdict,
        evidence=replace(evidence, estimates=tuple(first)),
        kind=halting.kind,
        iterations=torch.tensor(points),
        running=torch.tensor([len(stop) for stop in running]),
        r2=r2,
        spread=torch.tensor([float(stop.double().std(correction=0)) for stop in running]),
    )


def _items(run: Run, stop: Int[Tensor, "batch position"]) -> _Items:
    labels = labels_of(run)
    mask = mask_of(run, *stop.shape)
    if labels is not None and labels.mask.shape == stop.shape:
        mask = labels.mask
    example, position = mask.nonzero(as_tuple=True)
    return _Items(stop[mask], example, position, mask)


def _points(items: _Items, n: int) -> list[int]:
    """The k after which enough positions of enough examples are running, and halt at different
    iterations."""
    points = []
    for k in range(1, n):
        running = items.stop >= k
        if _enough(items, running) and float(items.stop[running].double().std(correction=0)) > SPREAD:
            points.append(k)
    return points


def _enough(items: _Items, running: Bool[Tensor, " item"]) -> bool:
    """Whether these are enough positions of enough examples to fit probes."""
    return int(running.sum()) >= MIN_POSITIONS and len(items.example[running].unique()) >= 2 * FOLDS


def _constant(kind: str, items: _Items) -> HaltingPredictionResult:
    """The result where all halt alike, without a prediction."""
    verdict, none = HaltingPredictionVerdict.constant, torch.empty(0)
    examples = len(items.example.unique())
    how = f"No {MIN_POSITIONS} positions still run and differ by more than {SPREAD:g} iterations (deviation)."
    return HaltingPredictionResult(
        verdict=verdict,
        evidence=Evidence(examples, {verdict.name: 1.0}, how),
        kind=kind,
        iterations=none.long(),
        running=none.long(),
        r2=dict.fromkeys(PREDICTORS, none),
        spread=none,
    )


def _signals(run: Run, mask: Tensor) -> Float[Tensor, "iteration item signal"]:
    """What exit rules read after each iteration, and its logarithm."""
    by_rule = scores(RULES.values(), run)
    values = torch.stack([by_rule[name][:, mask] for name in RULES], -1).float()
    return torch.cat([values, values.abs().clamp(min=1e-12).log()], -1).nan_to_num(0.0, 0.0, 0.0)


def _errors_of_predictors(
    states: Float[Tensor, "item width"], signals: Float[Tensor, "item signal"], items: _Items, k: int
) -> dict[str, Float[Tensor, "4 example"]]:
    """Of each predictor, among the positions that are running after k iterations: by example, the
    number of positions, the sums of what is predicted and of its square, and of squared errors."""
    rows = (items.stop >= k).nonzero()[:, 0][:MAX_POSITIONS]
    target, group = (items.stop[rows] - k).double().numpy(), items.example[rows].numpy()
    shuffled = np.random.default_rng(0).permutation(target)
    position = torch.nn.functional.one_hot(items.position[rows]).float()
    cases = {
        "state": (states[rows], target),
        "signals": (signals[rows], target),
        "position": (position, target),
        "shuffled": (states[rows], shuffled),
    }
    examples = int(items.example.max()) + 1
    return {name: _errors(x.double().numpy(), y, group, examples) for name, (x, y) in cases.items()}


def _errors(x: np.ndarray, y: np.ndarray, group: np.ndarray, examples: int) -> Float[Tensor, "4 example"]:
    """Sums by example of 1, y, y² and squared errors of predictions for held-out groups."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), RidgeCV(alphas=(1.0, 10.0, 100.0, 1000.0, 1e4, 1e5)))
    predicted = cross_val_predict(probe, x, y, groups=group, cv=GroupKFold(FOLDS))
    sums = torch.from_numpy(np.stack([np.ones_like(y), y, y**2, (predicted - y) ** 2]))
    return torch.zeros(4, examples, dtype=torch.float64).index_add(1, torch.from_numpy(group), sums)


def _r2(errors: Float[Tensor, "4 example"], weight: Float[Tensor, " example"]) -> float:
    """R² on examples with these weights; NaN where what is predicted is constant."""
    count, total, squares, missed = (errors @ weight).tolist()
    spread = squares - total**2 / count if count else 0.0
    return 1 - missed / spread if spread > 1e-9 else float("nan")


def verdict_on(k: Int[Tensor, " point"], r2: Mapping[str, Tensor]) -> HaltingPredictionVerdict:
    """The verdict on R² by predictor, after k iterations; a NaN predicts nothing, and where R² of
    the state is unknown everywhere it is unclear."""
    state, control = r2["state"], r2["shuffled"].nan_to_num(0.0).clamp(min=0)
    if bool(state.isnan().all()):
        return HaltingPredictionVerdict.unclear
    predicted = state - control >= R2
    if not bool(predicted.any()):
        return HaltingPredictionVerdict.unknown
    if not bool(predicted[k <= EARLY].any()):
        return HaltingPredictionVerdict.late
    others = torch.maximum(r2["signals"].nan_to_num(0.0), r2["position"].nan_to_num(0.0))
    lead = (state - others)[: max(1, len(k) // 2)].nanmean()
    return HaltingPredictionVerdict.early_more if float(lead) >= LEAD else HaltingPredictionVerdict.early
