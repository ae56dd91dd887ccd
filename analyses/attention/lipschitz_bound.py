"""The published Lipschitz bound of attention, checked on a run: how much a pattern can change with
its input."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from loopscope.common.errors import LoopscopeError
from loopscope.common.text import number, percent
from loopscope.core.states import States
from loopscope.recorder.extend import vectors
from loopscope.recorder.unroll_inner_loops import module_of
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_of

from .counted_patterns import LOST, CountedPatterns

_ROUNDING = 1e-4
"""A pattern that changes by no more is taken as unchanged."""


@dataclass(frozen=True)
class LipschitzBound:
    """‖A[t] - A[t-1]‖_F <= 1/2 · 2 B κ / sqrt(d) · ‖X[t] - X[t-1]‖_F, for one layer."""

    site: str
    holds: bool | None
    """Whether it held for every head, example and pair of iterations; None: it wasn't checked."""
    max_ratio: Float[Tensor, " head"]
    """The largest left side over right side: at most 1 where it holds; NaN where no pattern
    changed."""
    median_slack: float
    """The median right side over left side."""
    kappa: Float[Tensor, " head"]
    """‖W_Q W_Kᵀ‖, or ‖W_Q‖ ‖W_K‖ where queries and keys are rotated."""
    input_norm: float
    """B, the largest norm of the normed input: spectral, or Frobenius where queries and keys are
    rotated."""
    form: str
    """Which form was checked, or why none was."""
    sentence: str


def lipschitz_bound(run: Run, site: str, last: int, examples: int) -> LipschitzBound:
    """Check Blayney et al. 2026 (arXiv 2604.11791), proposition 4.2, on a layer whose pattern was
    recorded.

    softmax is 1/2-Lipschitz in each row, and scores X M Xᵀ / sqrt(d) change by at most 2 B ‖M‖ /
    sqrt(d) times the change of X, B bounding the spectral norm of X, the (position, width) input of
    attention after its norm. With rotary positions the rotated queries and keys differ in M from
    pair to pair; Frobenius norms and κ = ‖W_Q‖ ‖W_K‖ then bound the same change.

    Arguments:
        last: the last iteration that is used.
        examples: how many are used.
    """
    block = site.rsplit(".attn.", 1)[0]
    try:
        module = run.model.get_submodule(f"{module_of(block)}.attn")
    except (LoopscopeError, AttributeError):
        return _not_checked(site, "its attention module is unknown")
    # Known by its parts: importing loopscope's Attention would import TransformerLens.
    if not (isinstance(getattr(module, "qkv", None), nn.Linear) and hasattr(module, "heads")):
        return _not_checked(site, f"its module is a {type(module).__name__}, not a loopscope Attention")
    sites = [f"{block}.norm_1", f"{block}.attn.hook_q"]
    missing = [name for name in sites if name not in run or not isinstance(run[name], States)]
    if missing:
        return _not_checked(site, f"it needs {missing} recorded too")
    x = vectors(run[sites[0]], last=last)[:, :examples].double()  # (t, batch, position, width)
    A, q = (_values(run[name], last, examples) for name in (site, sites[1]))
    mask = mask_of(run, run[site].shape[1], run[site].shape[3])[:examples]
    patterns = CountedPatterns.of(A[:, None], mask)
    if patterns.lost > LOST:
        return _not_checked(site, f"{percent(patterns.lost)} of its attention goes to padding")
    rows = mask.any(1).to(x.device)
    counted = patterns.mask[..., None]
    A, x, q = patterns.x[:, 0], torch.where(counted, x[:, rows], 0), q[:, rows]
    q = torch.where(counted[..., None], q, 0)
    wq, wk, _ = module.qkv.weight.detach().double().unflatten(0, (3, module.heads, -1)).unbind(0)
    unrotated = torch.einsum("hdw,tbpw->tbphd", wq, x)
    atol = 1e-4 * float(q.norm(dim=-1).max())
    if torch.allclose(unrotated, q, rtol=1e-3, atol=atol):
        kappa = torch.linalg.matrix_norm(wq.mT @ wk, ord=2)
        size = torch.linalg.matrix_norm(x, ord=2)  # (t, batch)
        form = "that of Blayney et al. 2026"
    elif torch.allclose(unrotated.norm(dim=-1), q.norm(dim=-1), rtol=1e-3, atol=atol):
        kappa = torch.linalg.matrix_norm(wq, ord=2) * torch.linalg.matrix_norm(wk, ord=2)
        size = torch.linalg.matrix_norm(x)
        form = "a weaker form of that of Blayney et al. 2026, which doesn't cover rotary positions"
    else:
        return _not_checked(site, "its queries aren't a rotation of W_Q x (they were edited or transformed)")
    return _checked(site, A, x, size, kappa=kappa, form=form, width=wq.shape[1])


