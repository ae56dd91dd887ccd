"""Answers that neither example has: what a patched state brings where the loop goes on from it."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.patching.effects_result import Effects
from loopscope.patching.metrics import Metric, metric_for
from loopscope.runs.run import Run


def with_third_answers(run: Run, donor: Run, mask: Bool[Tensor, "batch position"]) -> Metric:
    """The usual metric of a donor's answer, and beside it whether an answer is a third one: neither
    the run's nor the donor's, as a fraction of the example's answers."""
    usual = metric_for(run, donor, None, mask)
    own = run.logits[run.iterations].argmax(-1)
    other = donor.logits[donor.iterations].expand_as(run.logits[run.iterations]).argmax(-1)
    count = mask.sum(1).clamp(min=1)

    def both(logits: Tensor) -> Float[Tensor, "batch 2"]:
        answer, here = logits.argmax(-1), mask.to(logits.device)
        third = ((answer != own) & (answer != other) & here).sum(1) / count.to(logits.device)
        value = usual(logits)
        return torch.stack([value, third.to(value)], dim=1)

    return Metric(usual.name, usual.unit, both)


def split(grid: Effects) -> tuple[Effects, Float[Tensor, "iteration example"]]:
    """The effects on the usual metric, and the fraction of third answers, of a grid of one site and
    one group of positions; NaN where an example doesn't count."""
    target = None if grid.target is None else grid.target[..., 0]
    usual = replace(grid, values=grid.values[..., 0], base=grid.base[..., 0], target=target)
    third = (grid.values[0, :, 0, 0, :, 1] + grid.base[:, 1]).double().cpu()
    if grid.counted is not None:
        third = third.where(grid.counted[0].cpu(), torch.nan)
    return usual, third
