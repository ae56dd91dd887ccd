"""Metrics of patching: one number for each example, computed from the logits.

A metric is a function of logits (batch, position, vocab) that gives (batch,) or (batch, ...). The
named metrics refer to the run's own answers, the likeliest tokens at the answer positions; each is
the average over an example's answer positions.

difference   logit of the donor's answer minus logit of the run's answer, at the positions where
             these differ; NaN for an example where they don't. The usual metric with a donor: it
             rises to the donor's own difference where a patch carries the whole answer over (Zhang
             & Nanda 2023, arXiv 2309.16042, on metrics of patching).
margin       logit of the run's answer minus the largest other logit.
probability  of the run's answer.
kl           KL(run ‖ patched) in nats. Its gradient at the run is zero: not for attribution.
flips        fraction of the answers that changed. Piecewise constant: not for attribution.
value        the output, for models whose answer is a number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..recorder.labels import labels_of
from ..runs.run import Run
from ..runs.run_mask import mask_of

MetricFunction = Callable[[Float[Tensor, "batch position vocab"]], Float[Tensor, "batch ..."]]

NAMES = ("difference", "margin", "probability", "kl", "flips", "value")
FLAT = ("kl", "flips")
"""Metrics whose gradient at the run is zero."""
UNITS = {
    "difference": "logits",
    "margin": "logits",
    "probability": "probability",
    "kl": "nats",
    "flips": "fraction of answers",
    "value": "output",
}


@dataclass(frozen=True)
class Metric:
    """A metric with its name and unit."""

    name: str
    unit: str
    function: MetricFunction

    def __call__(self, logits: Tensor) -> Float[Tensor, "batch ..."]:
        """The metric of each example.

        Raises:
            LoopscopeError: the function doesn't give one or more numbers for each example.
        """
        result = self.function(logits)
        if not isinstance(result, Tensor) or result.ndim < 1 or len(result) != len(logits):
            got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise LoopscopeError(
                f"a metric must give a number for each of the {len(logits)} examples, but gave {got}. "
                "Return a tensor (batch,)."
            )
        return result


def metric_for(
    run: Run,
    donor: Run | None,
    metric: "str | MetricFunction | None",
    answer_positions: Any,
) -> Metric:
    """The metric of a name or function; None is `difference` with a donor, `margin` without one,
    `value` where the answer is a number.

    Raises:
        LoopscopeError: an unknown name, `difference` without a donor, or a named metric for an
            output that isn't (batch, position, vocab).
    """
    if callable(metric):
        return Metric(getattr(metric, "__name__", "metric"), "", cast(MetricFunction, metric))
    output = run.logits[run.iterations]
    if metric is None:
        metric = "value" if output.shape[-1] == 1 else "margin" if donor is None else "difference"
    if metric not in NAMES:
        raise LoopscopeError(
            f"there is no metric {metric!r}. {nearest(str(metric), NAMES)} Or pass a function of logits."
        )
    if output.ndim != 3:
        raise LoopscopeError(
            f"the metric {metric!r} reads logits (batch, position, vocab), but this run's output is "
            f"{tuple(output.shape)}. Pass a function of it that gives a number for each example."
        )
    mask = answer_mask(run, answer_positions)
    if metric == "difference" and donor is None:
        raise LoopscopeError(
            "the metric 'difference' compares the donor's answer with the run's own, but there is no donor. "
            "Use 'margin'."
        )
    functions = {
        "difference": lambda: _difference(output, donor, mask),
        "margin": lambda: _margin(output, mask),
        "probability": lambda: _probability(output, mask),
        "kl": lambda: _kl(output, mask),
        "flips": lambda: _flips(output, mask),
        "value": lambda: lambda logits: _mean(logits[..., 0], mask),
    }
    return Metric(metric, UNITS[metric], functions[metric]())


def answer_mask(run: Run, answer_positions: Any) -> Bool[Tensor, "batch position"]:
    """The positions whose answers count.

    Arguments:
        answer_positions: a mask (batch, position) or the numbers of positions; None: those of the
            task, else the last position that counts.

    Raises:
        LoopscopeError: a position that isn't there or doesn't count, another shape, or an example
            without one.
    """
    output = run.logits[run.iterations]
    shape = tuple(output.shape[:2])
    if answer_positions is None:
        labels = labels_of(run)
        if labels is not None and tuple(labels.mask.shape) == shape:
            return labels.mask.to(output.device)
        return last_position(mask_of(run, *shape).to(output.device))
    mask = torch.as_tensor(answer_positions, device=output.device)
    if mask.dtype != torch.bool:  # positions by number
        result = torch.zeros(shape, dtype=torch.bool, device=output.device)
        try:
            result[:, mask.long()] = True
        except IndexError as error:
            raise LoopscopeError(
                f"answer_positions names a position that isn't there: {error}. There are {shape[1]}."
            ) from None
        _require_counted(run, result)
        return result
    try:
        mask = mask.expand(shape)
    except RuntimeError:
        raise LoopscopeError(
            f"answer_positions must be a mask (batch, position) = {shape}, or the numbers of positions, "
            f"but has the shape {tuple(mask.shape)}."
        ) from None
    if not bool(mask.any(1).all()):
        raise LoopscopeError(
            "answer_positions must name a position in every example, but leaves some without. Leave those "
            "examples out."
        )
    return mask


def _require_counted(run: Run, answers: Bool[Tensor, "batch position"]) -> None:
    """Raise LoopscopeError if a numbered position doesn't count in an example that does."""
    counted = mask_of(run, *answers.shape)
    missing = (answers.cpu() & ~counted & counted.any(1, keepdim=True)).nonzero().tolist()
    if missing:
        example, position = missing[0]
        raise LoopscopeError(
            f"answer_positions must name positions that count, but position {position} of example {example} "
            f"does not ({run.counted.source}). Pass a mask (batch, position), or leave it out for the last "
            "that counts."
        )


