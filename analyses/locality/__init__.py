"""How far does an intervention at one position reach, and how fast?

After k iterations the state is replaced at one position, and the loop continues for m iterations.
The replacement is the state of another example (`replacement="donor"`: a state that the model does
produce), or the state with noise of a fixed norm added (`replacement="noise"`). E_ij(m) is the
effect on the answer at position j when position i was patched: KL(run ‖ patched) of the read-out in
nats (for models that answer with a number, the absolute change). From it, by m:

- locality: the share of the effect on other positions that falls on neighbours of i, over the share
  expected if the effect were uniform over all reachable positions: 1 is a uniform effect. In a
  causal model only later positions are reachable; this is measured, not assumed.
- distance: mean distance from i of the effect on others, next to that of a uniform effect.
- self share: the share of the whole effect that is at i itself.

Neighbours are those of the task: cells that constrain each other by its rules, cells next to each
other, or the previous and the next position. Intervals, and whether the verdict holds, are
bootstrapped over examples; of fewer than 4 there is no verdict.

The definition is ours. The question is that of Miyanishi & Morimura 2026 (arXiv 2605.20784): local
updates of recursive reasoning models that add up to global structure.

What can mislead:
- If the loop corrects the replacement at once, there is no effect left to locate (`size` goes to
  zero): distances are then meaningless, and are left out.
- Noise is not a state that the model produces: the iterations may correct it before it reaches
  other positions, though a donor's state does reach them. Small noise probes the neighbourhood of
  the trajectory, large noise may break the computation.
- Of an effect on others that is small it says little where it falls: if less than 5 % of the effect
  is on others at every m, the verdict is that they are hardly affected.
- "Alike" is a statement about size: an effect on neighbours between 1 / 1.25 and 1.25 times a
  uniform one at the first m that affects others.
- A patch after which an answer isn't finite has no effect that can be located: the verdict is then
  unclear.
- The read-out may attend to other positions (a coda): then even m = 0 reaches further than i.
"""

from .distances import PositionDistances as PositionDistances
from .distances import position_distances as position_distances
from .figures import curves as curves
from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import AFTER as AFTER
from .measure import EXAMPLES as EXAMPLES
from .measure import MIN_EXAMPLES as MIN_EXAMPLES
from .measure import Replacement as Replacement
from .measure import applies as applies
from .measure import measure as measure
from .price import REDUCED as REDUCED
from .price import price as price
from .result import LocalityResult as LocalityResult
from .sums import NEGLIGIBLE as NEGLIGIBLE
from .sums import ROUNDING as ROUNDING
from .sums import EffectSums as EffectSums
from .sums import Spread as Spread
from .verdict import GROWTH as GROWTH
from .verdict import LEAST as LEAST
from .verdict import LITTLE as LITTLE
from .verdict import LOCAL as LOCAL
from .verdict import LocalityVerdict as LocalityVerdict
from .verdict import decide as decide
from .verdict import verdict_of as verdict_of

TITLE, PLACE = "Locality of interventions", 46
GROUP = "inside"
RANK = 10
