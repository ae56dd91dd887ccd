"""Is it a good policy? What the model's own halting, rules read from the run, and a fixed number of
iterations are worth.

An item is one answered position of an example, and stops by itself. Definitions:

- sweep: for thresholds at the quantiles of what a rule scored, the mean number of iterations used
  (N, from 1) and the fraction of items that are right where they stop. Depth: everybody stops after
  the same number.
- full depth: the accuracy after all n iterations of the run. Operating point of a rule: the fewest
  mean iterations with which it comes within MARGIN of it.
- oracle: stops with the answers known. Everybody stops after one iteration, but where more make it
  right, the cheapest first. No rule does better with as many iterations. Regret: the oracle's
  accuracy at a rule's mean iterations less the rule's.
- underthinking: stopped wrong, though right later. Overthinking: stopped wrong, though right
  earlier. Fractions of items.
- calibration: of the largest probability at the stop as the chance of being right, and of the
  model's own halting (ACT's spent mass, the gate's summed chance, the sigmoid of the Q-head's logit
  of halting) after every iteration: bins of a tenth, and the expected calibration error. A Q-head
  speaks of whole examples at the ends of segments, and is held against them.
- agreement: Spearman's rank correlation between two rules' stops at their operating points.

Sources: rules, Geiping et al. 2025 (arXiv 2502.05171), Kohli et al. 2026 (arXiv 2604.07822),
Schuster et al. 2022 (arXiv 2207.07061); gates, Graves 2016 (arXiv 1603.08983), Banino et al. 2021
(arXiv 2107.05407), Zhu et al. 2025 (arXiv 2510.25741), Wang et al. 2025 (arXiv 2506.21734);
accuracy against mean exit and static depth, Zhu et al. 2025; calibration error, Guo et al. 2017
(arXiv 1706.04599).

What can mislead:
- Operating points are chosen on the examples they are told for: with few examples two that are
  close can't be told apart.
- The oracle profits from lucky guesses: an answer that is right by chance for one iteration counts.
  With few possible answers nothing comes near it.
- With adaptive computation time an answer no longer moves once the unit has halted, so that no rule
  stops later than it, and what is read earlier is the output as if the loop had ended. After an
  exit gate's threshold the loop ends when all are past it.
- Neither a gate's summed chance nor ACT's mass was trained to be the probability of being right; a
  Q-head was.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import CLEARLY as CLEARLY
from .measure import FEWEST as FEWEST
from .measure import MARGIN as MARGIN
from .measure import Policy as Policy
from .measure import PolicyResult as PolicyResult
from .measure import applies as applies
from .measure import measure as measure
from .measure import needed_for as needed_for

TITLE, PLACE = "Is halting a good policy?", 31
