"""Do the two states of a recursive model have two roles?

For models whose state is two tensors (or more) of the same shape, such as HRM's and TRM's high and
low state:

- participation ratio (sum λ)² / sum λ² of the covariance of each state, by k, over the vectors of
  all positions of all examples; beside that of an untrained model of the same configuration, where
  it can be built. At the end also over whole examples (their positions flattened into one vector),
  which is bounded by their number.
- freeze: a state is held at the value it had after k iterations (`loopscope.freeze`: every update
  of it is undone, those of an inner loop too), and the loop goes on. Solved are the examples whose
  every answer is right. Held to the end, the state that is read out gives the answer that it had;
  so its last iteration is left free, those of the others not. Both senses are told.
- changes between successive read-outs of each state, with nothing held and with the other held from
  the start: content changes (another answer, blank before and after or neither) and mask flips
  (blank or no longer blank).
- attention of the two roles, where the model has any and the task says which cells bear on which
  (`loopscope.analyses.roles.attention_by_role`): neighbourhood mass, entropy over ln n, mass on
  cells in conflict, and the differences, positive where the inner role is the more local.

Sources: participation ratio of the two states, Wang et al. 2025 (arXiv 2506.21734); freeze test and
attention, Shen, Su & Kyrillidis 2026 (arXiv 2605.17811).

What can mislead:
- That nothing is solved with the state held to the end that is read out says how the model is
  built. No verdict goes by it.
- Held from the start, a state is not only still: it holds what no training example ever gave. A
  state that is missed may be missed as a memory or as a bias.
- The read-out was trained on the first state alone; read from another, answers are a view, not what
  the model says.
- A participation ratio grows with the number of vectors until the cloud is filled. Compare only
  equal counts (`vectors`). How the published ones were sampled isn't told.
"""

from .figures import draw as draw
from .figures import draw_clouds as draw_clouds
from .figures import draw_turns as draw_turns
from .figures import headline as headline
from .figures import panels as panels
from .measure import BROKEN as BROKEN
from .measure import EXAMPLES as EXAMPLES
from .measure import FEWEST as FEWEST
from .measure import VECTORS as VECTORS
from .measure import Cloud as Cloud
from .measure import Roles as Roles
from .measure import RolesResult as RolesResult
from .measure import applies as applies
from .measure import measure as measure
from .measure import share as share

TITLE, PLACE = "Two states, two roles?", 47
