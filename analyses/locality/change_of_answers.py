"""How much an intervention changes the answers, and how much of that may be rounding."""

import torch
from torch import Tensor

from loopscope.maths.precision import resolution, rounding, wide


def change_of_answers(base: Tensor, patched: Tensor) -> tuple[Tensor, Tensor]:
    """(the effect, what rounding of the answers gives), (batch, position) both: KL(base ‖ patched)
    in nats; for numbers the absolute difference. An effect that may be rounding is 0; one on an
    answer that isn't finite after the patch is infinite or NaN."""
    size = wide(base).abs()
    size = size.where(size.isfinite(), 0)  # a logit of -inf is a token that is never answered
    level = rounding(size.amax(-1), resolution(base.dtype))
    if base.shape[-1] == 1:
        effect = (wide(base) - wide(patched)).abs()[..., 0]
    else:
        p, q = (wide(logits).log_softmax(-1) for logits in (base, patched))
        terms = torch.where(p == -torch.inf, 0.0, p.exp() * (p - q))
        effect, level = terms.sum(-1).clamp(min=0), level.square() / 2
    return torch.where(effect <= level, 0.0, effect).float(), level.float()
