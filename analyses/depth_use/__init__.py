"""Do answers of harder items settle later, and does the model halt later on them?

An item is one example with all its answers. For tasks whose answers depend on everything before
them (`causal`, several answers) an item is a single answer, and its difficulty is the number of
answers before it. For each item:

- settled: the first k from which the read-out answer is the final one and never changes again; of
  an item with several answers, the last of theirs.
- correct: the same, for items that are correct at the end: the first k from which they stay
  correct.
- halting: for models that halt, how many iterations they run before they stop.
- window: the integration window (`loopscope.analyses.depth_use.integration_window`), the k after
  which replacing an input still changes the answer. Its end is the last such k; of an item with
  several relevant inputs, the last of theirs.

For each of them, the slope against difficulty and Spearman's rank correlation come with bootstrap
intervals (95 %, resampling whole examples) and with those for shuffled difficulties, which are what
chance gives. `same` needs the slope's whole interval within SAME_DEPTH iterations from the easiest
to the hardest. `later` and `earlier` need the correlation's whole interval on one side of 0, and a
correlation beyond those of shuffled difficulties: ranks, since a few answers that never settle move
a slope far. A zigzag may have a trend, too: the verdict is `irregular` if more of the differences
between difficulties are against their order than in it (`analyses/depth_use/order_share.py`). A
model of fixed depth computes all its iterations for every item: that its answers
settle later is no use of depth. A model that halts uses its depth adaptively if it halts later.

Sources: depth and windows against difficulty, Curth, Lawrence, Karmalkar & Prasad 2026 (arXiv
2604.12426); these definitions are ours.

What can mislead:
- Settled doesn't mean correct. Wrong answers may change for long, or settle early. Compare with
  `correct`, which leaves out the wrong ones among the hard items, and with the accuracy at each
  difficulty.
- An answer that equals the final one early by chance counts as settled from there: with two
  possible answers, half of the time.
- Items whose answer still changes in the last iteration have no settled depth within the run. They
  count with the last iteration (`unsettled` is their number).
- A loop that reads its input in every iteration follows a replacement as long as enough iterations
  are left. Its windows end late, and the later the fewer iterations it needs: then their slope has
  the other sign. `windows.late_fraction` distinguishes the two.
- A replaced token may make an example that the task never generates (two arrows to one node). The
  answer changes all the same.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import EXCHANGE_POINTS as EXCHANGE_POINTS
from .measure import MAX_INPUTS as MAX_INPUTS
from .measure import MIN_EXAMPLES as MIN_EXAMPLES
from .measure import applies as applies
from .measure import measure as measure
from .order_share import order_share as order_share
from .price import REDUCED as REDUCED
from .price import price as price
from .result import IN_ORDER as IN_ORDER
from .result import MIN_ITEMS as MIN_ITEMS
from .result import SAME_DEPTH as SAME_DEPTH
from .result import Depth as Depth
from .result import DepthUseResult as DepthUseResult
from .result import DepthUseVerdict as DepthUseVerdict

TITLE, PLACE = "Iterations until answers settle, by difficulty", 34
GROUP = "halting"
TOPIC, RANK = "gain", 6
