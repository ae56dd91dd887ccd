"""The values of a block's layers where their limits and similarities are read: in the first
iterations and in the last two."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.errors import LoopscopeWarning
from loopscope.core.states import States
from loopscope.recorder.extend import Continuation, continue_run, vectors
from loopscope.recorder.resume_run import resume
from loopscope.recorder.unroll_inner_loops import unroll_inner_loops
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_at

LAST = 2
"""Iterations that show a limit and how far it still moves."""


@dataclass(frozen=True)
class LayerValues:
    """What the layers of a block put out."""

    sites: list[str]
    """In the order of the block, with inner loops unrolled."""
    begin: Float[Tensor, "iteration layer sample width"]
    """In the first iterations."""
    end: Float[Tensor, "last layer sample width"]
    """In the last two."""
    limit: int
    """The last iteration."""


def layer_values(
    run: Run,
    names: Sequence[str],
    extra: int,
    examples: int,
    *,
    first: int,
    continued: Continuation | None = None,
) -> LayerValues:
    """The layers' values in double precision, at the positions that count.

    Where the run lacks the sites, only these iterations are computed again: the first ones from the
    tokens, the last two from the continued run's states.

    Arguments:
        names: sites in the order of the block.
        extra: iterations beyond the run.
        examples: how many are used.
        first: how many of the first iterations.
        continued: the continued run, if there is one.
    """
    if continued is not None and all(name in continued.run for name in names):
        early = late = continued
    elif all(name in run for name in names) or "short" in run.origin:
        early = late = continue_run(run, extra, names, examples)
    else:
        wanted = min(max(first, LAST), run.iterations + extra)
        early = continue_run(run, wanted - run.iterations, names, examples)
        late = _last_iterations(continue_run(run, extra) if continued is None else continued, names)
    sites, begin = _values(early, names, examples)
    _, end = _values(late, names, examples)
    return LayerValues(sites, begin[:first], end[-LAST:], late.run[names[0]].iterations[-1])


def _last_iterations(continued: Continuation, names: Sequence[str]) -> Continuation:
    """The continued run with the sites in its last iterations."""
    run, last = continued.run, continued.run.iterations
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)  # of an overflow, which the caller knows
        later = resume(run.model, run, last, start=max(0, last - LAST), sites=names)
    return replace(continued, run=later)


def _values(
    continued: Continuation, names: Sequence[str], examples: int
) -> tuple[list[str], Float[Tensor, "iteration layer sample width"]]:
    """(the sites, with inner loops unrolled; their values)."""
    unrolled, sites = unroll_inner_loops(continued, names)
    mask = mask_at(unrolled.run, unrolled.run[sites[0]])[:examples]
    values = [vectors(_first(unrolled.run[site], examples)) for site in sites]
    count = min(len(value) for value in values)
    x = torch.stack([value[:count] for value in values], dim=1)
    return sites, x[:, :, mask.to(x.device)].double()


def _first(site: States, examples: int) -> States:
    """The values of the first examples."""
    return site.at(batch=slice(0, examples)) if "batch" in site.axes else site
