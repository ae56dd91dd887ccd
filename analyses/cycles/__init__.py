"""Where does the loop go round: a point, an orbit, a direction, or nowhere in particular?

Cycles have two senses.

Across iterations: each position's states x_0, x_1, ... are a trajectory, and it comes to rest at a
point, goes round an orbit (with a period, whole or not, and a rotation angle), winds with two
frequencies, slides (its direction settles while its norm grows), drifts, moves irregularly or
diverges. See `loopscope.maths.limits` for the definitions. Trajectories are followed through extra
iterations beyond those shown, and the late half decides.

Within one loop: each layer of the block has a limit of its own. With X*[l] the value after layer l
in the last of the extra iterations: degeneracy = min over l of cos(X*[1], X*[l]), mean over
positions. 1: all layers share one point; below: a genuine cycle in latent space, run through once
per iteration. The map of cos(X_u, X_v) over all unrolled layers u, v shows it as diagonals at
multiples of the block's depth. The residual ‖X[l,t] - X[l,t-1]‖ / ‖X[l,t]‖ there says whether these
are limits.

Sources: limits per layer, degenerate and distinct, and the map: Blayney et al. 2026 (arXiv
2604.11791); orbits and sliders: Geiping et al. 2025 (arXiv 2502.05171); recurrence plots: Eckmann,
Kamphorst & Ruelle 1987; dynamic mode decomposition: Schmid 2010, by PyDMD (Demo, Tezzele & Rozza
2018).

What can mislead:
- Shares depend on thresholds. `sensitivity` says how much; quote them with it.
- An orbit of which less than one turn is seen drifts; more iterations tell.
- A model that is told the number of its iteration applies another map each time.
- Chaos that passes through bands in turn is told from a noisy orbit by its neighbours only in few
  dimensions.
"""

from .figures import draw as draw
from .figures import draw_layers as draw_layers
from .figures import draw_recurrence as draw_recurrence
from .figures import draw_shares as draw_shares
from .figures import headline as headline
from .figures import panels as panels
from .measure import NEARLY as NEARLY
from .measure import ONE_POINT as ONE_POINT
from .measure import Course as Course
from .measure import Cycles as Cycles
from .measure import measure as measure

TITLE, PLACE = "Cycles", 30
