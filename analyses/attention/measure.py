"""Convergence of attention patterns, and concentration, mixing, sinks and entropy by iteration and
layer."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.arguments import Count, Positive, PositiveCount, Share
from loopscope.common.errors import LoopscopeError
from loopscope.core.states import States
from loopscope.maths import attention as maths
from loopscope.maths import distance_map
from loopscope.maths.precision import resolution
from loopscope.recorder.extend import Continuation, continue_run, sites_in_loop, vectors
from loopscope.recorder.run_depth import ended_by_itself
from loopscope.recorder.unroll_inner_loops import blocks_of, unroll_inner_loops
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_at, mask_of

from .counted_patterns import CountedPatterns
from .lipschitz_bound import lipschitz_bound
from .massive_activations import MASSIVE_RATIO, MASSIVE_SIZE, largest_ratio, massive_activations
from .pattern_panel import pattern_sample
from .result import AttentionResult
from .verdict import SETTLED_FRACTION, TOLERANCE, attention_verdict, settling

_EXAMPLES, _FEW = 64, 16
_NUMBERS = 5e7
"""More numbers than this in the patterns of so many examples, and fewer examples are used."""
_HEADS = 8
"""As many heads are assumed before the patterns are known."""
_UNROLLED_ITERATIONS = 8
"""Iterations in the map of all unrolled layers."""


def applies(run: Run) -> bool:
    """Whether the run has attention patterns inside the loop, or its model can record them, and two
    iterations or more."""
    return run.iterations >= 2 and bool(sites_in_loop(run, "hook_pattern"))


# It is long because it fills a line for each field of the result.
def measure(
    run: Run,
    *,
    sites: Sequence[str] | None = None,
    extra: Count | None = None,
    examples: PositiveCount | None = None,
    tolerance: Positive = TOLERANCE,
    settled_fraction: Share = SETTLED_FRACTION,
    massive_ratio: Positive = MASSIVE_RATIO,
    massive_size: Positive = MASSIVE_SIZE,
) -> AttentionResult:
    """Measure how attention changes over the iterations of a run. Sites that weren't recorded are
    recorded again where possible.

    Arguments:
        sites: of the patterns (batch, head, position, key); None: every `hook_pattern` in the loop.
        extra: iterations beyond the run, for the limit; None: as many as the run has, 32 at least.
        examples: how many are used; None: 64, or 16 where the patterns are large.
        tolerance: a pattern has converged when its relative change stays below this.
        settled_fraction: attention converges in an example if this fraction of its heads does.
        massive_ratio, massive_size: a massive activation is larger than `massive_size` and than
            `massive_ratio` times the median.

    Raises:
        LoopscopeError: the states aren't finite, there are no patterns, or fewer than 3 iterations.
    """
    run.require_finite()
    _check(run)
    examples = example_count(run, sites, extra) if examples is None else examples
    continued, names = _continued(run, sites, extra, examples)
    blocks = blocks_of(names)
    last = continued.last - 1  # a pattern belongs to the iteration that makes the next state
    # (t, layer, batch, head, query, key)
    every = torch.stack([_patterns(continued.run, name, last, examples) for name in names], dim=1)
    shape = continued.run[names[0]].shape
    patterns = CountedPatterns.of(every, mask_of(continued.run, shape[1], shape[3])[:examples])
    x = patterns.x
    change = (x[1:] - x[:-1]).norm(dim=(-2, -1))
    parts = settling(x, tolerance, _dtype_eps(continued.run, names))
    shown = continued.recorded_iterations if continued.extra else len(x)
    verdict, evidence = attention_verdict(parts, shown, settled_fraction)
    return AttentionResult(
        verdict=verdict,
        evidence=evidence,
        layers=tuple(names),
        change=change.mean(2)[: shown - 1],
        distance=(x - x[-1]).norm(dim=(-2, -1)).mean(2)[:shown],
        settled=parts.first,
        undecided=parts.undecided.float().mean(1),
        **_unrolled_layers(x, min(_UNROLLED_ITERATIONS, shown)),
        concentration=patterns.each(maths.concentration).mean((2, 3))[:shown],
        sinks=patterns.each(maths.sink_rate).mean(2)[:shown],
        mixing=patterns.each(maths.mixing).mean((2, 3))[:shown],
        lost=patterns.lost,
        uniform_baseline=_uniform_baseline(patterns.lengths, bool((x.triu(1) == 0).all())),
        entropy=_entropy(continued, blocks, last, examples)[:shown],
        bounds=tuple(lipschitz_bound(continued.run, name, last, examples) for name in names),
        massive=massive_activations(continued, blocks, massive_ratio, massive_size),
        largest_ratio=largest_ratio(continued)[: continued.recorded_iterations + 1],
        limit=len(x) - 1,
        residual=float(parts.relative[-1].max()),
        patterns=pattern_sample(continued.run, every[:shown], names),
        continuation=continued.description,
        ends_early=ended_by_itself(continued.run),
        tolerance=tolerance,
        settled_fraction=settled_fraction,
        massive_ratio=massive_ratio,
        massive_size=massive_size,
    )


def _check(run: Run) -> None:
    if run.iterations < 2:
        raise LoopscopeError(
            f"attention needs 2 iterations or more to change, but the run has {run.iterations}. Record more."
        )


def example_count(run: Run, sites: Sequence[str] | None, extra: int | None) -> int:
    """How many examples are used if the caller doesn't say."""
    layers = len(sites_in_loop(run, "hook_pattern") if sites is None else sites)
    iterations = run.iterations + (max(32, run.iterations) if extra is None else extra)
    size = run.states.shape[2] if len(run.states.shape) > 3 else 1
    return _EXAMPLES if _EXAMPLES * _HEADS * layers * iterations * size**2 <= _NUMBERS else _FEW


