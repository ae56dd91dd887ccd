"""How early can the halting iteration of a position be predicted, and does its state predict it
better than the signals that exit rules read?

For every iteration k, among the answered positions that have not halted by then, a ridge regression
predicts the number of iterations still to come, from

- state: the state after k iterations, standardised;
- signals: the quantities of the exit rules (`loopscope.rules`): the state's relative change and
  1 - cos, divergences, change of entropy, for how many iterations the answer has been the same, its
  confidence; each and its logarithm;
- position: the position, one-hot;
- shuffled: the state again, with shuffled halting iterations: the control, which shows what a probe
  scores by chance.

The penalty is chosen by cross-validation, from 1 to 1e5: states are wider than examples are many.
R² is that of predictions for held-out examples (FOLDS folds, whole examples together, predictions
pooled): 1 is perfect, 0 no better than the mean, below 0 worse than the mean. Where the state leads
the signals, it holds information about halting that no exit rule uses.

The verdict is the one that 95 % of bootstrap samples of the held-out examples agree on; the probes
are the same in all of them. `constant`: nowhere do MIN_POSITIONS positions still run whose halting
iterations deviate by more than SPREAD. `never`: no answer halts within the run.

Probes are trained on enough examples: where the run has too few, and its model and task are known,
others are recorded. That a state does not predict is said only from OBSERVATIONS halting iterations
for each number of the state; positions of one example that halt together are one observation.

Sources: probing with held-out groups and a control task, Hewitt & Liang 2019 (arXiv 1909.03368);
ten observations or more for each predictor, Harrell, Lee & Mark 1996 (Statistics in Medicine 15);
halting, see `halting`.

What can mislead:
- A causal model halts later at later positions, and the state encodes its position: compare state
  with position before concluding that the state encodes difficulty.
- The gate is a function of the state, and often a linear one, so it is no surprise that the state
  predicts halting in the next iteration. Look how far ahead it does.
- Late iterations have few running positions, whose halting iterations differ little: R² is then
  noise. It is left out where the running positions have fewer than MIN_POSITIONS observations of
  halting, or where their halting iterations hardly vary.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import OBSERVATIONS as OBSERVATIONS
from .measure import HaltingPredictionResult as HaltingPredictionResult
from .measure import applies as applies
from .measure import measure as measure
from .predictors import FOLDS as FOLDS
from .predictors import MAX_POSITIONS as MAX_POSITIONS
from .predictors import MIN_POSITIONS as MIN_POSITIONS
from .price import REDUCED as REDUCED
from .price import price as price
from .verdict import EARLY as EARLY
from .verdict import LEAD as LEAD
from .verdict import PREDICTORS as PREDICTORS
from .verdict import R2 as R2
from .verdict import SPREAD as SPREAD
from .verdict import HaltingPredictionVerdict as HaltingPredictionVerdict

TITLE, PLACE = "Predicting the halting iteration", 33
GROUP = "halting"
