"""The affine map of a tuned lens, and the KL divergence that it saves."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.errors import LoopscopeError
from ..runs.run import Run
from ..runs.weight_digests import weights_digest


@dataclass(frozen=True, eq=False)
class Translator:
    """The affine map of one place: h -> h + A h + b."""

    iterations: tuple[int, ...]
    """The k that it was trained at."""
    a: Float[Tensor, "map width width"]
    """One map for each iteration, or one for all."""
    b: Float[Tensor, "map width"]
    active: Bool[Tensor, " iteration"]
    """The iterations at which the map is applied: those where it beats the untuned lens on the
    validation examples by more than a standard error."""

    @property
    def shared(self) -> bool:
        """Whether all iterations have one map."""
        return len(self.a) == 1 != len(self.iterations)

    def apply(self, h: Tensor, k: int) -> Tensor | None:
        """The translated vectors; None where the map isn't applied.

        Raises:
            LoopscopeError: an iteration without a map.
        """
        trained = k in self.iterations
        if not trained and not self.shared:
            first, last = self.iterations[0], self.iterations[-1]
            raise LoopscopeError(
                "a tuned lens with a map for each iteration has maps for those that it was fitted at "
                f"({first}..{last}), but iteration {k} was requested. Fit it on longer runs, or with "
                "shared=True."
            )
        i = self.iterations.index(k) if trained else 0
        if trained and not bool(self.active[i]):
            return None
        i = 0 if len(self.a) == 1 else i
        return translate(h, self.a[i].to(h.device), self.b[i].to(h.device))


@dataclass(frozen=True)
class KLGain:
    """KL(final answer ‖ lens) on the held-out examples, in nats, at one place."""

    iterations: tuple[int, ...]
    before: Float[Tensor, " iteration"]
    """Of the untuned lens."""
    after: Float[Tensor, " iteration"]
    gain: Float[Tensor, " iteration"]
    """before - after, on average over positions."""
    low: Float[Tensor, " iteration"]
    """95 % interval of the gain, by a bootstrap over examples."""
    high: Float[Tensor, " iteration"]


KL_GAIN_TENSORS = ("before", "after", "gain", "low", "high")


def translate(h: Tensor, a: Float[Tensor, "width width"], b: Float[Tensor, " width"]) -> Tensor:
    """h + A h + b, computed in single precision or better, returned in that of `h`."""
    wide = h.to(torch.promote_types(h.dtype, a.dtype))
    return (wide + wide @ a.T.to(wide) + b.to(wide)).to(h.dtype)


def model_identity(run: Run) -> tuple[str, str]:
    """The architecture of a run's model and a digest of its weights: what a tuned lens is bound
    to."""
    model = run.reader.model
    return str(run.origin.get("architecture")), weights_digest(model) or "without weights"
