"""When did training memorise, when did it generalise, and what developed in between?

Applied to a training's history (`ls.load_history`), or to a run of an entry that ships one.

Definitions, over optimiser steps:

- reached: a set's accuracy after the last iteration reaches `level` for good, by a monotone fit to
  its evaluations (`loopscope.maths.changepoints.crossing`), with a 90 % interval. On the training
  set that is memorisation; on "test", generalisation within the distribution; on a task's further
  sets, such as "systematic", generalisation beyond it.
- sharpness: 1 / ln(end / begin) of the steps at which a tenth and nine tenths of the rise are done.
- delay: steps between memorisation and generalisation. Its 95 % interval is that of the verdict's
  samples, and at least what the spacing of the looks leaves open.
- verdict: it is a function of the curves' dates. It is given if 95 % of 200 samples of the curves
  give it, and if it doesn't depend on where between two looks an event happened; else it is
  `unclear`. A sample has the noise drawn again (`curve.Curve`): the fluctuation of a look from
  those of its neighbours, scaled to its accuracy, and the choice of the examples by Wilson's
  interval of an accuracy on n of them. Where a set is all that there is, nothing was chosen.
- learned at the end: the last looks decide, since the weights that were trained are those of the
  end. A last look at 96.8 % of 1,000 drawn examples excludes 95 %, one at 95.5 % doesn't.
- stages: every transition between plateaus of a set's accuracy, at whatever height
  (`transitions`).
- halfway: where a measure has completed half of its change between its extreme values.
- for addition modulo p, against ln p, the loss of guessing: the restricted loss falls below half of
  it when the Fourier components at the key frequencies suffice for the answer; the excluded loss on
  the training pairs rises above it when nothing else gives the answer any more; the test loss falls
  below half of it. `loopscope.maths.fourier` has the measures and their sources.

Sources: Power et al. 2022 (arXiv 2201.02177); the progress measures of Nanda et al. 2023 (arXiv
2301.05217), here after every iteration; the delay as a difference of steps as in arXiv 2603.25009
(there at 99 %); three stages in looped models, Kohli et al. 2026 (arXiv 2604.07822).

What can mislead:
- The key frequencies are read from the end of training. If nothing has generalised by then, they
  are merely the largest.
- A restricted loss that falls at one iteration shows that the answer can be read out there, not
  that it was computed there: compare the fraction of the states' variance, which doesn't depend on
  the read-out.
- A training whose examples beyond the distribution are learned at its very end, as the learning
  rate falls, might not have kept them: the verdict speaks of the steps that were made.
- Where an accuracy fluctuates by more than its distance from the level, the verdict is that of the
  last weights, which other steps could have left above the level or below it.
- A training stopped too early looks like one without a transition.
- One training is one sample: delays differ between seeds by factors. `loopscope sweep` repeats
  them.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import GrokkingResult as GrokkingResult
from .measure import applies as applies
from .measure import measure as measure
from .milestones import Milestone as Milestone
from .progress_measures import FourierMeasures as FourierMeasures
from .progress_measures import ProgressMeasures as ProgressMeasures
from .verdict import DELAY_FACTOR as DELAY_FACTOR
from .verdict import LEAST_LOOKS as LEAST_LOOKS
from .verdict import MIN_STAGE as MIN_STAGE
from .verdict import GrokkingVerdict as GrokkingVerdict

TITLE, PLACE, SUBJECT = "Grokking", 5, "history"
GROUP, TOPIC, RANK = "training", "training", 1
