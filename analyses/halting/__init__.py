"""When does the model halt, and does it use more iterations where the input is harder?

One view of every kind of halting: the model's own (adaptive computation time, PonderNet, an exit
gate, a Q-head, a solver's tolerance), or with `rule=` an exit rule computed from the run's states
and answers (`loopscope.rules`), which works for any run with a model. An answer is one answered
position of an example. Definitions, for each answer:

- iterations run: N = 1..n, the number of iterations until it halts: until the halting probability
  is used up, the cumulative exit probability reaches the gate's threshold, the Q-head votes to halt
  (for all positions of an example), the residual falls below the tolerance, or the rule's condition
  first holds. An answer that never halts counts with n, and as not halted. (`run.halting.iteration`
  is the iteration t = N - 1 in which it halts.)
- weights: each iteration's share in the output, or its probability of being the last (the exit
  distribution); all on iteration N - 1 for mechanisms without a distribution.
- ponder cost, of adaptive computation time only: N + R, with R the remainder, which is the
  weight of the last iteration, 0..1. It is what training penalises, and may exceed n by as much
  as 1.
- entropy of the exit distribution: -sum_t w_t log w_t of an answer's weights, in nats, 0..log n.
- constant: more than SAME of the answers run as many iterations as the median, and NEAR of them or
  more as many to within one. Shares, since a few answers that never halt move a mean or a standard
  deviation far.
- between positions, between examples: the standard deviations of additive effects of both on N,
  fitted by least squares, less the noise of single answers. From SPREAD iterations on they differ.
- order: Spearman's rank correlation of a position's mean N with the position (in order from ORDER
  on), and of an example's mean N with its difficulty, as its task defines it (related from RELATED
  on).

The verdict and the orders are those that 95 % of bootstrap samples of the examples agree on, else
they are unclear.

Sources: Graves 2016 (arXiv 1603.08983); position by position in the Universal Transformer, Dehghani
et al. 2018 (arXiv 1807.03819); Banino et al. 2021 (arXiv 2107.05407); Zhu et al. 2025 (arXiv
2510.25741); Wang et al. 2025 (arXiv 2506.21734); Bai et al. 2019 (arXiv 1909.01377); rules: Geiping
et al. 2025 (arXiv 2502.05171), Kohli et al. 2026 (arXiv 2604.07822).

What can mislead:
- A loop that is too short truncates the distribution. The verdict is `cut` only if more than a
  fifth of the answers had not halted: look at the fraction first.
- Halting late need not mean more computation: with a constant gate, N depends only on the gate's
  bias (p = 0.5 gives N = 2 everywhere).
- In a causal model later positions read more, so position and difficulty are correlated. The task's
  difficulty is per example, and separates the two only where examples of one length differ in it.
- A rank correlation measures the order of positions, not how large the differences are: look at the
  standard deviation between them.
- Few answers that never halt count with n, and raise the standard deviations: compare with the
  mean deviation from the median.
- `constant` leaves one answer in five that may halt at any time, and these are often the harder
  ones: look at the correlation with difficulty.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import applies as applies
from .measure import measure as measure
from .result import CUT as CUT
from .result import NEAR as NEAR
from .result import ORDER as ORDER
from .result import RELATED as RELATED
from .result import SAME as SAME
from .result import SPREAD as SPREAD
from .result import HaltingResult as HaltingResult
from .result import HaltingVerdict as HaltingVerdict

TITLE, PLACE = "Halting", 30
NEEDS = ("halting",)
GROUP = "halting"
TOPIC, RANK = "halting", 3
