"""How far does the state move in each iteration? Say here: the source, and what can mislead.

loopscope measure my_analysis.py universal-prefix-parity
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.evidence import by_bootstrap
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.plots import style
from loopscope.runs.run import Run


class Movement(Verdict):
    """What becomes of the movement."""

    slows = "The last iteration moves the state less than the first."
    keeps_moving = "The last iteration moves the state as much as the first, or more."
    unclear = UNCLEAR


@dataclass(frozen=True)
class Moves(AnalysisResult):
    """The distances."""

    verdict: Movement
    distance: Float[Tensor, " iteration"]
    """Euclidean distance that an iteration moves the state, the mean of examples and positions."""

    def summary(self) -> str:
        """The verdict and two of the numbers."""
        return f"{self.sentence} First {self.distance[0]:.3g}, last {self.distance[-1]:.3g}."


def measure(run: Run) -> Moves:
    """Measure it on a run; the verdict holds for most of the examples drawn with replacement."""
    distance = run.states.differences().tensor.norm(dim=-1).flatten(2).mean(2)  # (iteration, example)

    def verdict_of(draw: Tensor) -> Movement:
        mean = distance[:, draw].mean(1)
        return Movement.slows if bool(mean[-1] < mean[0]) else Movement.keeps_moving

    verdict, evidence = by_bootstrap(verdict_of, distance.shape[1], unclear=Movement.unclear)
    return Moves(verdict, distance.mean(1), evidence=evidence)


def draw(result: Moves) -> object:
    """The distance by iteration."""
    figure = style.empty("Distance that an iteration moves the state", "iteration", "distance")
    return figure.add_scatter(y=result.distance.tolist())
