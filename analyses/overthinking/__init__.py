"""Does more iterating make answers worse?

The run is continued, unless it already goes so far, to STRETCH times the model's own depth (at most
MOST iterations more), and its answers are held against the right ones after every iteration. An
item is one answered position of an example. Definitions, for k = 1..n (what is read before the loop
is no answer):

- accuracy and logit margin by iteration: the fraction of right answers; the logit of the right
  answer less the largest other. Both also by difficulty.
- flips: an answer that differs from the one an iteration before. Of them those from right to wrong
  and from wrong to right.
- best iteration k*: where accuracy is largest, the last of several. It is chosen on one half of the
  examples and used on the other, and the other way round, so that no example chooses what it is
  tested at.
- overthinking events (lost): right at k* and wrong at the end; the other way round, gained. Answers
  that are right by chance before they have formed come and go in both directions, and before k*.
- the drop: (lost - gained) / items, with a sign test over examples (McNemar's where each has one
  answer): of the examples whose number of right answers differs between k* and the end, the chance
  that so many have fewer, if more and fewer were equally likely. Exact and one-sided. The same at
  each difficulty, with k* chosen there, times the number of difficulties (Bonferroni).
- improvement: the same test between the model's own depth and the end, in the other direction.

Sources: margin, its peak and decline, Kohli et al. 2026 (arXiv 2604.07822); answers that get worse
with more loops, Zhu et al. 2025 (arXiv 2510.25741), Bansal et al. 2022 (arXiv 2202.05826).

What can mislead:
- A verdict `steady` is no proof that nothing is lost: with few examples only large drops show. Read
  the events beside it.
- A loop that ends by itself because all has halted keeps its answers from there on. It can't
  overthink, by construction.
- Where a wrong guess is often right (a chain of hops that comes back to its start), an early answer
  can be right for a wrong reason. It counts as right here.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import FEWEST as FEWEST
from .measure import MOST as MOST
from .measure import SIGNIFICANT as SIGNIFICANT
from .measure import STRETCH as STRETCH
from .measure import Change as Change
from .measure import Overthinking as Overthinking
from .measure import Thinking as Thinking
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE = "Overthinking", 32
