"""Does the loop end in the same place wherever it starts?

z_i is the state that the loop of example i reaches from the model's own start, as all analyses of
the map continue it (`loopscope.dynamics.limit_point`). The loop is run again, for as many
iterations, from other starts s, and the result compared with z_i by the cosine of the flattened
states:

    asymptotic alignment AA = mean over pairs (i, s) of cos(result(i, s), z_i)

1 means path-independent. Starts: exchanged, s = z_j, the ends of other examples (never i itself,
which would give 1 for any loop at rest); near zero; random, normal numbers of the ends' root mean
square; adversarial (optional), random ones moved by gradient ascent on 1 - cos through the whole
loop, at constant norm.

The verdict is one for each example, counted: the same end from all starts; another end, if the own
loop has converged and a start's result, far from its end, has hardly moved in the last quarter of
the iterations; still approaching, if the own loop nears a fixed point but isn't there yet and not
all starts have met its path; else still moving. It speaks of the starts that were tried, whose
number is said.

Source: Anil, Pokle, Liang, Treutlein, Wu, Bai, Kolter & Grosse 2022 (arXiv 2211.09961), who start
from zero and exchange ends; the loop's own start is used here instead, and one near zero is one of
the others. They report AA 1.00 on mazes and 0.99 on prefix sums for path-independent nets and 0.32
and 0.62 for others. Their code's average includes the pairs j = i; this one doesn't.

What can mislead:
- A few starts miss a small basin. The share of starts that reach the same end has an interval, as
  if each example were one trial.
- A cosine ignores length, so the relative distance ‖result - z_i‖ / ‖z_i‖ is reported and required
  too.
- If all examples reach the same end, exchanged starts are no test: `contrast` is the mean cosine
  between the ends of different examples.
- A loop that nears its end by less than about one part in 10,000 per iteration is taken to be at
  another end.
- Of a named state, the fields with the shape of the primary one are exchanged (halting's sums and
  counters start as in the model), and the primary one is compared.
"""

from .alignment import StartKind as StartKind
from .figures import draw as draw
from .figures import headline as headline
from .figures import panels as panels
from .measure import ALIGNED as ALIGNED
from .measure import NEAR as NEAR
from .measure import REST as REST
from .measure import measure as measure
from .price import REDUCED as REDUCED
from .price import price as price
from .result import PathIndependenceResult as PathIndependenceResult
from .result import PathIndependenceVerdict as PathIndependenceVerdict

TITLE, PLACE = "Path independence", 28
GROUP = "dynamics"
