"""Is the loop stable: do small differences in its state die out or grow, forwards and backwards?

For some examples of a run, J being the Jacobian of one iteration after the whole state:

- eigenvalues of J that lead by modulus, at the fixed point where the loop ends, or at the last
  state if it ends at none. The largest modulus is the spectral radius rho; a pair off the real axis
  turns by its angle per iteration.
- singular value: the largest of J. Above 1 while rho is below it: a difference can grow before it
  dies (non-normal growth).
- Lyapunov exponents along the trajectory, the run's own length being left out as transient, in nats
  per iteration.
- backward gain ‖J_(n-1) ... J_0‖ over the run: the most that a gradient grows on its way back
  through the loop.
- input sensitivity ‖(I - J)^-1 J_e‖: how far the fixed point moves per unit of what the loop reads.

At a fixed point log rho, the log of the fitted contraction rate and the largest Lyapunov exponent
are one number, measured in three ways: from J alone, from the distances to the point, and from
differences carried along. `agreement` says whether they agree, and by how much they don't.

Sources: Benettin et al. 1980 and Eckmann & Ruelle 1985 for the exponents; Trefethen & Embree 2005
for non-normal growth; the stability of the backward pass and smoothness in the input as axes of
their own, Labovich 2026 (arXiv 2604.15259; the formulae are ours).

What can mislead: a rate is seen only along the way that this loop came; if that lies outside the
slowest direction it is smaller than rho, which is then no error of either. Exponents over few
iterations waver by their error, more so when a pair turns. Of a model that is told the number of
its iteration, every iteration is taken as the one after the run's last.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import AGREE as AGREE
from .measure import GROWN as GROWN
from .measure import MARGIN as MARGIN
from .measure import VANISHED as VANISHED
from .measure import Agreement as Agreement
from .measure import Stability as Stability
from .measure import StabilityResult as StabilityResult
from .measure import measure as measure

TITLE, PLACE = "Stability", 25
