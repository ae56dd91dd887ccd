"""Do the two states of a recursive model have two roles?

For models whose state is two tensors (or more) of the same shape, such as the high and low state of
HRM and TRM:

- participation ratio (sum λ)² / sum λ² of the covariance of each state, by k, over the vectors of
  all positions of all examples; compared with an untrained model of the same configuration, where
  one can be built. At the end also over whole examples (their positions flattened into one vector),
  which is bounded by their number.
- freezing: a state keeps the value that it had after k iterations (`loopscope.freeze`: every update
  of it is undone, those of an inner loop too), and the loop continues. An example is solved if all
  its answers are right. The state that is read out, frozen to the end, gives the answer that it had
  at k; so the last iteration may update it, but not the others. Both variants are reported for
  every state.
- changes between successive read-outs of each state, with nothing frozen and with the other state
  frozen from the start: content changes (another answer, blank before and after or neither) and
  mask flips (blank or no longer blank).
- attention of the two roles, if the model has attention and the task says which cells constrain
  each other (`loopscope.analyses.roles.attention_by_role`): attention to neighbours, entropy over
  ln n, attention to cells in conflict, and the differences, positive where the inner role is more
  local.

A state is needed if, with it frozen from the start, at most half of the examples that are solved
with nothing frozen are still solved; the verdict must hold in 95 % of bootstrap samples of these.

Sources: participation ratio of the two states, Wang et al. 2025 (arXiv 2506.21734); freeze test and
attention, Shen, Su & Kyrillidis 2026 (arXiv 2605.17811).

What can mislead:
- If nothing is solved with the read-out state frozen to the end, that follows from the
  architecture. No verdict depends on it.
- A state frozen from the start is not only constant: it has a value that no training example had. A
  state that is needed may be needed as a memory or as a bias.
- The read-out was trained on the first state only; decoded from another, answers are a lens, not
  the model's answers.
- A participation ratio grows with the number of vectors until it saturates. Compare only equal
  counts (`vectors`). How the published ones were sampled is not reported.
"""

from .attention_by_role import AttentionContrast as AttentionContrast
from .attention_by_role import BoardMean as BoardMean
from .figures import draw as draw
from .figures import draw_changes as draw_changes
from .figures import draw_dimensions as draw_dimensions
from .figures import headline as headline
from .figures import panels as panels
from .frozen_states import AnswerChanges as AnswerChanges
from .frozen_states import FrozenState as FrozenState
from .measure import EXAMPLES as EXAMPLES
from .measure import MIN_ITERATIONS as MIN_ITERATIONS
from .measure import VECTORS as VECTORS
from .measure import RolesResult as RolesResult
from .measure import StateDimension as StateDimension
from .measure import applies as applies
from .measure import measure as measure
from .price import REDUCED as REDUCED
from .price import price as price
from .verdict import LEAST as LEAST
from .verdict import LOSS as LOSS
from .verdict import RolesVerdict as RolesVerdict
from .verdict import decide as decide
from .verdict import verdict_of as verdict_of

TITLE, PLACE = "Roles of the two states", 47
GROUP = "inside"
