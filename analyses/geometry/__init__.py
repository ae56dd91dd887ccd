"""What shape do the states have: how many directions they fill, how their way bends, and which
iterations look alike?

For each tensor of the state (of an HRM-like model both, side by side), and each k:

- participation ratio (sum λ)² / sum λ² and effective rank exp(H(λ / sum λ)) of the covariance of
  all vectors (examples × positions) after k iterations: how many directions the cloud fills,
  strictly and with small ones counted.
- step angle: between the steps x_(k+1) - x_k and x_k - x_(k-1) of a trajectory, radians, mean over
  trajectories: 0 straight on, pi/2 at random, pi back and forth.
- similarity: linear CKA between the clouds of any two iterations.
- principal components of all states, and some trajectories in them.

Sources: participation ratio of HRM's states: Wang et al. 2025 (arXiv 2506.21734); effective rank:
Roy & Vetterli 2007; CKA: Kornblith et al. 2019 (arXiv 1905.00414); step angles: Pappone et al. 2025
(arXiv 2509.23314).

What can mislead: a participation ratio can't exceed the number of vectors, and grows with it until
the cloud is filled: compare only equal counts (`vectors`). CKA is biased upwards where vectors are
few beside the width. Steps of a settled trajectory are rounding, and their angles are left out
(NaN).
"""

from .figures import draw as draw
from .figures import draw_similarity as draw_similarity
from .figures import draw_ways as draw_ways
from .figures import headline as headline
from .figures import panels as panels
from .measure import CHANGE as CHANGE
from .measure import VECTORS as VECTORS
from .measure import Field as Field
from .measure import Geometry as Geometry
from .measure import Shape as Shape
from .measure import measure as measure

TITLE, PLACE = "Geometry", 45
