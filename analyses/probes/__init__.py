"""Which facts can a linear probe decode from the states, and from which iteration on?

For each fact that the task defines about its examples (`task.facts`: the answer, and intermediate
steps towards it), linear probes are trained on the state after every iteration and tested on groups
of held-out examples (`loopscope.probing`). A fact of each position is decoded at its own position,
a fact of the whole example at the answered positions; all these rows train one probe for each
iteration. Definitions:

- decodable at k: the lower end of the 95 % interval lies above what shuffled labels and the most
  frequent class give;
- learned: it also lies above random features (an untrained model of the same architecture) and, for
  intermediate steps, above what the right answer and the input facts alone predict of them;
- formed at k: the first k whose score has come SHARE of the way from that floor to the best score;
- ahead, alike, behind: the probe's score minus the model's own on the same held-out rows, averaged
  over the iterations at which either is above the floor by LEAD, in bootstrap samples of the
  examples: beyond LEAD, or within it, in 95 % of them. absent: no probe is above the floor by LEAD.
- probe of the input: a linear probe of the tokens, one-hot, and of the position. Where the tokens
  of all positions make too many numbers, it gets its own position's.
- the model's own answers: the fraction right among the same rows, if the loop stopped there.

Sources: probing with control tasks, Hewitt & Liang 2019 (arXiv 1909.03368); intermediate results in
looped models, Kohli et al. 2026 (arXiv 2604.07822) and Lu et al. 2025 (arXiv 2507.02199).

What can mislead:
- A decodable fact need not be used by the model. Only interventions tell (`ls.patch`).
- A fact that no linear probe decodes may be there in another form.
- An intermediate step often predicts much of the answer, and the answer much of the step; hence the
  floor from the answer alone.
- The intervals are over examples. They don't hold the variation between training sets.
- A few hundred examples make weak probes: a fact that isn't decoded may need more of them
  (`examples=`).
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import EXAMPLES as EXAMPLES
from .measure import MAX_ROWS as MAX_ROWS
from .measure import ProbesResult as ProbesResult
from .measure import applies as applies
from .measure import measure as measure
from .price import REDUCED as REDUCED
from .price import price as price
from .verdict import LEAD as LEAD
from .verdict import ProbesVerdict as ProbesVerdict

TITLE, PLACE = "Linear probes", 24
NEEDS = ("labels",)
GROUP = "answers"
RANK = 9
