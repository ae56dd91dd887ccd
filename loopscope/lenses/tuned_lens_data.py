"""The positions that a tuned lens is trained, validated and tested on."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from ..maths import output_signals
from ..runs.run import Run
from .answer_positions import lens_positions, sequence_ids
from .final_logits import final_logits
from .lens_input import LensInput
from .lens_types import Lens, logits_at
from .translator import translate

FEWEST = 10
"""Different examples that a tuned lens needs at least."""
TRAIN, VALIDATION, TEST = 0, 1, 2

AffineMap = tuple[Tensor, Tensor]
"""(A, b) of h -> h + A h + b."""


@dataclass(frozen=True)
class LensData:
    """One run with the positions that count."""

    run: Run
    mask: Bool[Tensor, "batch position"]
    """The positions."""
    example: Int[Tensor, " item"]
    """The sequence that each position belongs to."""
    part: Int[Tensor, " item"]
    """TRAIN, VALIDATION or TEST."""
    final: Float[Tensor, "item vocab"]
    """Log-probabilities of the final answer."""

    @property
    def has_padding(self) -> bool:
        """Whether some positions of the run don't count."""
        return not self.run.counted.everything

    @cached_property
    def train_mask(self) -> Bool[Tensor, "batch position"]:
        """The positions to train on."""
        mask = self.mask.to(self.part.device, copy=True)
        mask[mask.clone()] = self.part == TRAIN
        return mask

    def loss(self, base: Lens, inputs: LensInput, a: Tensor, b: Tensor) -> Float[Tensor, ""]:
        """The mean KL(final ‖ lens) over the positions to train on (0 without any), in the
        precision of `a`."""
        translated = replace(inputs, h=translate(inputs.h, a, b), is_translated=True)
        logits = logits_at(base, self.run, translated)[self.train_mask].to(a.dtype)
        final = self.final[self.part == TRAIN].to(a.dtype)
        p, log_q = final.exp(), torch.log_softmax(logits, -1).clamp(min=-1e30)
        kl = (p * (final.clamp(min=-1e30) - log_q)).sum(-1)
        kl = kl[~kl.isnan()]
        return kl.sum() / max(1, len(kl))

    def kl(self, base: Lens, inputs: LensInput, affine: AffineMap | None) -> Float[Tensor, " item"]:
        """KL(final ‖ lens) in nats, with an affine map or without. At the last state nothing is
        translated."""
        last = inputs.is_state and inputs.k == self.run.iterations
        if affine is not None and not last:
            a, b = (part.to(inputs.h.device) for part in affine)
            inputs = replace(inputs, h=translate(inputs.h, a, b), is_translated=True)
        logits = logits_at(base, self.run, inputs)
        return output_signals.kl_divergence(
            self.final, output_signals.log_probabilities(logits[self.mask.to(logits.device)])
        )


def divide(runs: list[Run], answers_only: bool, seed: int) -> tuple[list[LensData], dict[str, int]]:
    """The positions of the runs, divided by whole sequences: 60 % to train on, 20 % for validation,
    20 % for testing; and the numbers of examples, test examples and positions.

    Raises:
        LoopscopeError: too few different sequences, or a part without positions.
    """
    ids = sequence_ids(runs)
    count = 1 + max(int(rows.max()) for rows in ids)
    if count < FEWEST:
        raise LoopscopeError(
            f"a tuned lens needs {FEWEST} different examples or more, for training, validation and testing, "
            f"but got {count}. Record more; some hundreds are better."
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    part = torch.full((count,), TRAIN)
    part[order[: count // 5]] = TEST
    part[order[count // 5 : 2 * (count // 5)]] = VALIDATION
    data = []
    for run, rows in zip(runs, ids, strict=True):
        mask, final = lens_positions(run, answers_only), final_logits(run)
        example = rows[:, None].expand_as(mask)[mask]
        log_p = output_signals.log_probabilities(final[mask.to(final.device)])
        data.append(LensData(run, mask, example, part[example].to(final.device), log_p))
    if not all(any(bool((one.part == p).any()) for one in data) for p in (TRAIN, VALIDATION, TEST)):
        raise LoopscopeError(
            "a tuned lens needs positions for training, validation and testing, but some of these have "
            'none. Record more examples, or pass positions="all".'
        )
    total = sum(len(one.example) for one in data)
    return data, {"examples": count, "held": int((part == TEST).sum()), "items": total}
