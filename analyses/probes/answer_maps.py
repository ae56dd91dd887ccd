"""Where the answer is: accuracy of probes, and of the model's own answers, by iteration and
position."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.core.masked import masked_mean
from loopscope.probing import Probes
from loopscope.runs.run import Run
from loopscope.tasks import Batch, Task

MAP_PROBES, MAP_POSITIONS, MAP_EXAMPLES = 200, 24, 100
"""Probes in a map at most, positions at most, and examples of each position at least."""


class AnswerMaps(NamedTuple):
    """Accuracy by iteration and answered position; empty where there is nothing to map."""

    positions: tuple[int, ...]
    probe_map: Float[Tensor, "iteration position"]
    model_map: Float[Tensor, "iteration position"]


def empty_maps(iterations: int) -> AnswerMaps:
    """Maps of no positions."""
    return AnswerMaps((), torch.empty(iterations, 0), torch.empty(iterations, 0))


def answer_maps(
    run: Run,
    labels: Batch,
    answers: Int[Tensor, "iteration batch position"] | None,
    *,
    site: str,
    iterations: list[int],
    seed: int,
) -> AnswerMaps:
    """One probe for each answered position and iteration, where there are two positions or more and
    it is cheap.

    Arguments:
        answers: the model's own; None if it can't be read out.
        iterations: of the rows; those without a probe are NaN.
    """
    empty = empty_maps(len(iterations))
    positions = labels.mask.any(0).nonzero()[:, 0].tolist()
    enough = bool((labels.mask.sum(0)[positions] >= MAP_EXAMPLES).all())
    if not 2 <= len(positions) <= MAP_POSITIONS or not enough:
        return empty
    try:
        probes = Probes.fit(
            run,
            labels.targets,
            mask=labels.mask,
            sites=site,
            iterations=iterations[:: -(-len(iterations) * len(positions) // MAP_PROBES)],
            positions=positions,
            random=False,
            controls=0,
            seed=seed,
        )
    except LoopscopeError:
        return empty
    probe_map = torch.full((len(iterations), len(positions)), torch.nan, dtype=torch.float64)
    probe_map[[iterations.index(k) for k in probes.iterations]] = probes.score[0]
    if answers is None:
        return AnswerMaps(tuple(positions), probe_map, empty.model_map)
    right = (answers == labels.targets)[:, :, positions].double()
    return AnswerMaps(tuple(positions), probe_map, masked_mean(right, labels.mask[:, positions], 1))


def model_answers(
    run: Run, task: Task, iterations: list[int]
) -> Int[Tensor, "iteration batch position"] | Float[Tensor, "iteration batch position"] | None:
    """The model's own answers after k iterations; None if it can't be read out."""
    try:
        with torch.no_grad():
            return torch.stack([task.answer(run.logits[min(k, run.iterations)].cpu()) for k in iterations])
    except LoopscopeError:
        return None


def model_score(
    answers: Tensor | None, labels: Batch, continuous: bool, iterations: int
) -> Float[Tensor, " iteration"]:
    """The fraction of the model's own answers that are right, or R² of numbers; NaN if it can't be
    read out."""
    if answers is None:
        return torch.full((iterations,), torch.nan, dtype=torch.float64)
    values, truth = answers[:, labels.mask].double(), labels.targets[labels.mask].double()
    if continuous:
        return 1 - (values - truth).square().sum(1) / (truth - truth.mean()).square().sum()
    return (values == truth).double().mean(1)
