"""What can be read off the states, and from which iteration on?

For each fact that the task tells of its examples (`task.facts`: the answer, and steps on the way to
it), linear probes are trained on the state after every iteration and tested on groups of examples
held out (`loopscope.probing`). A fact of each position is read at its own position, a fact of the
whole example where the answer is asked; all these rows train one probe for each iteration.
Definitions:

- read off at k: the lower end of the 95 % interval lies above what shuffled labels and the most
  frequent class give;
- learned: it also lies above random features (an untrained model of the same architecture) and, for
  steps on the way, above what the right answer and the given facts alone would tell of them;
- formed at k: the first k whose score has come SHARE of the way from that floor to the best score;
- the model's own answers: the fraction right among the same rows, had it stopped there.

Sources: probing with control tasks, Hewitt & Liang 2019 (arXiv 1909.03368); intermediate results in
looped models, Kohli et al. 2026 (arXiv 2604.07822) and Lu et al. 2025 (arXiv 2507.02199).

What can mislead:
- What can be read off need not be used. Only patching tells (`ls.patch`).
- What no linear probe finds may be there in another form.
- A step on the way often tells much about the answer and the answer about it; hence the floor from
  the answer alone.
- A few hundred examples make weak probes: a fact that is not found may need more of them
  (`examples=`).
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import EXAMPLES as EXAMPLES
from .measure import LEAD as LEAD
from .measure import MOST_ROWS as MOST_ROWS
from .measure import Known as Known
from .measure import ProbesResult as ProbesResult
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE = "What can be read off the states", 24
