"""How does the answer form: what does a lens read at each iteration, site and position?

Every state is decoded with a lens (see `loopscope.lens`): the model's whole read-out (coda lens),
the final norm and unembedding only (logit lens), or a tuned lens. An item is one answered position
of an example; where the task is unknown, every position but padding. For each site and k:

- agreement: the fraction of items whose answer is the final one, and Cohen's kappa of it, (a - c) /
  (1 - c) with c the agreement expected by chance: 0 where the lens reads nothing of the final
  answer, 1 at the end.
- KL(final ‖ lens) and entropy in nats, and the logit margin of the final answer, on average over
  items.
- mean rank of some tokens in the vocabulary, 1 = first: of the final answer, of the right answer,
  and of facts that the caller names, such as intermediate results.
- chain, for a task whose answers have results on the way (`task.results`): how often each of them
  is read after k iterations, among items that have all of them.
- settled: the k after which an item's answer no longer changes. Flips: answers that differ from
  those one iteration before.
- rise: the largest rise of the final answer's probability in one iteration, per item. Sharpness:
  its largest rise within an eighth of the iterations (in one, of fewer than 16) as a fraction of
  its largest rise overall.

The verdict compares the rise of kappa within an eighth of the iterations, and the median sharpness,
with an even rise: with n iterations both count as sudden from (1 + 1 / n) / 2 on, so that two
iterations, one of which always holds half of the rise, show nothing by their number. It is given if
95 % of the bootstrap samples of the examples give it.

Sources: logit lens, nostalgebraist 2020; tuned lens, Belrose et al. 2023 (arXiv 2303.08112); rank
trajectories and both lenses on a looped model, Lu et al. 2025 (arXiv 2507.02199).

What can mislead:
- A lens gives what one read-out makes of a state, not what the model represents or uses; see
  `loopscope.lens`.
- Kappa is computed over all items together: a bias towards one token counts as chance, a bias that
  differs between positions does not.
- With an unchecked lens, kappa need not be 1 at the end.
"""

from .chain import SHOWN as SHOWN
from .chain import draw_chain as draw_chain
from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import applies as applies
from .measure import measure as measure
from .metrics import FINAL as FINAL
from .metrics import RIGHT as RIGHT
from .metrics import TOP as TOP
from .result import LensResult as LensResult
from .verdict import JUMP as JUMP
from .verdict import LATE as LATE
from .verdict import READ as READ
from .verdict import START as START
from .verdict import LensVerdict as LensVerdict

TITLE, PLACE = "How the answer forms", 3
NEEDS = ("read-out",)
GROUP = "answers"
RANK = 8
