"""Deep supervision: several optimiser steps on the same examples, each from the last one's
state."""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .supervision import StepInputs, StepOutputs
from .truncated_backprop import without_gradient
from .validation import check_count, check_range


@dataclass(frozen=True)
class DeepSupervision:
    """`segments` optimiser steps on the same examples, each from the detached final state of the
    previous one (HRM: Wang et al. 2025, arXiv 2506.21734; TRM: Jolicoeur-Martineau 2025, arXiv
    2510.04871).

    A segment has the recipe's number of iterations. Its loss is that of its last answer, plus
    `weight` times the binary cross-entropies of `model.q_values`: the first predicts whether all
    answers of an example are correct; a second, if the model has one, the value of continuing,
    sigmoid(max of the next segment's).

    All examples take all segments; the papers replace examples that have halted by new ones.
    """

    segments: int
    weight: float = 0.5

    def __post_init__(self) -> None:
        check_count("DeepSupervision.segments", self.segments, least=1)
        check_range("DeepSupervision.weight", self.weight, 0, 100)

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """The loss of one step, with what the next needs."""
        model, n = inputs.model, inputs.iterations
        context = model.encode(inputs.tokens)
        state = model.initial(context) if inputs.carry is None else inputs.carry
        start = inputs.segment * n
        state = deque(inputs.gradient.unrolled(model, state, context, start + n, start), maxlen=1).pop()[1]
        logits = model.decode(state, context)
        loss = inputs.loss(logits)
        if self.weight:
            q = model.q_values(state)
            right = (inputs.task.correctness(logits, inputs.targets) >= 1) | ~inputs.mask
            q_loss = F.binary_cross_entropy_with_logits(q[:, 0], right.all(1).to(q))
            if q.shape[1] > 1:
                q_loss = q_loss + F.binary_cross_entropy_with_logits(
                    q[:, 1], self._continuation_value(inputs, context, state)
                )
            loss = loss + self.weight * q_loss
        return StepOutputs(loss, logits, state, context)

    @torch.no_grad()
    def _continuation_value(self, inputs: StepInputs, context: object, state: object) -> Tensor:
        """The value of continuing: the sigmoid of the larger Q-value after the next segment, or of
        the first Q-value if the next segment is the last."""
        model, n = inputs.model, inputs.iterations
        start = (inputs.segment + 1) * n
        after = without_gradient(model, state, context, start + n, start)
        q = model.q_values(after)
        last = inputs.segment + 2 >= self.segments
        return torch.sigmoid(q[:, 0] if last else q.max(1).values)
