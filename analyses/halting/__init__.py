"""When does the model stop, and does it take longer where the question is harder?

One view of every kind of halting: the model's own (adaptive computation time, PonderNet, an exit
gate, a Q-head, a solver's tolerance), or with `rule=` one that is read from the run's states and
answers (`loopscope.rules`), which any run with a model has. Definitions, position by position, with
N the number of iterations that a position uses:

- halting iteration: N - 1, 0-based: the iteration in which the halting probability is used up, the
  summed chance reaches the gate's threshold, the Q-head says halt (for all positions of an
  example), the residual falls below the tolerance, or the rule's condition first holds. A position
  that never gets there is counted at the last iteration run, and as not halted.
- weights: each iteration's share in the output, or its chance of being the last; all on the halting
  iteration where neither is meant.
- remainder R: the weight of the halting iteration. 0..1.
- ponder cost: N + R, in iterations; what training is charged for with adaptive computation time.
- entropy of the exit distribution: -sum_t w_t log w_t of a position's weights, in nats, 0..log n:
  how undecided its gate is. That of the halting iterations themselves, over examples and positions:
  how different they are.
- rank correlation: Spearman's, between the mean halting iteration of a position and the position,
  over the positions that are asked for an answer; and between the mean halting iteration of an
  example and its difficulty, as its task counts it.

Sources: Graves 2016 (arXiv 1603.08983); position by position in the Universal Transformer, Dehghani
et al. 2018 (arXiv 1807.03819); Banino et al. 2021 (arXiv 2107.05407); Zhu et al. 2025 (arXiv
2510.25741); Wang et al. 2025 (arXiv 2506.21734); Bai et al. 2019 (arXiv 1909.01377); rules: Geiping
et al. 2025 (arXiv 2502.05171), Kohli et al. 2026 (arXiv 2604.07822).

What can mislead:
- A loop too short cuts the distribution off at its end: look at the fraction not halted before
  anything else.
- Halting late is not thinking hard: with a flat gate N only tells the gate's bias (p = 0.5 gives N
  = 2 everywhere).
- A causal model reads more at later positions, so position and difficulty rise together. The task's
  own difficulty is per example, and helps to tell them apart only where examples of one length
  differ in it.
- A rank correlation over positions says that the order is right, not that the differences are
  large: read the range.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import CUT as CUT
from .measure import ORDER as ORDER
from .measure import SPREAD as SPREAD
from .measure import HaltingTimes as HaltingTimes
from .measure import Stops as Stops
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE = "Halting", 30
