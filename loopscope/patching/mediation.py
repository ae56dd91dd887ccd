"""Mediation: the part of an intervention's effect on the answer that acts directly on the read-out,
and the parts that act through each later iteration.

Iteration t adds the update Δ_t = states[t+1] - states[t] to the state, so the last state is the
first one plus all updates. Let an intervention first change the state at some k, by d. Then

    total effect          everything after k is computed again
    direct effect         d is added to the last state; later updates stay as in the run
    through iteration t   only the change of Δ_t is added to the last state

The change of the last state is exactly d plus the changes of the updates. So where the read-out and
the metric are linear, the total effect is the sum of the direct effect and the effects through each
iteration; elsewhere `remainder` is the difference. Direct and indirect effects: Pearl 2001, Vig et
al. 2020 (arXiv 2004.12265); with later components frozen, McGrath et al. 2023 (arXiv 2307.15771).

What can mislead: in a loop that normalises or replaces its state, the updates cancel much of the
state, and the last state plus d is a state that the loop never produces. Then the direct effect and
the remainder are large and of opposite signs: read the total. An edit of what all iterations read
(the embedding) acts through each of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.arguments import MaskOrPositions
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.outside_modes import outside_modes
from ..core.state_tree import floats, with_floats
from ..recorder.provenance import check_same_origin
from ..runs.run import Run
from ..runs.run_mask import mask_of
from .metrics import metric_for


@dataclass(frozen=True)
class Mediation:
    """The total effect of an intervention and its parts. Made by `loopscope.mediation`."""

    total: Float[Tensor, " batch"]
    """Metric of the run with the intervention minus metric of the run."""
    direct: Float[Tensor, " batch"]
    through: Float[Tensor, "iteration batch"]
    """Through the updates of iterations `first`, first + 1, ... n - 1."""
    first: int
    """The first k whose state the intervention changes."""
    metric: str
    unit: str

    @property
    def remainder(self) -> Float[Tensor, " batch"]:
        """Total minus the sum of all parts: 0 where read-out and metric are linear."""
        return self.total - self.direct - self.through.sum(0)

    @property
    def indirect(self) -> Float[Tensor, " batch"]:
        """Total minus direct: the effect through all later iterations."""
        return self.total - self.direct

    def __str__(self) -> str:
        def mean(values: Tensor) -> str:
            value = float(values.nanmean())
            return f"{value if abs(value) > 1e-6 * size else 0:+.3g}"

        size = max(float(part.abs().nan_to_num().max()) for part in (self.total, self.direct))

        strongest = (
            ""
            if not len(self.through)
            else ", most of it through iteration "
            f"{self.first + int(self.through.nanmean(1).abs().nan_to_num().argmax())}"
        )
        return (
            f"The intervention changes the state first after {self.first} iterations. Change, on "
            f"average over {len(self.total)} examples, of "
            f"{self.metric}{f' in {self.unit}' if self.unit else ''}: total {mean(self.total)}, direct "
            f"{mean(self.direct)}, through later iterations {mean(self.through.sum(0))}{strongest}, "
            f"remainder {mean(self.remainder)}."
        )


@outside_modes()
@torch.no_grad()
@guarded
def mediation(
    run: Run,
    edited: Run,
    *,
    metric: str | Callable[[Tensor], Tensor] | None = None,
    answer_positions: MaskOrPositions | None = None,
) -> Mediation:
    """Total, direct and indirect effect of an intervention: of `edited` compared with `run`.

    >>> swap = ls.patch("state", iteration=3, value=donor.states[3], position=-1)
    >>> edited = ls.record(model, run.tokens, edits=[swap])
    >>> print(ls.mediation(run, edited))

    Arguments:
        edited: a run of the same tokens and iterations with edits inside the loop: a patch, a
            skipped iteration, a frozen state ...
        metric: a name or a function of logits, as in `ls.effects`; None: the margin of the run's
            answer.
        answer_positions: positions whose answers count, as in `ls.effects`.

    Raises:
        LoopscopeError: runs of different shapes, or an edit of the read-out, which no state
            carries.
    """
    n = run.iterations
    check_same_origin(run.origin, edited.origin, "mediation")
    _check_shapes(run, edited)
    measured = metric_for(run, None, metric, answer_positions)
    base = measured(run.logits[n])
    answer = edited.logits[n]
    read = run.reader.logits(edited.state(n)).float()
    counted = mask_of(run, *answer.shape[:2]).to(answer.device)
    if not torch.allclose(read[counted], answer.float()[counted], rtol=1e-4, atol=1e-5):
        raise LoopscopeError(
            "the intervention must act inside the loop, but the edited run's last state, read out in the "
            "run, gives another answer: an edit changes the read-out. Edit 'state' or a site inside an "
            "iteration."
        )
    changes = _state_changes(run, edited)
    first = next((k for k, change in enumerate(changes) if any(bool(part.any()) for part in change)), n)

    def added(change: list[Tensor]) -> Tensor:
        last = run.state(n)
        moved = [part + more for part, more in zip(floats(last), change, strict=True)]
        return measured(run.reader.logits(with_floats(last, moved))) - base

    through = [
        added([later - now for now, later in zip(changes[t], changes[t + 1], strict=True)])
        for t in range(first, n)
    ]
    return Mediation(
        total=measured(answer) - base,
        direct=added(changes[first]),
        through=torch.stack(through) if through else base.new_zeros(0, *base.shape),
        first=first,
        metric=measured.name,
        unit=measured.unit,
    )


def _state_changes(run: Run, edited: Run) -> list[list[Tensor]]:
    """For k = 0..n the difference of the two runs' states, tensor by tensor; 0 where positions
    don't count."""
    states = [(floats(run.state(k)), floats(edited.state(k))) for k in range(run.iterations + 1)]
    return [[_difference(run, a, b) for a, b in zip(*pair, strict=True)] for pair in states]


def _difference(run: Run, before: Tensor, after: Tensor) -> Tensor:
    if run.counted.everything or before.shape[:2] != run.states.shape[1:3]:
        return after - before
    mask = mask_of(run, *before.shape[:2]).to(before.device)
    mask = mask.reshape(*mask.shape, *(1,) * (before.ndim - 2))
    return torch.where(mask, after - before, torch.zeros_like(before))


def _check_shapes(run: Run, edited: Run) -> None:
    n = run.iterations
    if edited.iterations != n or edited.states[n].shape != run.states[n].shape:
        raise LoopscopeError(
            f"both runs must have the same iterations and shape, but one has {n} and "
            f"{tuple(run.states[n].shape)}, the other {edited.iterations} and "
            f"{tuple(edited.states[edited.iterations].shape)}. Record the edited one with the same tokens "
            f"and iterations={n}."
        )
