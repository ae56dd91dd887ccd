"""Exit rules that compare successive states: their relative change, and the angle between them.

The first iteration is compared with states[0].
"""

from collections.abc import Callable

from torch import Tensor

from ..maths import output_signals
from .rule import Quantity, Rule


def quantity_of_states(measure: Callable[[Tensor, Tensor], Tensor]) -> Quantity:
    """A rule's quantity from a function of two states (batch, position, width): previous and
    current."""
    return lambda previous, current, memory: (measure(previous.hidden, current.hidden), None)


HUGINN = "Geiping et al. 2025, arXiv 2502.05171"
STATE_RULES = (
    Rule(
        "latent",
        "the state's relative change",
        HUGINN,
        0.03,
        quantity_of_states(output_signals.latent_change),
        reads_answers=False,
    ),
    Rule(
        "cosine",
        "1 - cos of successive states",
        HUGINN,
        1e-3,
        quantity_of_states(output_signals.cosine_change),
        reads_answers=False,
    ),
)
"""With the thresholds of their sources."""
