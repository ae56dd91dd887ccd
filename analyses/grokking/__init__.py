"""How did it come to understand: when did training memorise, when did it generalise, and what grew
in between?

Put to a training's history (`ls.load_history`), or to a run of an entry that ships one.

Definitions, over optimiser steps:

- reached: a set's accuracy after the last iteration reaches `level` to stay, by the monotone fit
  through its looks (`loopscope.maths.transition.crossing`), with a 90 % interval. On the training
  set that is memorisation; on "test", generalisation within the distribution; on a task's further
  sets, such as "systematic", beyond it.
- sharpness: 1 / ln(end / begin) of the steps at which a tenth and nine tenths of the rise are done.
- delay: steps between memorisation and generalisation. Its interval takes the ends of both.
- stages: every transition between plateaus that a set's accuracy shows, at whatever height
  (`transitions`).
- half-way: where a measure has made half of its change between its extreme values and its end.
- for addition modulo p, against ln p, the loss of guessing: restricted loss below half of it, the
  waves of the key frequencies answer by themselves; excluded loss on the training pairs back above
  it, nothing else answers any more; test loss below half of it. The measures and their sources are
  told in `loopscope.maths.fourier`.

Sources: Power et al. 2022 (arXiv 2201.02177); the progress measures of Nanda et al. 2023 (arXiv
2301.05217), here after every iteration; the delay as a difference of steps as in arXiv 2603.25009
(there at 99 %); three stages in looped models, Kohli et al. 2026 (arXiv 2604.07822).

What can mislead:
- The key frequencies are read from the end of training. Where nothing has generalised they are
  merely the largest.
- A restricted loss that falls at one iteration says that the answer is read out there, not that it
  was computed there: look at the share of the states' variance, which no read-out has chosen.
- A training stopped too early looks like one without a transition. The verdict is about the steps
  that were made.
- One training is one draw: delays differ between seeds by factors. `loopscope sweep` repeats them.
"""

from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import FACTOR as FACTOR
from .measure import LEAST as LEAST
from .measure import Grokking as Grokking
from .measure import Understanding as Understanding
from .measure import applies as applies
from .measure import measure as measure

TITLE, PLACE, SUBJECT = "Grokking", 5, "history"
