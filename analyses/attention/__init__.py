"""Does attention converge with the state, and how does it change over the iterations?

With A[l,h,t] the pattern of layer l and head h in iteration t:

- change ‖A[t] - A[t-1]‖_F and distance to the limit ‖A[t] - A*‖_F, per head, mean over examples; A*
  is taken from extra iterations beyond the run. Two patterns of T rows can differ by at most
  sqrt(2 T).
- verdict: first example by example. A pattern converges if at least its last three relative
  changes are below the tolerance, and attention if nearly all heads do.
  Then over the examples: do all have the same verdict, or nearly all, or do they differ?
- same-layer fraction: for every unrolled layer the most similar other one, by mean ‖A_u - A_v‖_F.
- the bound ‖A[t] - A[t-1]‖ <= 1/2 · 2 B κ / sqrt(d) · ‖X[t] - X[t-1]‖ (Blayney et al. 2026,
  proposition 4.2), with X the normed input of attention, B = max ‖X‖, κ = ‖W_Q W_Kᵀ‖ of the head,
  all spectral norms but those of differences, and d the head's width. The published bound doesn't
  cover rotary positions, where the rotation between W_Q and W_K differs from pair to pair. There
  the weaker form with κ = ‖W_Q‖ ‖W_K‖ and Frobenius norms for B holds, and the result states which
  form was checked.
- stages of inference by iteration and layer: ColSum concentration, sink rate of the first position,
  mixing (nats), residual entropy (nats); `loopscope.maths.attention` has the formulae. The baseline
  is attention that is uniform under the mask.
- massive activations: numbers in the state above `massive_size` and above `massive_ratio` times the
  median magnitude (Sun et al. 2024, arXiv 2402.17762, whose 100 and 1000 are the defaults), and the
  iteration at which they appear.

Sources: Blayney et al. 2026 (arXiv 2604.11791); Queipo-de-Llano et al. 2025; Gu et al. 2024 (arXiv
2410.10781); Skean et al. 2025.

What can mislead: concentration is never 0 under a causal mask (0.112 at 32 positions for uniform
attention); in a short sequence every head looks like a sink; a bound that holds by a factor of a
thousand is uninformative (`median_slack`). A loop that can't be continued is measured over its own
few iterations only, and may converge after them.
"""

from .figures import draw as draw
from .figures import draw_map as draw_map
from .figures import draw_stages as draw_stages
from .figures import headline as headline
from .figures import panels as panels
from .massive_activations import MASSIVE_RATIO as MASSIVE_RATIO
from .massive_activations import MASSIVE_SIZE as MASSIVE_SIZE
from .massive_activations import MassiveActivation as MassiveActivation
from .measure import applies as applies
from .measure import measure as measure
from .pattern_panel import PatternSample as PatternSample
from .price import REDUCED as REDUCED
from .price import price as price
from .result import AttentionResult as AttentionResult
from .verdict import SETTLED_FRACTION as SETTLED_FRACTION
from .verdict import TOLERANCE as TOLERANCE
from .verdict import AttentionVerdict as AttentionVerdict

TITLE, PLACE = "Attention", 40
GROUP = "inside"
