"""Does attention settle with the state, and what does it do on the way?

With A[l,h,t] the pattern of layer l and head h in iteration t:

- change ‖A[t] - A[t-1]‖_F and distance to the limit ‖A[t] - A*‖_F, per head, mean over examples; A*
  is taken from extra iterations beyond those shown. A whole pattern of T rows can differ by no more
  than sqrt(2 T).
- nearest: for every unrolled layer the most similar other one, by mean ‖A_u - A_v‖_F.
- the bound ‖A[t] - A[t-1]‖ <= 1/2 · 2 B κ / sqrt(d) · ‖X[t] - X[t-1]‖ (Blayney et al. 2026,
  proposition 4.2), with X the normed input of attention, B = max ‖X‖, κ = ‖W_Q W_Kᵀ‖ of the head,
  all spectral norms but those of differences, and d the head's width. The bound as published knows
  no rotary positions: a rotation between W_Q and W_K differs from pair to pair. There the weaker
  form with κ = ‖W_Q‖ ‖W_K‖ and Frobenius norms for B holds, and the result says which was checked.
- stages by iteration and layer: ColSum concentration, sink rate of the first position, mixing
  (nats), residual entropy (nats); `loopscope.maths.attention` has the formulae. A causal mask alone
  gives the null values beside them.
- massive activations: numbers in the state above `size` and above `ratio` times the median
  magnitude (Sun et al. 2024, arXiv 2402.17762, whose 100 and 1000 are the defaults), and since
  which iteration.

Sources: Blayney et al. 2026 (arXiv 2604.11791); Queipo-de-Llano et al. 2025; Gu et al. 2024 (arXiv
2410.10781); Skean et al. 2025.

What can mislead: concentration is never 0 under a causal mask (0.112 at 32 positions for uniform
attention); a short sequence makes every head look like a sink; a bound that holds by a factor of a
thousand says little (`slack`).
"""

from .figures import draw as draw
from .figures import draw_map as draw_map
from .figures import draw_stages as draw_stages
from .figures import headline as headline
from .figures import panels as panels
from .measure import NEARLY as NEARLY
from .measure import RATIO as RATIO
from .measure import SIZE as SIZE
from .measure import TOLERANCE as TOLERANCE
from .measure import Attention as Attention
from .measure import Massive as Massive
from .measure import Settling as Settling
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE = "Attention", 40
