"""lens: the answer that the model would give from each (iteration, site, position).

    read = lens(run, "coda", sites=["state", "core.0.hook_resid_post"])
    read.rank(tokens), read.kl(), read.settling_iteration()

- "coda": the model's own read-out, applied to the vectors of a site: coda blocks, final norm,
  unembedding. At the site `state` these are `run.logits[k]`.
- "logit": only the final norm and the unembedding (nostalgebraist 2020). The same as "coda" where
  a model has no coda blocks.
- a `TunedLens`: an affine map before either of these (Belrose et al. 2023, arXiv 2303.08112).
- a function: vectors (batch, position, width) to logits.

What can mislead:
- A lens applies a read-out to vectors that it was not trained on. A fact that a lens doesn't show
  can be in the state in another form; a fact that it shows need not be used by the model.
- The logit and the coda lens fail at opposite places of a cycle: on Huginn's core blocks (Lu et al.
  2025, arXiv 2507.02199) the logit lens does well after the first three and fails after the fourth,
  where the coda lens does best. Compare iterations at one site, not sites.
- A tuned lens is a probe trained to predict the final answer: it can answer more than the model
  could from the state.
- The check looks at the state after the last iteration. No site inside the body is checked, as it
  need not reproduce the answer. The output of a branch (`hook_attn_out`) is read as if it were the
  whole residual stream.
- Where halted positions keep their answers, the site `state` shows the frozen state. Sites inside
  the loop are read as if nothing had halted.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..runs.run import Run
from .faithfulness import require_faithful
from .final_logits import final_shape
from .lens_input import lens_iterations, lens_places
from .lens_types import Lens, lens_of
from .readings import Readings
from .tuned_lens import TunedLens


@guarded
def lens(
    run: Run,
    kind: "str | Lens | Callable[[Tensor], Any]" = "coda",
    *,
    sites: str | Sequence[str] = "state",
    check: bool = True,
    mask: Any = None,
) -> Readings:
    """Read out the states of a run through a lens.

    >>> read = ls.lens(run, "coda", sites=["state", "core.0.hook_resid_post"])
    >>> read.rank(batch.targets)[0, 3]     # after 3 iterations: (batch, position)
    >>> read.kl().nanmean((2, 3))          # nats, (site, iteration)

    Arguments:
        kind: "coda", "logit", a TunedLens, or a function of vectors.
        sites: names or patterns of recorded sites whose values are (batch, position, width).
        check: raise if the lens does not give the model's own logits at the last iteration. False:
            read through it nevertheless; the result is marked as unchecked.
        mask: which positions count, bool (batch, position); None: those of `run.mask`. The others
            are absent (NaN) from every measure.

    Raises:
        LoopscopeError: the lens doesn't give the model's own logits at the last iteration, a site
            has another shape, the run has no model, or its answers aren't tokens.
    """
    run = run if mask is None else run.with_mask(mask)
    run.require_finite()
    final_shape(run)  # refuses a run without answers
    chosen = lens_of(kind)
    places = lens_places(run, sites)
    if isinstance(chosen, TunedLens):
        chosen.require(run)
    faithful = True
    try:
        require_faithful(run, chosen)
    except LoopscopeError:
        if check:
            raise
        faithful = False
    return Readings(run, chosen, places, lens_iterations(run, places), faithful)
