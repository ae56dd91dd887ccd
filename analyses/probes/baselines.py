"""What the probes of the states are compared with, each by its name."""

import math

import torch
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.text import percent
from loopscope.probing import Probes
from loopscope.probing.fact_curve import FactCurve
from loopscope.runs.run import Run

WIDEST = 400
"""Numbers up to which the tokens of all positions are the input of a probe; beyond, it gets the
token of its own position."""


def baselines(run: Run, probes: Probes, curve: FactCurve, seed: int) -> dict[str, float]:
    """The scores that the best probe of the states is compared with, by name; NaN where there is
    none.

    Arguments:
        probes, curve: of one fact.
    """
    best = int(curve.score.nan_to_num(-math.inf).argmax())
    start = curve.iterations[0]
    result = {"shuffled labels": float(curve.control[best]), "random features": float(curve.random[best])}
    if curve.kind == "classes":
        result = {"majority class": float(curve.majority[best])} | result
    result["probe of the input"] = _input_score(run, probes, seed)
    result[f"probe of the state at k = {start}"] = float(curve.score[0])
    return result


def baselines_sentence(scores: dict[str, float], kind: str) -> str:
    """The baselines in words."""
    known = {name: value for name, value in scores.items() if not math.isnan(value)}
    text = percent if kind == "classes" else "{:.2f}".format
    return f"Baselines: {', '.join(f'{name} {text(value)}' for name, value in known.items())}."


def _input_score(run: Run, probes: Probes, seed: int) -> float:
    """The score of a linear probe of the tokens, one-hot, and of the position; NaN where the tokens
    aren't whole numbers."""
    tokens = run.tokens.cpu() if isinstance(run.tokens, Tensor) else None
    if tokens is None or tokens.is_floating_point() or tokens.ndim != 2:
        return math.nan
    size, positions = tokens.shape
    few = positions * len(tokens.unique()) <= WIDEST
    columns = [tokens[:, j : j + 1].expand_as(tokens) for j in range(positions)] if few else [tokens]
    columns = [column for column in columns if len(column.unique()) > 1]
    place = torch.arange(positions).expand(size, positions)
    try:
        fitted = Probes.fit(
            run,
            probes.labels,
            mask=probes.mask,
            iterations=[run.states.iterations[-1]],
            positions="shared",
            kind=probes.kind,
            random=False,
            controls=0,
            baseline_labels=[*columns, place],
            seed=seed,
        )
    except LoopscopeError:
        return math.nan
    return float(fitted.baseline[0, 0, 0])
