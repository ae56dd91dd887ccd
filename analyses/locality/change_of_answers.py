"""How much an intervention changes the answers, and how much of that may be rounding."""

import torch
from torch import Tensor

from loopscope.maths.precision import resolution, rounding


def change_of_answers(base: Tensor, patched: Tensor) -> tuple[Tensor, Tensor]:
    """(the effect, what rounding of the answers gives), (batch, position) both: KL(base ‖ patched)
    in nats; for numbers the absolute difference. An effect that may be rounding is 0."""
    level = rounding(base.double().abs().amax(-1), resolution(base.dtype))
    if base.shape[-1] == 1:
        effect = (base.double() - patched.double()).abs()[..., 0]
    else:
        p, q = (logits.double().log_softmax(-1) for logits in (base, patched))
        effect, level = (p.exp() * (p - q)).sum(-1).clamp(min=0), level.square() / 2
    return torch.where(effect > level, effect, 0.0).float(), level.float()
