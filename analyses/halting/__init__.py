"""When does the model halt, and does it use more iterations where the input is harder?

One view of every kind of halting: the model's own (adaptive computation time, PonderNet, an exit
gate, a Q-head, a solver's tolerance), or with `rule=` an exit rule computed from the run's states
and answers (`loopscope.rules`), which works for any run with a model. Definitions, for each
position, with N the number of iterations that it uses:

- halting iteration: N - 1, 0-based. The iteration in which the halting probability is used up, the
  cumulative exit probability reaches the gate's threshold, the Q-head votes to halt (for all
  positions of an example), the residual falls below the tolerance, or the rule's condition first
  holds. A position that never halts is counted at the last iteration, and as not halted.
- weights: each iteration's share in the output, or its probability of being the last; all on the
  halting iteration for mechanisms without a distribution.
- remainder R: the weight of the halting iteration, 0..1.
- ponder cost: N + R, in iterations; the quantity that adaptive computation time penalises.
- entropy of the exit distribution: -sum_t w_t log w_t of a position's weights, in nats, 0..log n.
  The entropy of the halting iterations themselves, over examples and positions, measures how
  different they are.
- rank correlation: Spearman's, between the mean halting iteration of a position and the position,
  over the answered positions; and between the mean halting iteration of an example and its
  difficulty, as its task defines it.

Sources: Graves 2016 (arXiv 1603.08983); position by position in the Universal Transformer, Dehghani
et al. 2018 (arXiv 1807.03819); Banino et al. 2021 (arXiv 2107.05407); Zhu et al. 2025 (arXiv
2510.25741); Wang et al. 2025 (arXiv 2506.21734); Bai et al. 2019 (arXiv 1909.01377); rules: Geiping
et al. 2025 (arXiv 2502.05171), Kohli et al. 2026 (arXiv 2604.07822).

What can mislead:
- A loop that is too short truncates the distribution: look at the fraction not halted first.
- Halting late need not mean more computation: with a constant gate, N depends only on the gate's
  bias (p = 0.5 gives N = 2 everywhere).
- In a causal model later positions read more, so position and difficulty are correlated. The task's
  difficulty is per example, and separates the two only where examples of one length differ in it.
- A rank correlation measures the order of positions, not how large the differences are: look at the
  range.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import CUT as CUT
from .measure import ORDER as ORDER
from .measure import SPREAD as SPREAD
from .measure import HaltingResult as HaltingResult
from .measure import HaltingVerdict as HaltingVerdict
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE = "Halting", 30
GROUP = "halting"
