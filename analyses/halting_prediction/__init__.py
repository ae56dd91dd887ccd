"""How early is it known when a position will stop, and does its state know more than what can be
read off it?

For every iteration k, among the answered positions that have not stopped by then, a ridge
regression predicts how many more iterations they run, from

- state: the state after k iterations, standardised;
- signals: what rules read (`loopscope.rules`): the state's relative change and 1 - cos,
  divergences, entropy change, how long the answer is the same, its confidence; each and its
  logarithm;
- position: which position it is, one number for each;
- shuffled: the state again, with the halting iterations shuffled among them: what a probe finds
  where there is nothing.

R² is that of predictions for examples that the probe has not seen (FOLDS folds, whole examples
together, predictions pooled): 1 is perfect, 0 no better than the mean, below 0 worse than it. What
the state has over the signals is what the gate knows, or could, beyond them.

Sources: probing with held-out groups and a control task, Hewitt & Liang 2019 (arXiv 1909.03368);
halting, see `halting`.

What can mislead:
- A causal model stops later at later positions, and the state tells its position: read state
  against position before thinking that it knows what is hard.
- The gate is a function of the state, and often a linear one: that the state foretells the next
  iteration's halting says little. Look how far ahead it does.
- Late iterations have few positions left, and the last to stop differ little: R² is then noise. It
  is left out where fewer than FEWEST positions, or halting that doesn't vary, are left.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import EARLY as EARLY
from .measure import FEWEST as FEWEST
from .measure import FOLDS as FOLDS
from .measure import KINDS as KINDS
from .measure import KNOWN as KNOWN
from .measure import MORE as MORE
from .measure import MOST as MOST
from .measure import Foresight as Foresight
from .measure import HaltingPrediction as HaltingPrediction
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE = "Is it known when it will stop?", 33
