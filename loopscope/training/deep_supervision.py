"""Deep supervision over segments whose state is carried on."""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .supervision import Exercise, Outcome
from .truncated_backprop import without_gradient
from .validation import between, counted


@dataclass(frozen=True)
class Carried:
    """`segments` optimiser steps on the same examples: each goes on from the state in which the one
    before ended, cut loose from its gradient (HRM: Wang et al. 2025, arXiv 2506.21734; TRM:
    Jolicoeur-Martineau 2025, arXiv 2510.04871).

    A segment is the recipe's number of iterations. Its loss is that of its last answer, and
    `weight` times the binary cross-entropies of `model.q_values`: the first learns whether all
    answers of an example are right; a second, if the model has one, what going on is worth,
    sigmoid(max of the next segment's).

    All examples take all segments; the papers put new examples in the place of those that have
    halted.
    """

    segments: int
    weight: float = 0.5

    def __post_init__(self) -> None:
        counted("Carried.segments", self.segments, least=1)
        between("Carried.weight", self.weight, 0, 100)

    def __call__(self, exercise: Exercise) -> Outcome:
        model, n = exercise.model, exercise.iterations
        context = model.encode(exercise.tokens)
        state = model.initial(context) if exercise.carry is None else exercise.carry
        start = exercise.segment * n
        state = deque(exercise.gradient.unrolled(model, state, context, start + n, start), maxlen=1).pop()[1]
        logits = model.decode(state, context)
        loss = exercise.loss(logits)
        if self.weight:
            q = model.q_values(state)
            right = (exercise.task.correctness(logits, exercise.targets) >= 1) | ~exercise.mask
            judged = F.binary_cross_entropy_with_logits(q[:, 0], right.all(1).to(q))
            if q.shape[1] > 1:
                judged = judged + F.binary_cross_entropy_with_logits(
                    q[:, 1], self._goal(exercise, context, state)
                )
            loss = loss + self.weight * judged
        return Outcome(loss, logits, state, context)

    @torch.no_grad()
    def _goal(self, exercise: Exercise, context: object, state: object) -> Tensor:
        """What going on is worth: the chance of being right that the next segment will see, or hope
        for."""
        model, n = exercise.model, exercise.iterations
        start = (exercise.segment + 1) * n
        after = without_gradient(model, state, context, start + n, start)
        q = model.q_values(after)
        last = exercise.segment + 2 >= self.segments
        return torch.sigmoid(q[:, 0] if last else q.max(1).values)
