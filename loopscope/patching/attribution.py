"""Attribution patching: all writes of a grid at once, to first order, from one backward pass.

The effect of writing v' where v stood is estimated by the slope of the metric at the run: sum over
the width of (dm/dv) (v' - v) (Nanda 2023, "Attribution Patching"; Syed, Rager & Conmy 2023, arXiv
2310.10348). It is exact where the metric is linear in what is written, and can be far off where a
write is large or a softmax is sure: compare it with exact patches before you believe it, as
`effects` does on a sample.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.hooks import TemporaryHooks
from ..core.looped_model import step_at
from ..core.sites import find_tensor, get_at, put_at, site_modules
from ..runs.location import Place, value_at
from ..runs.run import Run
from .metrics import Judge
from .patched_forward import Resumed
from .replacements import Source


def slopes(
    resumed: Resumed, places: Sequence[Place], judge: Judge
) -> dict[tuple[str, tuple[int, ...]], Tensor]:
    """dm/dv at every recorded value of the places' sites, by (site, (iteration, inner loops ...)).

    The pass is made again with gradients, from the run's own states[0], through the whole loop:
    what a model of others cuts off in training is not cut here.
    """
    run, model = resumed.run, resumed.model
    sites = list(dict.fromkeys(place.site for place in places))
    seen: dict[tuple[str, tuple[int, ...]], Tensor] = {}
    modules = site_modules(model)

    def tap(site: str) -> Any:
        def after(args: Any, kwargs: Any, output: Any) -> Any:
            index = model.clock.index
            if not index or model.clock.hidden or run[site].get(index) is None:
                return output
            path = find_tensor(output, run[site].get(index))
            if path is None:
                return output
            value = get_at(output, path)
            value = value.view_as(value) if value.requires_grad else value.detach().requires_grad_()
            seen[site, index] = value
            return put_at(output, path, value)

        return after

    with torch.enable_grad():
        with TemporaryHooks() as taps:
            for site in sites:
                taps.attach(modules[site], after=tap(site))
            tokens, inputs = run.select_inputs(range(resumed.batch))
            context = model.encode(tokens, **inputs)
            state = run.state(0)
            for k in range(resumed.iterations + 1):
                model.clock.set(("iteration", k))
                try:
                    state = model.at_state(state)
                finally:
                    model.clock.set()
                if k < resumed.iterations:
                    state = step_at(model, state, context, k)
            judged = judge(model.decode(state, context))
        if judged.ndim != 1:
            raise LoopscopeError(
                "attribution needs a metric that gives one number for each example, but it gave "
                f"{tuple(judged.shape)}. Use "
                'method="exact", or take one of the numbers.'
            )
        if not judged.requires_grad:
            raise LoopscopeError(
                "attribution needs a metric with a slope, but nothing written here changes it. Use "
                'method="exact".'
            )
        keys = list(seen)
        total = judged[torch.isfinite(judged)].sum()
        result = torch.autograd.grad(total, [seen[key] for key in keys], allow_unused=True)
    return {
        key: torch.zeros_like(seen[key]) if one is None else one
        for key, one in zip(keys, result, strict=True)
    }


def estimates(
    run: Run, places: Sequence[Place], source: Source, result: dict[tuple[str, tuple[int, ...]], Tensor]
) -> dict[tuple[Place, int], Tensor]:
    """First-order effect of writing each value, (batch, [position], [head]), by (place,
    iteration)."""
    told: dict[tuple[Place, int], Tensor] = {}
    for place in places:
        for (site, index), slope in result.items():
            if site != place.site or index[1:] != place.inner:
                continue
            own = value_at(run, place, index[0])
            assert own is not None
            change = (source(place, index[0], own) - own).float() * slope.float()
            kept = [a for a, name in enumerate(place.axes) if name in ("batch", "position", "head")]
            gone = [a for a in range(change.ndim) if a not in kept]
            change = change.sum(gone) if gone else change
            order = [place.axes[a] for a in kept]
            told[place, index[0]] = change.permute(
                [order.index(n) for n in ("batch", "position", "head") if n in order]
            )
    return told
