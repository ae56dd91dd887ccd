"""At which iteration, and at which position, does the state carry the answer?

Activation patching. The state after k iterations is replaced by that of another example (the
donor), at one position or at all, the rest of the pass is recomputed, and the answer is compared
with the donor's. Every (iteration, position) has a pass of its own (see `loopscope.patching`). The
measure is the normalised effect: how far the difference of the two answers' logits moves from the
run's value (0) to the donor's (1), as the mean change over the mean difference. By k:

- whole state: all positions are replaced. At 1 the state determines the answer; at 0 the loop has
  forgotten the state by its end, and the input that it reads in every later iteration determines
  the answer.
- best position: the position of each example with the largest effect. The largest of many effects
  is biased upwards; so it is chosen with one donor, and its effect is measured with another.
- effective positions: over how many positions the effects e are spread, as their participation
  ratio (sum |e|)² / sum e².
- third answers: the fraction of answers that the whole state turns into one that neither example
  has. A loop that goes on from the patched state, with the input of its own example, gives them: a
  running value of the donor to which the run's own operations are applied.

The verdict is about one k, halfway through the loop, and says nothing of others: effects need not
rise with k, and the table in `summary()` has them at each. Does the state determine the answer (an
effect of 0.9 or more), part of it, or nothing (below 0.05)? If all of it, does a single position
carry most (0.7)? If none does, or the effect is a part, does the whole state or the best position
turn half of the answers or more into third ones, so that the loop goes on from it? It must
hold in 95 % of bootstrap samples of the examples (a pair of example and donor is one). And as
effects are often all 0 or all 1, it must hold for unseen examples: of n that agree,
1 - 0.05^(1 / n) of all others may not. That a patch has no effect takes 59 examples, that it has
the whole takes 29. Where the state before the loop already determines the answer in every
example, the input reaches the answer through the state alone: the whole state then has the whole
effect by construction, and only its spread over positions is judged.

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
- An effect is what remains after the iterations that follow. A loop that reaches one end from every
  start (path independence) keeps nothing of any state in the long run: part of an effect may mean
  that too few iterations were left. The control is the same patch in a longer run.
- A third answer counts as half of an effect, since both examples' logits are then alike; so where
  third answers are many, the normalised effect says little. They may also come from a state that
  the later iterations can make nothing of: compare them with the answers that the task's rule gives
  from the donor's result on.
- A state halfway that has no effect may be one that the loop has not yet written to.
- With a donor run of one's own there is no second donor: the best position's effect is then an
  upper bound (`second_donors`).
- Donors are other examples of the batch, so an example counts as itself and as a donor; intervals
  take pairs as independent.
- Under attribution (`method="attribution"`) the effects of single positions are first-order
  estimates; `agreement` compares them with exact patches. Best positions are chosen by them, and
  their effects are exact.
"""

from .figures import draw as draw
from .figures import draw_positions as draw_positions
from .figures import headline as headline
from .figures import panels as panels
from .measure import MAX_EXAMPLES as MAX_EXAMPLES
from .measure import MAX_ITERATIONS as MAX_ITERATIONS
from .measure import MIN_EXAMPLES as MIN_EXAMPLES
from .measure import applies as applies
from .measure import measure as measure
from .price import REDUCED as REDUCED
from .price import price as price
from .result import CausesResult as CausesResult
from .verdict import FULL as FULL
from .verdict import MOST as MOST
from .verdict import NO_EFFECT as NO_EFFECT
from .verdict import THIRD as THIRD
from .verdict import CausesVerdict as CausesVerdict
from .verdict import decide as decide
from .verdict import unseen as unseen
from .verdict import verdict_of as verdict_of

TITLE, PLACE = "Activation patching", 44
GROUP = "inside"
RANK = 7
