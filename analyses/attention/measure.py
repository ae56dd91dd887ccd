"""The measurement: attention of a run. See the package for the question and its references."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number, percent
from loopscope.core.states import States
from loopscope.maths import attention as maths
from loopscope.maths import distance_map
from loopscope.recorder.extend import Continuation, continue_run, sites_in_loop, vectors
from loopscope.recorder.unroll_inner_loops import blocks_of, unroll_inner_loops
from loopscope.runs.run import Run

from .lipschitz_bound import Bound, bound, together

TOLERANCE, NEARLY, RATIO, SIZE = 0.01, 0.95, 1000.0, 100.0
_UNROLLED = 8


class Settling(Verdict):
    """Whether attention freezes."""

    settled = (
        "Attention settles: the pattern of nearly every head stops changing within the iterations shown."
    )
    late = "Attention settles, but for some heads only after the iterations shown."
    partly = "Attention settles in part: some heads stop changing, others go on."
    moving = "Attention goes on changing: no head's pattern stops."


@dataclass(frozen=True)
class Massive:
    """A number that towers above the others."""

    site: str
    since: int
    """The first k (of a state) or iteration (of another site) at which it does."""
    position: int
    width: int
    """Where: position and dimension."""
    value: float
    """The largest it gets."""
    ratio: float
    """That over the median magnitude at the same iteration."""


@dataclass(frozen=True)
class Attention(AnalysisResult):
    """How attention changes over the iterations."""

    verdict: Settling
    layers: tuple[str, ...]
    """Sites of the patterns, in the order of the block."""
    change: Float[Tensor, "iteration layer head"]
    """‖A[t] - A[t-1]‖_F for t = 1, 2 ..., mean over examples."""
    distance: Float[Tensor, "pattern layer head"]
    """‖A[t] - A*‖_F for t = 0, 1 ..., mean over examples."""
    settled: Float[Tensor, "layer head"]
    """The first t from which the relative change ‖A[t] - A[t-1]‖ / ‖A[t]‖ stays below the
    tolerance; NaN if none."""
    map: Float[Tensor, "unrolled unrolled"]
    """Mean distance of the patterns of all unrolled layers, iteration after iteration."""
    nearest: float
    """Fraction of the unrolled layers, after the first iteration, nearest to the same layer of
    another iteration; NaN for one."""
    concentration: Float[Tensor, "pattern layer"]
    """ColSum concentration, 0..1, mean over heads and examples."""
    sinks: Float[Tensor, "pattern layer"]
    """Fraction of heads whose sink is the first position."""
    mixing: Float[Tensor, "pattern layer"]
    """Mean entropy of a row, nats."""
    null: dict[str, float]
    """The same three for a pattern that is uniform over what the mask allows."""
    entropy: Float[Tensor, "pattern layer"]
    """Residual entropy of the layer's output, nats; NaN where it wasn't recorded."""
    bounds: tuple[Bound, ...]
    """The Lipschitz bound of each layer."""
    massive: tuple[Massive, ...]
    """The most massive activation of the state, and of each layer's output, that has one."""
    largest: Float[Tensor, " state"]
    """Largest magnitude in the state over its median, by k."""
    limit: int
    """The iteration of A*."""
    residual: float
    """‖A* - A*[-1]‖ / ‖A*‖ at the limit, the largest of the heads."""
    how: str
    tolerance: float
    nearly: float
    ratio: float
    size: float
    sink: float = maths.SINK

    def summary(self) -> str:
        n = self.settled.numel()
        done = self.settled[~self.settled.isnan()]
        lines = [
            self.verdict.sentence,
            f"{len(done)} of {n} heads have stopped by the end of the extra iterations (relative change "
            f"below {self.tolerance:g} from then on)"
            + (f", the last at iteration {int(done.max())}." if len(done) else "."),
            f"{self.how} The limit is iteration {self.limit}; it moves by at most {number(self.residual)} "
            "of its norm.",
        ]
        if self.nearest == self.nearest:
            lines.append(
                f"{percent(self.nearest)} of the unrolled layers have the most similar pattern in the same "
                "layer of another iteration."
            )
        c, m, s = (float(x[-1].mean()) for x in (self.concentration, self.mixing, self.sinks))
        lines.append(
            f"At the end concentration is {number(c)} (a causal mask alone: "
            f"{number(self.null['concentration'])}), mixing {number(m)} nats (alone: "
            f"{number(self.null['mixing'])}), and {percent(s)} of the heads have their sink (at least "
            f"{self.sink:g} of all attention) at the first position (alone: {percent(self.null['sinks'])})."
        )
        lines += [together(self.bounds), _massive(self)]
        return " ".join(lines)


