"""Does the model use its iterations adaptively: more of them for what is harder?

An item is one example with all its answers; of tasks whose every answer needs all that stands
before it (`causal`, several answers), one answer, whose difficulty is how many answers stand before
it. For each item:

- depth to the answer, settled: the first k from which the read-out answer is the one it has at the
  end and never changes again; of an item with several answers, the last of theirs.
- right: the same, for items that are right at the end: the first k from which they are right for
  good.
- halted: for models that halt, how many iterations they take before they stop.
- integration window (`loopscope.analyses.depth_use.integration_window`): the k after which
  exchanging an input still turns the answer. Its end is the last of them; of an item with several
  clues, the last of theirs.

Adaptive is a positive slope against difficulty. It is told with a bootstrap interval (95 %, whole
examples drawn), Spearman's correlation, and what it is with difficulties shuffled.

Sources: depth and windows against difficulty, Curth, Lawrence, Karmalkar & Prasad 2026 (arXiv
2604.12426); these definitions are ours.

What can mislead:
- Settled doesn't mean right. Wrong answers may wander for long, or be given early: read `right`
  beside it, whose items are the easier of the hard ones, and the accuracy at each difficulty.
- An answer that by chance is early what it will be counts as settled from there: of two answers,
  one time in two.
- A loop that hasn't settled by its end has no depth in what was run. Items whose answer still
  changes in the last iteration are counted (`unsettled`), at the end.
- A loop that goes on reading its input follows an exchange as long as enough iterations are left.
  Its windows end late, and the later the less it has to do: then their slope has the other sign.
  `windows.rereads` tells which it is.
- An exchanged token may make an example that the task never draws (two arrows to one node). The
  answer turns all the same.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import CLUES as CLUES
from .measure import FEWEST as FEWEST
from .measure import POINTS as POINTS
from .measure import SAME as SAME
from .measure import Adapts as Adapts
from .measure import Depth as Depth
from .measure import DepthUse as DepthUse
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE = "Does it think longer about what is harder?", 34
