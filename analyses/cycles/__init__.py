"""Does the loop end at a fixed point, on a cycle, or does it move on without returning?

Cycles have two senses.

Across iterations: the states x_0, x_1, ... of one example and position are a trajectory. It comes
to rest at a point, goes round an orbit (with a period, integer or not, and a rotation angle), winds
with two frequencies, slides (its direction settles while its norm grows), drifts, moves irregularly
or diverges. See `loopscope.maths.limits` for the definitions. Trajectories are followed through
extra iterations beyond the run, and classified by their second half.

The verdict is a function of the shares of the kinds, with bootstrap over examples. An example
converges if all of its positions come to rest; otherwise its fate is the one that its moving
positions share, or `moves` (`loopscope.common.fate.fate_of_positions`, as in convergence). The
sizes of a position's last steps, by which convergence judges, can deny the kind of its path: a path
like that of a point whose steps don't shrink towards zero drifts, or is unresolved (`judged`).

Within one iteration: each layer of the block has a limit of its own. With X*[l] the value after
layer l in the last of the extra iterations: degeneracy = min over l of cos(X*[1], X*[l]), mean over
positions. 1: all layers share one point; below: a genuine cycle in latent space, traversed once per
iteration. The map of cos(X_u, X_v) over all unrolled layers u, v shows it as diagonals at multiples
of the block's depth. The residual ‖X[l,t] - X[l,t-1]‖ / ‖X[l,t]‖ there shows whether these are
limits.

Sources: limits per layer, degenerate and distinct, and the map: Blayney et al. 2026 (arXiv
2604.11791); orbits and sliders: Geiping et al. 2025 (arXiv 2502.05171); recurrence plots: Eckmann,
Kamphorst & Ruelle 1987; dynamic mode decomposition: Schmid 2010, by PyDMD (Demo, Tezzele & Rozza
2018).

What can mislead:
- Shares depend on thresholds. Quote them together with `sensitivity`.
- An orbit that has completed less than one turn is classified as drifting; record more iterations.
- A model that receives the iteration index applies another map in each iteration.
- Chaos that visits several bands in turn is distinguished from a noisy orbit by its nearest
  neighbours, which works only in few dimensions.
"""

from .figures import draw as draw
from .figures import draw_layers as draw_layers
from .figures import draw_recurrence as draw_recurrence
from .figures import draw_shares as draw_shares
from .figures import headline as headline
from .figures import panels as panels
from .layer_limits import DEGENERACY_THRESHOLD as DEGENERACY_THRESHOLD
from .layer_limits import LayerLimits as LayerLimits
from .measure import judged as judged
from .measure import measure as measure
from .measure import verdict_of as verdict_of
from .price import REDUCED as REDUCED
from .price import price as price
from .result import VERDICT_SHARE as VERDICT_SHARE
from .result import CyclesResult as CyclesResult
from .result import CyclesVerdict as CyclesVerdict
from .result import example_trajectory as example_trajectory
from .result import fate_of as fate_of

TITLE, PLACE = "Cycles", 30
NEEDS = ("blocks", "resume")
GROUP = "dynamics"
