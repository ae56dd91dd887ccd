"""The measurement: halting prediction of a run. See the package for the question and its
references."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number
from loopscope.halting.exit_rules import RULES, rule_halting
from loopscope.halting.rule import scores
from loopscope.recorder.extend import vectors
from loopscope.recorder.labels import labels_of
from loopscope.runs.run import Run

KNOWN, MORE, EARLY = 0.5, 0.1, 2
FEWEST, FOLDS, MOST = 60, 5, 4000
KINDS = ("state", "signals", "position", "shuffled")


class Foresight(Verdict):
    """How early the stop is known."""

    early_more = "When a position will stop is in its state from early on, and the state knows more than the signals read off it."
    early = "When a position will stop is known early, and what is read off the state, or its position, tells as much."
    late = "When a position will stop becomes known only while the loop runs."
    unknown = "When a position will stop can't be told from its state, beyond what it does next."


@dataclass(frozen=True)
class HaltingPrediction(AnalysisResult):
    """How well the halting iteration is predicted."""

    verdict: Foresight
    kind: str
    """What halts, such as "exit gate"."""
    iterations: Int[Tensor, " point"]
    """The k after which predictions are made."""
    running: Int[Tensor, " point"]
    """Positions that had not stopped by then."""
    r2: dict[str, Float[Tensor, " point"]]
    """By what is predicted from."""
    spread: Float[Tensor, " point"]
    """Standard deviation of what is predicted, in iterations."""
    known_threshold: float = KNOWN
    """It is known from this R² on ..."""
    more_threshold: float = MORE
    """... and the state knows more if it leads the signals and the position by this much, in the
    mean."""
    early_threshold: int = EARLY
    """Early is by this k."""

    def summary(self) -> str:
        told = "; ".join(
            f"after {int(k)} iterations ({int(left)} positions) "
            + ", ".join(f"{name} {number(float(self.r2[name][i]), 2)}" for name in KINDS)
            for i, (k, left) in enumerate(zip(self.iterations, self.running, strict=True))
            if i in {0, len(self.iterations) // 2, len(self.iterations) - 1}
        )
        return (
            f"{self.verdict.sentence} What decides is the {self.kind}. R² of the iterations still to come, "
            f"on examples not seen: {told}. Thresholds: known from {self.known_threshold:g} by state "
            f"{self.early_threshold}; the state knows more from a lead of {self.more_threshold:g}."
        )


def applies(run: Run) -> bool:
    """Whether the run's model halts, at different iterations, and there are enough positions to
    learn from."""
    if run.halting is None or run.states.axes != ("iteration", "batch", "position", "width"):
        return False
    try:
        told = _items(run, run.halting.iteration.cpu())
        return (
            hasattr(run.model, "decode")
            and run.origin.get("whole", True)
            and bool(_points(told, run.iterations))
        )
    except LoopscopeError:
        return False


def measure(run: Run, *, rule: str | None = None, threshold: float | int | None = None) -> HaltingPrediction:
    """How well the state after each iteration foretells when a position stops.

    Arguments:
        rule: None: the model's own halting; else that of a rule, as in `halting`.
        threshold: the rule's.
    """
    run.require_finite()
    if rule is None and run.halting is None:
        raise LoopscopeError(
            "halting_prediction needs a run of a model that halts, or a rule, but this one has neither. "
            'Pass rule=, such as "latent".'
        )
    halting = run.halting if rule is None else rule_halting(run, rule, threshold)
    assert halting is not None
    told = _items(run, halting.iteration.cpu())
    points = _points(told, run.iterations)
    if not points:
        raise LoopscopeError(
            f"halting_prediction needs {FEWEST} positions or more that stop at different iterations, but "
            "this run has none such left after its first. Record more examples."
        )
    stop, example, place, mask = told
    signals = scores(RULES.values(), run)
    read = torch.stack([signals[name][:, mask] for name in RULES], -1).float()
    read = torch.cat([read, read.abs().clamp(min=1e-12).log()], -1).nan_to_num(0.0, 0.0, 0.0)
    states = vectors(run.states)[:, mask]
    r2: dict[str, list[float]] = {name: [] for name in KINDS}
    for k in points:
        left = (stop >= k).nonzero()[:, 0][:MOST]
        y, group = (stop[left] - k).double().numpy(), example[left].numpy()
        where = torch.nn.functional.one_hot(place[left]).float()
        shuffled = np.random.default_rng(0).permutation(y)
        given = ((states[k][left], y), (read[k - 1][left], y), (where, y), (states[k][left], shuffled))
        for name, (x, target) in zip(KINDS, given, strict=True):
            r2[name].append(_r2(x.double().numpy(), target, group))
    result = {name: torch.tensor(values) for name, values in r2.items()}
    return HaltingPrediction(
        verdict=_verdict(torch.tensor(points), result),
        kind=halting.kind,
        iterations=torch.tensor(points),
        running=torch.tensor([int((stop >= k).sum()) for k in points]),
        r2=result,
        spread=torch.tensor([float(stop[stop >= k].double().std(correction=0)) for k in points]),
    )


def _items(run: Run, when: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(halting iteration, example, position) of every answered position, and the mask that picks
    them."""
    labels = labels_of(run)
    mask = torch.ones_like(when, dtype=torch.bool) if labels is None else labels.mask
    if mask.shape != when.shape:
        mask = torch.ones_like(when, dtype=torch.bool)
    rows, places = mask.nonzero(as_tuple=True)
    return when[mask], rows, places, mask


def _points(told: tuple[Tensor, Tensor, Tensor, Tensor], n: int) -> list[int]:
    """The k after which enough positions are running, of enough examples, that stop at different
    iterations."""
    stop, example, *_ = told
    good = []
    for k in range(1, n):
        left = stop >= k
        many = int(left.sum()) >= FEWEST and len(example[left].unique()) >= 2 * FOLDS
        if many and float(stop[left].double().std(correction=0)) > 0.2:
            good.append(k)
    return good


def _r2(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> float:
    """R² of predictions for whole examples that were left out."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), RidgeCV(alphas=(1.0, 10.0, 100.0, 1000.0)))
    said = cross_val_predict(probe, x, y, groups=group, cv=GroupKFold(FOLDS))
    return 1 - float(((said - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def _verdict(k: Tensor, r2: dict[str, Tensor]) -> Foresight:
    state, control = r2["state"], r2["shuffled"].clamp(min=0)
    known = state - control >= KNOWN
    if not bool(known.any()):
        return Foresight.unknown
    if not bool(known[k <= EARLY].any()):
        return Foresight.late
    lead = (state - torch.maximum(r2["signals"], r2["position"]))[: max(1, len(k) // 2)].mean()
    return Foresight.early_more if float(lead) >= MORE else Foresight.early
