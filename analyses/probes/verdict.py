"""Whether probes decode the right answer before the model's own output gives it: a claim about the
difference of two scores on the same held-out rows, decided over bootstrap samples of the
examples."""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.evidence import Evidence, by_bootstrap, estimate
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.core.indexing import as_vectors
from loopscope.probing import Probes
from loopscope.probing.fact_curve import FactCurve
from loopscope.runs.run import Run

LEAD = 0.05
"""A difference of scores that counts: the margin of `alike` and of `absent`, too."""


class ProbesVerdict(Verdict):
    """When the right answer can be decoded from the states."""

    ahead = (
        "Linear probes of the states decode the right answer better than the model's own read-out does, on "
        "average over the iterations at which either decodes it."
    )
    alike = (
        "On average over the iterations, linear probes are as accurate as the model's own output, to within "
        f"{LEAD:g}."
    )
    behind = (
        "The model's own read-out decodes the right answer better than linear probes of the states do, on "
        "average over the iterations at which either decodes it."
    )
    absent = "A linear probe decodes the right answer no better than its baselines do."
    unclear = UNCLEAR


class Comparison(NamedTuple):
    """The same held-out rows, as the probes and the model answer them."""

    probe: Float[Tensor, "iteration row"]
    """1 where the probe is right; of numbers its squared error."""
    model: Float[Tensor, "iteration row"] | None
    """The same of the model's own answers; None if they can't be read out."""
    truth: Float[Tensor, " row"]
    example: Int[Tensor, " row"]
    """0..examples-1; equal inputs are one example."""
    floor: Float[Tensor, " iteration"]
    numbers: bool
    """Whether scores are R²."""

    def scores(
        self, values: Float[Tensor, "iteration row"], weight: Float[Tensor, " row"]
    ) -> Float[Tensor, " iteration"]:
        """Accuracies, or R², where each row counts so many times; NaN where a probe is missing."""
        if not self.numbers:
            return (values * weight).sum(1) / weight.sum()
        mean = (self.truth * weight).sum() / weight.sum()
        return 1 - (values * weight).sum(1) / ((self.truth - mean).square() * weight).sum()


def comparison(
    run: Run, probes: Probes, curve: FactCurve, answers: Tensor | None, *, site: str
) -> Comparison:
    """The held-out predictions of probes that all positions share, and the model's own answers on
    the same rows.

    Arguments:
        answers: (iteration, batch, position); None if they can't be read out.
    """
    rows = probes.mask.nonzero()
    batch, position = rows[:, 0], rows[:, 1]
    truth, numbers = probes.labels[batch, position], probes.kind == "numbers"
    fold = probes.fold[batch]
    columns = []
    for i, k in enumerate(probes.iterations):
        if (0, i, 0) not in probes.weights:
            columns.append(torch.full((len(rows),), torch.nan, dtype=torch.float64))
            continue
        states = as_vectors(run[site][k].detach().cpu(), run[site].axes[1:])[batch, position].double()
        weights, biases = probes.weights[0, i, 0], probes.biases[0, i, 0]
        output = torch.zeros(len(rows), weights.shape[-1], dtype=torch.float64)
        for f in fold.unique().tolist():
            held = fold == f
            output[held] = states[held] @ weights[f] + biases[f]
        columns.append(_right(output[:, 0] if numbers else output.argmax(1), truth, numbers))
    model = None
    if answers is not None:
        values = answers[:, batch, position].cpu()
        classes = torch.tensor(probes.classes) if not numbers else truth
        model = torch.stack([_right(one, truth if numbers else classes[truth], numbers) for one in values])
    example = probes.identity[batch].unique(return_inverse=True)[1]
    return Comparison(torch.stack(columns), model, truth.double(), example, curve.floor, numbers)


def probes_verdict(parts: Comparison, called: str = "example") -> tuple[ProbesVerdict, Evidence]:
    """The verdict, and its evidence.

    Arguments:
        called: what an example is, as in `by_bootstrap`.
    """
    examples = int(parts.example.max()) + 1

    def weight(draw: Int[Tensor, " example"]) -> Float[Tensor, " row"]:
        return torch.bincount(draw, minlength=examples).double()[parts.example]

    verdict, evidence = by_bootstrap(
        lambda draw: _verdict(parts, weight(draw)),
        examples,
        unclear=ProbesVerdict.unclear,
        least=10,
        called=called,
    )
    score = "R²" if parts.numbers else "accuracy"
    estimates = (
        estimate(
            f"{score} of the probe minus that of the model's own answers, mean over the iterations compared",
            lambda draw: _lead(parts, weight(draw)),
            examples,
        ),
        estimate(
            f"best {score} of a probe above its highest baseline",
            lambda draw: _gain(parts, weight(draw)),
            examples,
        ),
    )
    return verdict, replace(evidence, estimates=estimates)


def _verdict(parts: Comparison, weight: Float[Tensor, " row"]) -> ProbesVerdict:
    lead, gain = _lead(parts, weight), _gain(parts, weight)
    if gain != gain:
        return ProbesVerdict.unclear
    if abs(lead) >= LEAD:  # not where it is NaN
        return ProbesVerdict.ahead if lead > 0 else ProbesVerdict.behind
    if gain <= LEAD:
        return ProbesVerdict.absent
    return ProbesVerdict.alike if lead == lead else ProbesVerdict.unclear


def _gain(parts: Comparison, weight: Float[Tensor, " row"]) -> float:
    gain = parts.scores(parts.probe, weight) - parts.floor
    known = gain[~gain.isnan()]
    return float(known.max()) if len(known) else torch.nan


def _lead(parts: Comparison, weight: Float[Tensor, " row"]) -> float:
    """The probe's score minus the model's, on average over the iterations at which either is above
    the floor by `LEAD`; NaN if there are none."""
    if parts.model is None:
        return torch.nan
    probe, model = parts.scores(parts.probe, weight), parts.scores(parts.model, weight)
    compared: Bool[Tensor, " iteration"] = (probe > parts.floor + LEAD) | (model > parts.floor + LEAD)
    compared &= ~(probe - model).isnan()
    return float((probe - model)[compared].mean()) if bool(compared.any()) else torch.nan


def _right(answers: Tensor, truth: Tensor, numbers: bool) -> Float[Tensor, " row"]:
    difference = answers.double() - truth.double()
    return difference.square() if numbers else (difference == 0).double()