def bounds_sentence(bounds: Sequence[LipschitzBound]) -> str:
    """The bounds of all layers in words."""
    checked = [bound for bound in bounds if bound.holds is not None]
    if len(checked) < 2 or len({bound.form for bound in bounds}) > 1:
        return " ".join(dict.fromkeys(bound.sentence for bound in bounds))
    violated = [bound.site for bound in checked if not bound.holds]
    verb = f"does NOT hold in {', '.join(violated)}" if violated else f"holds in all {len(checked)} layers"
    ratio = max(float(bound.max_ratio.nan_to_num(0).max()) for bound in checked)
    slacks = sorted(bound.median_slack for bound in checked if bound.median_slack == bound.median_slack)
    slack = number(slacks[len(slacks) // 2]) if slacks else "unknown"
    return _sentence(verb, checked[0].form, number(ratio), slack)


def _sentence(verb: str, form: str, ratio: str, slack: str) -> str:
    return (
        f"The Lipschitz bound of attention, on how far a pattern may move when its input moves, {verb} "
        f"({form}): the change of a pattern is at most {ratio} of the bound, and the median ratio of bound "
        f"to change is {slack}."
    )


def _values(states: States, last: int, examples: int) -> Float[Tensor, "iteration batch ..."]:
    values = torch.stack([states[t] for t in states.iterations if t <= last])
    return values.detach()[:, :examples].double()


def _checked(
    site: str, A: Tensor, x: Tensor, size: Tensor, *, kappa: Tensor, form: str, width: int
) -> LipschitzBound:
    input_change = (x[1:] - x[:-1]).norm(dim=(-2, -1))  # (t, batch)
    pair = torch.maximum(size[1:], size[:-1])
    right = (pair * input_change)[..., None] * kappa / math.sqrt(width)  # 1/2 · 2 B κ / sqrt(d) · ‖ΔX‖
    left = (A[1:] - A[:-1]).norm(dim=(-2, -1))  # (t, batch, head)
    changed = left > _ROUNDING
    ratio = torch.where(changed, left / right.clamp(min=1e-300), math.nan)
    max_ratio = torch.stack([_largest(head) for head in ratio.flatten(0, 1).T])
    finite = ratio[changed]
    slack = float((1 / finite).quantile(0.5)) if len(finite) else math.nan
    holds = bool((finite <= 1 + 1e-3).all())
    verb = "holds" if holds else "does NOT hold"
    sentence = (
        _sentence(verb, form, number(float(max_ratio.nan_to_num(0).max())), number(slack))
        if len(finite)
        else "The Lipschitz bound of attention has no change to bound: no pattern changes by more than "
        f"{_ROUNDING:g}."
    )
    return LipschitzBound(site, holds, max_ratio, slack, kappa, float(size.max()), form, sentence)


def _largest(values: Tensor) -> Tensor:
    finite = values[~values.isnan()]
    return finite.max() if len(finite) else values.new_tensor(math.nan)


def _not_checked(site: str, reason: str) -> LipschitzBound:
    nan = torch.full((1,), math.nan)
    sentence = f"The Lipschitz bound of attention wasn't checked: {reason}."
    return LipschitzBound(site, None, nan, math.nan, nan, math.nan, f"not checked: {reason}", sentence)