def applies(run: Run) -> bool:
    """Whether the run has, or its model can give, attention patterns inside the loop."""
    return bool(sites_in_loop(run, "hook_pattern"))


def measure(
    run: Run,
    *,
    sites: Sequence[str] | None = None,
    extra: int | None = None,
    examples: int = 16,
    tolerance: float = TOLERANCE,
    nearly: float = NEARLY,
    ratio: float = RATIO,
    size: float = SIZE,
) -> Attention:
    """How attention changes over the iterations of a run; what wasn't recorded is recorded again,
    if it can be.

    Arguments:
        sites: of the patterns (batch, head, position, key); None: every `hook_pattern` in the loop.
        extra: iterations beyond those shown, for the limit; None: as many as the run has, 32 at
            least.
        examples: how many are looked at.
        tolerance: a pattern has stopped when its relative change stays below this.
        nearly: the verdict is `settled` if this fraction of the heads is.
        ratio, size: a massive activation is larger than `size` and than `ratio` times the median.
    """
    run.require_finite()
    _check(run, extra, tolerance)
    after, names = _followed(run, sites, extra, examples)
    blocks = blocks_of(names)
    last = after.last - 1  # a pattern belongs to the iteration that makes the next state
    # (t, layer, batch, head, query, key)
    x = torch.stack([_patterns(after.run, name, last, examples) for name in names], dim=1)
    norm = x.norm(dim=(-2, -1)).clamp(min=1e-30)
    change = (x[1:] - x[:-1]).norm(dim=(-2, -1))
    relative = (change / norm[1:]).mean(2)  # (t, layer, head)
    still = (relative < tolerance).flip(0).cummin(0).values.flip(0)
    shown = after.recorded_iterations if after.extra else len(x)
    return Attention(
        verdict=_verdict(still, min(shown, len(still)), nearly),
        layers=tuple(names),
        change=change.mean(2)[: shown - 1],
        distance=(x - x[-1]).norm(dim=(-2, -1)).mean(2)[:shown],
        settled=torch.where(still[-1], (~still).sum(0) + 1.0, math.nan),
        **_nearest(x, min(_UNROLLED, shown)),
        concentration=maths.concentration(x).mean((2, 3))[:shown],
        sinks=maths.sink_rate(x).mean(2)[:shown],
        mixing=maths.mixing(x).mean((2, 3))[:shown],
        null=_null(x.shape[-1], bool((x.triu(1) == 0).all())),
        entropy=_entropy(after, blocks, last, examples)[:shown],
        bounds=tuple(bound(after.run, name, last, examples) for name in names),
        massive=_towers(after, blocks, ratio, size),
        largest=_largest(after)[: after.recorded_iterations + 1],
        limit=len(x) - 1,
        residual=float(relative[-1].max()),
        how=after.description,
        tolerance=tolerance,
        nearly=nearly,
        ratio=ratio,
        size=size,
    )


def _check(run: Run, extra: int | None, tolerance: float) -> None:
    if not tolerance > 0 or (extra is not None and extra < 0):
        raise LoopscopeError(
            f"tolerance must be above 0 and extra 0 or more, but they are {tolerance!r} and {extra!r}."
        )
    if run.iterations < 2:
        few = (
            f"attention needs 2 iterations or more to change, but the run has {run.iterations}. Record more."
        )
        raise LoopscopeError(few)


