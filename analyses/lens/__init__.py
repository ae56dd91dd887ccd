"""How does the answer form: what would the model say from each iteration, site and position?

Every state is read through a lens (see `loopscope.lens`): the model's whole read-out, its final
norm and unembedding alone, or a tuned lens. An item is one answered position of an example; where
no task is known, every position but padding. For each site and k:

- agreement: the fraction of items whose answer is the final one, and Cohen's kappa of it, (a - c) /
  (1 - c) with c the agreement that such answers would have by chance: 0 where nothing of the final
  answer can be read, 1 at the end.
- KL(final ‖ lens), entropy, in nats, and the logit margin of the final answer, in the mean over
  items.
- rank of chosen tokens among the vocabulary, 1 = first, in the mean over items: of the final
  answer, of the right one, and of facts that the caller names, such as intermediate results.
- settled: the k after which an item's answer no longer changes. Flips: answers that differ from
  those one iteration before.
- step: the largest rise of the final answer's probability in one iteration, per item.

Sources: logit lens, nostalgebraist 2020; tuned lens, Belrose et al. 2023 (arXiv 2303.08112); rank
trajectories and both lenses on a looped model, Lu et al. 2025 (arXiv 2507.02199).

What can mislead: a lens's answer is what one read-out makes of a state, not what the model believes
or uses; see `loopscope.lens`. Kappa holds for all items together: a bias towards one token counts
as chance, one that differs from position to position does not. With a lens that was not checked,
kappa need not be 1 at the end.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import FINAL as FINAL
from .measure import JUMP as JUMP
from .measure import LATE as LATE
from .measure import RIGHT as RIGHT
from .measure import START as START
from .measure import TOP as TOP
from .measure import Forming as Forming
from .measure import Forms as Forms
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE = "How the answer forms", 3
