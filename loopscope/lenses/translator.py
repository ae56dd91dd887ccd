from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.errors import LoopscopeError
from ..recorder.provenance import digest
from ..runs.run import Run


@dataclass(frozen=True, eq=False)
class Translator:
    """What a place is translated by: h -> h + A h + b."""

    iterations: tuple[int, ...]
    """The k that it was fitted at."""
    a: Float[Tensor, "map width width"]
    """One map for each iteration, or one for all."""
    b: Float[Tensor, "map width"]
    used: Bool[Tensor, " iteration"]
    """Where it is used: elsewhere it wasn't surely better than the untuned lens on the validation
    examples, which is kept."""

    @property
    def shared(self) -> bool:
        return len(self.a) == 1 != len(self.iterations)

    def apply(self, h: Tensor, k: int) -> Tensor | None:
        """The translated vectors; None where they stay as they are."""
        known = k in self.iterations
        if not known and not self.shared:
            first, last = self.iterations[0], self.iterations[-1]
            raise LoopscopeError(
                "a tuned lens with a map for each iteration knows those that it was fitted at "
                f"({first}..{last}), but iteration {k} was asked for. Fit it on longer runs, or with "
                "shared=True."
            )
        i = self.iterations.index(k) if known else 0
        if known and not bool(self.used[i]):
            return None
        i = 0 if len(self.a) == 1 else i
        return translated(h, self.a[i].to(h.device), self.b[i].to(h.device))


@dataclass(frozen=True)
class Gain:
    """KL(final answer ‖ lens) on the examples held out, in nats, at one place."""

    iterations: tuple[int, ...]
    before: Float[Tensor, " iteration"]
    """Of the untuned lens."""
    after: Float[Tensor, " iteration"]
    gain: Float[Tensor, " iteration"]
    """before - after, in the mean over items."""
    low: Float[Tensor, " iteration"]
    """95 % interval of the gain, by a bootstrap over examples."""
    high: Float[Tensor, " iteration"]


_GAIN = ("before", "after", "gain", "low", "high")


def translated(h: Tensor, a: Float[Tensor, "width width"], b: Float[Tensor, " width"]) -> Tensor:
    """h + A h + b, computed in single precision or better, given back in that of `h`."""
    wide = h.to(torch.promote_types(h.dtype, a.dtype))
    return (wide + wide @ a.T.to(wide) + b.to(wide)).to(h.dtype)


def identity(run: Run) -> tuple[str, str]:
    """What a lens is tied to: the architecture and a digest of the weights of a run's model."""
    model = run.reader.model
    weights = digest(model) if hasattr(model, "state_dict") else "without weights"
    return str(run.origin.get("architecture")), weights
