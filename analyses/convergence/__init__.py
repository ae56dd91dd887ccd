"""Does the loop converge, where to, and how fast?

Definitions, for the state and for any recorded site, with x_k the value after k iterations, one
vector per example and position (all axes but these two are the vector), and norms Euclidean:

- step size: ‖x_(t+1) - x_t‖, and relative step ‖x_(t+1) - x_t‖ / ‖x_(t+1)‖.
- limit x*: the state after extra iterations beyond the run, and its residual ‖F(x*) - x*‖ / ‖x*‖,
  with F one iteration. A module that can't be iterated further has only what was recorded: then the
  last quarter of the run is used for the limit.
- distance ‖x_k - x*‖ and cosine x_k·x* / ‖x_k‖‖x*‖.
- settled from iteration t on: every relative step from t to the end of the extra iterations is
  below the tolerance, and they don't add up.
- late motion of a position (`loopscope.maths.late_motion`): it rests, approaches a point (its steps
  shrink so that their sum is finite if they go on so: `loopscope.maths.step_decay`), stops at once,
  slows (its steps shrink, but perhaps have no such sum), moves, grows, or moves too little for the
  precision to tell.
- an example converges if all of its positions rest, and approaches a point if all rest or do so; it
  moves, or grows, if some do (`loopscope.common.fate.fate_of_positions`, which cycles uses too);
  else it is unclear.
- fitted contraction rate: the factor per iteration of the root mean square distance to the limit
  over examples and positions, fitted to its logarithm between the transient and the floor
  (`loopscope.maths.contraction`), where rounding or an unfinished limit shows
  (`loopscope.analyses.convergence.CLEARANCE`); its interval is that over examples. The same for
  each position by itself, over examples.

The verdict is a function of the shares of positions by late motion, with bootstrap over examples:
an example's positions aren't independent. "Nearly every position" is 90 % of them or more.

Sources: successive and limit distances per position, with their cosine, Blayney et al. 2026 (arXiv
2604.11791) and Geiping et al. 2025 (arXiv 2502.05171), who take the state after 128 iterations as
the limit; the relative step as a stopping criterion, Geiping et al. 2025.

What can mislead:
- A limit taken from the iterations of the run makes the last distance zero by construction. Hence
  the extra iterations.
- A small step is not a small distance: a slow drift has both a small step and a residual. Read the
  rate as well.
- Where the limit is the origin, every relative step is large; where the norm grows without bound,
  every relative step is small. The verdict `growing` and the cosine reveal the second.
- A model that receives the iteration index applies another map each time; F is then the next one.
- A model may keep the state of what has halted. Such a position stops at once, from a full step to
  none, and would rest wherever it halted. Of a model that halts it counts as halted, not as
  converged; how many do is said beside the verdict.
- The whole state has one rate only if one part of it is the slowest throughout. Where an answer
  spreads along the positions, the early ones contract slowly for long and the late ones catch up
  fast: look at the rates by position. That of a late position may only reflect the catching up.
  Compare the slowest position's rate with the Jacobian's spectral radius.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import FATE_OF as FATE_OF
from .measure import PARTLY as PARTLY
from .measure import SETTLED as SETTLED
from .measure import ConvergenceResult as ConvergenceResult
from .measure import ConvergenceVerdict as ConvergenceVerdict
from .measure import measure as measure
from .measure import verdict_of as verdict_of
from .price import price as price
from .rates import CLEARANCE as CLEARANCE
from .site_convergence import SiteConvergence as SiteConvergence

TITLE, PLACE = "Convergence", 10
NEEDS = ("blocks", "resume")
GROUP = "dynamics"
