"""Which iterations of a training step the gradient goes back through."""

from dataclasses import dataclass

from .checks import counted


@dataclass(frozen=True)
class Full:
    """All of them: back-propagation through time."""

    def without(self, iterations: int) -> int:
        """How many of the first iterations run without gradient."""
        return 0


@dataclass(frozen=True)
class Last:
    """The last `iterations`; those before run without gradient, so a step costs the same however deep it goes.

    Truncated back-propagation, as in Huginn (Geiping et al. 2025, arXiv 2502.05171).
    """

    iterations: int

    def __post_init__(self) -> None:
        counted("Last.iterations", self.iterations, least=1)

    def without(self, iterations: int) -> int:
        return max(0, iterations - self.iterations)


Gradient = Full | Last
