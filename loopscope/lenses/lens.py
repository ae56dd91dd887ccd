"""lens: what the model would answer from each (iteration, site, position).

    read = lens(run, "coda", sites=["state", "core.0.hook_resid_post"])
    read.rank(tokens), read.kl(), read.settled()

- "coda": the model's own read-out, with what stands at a site in the place of what it reads of the
  state: coda blocks, final norm, unembedding. At the site `state` these are `run.logits[k]`.
- "logit": the final norm and the unembedding alone (nostalgebraist 2020). The same where a model
  has no coda.
- a `TunedLens`: an affine map of its own before either (Belrose et al. 2023, arXiv 2303.08112).
- a function: vectors (batch, position, width) to logits.

What can mislead:
- A lens's answer is not what the model believes: it is what one read-out makes of vectors that it
  was not trained on. A fact that a lens doesn't show can be there in another form; a fact that it
  shows need not be used.
- The logit and the coda lens fail at opposite places of a cycle: on Huginn's core blocks (Lu et al.
  2025, arXiv 2507.02199) the logit lens does well after the first three and fails after the fourth,
  where the coda lens does best. Compare iterations at one site, not sites.
- A tuned lens is a probe that was trained to foretell the final answer: it can answer more than the
  state says by itself.
- The check looks at the state after the last iteration. A site in the middle of the body need not
  reproduce anything, so nothing there is checked. A site that is a branch's output
  (`hook_attn_out`) is read as if it were the whole stream.
- Where halted positions keep their answers, the site `state` shows what was frozen. Sites inside
  the loop are read as if nothing had halted.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ..common.errors import LoopscopeError
from ..runs.run import Run
from .faithfulness import require_faithful
from .lens_types import Lens, kind_of
from .places import labels, places
from .readings import Readings, final_logits
from .tuned_lens import TunedLens


def lens(
    run: Run,
    kind: "str | Lens | Callable[[Tensor], Any]" = "coda",
    *,
    sites: str | Sequence[str] = "state",
    check: bool = True,
) -> Readings:
    """Read a run through a lens.

    Arguments:
        kind: "coda", "logit", a TunedLens, or a function of vectors.
        sites: names or patterns of recorded sites whose values are (batch, position, width), the
            state among them or not.
        check: raise if the lens does not give the model's own logits at the last iteration. False:
            read through it nevertheless; the result is marked as unchecked.

    Raises:
        LoopscopeError: the lens doesn't give the model's own logits at the last iteration, a site
            has another shape, the run knows no model, or its answers aren't tokens.
    """
    run.require_finite()
    final_logits(run)
    chosen = kind_of(kind)
    where = places(run, sites)
    if isinstance(chosen, TunedLens):
        chosen.require(run)
    believed = True
    try:
        require_faithful(run, chosen)
    except LoopscopeError:
        if check:
            raise
        believed = False
    return Readings(run, chosen, where, labels(run, where), believed)
