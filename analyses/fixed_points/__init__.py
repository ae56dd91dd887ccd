"""Does the loop end at a fixed point, at which one, how fast, and is it the only one?

A fixed point x* of one iteration F has F(x*) = x*. For some examples of a run, states being single
vectors (all positions, and all fields of a named tuple, side by side):

- visited: where the loop's own iteration leads, followed beyond the run; reached from the first k
  on from which ‖x_k - x*‖ stays below SAME times the size of x*, also position by position. Rate:
  the factor by which that distance shrinks per iteration in the end (`loopscope.maths.mode`,
  `contraction`), with its error.
- found: what solvers find (damped and Anderson mixing, and Newton's method, which finds unstable
  points too) from the run's states, from perturbed, exchanged, near-zero and random starts. A
  solver's fixed point is not where the loop goes: for z -> c - z Newton finds c / 2, and iteration
  never does. Both are reported.
- attractors: where plain iteration leads from all those starts. Points nearer than SAME are one.
- stable: the spectral radius of the Jacobian at the point is below 1 by more than its error.

Three numbers that are kept apart, after the three axes of Labovich 2026 (arXiv 2604.15259; its
abstract names the axes, the formulae are ours): reachability, the share of examples and starts that
come to a fixed point within the run's length; input dependence, the mean distance between the
examples' fixed points over that between their inputs, both in units of their root mean square;
local geometry, the spectral radius.

Sources: many starts, Newton-like search, and the sorting into stable points and saddles, Sussillo &
Barak 2013 and Golub & Sussillo 2018; limits of looped language models, Geiping et al. 2025 (arXiv
2502.05171), Blayney et al. 2026 (arXiv 2604.11791).

What can mislead: a loop that is told the number of its iteration applies another map each time and
has no fixed point in this sense; a point that no start led to is not shown to be absent; with few
random starts a small basin is missed; rows of more than 128 numbers are searched by Newton from
where the loop ends only.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import DEGENERATE as DEGENERATE
from .measure import LONG as LONG
from .measure import NEARING as NEARING
from .measure import SAME as SAME
from .measure import STILL as STILL
from .measure import TIGHT as TIGHT
from .measure import Fate as Fate
from .measure import FixedPoints as FixedPoints
from .measure import measure as measure

TITLE, PLACE = "Fixed points", 20
