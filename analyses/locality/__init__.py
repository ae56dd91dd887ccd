"""How far does a write reach, and how fast?

After k iterations another state is written at one position, and the loop goes on for m more. What
is written is that of another example (`replacement="donor"`: a state that the model does have), or its
own with noise of a fixed norm added (`replacement="noise"`). E_ij(m) is what that did to the answer at
position j when position i was written: KL(run ‖ patched) of the read-out in nats (for models that
answer with a number, the absolute change). From it, by m:

- locality: the share of the effect on other positions that falls on neighbours of i, over the share
  that would fall there if it were even over all positions that can be reached at all: 1 is chance.
  In a causal model only later positions can be reached, which is found out, not assumed: chance
  counts them alone.
- distance: mean distance from i of the effect on others, beside that of an even effect.
- own: the share of the whole effect that is at i itself.

Neighbours are those of the task: cells that bear on each other by its rules, cells next to each
other, or the positions before and after. Intervals are bootstrapped over examples.

The definition is ours. The question is that of Miyanishi & Morimura 2026 (arXiv 2605.20784): local
writes of recursive reasoning models that add up to global structure.

What can mislead:
- A write that the loop corrects at once has no effect left to locate (`size` falls to nothing):
  distances of nothing say nothing, and are left out.
- Noise is no state that the model would ever have: what its iterations correct reaches nobody,
  though another example's state does. A small norm tells of the neighbourhood of the path, a large
  one of breakdowns.
- The read-out may itself look at other positions (a coda): then even m = 0 reaches further than i.
"""

from .figures import curves as curves
from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import DRAWS as DRAWS
from .measure import EXAMPLES as EXAMPLES
from .measure import FURTHER as FURTHER
from .measure import LOCAL as LOCAL
from .measure import MORE as MORE
from .measure import NOTHING as NOTHING
from .measure import ROUNDING as ROUNDING
from .measure import Locality as Locality
from .measure import LocalityResult as LocalityResult
from .measure import Write as Write
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE = "How far a write reaches", 46
