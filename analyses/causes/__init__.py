"""At which iteration, and at which position, does the state carry the answer?

Activation patching. The state after k iterations at one position is replaced by that of another
example (the donor), the rest of the pass is recomputed, and the answer is compared with the
donor's. Every (iteration, position) has a pass of its own (see `loopscope.patching`). The measure
is the normalised effect: how far the difference of the two answers' logits moves from the run's
value (0) to the donor's (1). Three curves by k:

- whole state: all positions are replaced. At 1 the state determines the answer; at 0 the loop has
  forgotten the state by its end, and the input that it reads in every later iteration determines
  the answer.
- best position: the position with the largest effect.
- effective positions: over how many positions the effects e are spread, as their participation
  ratio (sum |e|)² / sum e².

Sources: activation patching, Vig et al. 2020 (arXiv 2004.12265), Meng et al. 2022 (arXiv
2202.05262); metric and donors, Zhang & Nanda 2023 (arXiv 2309.16042); restoring a state at one
(position, depth) of a looped model, Kohli et al. 2026 (arXiv 2604.07822).

What can mislead:
- An answer that depends on two positions jointly (an AND of them) shows in no single position, but
  in the whole state.
- A donor's state in another context is off the model's distribution: read the effects of the whole
  state and of single positions together.
- With an answer at every position, most positions carry their own answer, and none carries all:
  only the last answer is judged, unless `answer_positions` are passed.
- Under attribution (`method="attribution"`) effects are first-order estimates; `agreement` compares
  them with exact patches.
"""

from .figures import draw as draw
from .figures import draw_positions as draw_positions
from .figures import headline as headline
from .figures import panels as panels
from .measure import EFFECT_THRESHOLD as EFFECT_THRESHOLD
from .measure import MAX_EXAMPLES as MAX_EXAMPLES
from .measure import MAX_ITERATIONS as MAX_ITERATIONS
from .measure import NO_EFFECT_THRESHOLD as NO_EFFECT_THRESHOLD
from .measure import CausesResult as CausesResult
from .measure import CausesVerdict as CausesVerdict
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE = "Activation patching", 44
GROUP = "inside"
