"""What shape do the states have: how many dimensions do they span, how do trajectories bend, and
which iterations are similar?

For each tensor of the state (of an HRM-like model both, side by side), and each k:

- participation ratio (sum λ)² / sum λ² and effective rank exp(H(λ / sum λ)) of the covariance of
  all vectors (examples × positions) after k iterations. Both count dimensions; the effective rank
  gives more weight to those of small variance.
- step angle: between the steps x_(k+1) - x_k and x_k - x_(k-1) of a trajectory, radians, mean over
  trajectories: 0 straight on, pi/2 for steps in random directions, pi back and forth.
- similarity: linear CKA between the states after any two iterations.
- principal components of all states, and some trajectories in them.

The verdict compares the participation ratio of the last state with that of the first state that has
one, by bootstrap over examples. A start that all examples share has none.

Sources: participation ratio of HRM's states: Wang et al. 2025 (arXiv 2506.21734); effective rank:
Roy & Vetterli 2007; CKA: Kornblith et al. 2019 (arXiv 1905.00414); step angles: Pappone et al. 2025
(arXiv 2509.23314).

What can mislead: a participation ratio can't exceed the number of vectors, and grows with it until
there are many more vectors than dimensions: compare only equal counts (`vectors`). CKA is biased
upwards where there are few vectors compared with the width. Once a trajectory has settled, its
steps are rounding, and their angles are left out (NaN).
"""

from .figures import draw as draw
from .figures import draw_similarity as draw_similarity
from .figures import draw_trajectories as draw_trajectories
from .figures import headline as headline
from .figures import panels as panels
from .measure import MAX_VECTORS as MAX_VECTORS
from .measure import measure as measure
from .result import CHANGE_FACTOR as CHANGE_FACTOR
from .result import FieldGeometry as FieldGeometry
from .result import GeometryResult as GeometryResult
from .result import GeometryVerdict as GeometryVerdict
from .result import verdict_of as verdict_of

TITLE, PLACE = "Geometry of states", 45
NEEDS = ("blocks",)
GROUP = "dynamics"
