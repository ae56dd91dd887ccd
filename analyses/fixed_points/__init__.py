"""Does the loop end at a fixed point, at which one, how fast, and is it the only one?

A fixed point x* of one iteration F has F(x*) = x*. For some examples of a run, states being single
vectors (all positions, and all fields of a named tuple, concatenated):

- the loop's fixed point: where its own iteration leads, followed beyond the run, as all analyses of
  the map judge it (`loopscope.dynamics.outcome`). It is reached from
  the first k on from which ‖x_k - x*‖ stays below MERGE_DISTANCE times the size of x*, also by
  position. Rate: the factor by which that distance shrinks per iteration in the end
  (`loopscope.maths.mode`, `contraction`), with its error.
- other fixed points: what solvers find (damped and Anderson mixing, and Newton's method, which also
  finds unstable points) from the run's states, and from perturbed, exchanged, near-zero and random
  starts; but for the perturbed ones they are those of `path_independence`. A
  solver's fixed point need not be where the loop goes: for z -> c - z Newton finds c / 2,
  and iteration never does. Both are reported.
- attractors: where plain iteration leads from all those starts. Points nearer than MERGE_DISTANCE
  are one.
- stable: the spectral radius of the Jacobian at the point is below 1 by more than its error and
  the margin of `stability`, which reports it.

Two numbers are kept separate, after axes of Labovich 2026 (arXiv 2604.15259; its abstract names the
axes, the formulae are ours): reachability, the fraction of examples and starts that come to a fixed
point within the run's length; input dependence, the mean distance between the examples' fixed
points over that between their inputs, both in units of their root mean square. The third axis,
local geometry, is the spectral radius at the fixed point, in `stability`.

The verdict is one for each example, counted.

Sources: many starts, Newton-like search, and the classification into stable points and saddles,
Sussillo & Barak 2013 and Golub & Sussillo 2018; limits of looped language models, Geiping et al.
2025 (arXiv 2502.05171), Blayney et al. 2026 (arXiv 2604.11791).

What can mislead: a loop that receives the iteration index applies another map each time and has no
fixed point in this sense; a point to which no start led may exist all the same; with few random
starts a small basin is missed; states of more than 128 numbers are searched by Newton's method only
from where the loop ends.
"""

from .basins import Basins as Basins
from .basins import FixedPoint as FixedPoint
from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import measure as measure
from .price import REDUCED as REDUCED
from .price import price as price
from .result import MERGE_DISTANCE as MERGE_DISTANCE
from .result import RESIDUAL_TOLERANCE as RESIDUAL_TOLERANCE
from .result import FixedPointsResult as FixedPointsResult
from .result import FixedPointsVerdict as FixedPointsVerdict

TITLE, PLACE = "Fixed points", 20
GROUP = "dynamics"
