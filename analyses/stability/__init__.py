"""Is the loop stable: do small differences in its state die out or grow, forwards and backwards?

For some examples of a run, with J the Jacobian of one iteration with respect to the whole state:

- where it ends: as all analyses of the map judge it, from the same continued states
  (`loopscope.dynamics.outcome`).
- leading eigenvalues of J, at the fixed point where the loop ends or which it approaches, or at the
  last state if there is none. The largest modulus is the spectral radius rho; a complex pair turns
  by its angle per iteration.
- singular value: the largest of J. Above 1 while rho is below 1: a difference can grow before it
  dies out (non-normal growth); at most 1, it never does.
- Lyapunov exponents along the trajectory, in nats per iteration, from the last of the continued
  states on.
- backward gain ‖J_(n-1) ... J_0‖ over the run: the most that a gradient can grow in the backward
  pass through the loop.
- input sensitivity ‖(I - J)^-1 J_e‖: how far the fixed point moves per unit of the loop's input.

At a fixed point log rho, the log of the fitted contraction rate of an example's distance and the
largest Lyapunov exponent are the same number, measured in three ways: from J, from the distances to
the point, and from differences propagated along the trajectory. `agreement` tells whether those
that are known agree, `disagreement` by how much they don't.

The verdict is one for each example, counted (examples that attract count together: as transient if
more than a few are). Each is taken from intervals: radius and exponent with their errors (an
exponent is neutral where its interval is within that of linear growth or decay). Where they allow
two verdicts, the example is `unclear`.

Sources: Benettin et al. 1980 and Eckmann & Ruelle 1985 for the exponents; Trefethen & Embree 2005
for non-normal growth; the stability of the backward pass and smoothness in the input as axes of
their own, Labovich 2026 (arXiv 2604.15259; the formulae are ours).

What can mislead:
- The fitted rate sees only the direction in which this loop approaches its fixed point. If that has
  no part in the slowest direction, the rate is smaller than rho, and both are right. It is that of
  one example's whole state; `convergence` fits one to the root mean square over all examples.
- Exponents over few iterations fluctuate by their error, more so for a complex pair.
- If the model receives the iteration index, all maps are those of the iteration after the run's
  last.
"""

from .agreement import FLOOR as FLOOR
from .agreement import Agreement as Agreement
from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import LARGE_STATE as LARGE_STATE
from .measure import MARGIN as MARGIN
from .measure import TOLERANCE as TOLERANCE
from .measure import measure as measure
from .price import REDUCED as REDUCED
from .price import price as price
from .result import StabilityResult as StabilityResult
from .verdict import NON_NORMAL as NON_NORMAL
from .verdict import StabilityVerdict as StabilityVerdict

TITLE, PLACE = "Stability", 25
GROUP = "dynamics"
