"""Is early exit worth it? What the model's own halting, exit rules and a fixed number of iterations
cost and achieve.

An item is one answered position of an example, and stops by itself. Definitions:

- curve: for thresholds at the quantiles of a rule's scores, the mean number of iterations used (N,
  from 1) and the fraction of items that are right where they stop. Depth: every item stops after
  the same number of iterations.
- full depth: the accuracy after all n iterations of the run. Operating point of a method: the
  fewest mean iterations with which it comes within MARGIN of full depth.
- oracle: the best possible policy, which knows the right answers. Every item gets one iteration;
  the remaining budget goes to the items that need the fewest extra iterations to become right. No
  rule is more accurate with as many iterations. Regret: the oracle's accuracy at a method's mean
  iterations minus the method's.
- underthinking: stopped wrong, though right later. Overthinking: stopped wrong, though right
  earlier. Fractions of items.
- calibration: of the largest probability at the stop as the probability of being right, and of the
  model's own halting (ACT's accumulated halting probability, the gate's cumulative exit
  probability, the sigmoid of the Q-head's halt logit) after every iteration: bins of a tenth, and
  the expected calibration error. A Q-head judges whole examples at the ends of segments, and is
  compared with them.
- comparison, on which the verdict is based: each half of the examples uses the thresholds, and the
  rule, that need the fewest iterations on the other half. Against the mean iterations and accuracy
  that this gives stand the fewest iterations with which a fixed depth, or the model's own halting,
  comes within MARGIN of that accuracy. The reference may mix any two of its depths or thresholds, a
  coin deciding for each answer: the upper concave hull of its (mean iterations, accuracy). A rule
  that stops some answers at once, whichever, is such a mix. A method needs fewer iterations if it
  saves SAVING of them or more, in 95 % of the bootstrap samples of examples, and doesn't if it
  saves less in as many; what was chosen stays the same in all samples.
- agreement: Spearman's rank correlation between the stops of two methods at their operating points.

Sources: rules, Geiping et al. 2025 (arXiv 2502.05171), Kohli et al. 2026 (arXiv 2604.07822),
Schuster et al. 2022 (arXiv 2207.07061); gates, Graves 2016 (arXiv 1603.08983), Banino et al. 2021
(arXiv 2107.05407), Zhu et al. 2025 (arXiv 2510.25741), Wang et al. 2025 (arXiv 2506.21734);
accuracy against mean exit and static depth, Zhu et al. 2025; calibration error, Guo et al. 2017
(arXiv 1706.04599).

What can mislead:
- Operating points in the figures are chosen on the examples that they are reported for, and two
  close ones can't be distinguished. The verdict uses held-out ones.
- The reference of a comparison has its thresholds chosen with hindsight, and MARGIN of accuracy
  less to reach. Both favour it: where accuracy hardly rises with iterations, a method that stops
  after as many as a fixed depth has a saving far below 0.
- The model's own halting is compared at the best of its thresholds. What it does at its own is what
  `halting` measures, and the diamond in the figure.
- Where accuracy hardly rises with iterations, or few answers are there, savings at equal accuracy
  have wide intervals, and the verdict is unclear: record more examples.
- The oracle profits from lucky guesses: an answer that is right by chance for one iteration counts.
  With few possible answers no rule comes near it.
- With adaptive computation time an answer no longer changes once the unit has halted, so no rule
  stops later than it, and earlier read-outs are the output as if the loop had ended. With an exit
  gate's threshold the loop ends when all are past it.
- Neither a gate's cumulative probability nor ACT's was trained to be the probability of being
  right; a Q-head was.
"""

from .comparison import Comparison as Comparison
from .exit_methods import ExitMethod as ExitMethod
from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import MIN_ITERATIONS as MIN_ITERATIONS
from .measure import PolicyResult as PolicyResult
from .measure import applies as applies
from .measure import measure as measure
from .measure import oracle_iterations as oracle_iterations
from .verdict import MARGIN as MARGIN
from .verdict import MIN_EXAMPLES as MIN_EXAMPLES
from .verdict import SAVING as SAVING
from .verdict import PolicyVerdict as PolicyVerdict

TITLE, PLACE = "Early-exit policy", 31
GROUP = "halting"
TOPIC, RANK = "halting", 4
