"""mediation: of what an intervention does to the answer, how much goes straight to the read-out,
and how much through each later iteration?

Every iteration adds its write Δ_t = states[t+1] - states[t] to the state, so the last state is the
first one plus all writes. An intervention first changes the state at some k, by d. Then

    total effect          everything after k is computed anew
    direct effect         d is added to the last state, and every later iteration writes what it wrote in the run
    through iteration t   only the change of Δ_t is added to the last state

and the change of the last state is exactly d plus the changes of the writes. So where the read-out
and the metric are linear the total is the sum of the direct effect and of those through each
iteration; where they aren't, `remainder` says by how much it is not. Direct and indirect effects:
Pearl 2001, Vig et al. 2020 (arXiv 2004.12265); with later parts held at what they wrote, McGrath et
al. 2023 (arXiv 2307.15771).

What can mislead: in a loop that normalises its state, or replaces it, the writes cancel much of
what is there, and a last state with d added is one that the loop would never make. Then direct
effect and remainder are large and of opposite signs: read the total. An edit of what all iterations
read (the embedding) acts through each of them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.state_tree import floats, with_floats
from ..runs.run import Run
from .metrics import judge


@dataclass(frozen=True)
class Mediation:
    """The total effect of an intervention and its parts."""

    total: Float[Tensor, " batch"]
    """Metric of the run with the intervention minus metric of the run."""
    direct: Float[Tensor, " batch"]
    through: Float[Tensor, "iteration batch"]
    """Through the writes of iterations `first`, first + 1, ... n - 1."""
    first: int
    """The first k whose state is changed."""
    metric: str
    unit: str

    @property
    def remainder(self) -> Float[Tensor, " batch"]:
        """What the parts don't add up to: 0 where read-out and metric are linear."""
        return self.total - self.direct - self.through.sum(0)

    @property
    def indirect(self) -> Float[Tensor, " batch"]:
        """Total minus direct: all that later iterations make of it."""
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
            f"The intervention changes the state first after {self.first} iterations. Means over "
            f"{len(self.total)} examples of the change of "
            f"{self.metric}{f' in {self.unit}' if self.unit else ''}: total {mean(self.total)}, direct "
            f"{mean(self.direct)}, through later iterations {mean(self.through.sum(0))}{strongest}, "
            f"remainder {mean(self.remainder)}."
        )


@torch.no_grad()
def mediation(run: Run, edited: Run, *, metric: Any = None, answer_positions: Any = None) -> Mediation:
    """Total, direct and mediated effect of what `edited` does otherwise than `run`.

    >>> edited = ls.record(model, tokens, edits=[ls.patch("state", iteration=3, value=donor.states[3], position=-1)])
    >>> print(ls.mediation(run, edited))

    Arguments:
        edited: the same tokens and iterations with edits inside the loop: a patch, a skipped
            iteration, a frozen state ...
        metric: a name or a function of logits, as in `ls.effects`; None is the margin of the run's
            own answer.
        answer_positions: positions whose answers count, as there.

    Raises:
        LoopscopeError: runs of different shapes, or an edit of the read-out, where states don't
            carry it.
    """
    n = run.iterations
    if edited.iterations != n or edited.states[n].shape != run.states[n].shape:
        raise LoopscopeError(
            f"both runs must have the same iterations and shape, but one has {n} and "
            f"{tuple(run.states[n].shape)}, the other {edited.iterations} and "
            f"{tuple(edited.states[edited.iterations].shape)}. Record the edited one with the same tokens "
            f"and iterations={n}."
        )
    judged = judge(run, None, metric, answer_positions)
    base = judged(run.logits[n])
    answer = edited.logits[n]
    if not torch.allclose(run.reader.logits(edited.state(n)).float(), answer.float(), rtol=1e-4, atol=1e-5):
        raise LoopscopeError(
            "the intervention must act inside the loop, but the edited run's last state, read out in the "
            "run, gives another answer: an edit changes the read-out. Edit 'state' or a site inside an "
            "iteration."
        )
    states = [(floats(run.state(k)), floats(edited.state(k))) for k in range(n + 1)]
    changes = [[b - a for a, b in zip(*pair, strict=True)] for pair in states]
    first = next((k for k, change in enumerate(changes) if any(bool(part.any()) for part in change)), n)

    def added(change: list[Tensor]) -> Tensor:
        last = run.state(n)
        moved = [part + more for part, more in zip(floats(last), change, strict=True)]
        return judged(run.reader.logits(with_floats(last, moved))) - base

    through = [
        added([later - now for now, later in zip(changes[t], changes[t + 1], strict=True)])
        for t in range(first, n)
    ]
    return Mediation(
        total=judged(answer) - base,
        direct=added(changes[first]),
        through=torch.stack(through) if through else base.new_zeros(0, *base.shape),
        first=first,
        metric=judged.name,
        unit=judged.unit,
    )
