"""Do more iterations make answers worse?

The run is continued, unless it is long enough, to STRETCH times the model's own depth (at most
MAX_EXTRA iterations more), and its answers are compared with the right ones after every iteration.
An item is one answered position of an example. Definitions, for k = 1..n (what is read before the
loop is drawn, but is no candidate for the best iteration):

- accuracy and logit margin by iteration: the fraction of right answers; the logit of the right
  answer minus the largest other. Both also by difficulty.
- flips: answers that differ from those one iteration before, and among them those from right to
  wrong and from wrong to right. Those of the first iteration, in which most answers form, are
  counted apart.
- change beyond the model's own depth: accuracy at the end minus accuracy at the model's own depth,
  on the same answers, with a 95 % interval: bootstrap over examples, widened to allow for changes
  that none of them has (`accuracy_change.unseen_interval`). On it the verdict is based: `worse` or
  `improves` if 95 % of the bootstrap samples change by MARGIN or more in that direction, `steady`
  if they change by less and the interval leaves less than LIMIT. The same at each difficulty:
  `worse_in_part` if in 95 % of the samples accuracy falls by MARGIN or more at one of those
  difficulties whose interval, which holds for all of them together (Bonferroni), lies below
  -MARGIN.
- change since the best iteration: another comparison, as accuracy may peak before the model's own
  depth (`peaked`, if in 95 % of the samples it has fallen by MARGIN or more since). The best
  iteration is the one where accuracy is largest, the last of several; it is chosen on one half of
  the examples and used on the other, and vice versa, so that no example is tested at an iteration
  that it helped to choose. So it may be milder than the fall from the figure's peak, which is
  quoted beside it: a peak that is chosen on the same examples is too high.
- lost: right before and wrong at the end; the opposite is gained. Answers that are right by chance
  before they have formed come and go in both directions.
- `ended`: the loop stops by itself by the model's own depth, when all positions have halted.

Sources: margin, its peak and decline, Kohli et al. 2026 (arXiv 2604.07822); answers that get worse
with more loops, Zhu et al. 2025 (arXiv 2510.25741), Bansal et al. 2022 (arXiv 2202.05826).

What can mislead:
- `steady` is about the mean over examples: as many may be lost as gained. Look at the changes too.
- Where no example changes, that says little of examples beyond the run's: of them, if none of 64
  does, as many as 5.7 % may. The sentence of `steady` gives this margin.
- A loop that ends because all positions have halted can't overthink, by construction.
- Where a wrong guess is often right (a chain of hops that returns to its start), an early answer
  can be right for a wrong reason. It counts as right here.
"""

from .accuracy_change import MIN_EXAMPLES as MIN_EXAMPLES
from .accuracy_change import AccuracyChange as AccuracyChange
from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import MAX_EXTRA as MAX_EXTRA
from .measure import MIN_ITERATIONS as MIN_ITERATIONS
from .measure import STRETCH as STRETCH
from .measure import applies as applies
from .measure import measure as measure
from .price import price as price
from .result import LIMIT as LIMIT
from .result import MARGIN as MARGIN
from .result import OverthinkingResult as OverthinkingResult
from .result import OverthinkingVerdict as OverthinkingVerdict

TITLE, PLACE = "Overthinking", 32
GROUP = "answers"
TOPIC, RANK = "gain", 5
