"""Do more iterations make answers worse?

The run is continued, unless it is long enough, to STRETCH times the model's own depth (at most
MAX_EXTRA iterations more), and its answers are compared with the right ones after every iteration.
An item is one answered position of an example. Definitions, for k = 1..n (the state before the loop
counts as no answer):

- accuracy and logit margin by iteration: the fraction of right answers; the logit of the right
  answer minus the largest other. Both also by difficulty.
- flips: answers that differ from those one iteration before, and among them those from right to
  wrong and from wrong to right.
- best iteration k*: where accuracy is largest, the last of several. It is chosen on one half of the
  examples and used on the other, and vice versa, so that no example is tested at an iteration that
  it helped to choose.
- overthinking events (lost): right at k* and wrong at the end; the opposite is gained. Answers that
  are right by chance before they have formed come and go in both directions, and before k*.
- the drop: (lost - gained) / items, with a sign test over examples (McNemar's test where each has
  one answer): of the examples whose number of right answers differs between k* and the end, the
  probability that at least as many have fewer, if more and fewer were equally likely. Exact and
  one-sided. The same at each difficulty, with k* chosen there, times the number of difficulties
  (Bonferroni).
- improvement: the same test between the model's own depth and the end, in the other direction.

Sources: margin, its peak and decline, Kohli et al. 2026 (arXiv 2604.07822); answers that get worse
with more loops, Zhu et al. 2025 (arXiv 2510.25741), Bansal et al. 2022 (arXiv 2202.05826).

What can mislead:
- The verdict `steady` is no proof that nothing is lost: with few examples only large drops are
  significant. Look at the events too.
- A loop that ends because all positions have halted keeps its answers from there on. It can't
  overthink, by construction.
- Where a wrong guess is often right (a chain of hops that returns to its start), an early answer
  can be right for a wrong reason. It counts as right here.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import MAX_EXTRA as MAX_EXTRA
from .measure import MIN_ITERATIONS as MIN_ITERATIONS
from .measure import SIGNIFICANCE as SIGNIFICANCE
from .measure import STRETCH as STRETCH
from .measure import AccuracyChange as AccuracyChange
from .measure import OverthinkingResult as OverthinkingResult
from .measure import OverthinkingVerdict as OverthinkingVerdict
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE = "Overthinking", 32
GROUP = "answers"