def last_position(mask: Bool[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
    """The last position of each example in a mask."""
    return mask & (mask.flip(1).cumsum(1).flip(1) == 1)


def _difference(output: Tensor, donor: Run | None, mask: Tensor) -> MetricFunction:
    assert donor is not None
    theirs = donor.logits[donor.iterations]
    if theirs.shape[1:] != output.shape[1:] or len(theirs) not in (1, len(output)):
        raise LoopscopeError(
            f"the donor's answers {tuple(theirs.shape)} must have the shape of the run's "
            f"{tuple(output.shape)}, or a batch of one. Record a donor of the same batch and length."
        )
    answers, other = output.argmax(-1), theirs.argmax(-1).expand(output.shape[:2])
    differ = mask & (answers != other)
    return lambda logits: _mean(_at(logits, other) - _at(logits, answers), differ)


def _margin(output: Tensor, mask: Tensor) -> MetricFunction:
    answers = output.argmax(-1)

    def margin(logits: Tensor) -> Tensor:
        others = logits.scatter(-1, answers[..., None], float("-inf")).amax(-1)
        return _mean(_at(logits, answers) - others, mask)

    return margin


def _probability(output: Tensor, mask: Tensor) -> MetricFunction:
    answers = output.argmax(-1)
    return lambda logits: _mean(_at(logits.float().softmax(-1), answers), mask)


def _kl(output: Tensor, mask: Tensor) -> MetricFunction:
    log_p = output.detach().float().log_softmax(-1)

    def kl(logits: Tensor) -> Tensor:
        log_q = logits.float().log_softmax(-1)
        return _mean((log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0), mask)

    return kl


def _flips(output: Tensor, mask: Tensor) -> MetricFunction:
    answers = output.argmax(-1)
    return lambda logits: _mean((logits.argmax(-1) != answers).float(), mask)


def _at(values: Tensor, tokens: Int[Tensor, "batch position"]) -> Float[Tensor, "batch position"]:
    return values.gather(-1, tokens[..., None])[..., 0]


def _mean(values: Float[Tensor, "batch position"], mask: Tensor) -> Float[Tensor, " batch"]:
    """The mean over the masked positions of each example; NaN where there are none."""
    return values.float().masked_fill(~mask, 0).sum(1) / mask.sum(1)
