"""Which iteration, and which position, carries the answer?

The state after k iterations at one position is replaced by that of another example (the donor),
everything after it is computed anew, and the answer is looked at: did it move towards the donor's?
Cell by cell, exactly (see `loopscope.patching`). What is told is the fraction of the way from the
run's own answer to the donor's, in logits of the two answers: 0 nothing, 1 all of it. Three things
by k:

- whole: all positions are replaced. Where this is 1 the state holds all that decides; where it is 0
  the loop has forgotten the state by the end, and what it reads anew in every iteration decides.
- best: the position that carries most.
- spread: over how many positions the effects are spread, (sum |e|)² / sum e², the participation
  ratio.

Sources: activation patching, Vig et al. 2020 (arXiv 2004.12265), Meng et al. 2022 (arXiv
2202.05262); metric and donors, Zhang & Nanda 2023 (arXiv 2309.16042); restoring a state at one
(position, depth) of a looped model, Kohli et al. 2026 (arXiv 2604.07822).

What can mislead:
- A state that carries the answer at one place only in company (an AND of two positions) shows in no
  single cell, but in `whole`.
- A donor's state in another context is off the model's path: read effects of a whole state and of
  single positions together.
- With an answer at every position, most positions carry their own, and none carries all: the last
  one alone is judged, unless `answer_positions` says otherwise.
- Under attribution (`method="attribution"`) numbers are first-order estimates; `agreement` tells
  how far to trust them.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import CARRIES as CARRIES
from .measure import EXAMPLES as EXAMPLES
from .measure import ITERATIONS as ITERATIONS
from .measure import NOTHING as NOTHING
from .measure import Carrier as Carrier
from .measure import Causes as Causes
from .measure import applies as applies
from .measure import carried_map as carried_map
from .measure import measure as measure

TITLE, PLACE = "Which state carries the answer?", 44