def _followed(
    run: Run, sites: Sequence[str] | None, extra: int | None, examples: int
) -> tuple[Continuation, list[str]]:
    """The run and the iterations beyond it, with the names of its patterns."""
    names = sites_in_loop(run, "hook_pattern") if sites is None else list(sites)
    if not names:
        raise LoopscopeError(
            "attention needs patterns (batch, head, position, key) inside the loop, but the run has none "
            "and its model has no hook_pattern. Name the sites that give them: sites=[...], recorded by "
            "record(..., sites=[...])."
        )
    wanted = list(names)
    if any(name not in run for name in names):
        for block in blocks_of(names):
            wanted += [f"{block}.norm_1", f"{block}.attn.hook_q", f"{block}.hook_resid_post"] if block else []
        wanted = [name for name in wanted if name in dict(run.model.named_modules())]
    after = continue_run(run, max(32, run.iterations) if extra is None else extra, wanted, examples)
    after, names = unroll_inner_loops(after, names)
    if after.overflow is not None and after.last < 2:
        raise LoopscopeError(
            f"the extra iterations overflow at state {after.overflow}, before attention can be compared. "
            "Record fewer iterations."
        )
    return after, names


def _patterns(run: Run, name: str, last: int, examples: int) -> Tensor:
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


def _verdict(still: Tensor, shown: int, nearly: float) -> Settling:
    now, end = (float(still[k].double().mean()) for k in (max(0, shown - 2), -1))
    if now >= nearly:
        return Settling.settled
    if end >= nearly:
        return Settling.late
    return Settling.partly if end > 0 else Settling.moving


def _nearest(x: Tensor, shown: int) -> dict[str, Any]:
    depth = x.shape[1]
    far = distance_map(x[:shown].flatten(0, 1).flatten(1, 2).flatten(2))  # samples: examples x heads
    rows = far.clone().fill_diagonal_(math.inf)[depth:]
    here = torch.arange(depth, depth + len(rows), device=far.device)
    same = ((rows.argmin(1) - here) % depth == 0).double().mean() if depth > 1 and len(rows) else math.nan
    return {"map": far, "nearest": float(same)}


def _null(length: int, causal: bool) -> dict[str, float]:
    A = maths.causal(length) if causal else torch.full((length, length), 1 / length, dtype=torch.float64)
    sinks = float(maths.sink_rate(A[None]))
    return {"concentration": float(maths.concentration(A)), "sinks": sinks, "mixing": float(maths.mixing(A))}


def _entropy(after: Continuation, blocks: list[str | None], last: int, examples: int) -> Tensor:
    columns = []
    for block in blocks:
        name = f"{block}.hook_resid_post"
        if block is None or name not in after.run:
            columns.append(torch.full((last + 1,), math.nan))
        else:
            x = vectors(after.run[name], last=last)[:, :examples]
            columns.append(maths.residual_entropy(x).mean(1).float())
    return torch.stack(columns, dim=1)


def _largest(after: Continuation) -> Tensor:
    x = vectors(after.run.states, last=after.last).abs().flatten(1).float()
    return x.max(1).values / x.median(1).values.clamp(min=1e-30)


def _towers(after: Continuation, blocks: list[str | None], ratio: float, size: float) -> tuple[Massive, ...]:
    sites = ["state", *(f"{block}.hook_resid_post" for block in blocks if block is not None)]
    result = []
    for site in sites:
        if site not in after.run:
            continue
        x = vectors(after.run[site], last=after.last).abs().float()
        middle = x.flatten(1).median(1).values
        over = (x > size) & (x > ratio * middle[:, None, None, None])
        if not bool(over.any()):
            continue
        first = int(over.flatten(1).any(1).int().argmax())
        peak = int(torch.where(over, x, 0).argmax())
        t, _, position, width = (int(i) for i in torch.unravel_index(torch.tensor(peak), x.shape))
        value = float(x.flatten()[peak])
        since = first + after.run[site].iterations[0]
        result.append(Massive(site, since, position, width, value, value / float(middle[t])))
    return tuple(result)


def _massive(result: Attention) -> str:
    lines = f"(above {result.size:g} and {result.ratio:g} times the median)"
    if not result.massive:
        top = float(result.largest.max())
        return f"No massive activations {lines}: the largest in the state is {number(top)} times the median."
    parts = [
        f"{m.site} at position {m.position}, dimension {m.width}, since {m.since}: {number(m.value)}, "
        f"{number(m.ratio)} times the median"
        for m in result.massive
    ]
    return f"Massive activations {lines}: {'; '.join(parts)}."