def _continued(
    run: Run, sites: Sequence[str] | None, extra: int | None, examples: int
) -> tuple[Continuation, list[str]]:
    """The run with extra iterations, and the names of its patterns."""
    names = sites_in_loop(run, "hook_pattern") if sites is None else list(sites)
    if not names:
        raise LoopscopeError(
            "attention needs patterns (batch, head, position, key) inside the loop, but the run has none "
            "and its model has no hook_pattern. Name the sites of its patterns: sites=[...], recorded by "
            "record(..., sites=[...])."
        )
    needed = list(names)
    for block in blocks_of(names):
        needed += [f"{block}.norm_1", f"{block}.attn.hook_q", f"{block}.hook_resid_post"] if block else []
    if any(name not in run for name in names):
        needed = [name for name in needed if name in dict(run.model.named_modules())]
    else:  # of what only some of the numbers need, what was recorded
        needed = [name for name in needed if name in run and isinstance(run[name], States)]
    continued = continue_run(run, max(32, run.iterations) if extra is None else extra, needed, examples)
    continued, names = unroll_inner_loops(continued, names)
    if continued.overflow is not None and continued.last < 2:
        raise LoopscopeError(
            f"attention needs 2 finite states or more, but the iterations overflow at state "
            f"{continued.overflow}. Record fewer iterations."
        )
    return continued, names


def _patterns(
    run: Run, name: str, last: int, examples: int
) -> Float[Tensor, "iteration batch head query key"]:
    site = run[name]
    if not isinstance(site, States) or len(site.shape) != 5 or site.shape[-1] != site.shape[-2]:
        raise LoopscopeError(
            f"'{name}' must hold patterns (batch, head, position, key) inside the loop, but has the shape "
            f"{tuple(site.shape)}. Name the sites of attention patterns."
        )
    x = torch.stack([site[t] for t in site.iterations if t <= last])[:, :examples].detach()
    if len(x) < 3:
        raise LoopscopeError(f"attention needs 3 iterations or more, but '{name}' has {len(x)}. Record more.")
    return x.float()


def _dtype_eps(run: Run, names: Sequence[str]) -> float:
    """The largest machine epsilon of some sites."""
    return max(resolution(run[name][run[name].iterations[0]].dtype) for name in names)


def _unrolled_layers(x: Tensor, iterations: int) -> dict[str, Any]:
    """Distances between the patterns of all unrolled layers; fields as in the result."""
    depth = x.shape[1]
    distance = distance_map(x[:iterations].flatten(0, 1).flatten(1, 2).flatten(2))  # of examples x heads
    rows = distance.clone().fill_diagonal_(math.inf)[depth:]
    index = torch.arange(depth, depth + len(rows), device=distance.device)
    same = ((rows.argmin(1) - index) % depth == 0).double().mean() if depth > 1 and len(rows) else math.nan
    return {"pattern_distance": distance, "same_layer_fraction": float(same)}


def _uniform_baseline(lengths: Sequence[int], causal: bool) -> dict[str, float]:
    """Concentration, sinks and mixing of attention that is uniform over what the mask allows, on
    average over examples of these lengths."""
    rows = []
    for length in lengths:
        A = maths.causal(length) if causal else torch.full((length, length), 1 / length, dtype=torch.float64)
        rows.append([float(maths.concentration(A)), float(maths.sink_rate(A[None])), float(maths.mixing(A))])
    means = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
    return dict(zip(("concentration", "sinks", "mixing"), means, strict=True))


def _entropy(
    continued: Continuation, blocks: Sequence[str | None], last: int, examples: int
) -> Float[Tensor, "pattern layer"]:
    """The residual entropy of each block's output; NaN where it wasn't recorded."""
    columns = []
    for block in blocks:
        name = f"{block}.hook_resid_post"
        if block is None or name not in continued.run:
            columns.append(torch.full((last + 1,), math.nan))
        else:
            x = vectors(continued.run[name], last=last)[:, :examples]
            mask = mask_at(continued.run, continued.run[name])[:examples].to(x.device)
            rows = mask.any(1).nonzero()[:, 0].tolist()
            entropy = [maths.residual_entropy(x[:, row, mask[row]]) for row in rows]
            columns.append(torch.stack(entropy, 1).mean(1).float())
    return torch.stack(columns, dim=1)
