"""The published bound on how fast attention can change with its input, checked on a run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.text import number
from loopscope.core.states import States
from loopscope.nn.attention import Attention
from loopscope.recorder.extend import vectors
from loopscope.recorder.unroll_inner_loops import module_of
from loopscope.runs.run import Run

_ROUNDING = 1e-4


@dataclass(frozen=True)
class Bound:
    """‖A[t] - A[t-1]‖_F <= 1/2 · 2 B κ / sqrt(d) · ‖X[t] - X[t-1]‖_F, for one layer."""

    site: str
    holds: bool | None
    """Whether it held for every head, example and pair of iterations; None: it wasn't checked."""
    tightest: Float[Tensor, " head"]
    """The largest left side over right side: at most 1 where it holds; NaN where nothing moved."""
    slack: float
    """The median right side over left side."""
    kappa: Float[Tensor, " head"]
    """‖W_Q W_Kᵀ‖, or ‖W_Q‖ ‖W_K‖ where queries and keys are rotated."""
    reach: float
    """B, the largest norm of the normed input: spectral, or Frobenius where queries and keys are
    rotated."""
    form: str
    """What was checked, or why nothing was."""
    sentence: str


def bound(run: Run, site: str, last: int, examples: int) -> Bound:
    """Check Blayney et al. 2026 (arXiv 2604.11791), proposition 4.2, on a layer whose pattern was
    recorded.

    softmax is 1/2-Lipschitz in each row, and scores X M Xᵀ / sqrt(d) change by at most 2 B ‖M‖ /
    sqrt(d) times the change of X, B bounding the spectral norm of X, the (position, width) input of
    attention after its norm. With rotary positions the rotated queries and keys differ in M from
    pair to pair; Frobenius norms and κ = ‖W_Q‖ ‖W_K‖ then bound the same change.

    Arguments:
        last: the last iteration to look at.
        examples: how many are looked at.
    """
    block = site.rsplit(".attn.", 1)[0]
    try:
        part = run.model.get_submodule(f"{module_of(block)}.attn")
    except (LoopscopeError, AttributeError):
        return _unchecked(site, "its attention module isn't known")
    if not isinstance(part, Attention):
        return _unchecked(
            site, f"its weights are those of a {type(part).__name__}, not of a loopscope Attention"
        )
    needed = [f"{block}.norm_1", f"{block}.attn.hook_q"]
    lacking = [name for name in needed if name not in run or not isinstance(run[name], States)]
    if lacking:
        return _unchecked(site, f"it needs {lacking} recorded too")
    x = vectors(run[needed[0]], last=last)[:, :examples].double()  # (t, batch, position, width)
    A = torch.stack([run[site][t] for t in run[site].iterations if t <= last])[:, :examples].double()
    wq, wk, _ = (
        part.qkv.weight.detach().double().unflatten(0, (3, part.heads, -1)).unbind(0)
    )  # (head, d, width)
    q = (
        torch.stack([run[needed[1]][t] for t in run[needed[1]].iterations if t <= last])
        .detach()[:, :examples]
        .double()
    )
    plain = torch.einsum("hdw,tbpw->tbphd", wq, x)
    scale = float(q.detach().norm(dim=-1).max())
    if torch.allclose(plain, q, rtol=1e-3, atol=1e-4 * scale):
        kappa = torch.linalg.matrix_norm(wq.mT @ wk, ord=2)
        size = torch.linalg.matrix_norm(x, ord=2)  # (t, batch)
        form = "as published"
    elif torch.allclose(plain.norm(dim=-1), q.norm(dim=-1), rtol=1e-3, atol=1e-4 * scale):
        kappa = torch.linalg.matrix_norm(wq, ord=2) * torch.linalg.matrix_norm(wk, ord=2)
        size = torch.linalg.matrix_norm(x)
        form = "in the weaker form for rotary positions, which the published one doesn't cover"
    else:
        return _unchecked(site, "its queries aren't a rotation of W_Q x (edited, or changed on the way)")
    return _checked(
        site, A, x, size, kappa=kappa, form=form, width=part.qkv.weight.shape[0] // 3 // part.heads
    )


def together(bounds: Sequence[Bound]) -> str:
    """What is to be said of several layers' bounds, as one sentence."""
    checked = [b for b in bounds if b.holds is not None]
    if len(checked) < 2 or len({b.form for b in bounds}) > 1:
        return " ".join(dict.fromkeys(b.sentence for b in bounds))
    broken = [b.site for b in checked if not b.holds]
    verb = f"does NOT hold in {', '.join(broken)}" if broken else f"holds in all {len(checked)} layers"
    worst = max(float(b.tightest.nan_to_num(0).max()) for b in checked)
    known = sorted(b.slack for b in checked if b.slack == b.slack)
    slack = number(known[len(known) // 2]) if known else "unknown"
    return (
        f"The Lipschitz bound of attention {verb} ({checked[0].form}): left over right side is at most "
        f"{number(worst)}, and the bound is {slack} times too generous in the median."
    )


def _checked(site: str, A: Tensor, x: Tensor, size: Tensor, *, kappa: Tensor, form: str, width: int) -> Bound:
    moved = (x[1:] - x[:-1]).norm(dim=(-2, -1))  # (t, batch)
    pair = torch.maximum(size[1:], size[:-1])
    right = (pair * moved)[..., None] * kappa / math.sqrt(width)  # 1/2 · 2 B κ / sqrt(d) · ‖ΔX‖
    left = (A[1:] - A[:-1]).norm(dim=(-2, -1))  # (t, batch, head)
    # rounding of a pattern in single precision is no change of attention
    clear = left > _ROUNDING
    ratio = torch.where(clear, left / right.clamp(min=1e-300), math.nan)
    tightest = torch.stack([_largest(head) for head in ratio.flatten(0, 1).T])
    known = ratio[clear]
    slack = float((1 / known).median()) if len(known) else math.nan
    holds = bool((known <= 1 + 1e-3).all())
    worst = float(tightest.nan_to_num(0).max())
    verb = "holds" if holds else "does NOT hold"
    text = (
        f"The Lipschitz bound of attention {verb} ({form}): left over right side is at most "
        f"{number(worst)}, and the bound is {number(slack)} times too generous in the median."
    )
    if not len(known):
        text = f"The Lipschitz bound of attention has nothing to bound: no pattern changes by more than {_ROUNDING:g}."
    return Bound(site, holds, tightest, slack, kappa, float(size.max()), form, text)


def _largest(values: Tensor) -> Tensor:
    known = values[~values.isnan()]
    return known.max() if len(known) else values.new_tensor(math.nan)


def _unchecked(site: str, why: str) -> Bound:
    nan = torch.full((1,), math.nan)
    text = f"The Lipschitz bound of attention wasn't checked: {why}."
    return Bound(site, None, nan, math.nan, nan, math.nan, f"not checked: {why}", text)
