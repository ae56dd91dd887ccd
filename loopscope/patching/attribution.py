"""Attribution patching: first-order estimates of all effects of a grid from one backward pass.

The effect of replacing v by v' is estimated by the gradient of the metric at the run: the sum over
the width of (dm/dv) (v' - v) (Nanda 2023, "Attribution Patching"; Syed, Rager & Conmy 2023, arXiv
2310.10348). The estimate is exact where the metric is linear in the patched activation. It can be
far off where the change is large or a softmax is saturated: compare it with exact patches, as
`effects` does on a sample of cells.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.hooks import TemporaryHooks
from ..core.looped_model import step_at
from ..core.sites import find_tensor, get_at, put_at, site_modules
from ..core.state_tree import map_state
from ..maths.derivative_errors import derivative_errors
from ..runs.location import Place, value_at
from ..runs.run import Run
from .metrics import Metric
from .patched_forward import PatchedForward
from .replacements import Replacement

LoopIndex = tuple[int, ...]
"""(iteration, inner loops ...)."""


def slopes(
    forward: PatchedForward, places: Sequence[Place], metric: Metric
) -> dict[tuple[str, LoopIndex], Tensor]:
    """The gradient of the metric with respect to every recorded value of the places' sites.

    The forward pass is made again with gradients through the whole loop, from the run's own
    states[0]: also a model that truncates its gradients in training isn't truncated here.

    Raises:
        LoopscopeError: the metric gives several numbers for an example, or has no gradient.
    """
    model = forward.model
    values: dict[tuple[str, LoopIndex], Tensor] = {}
    modules = site_modules(model)
    with torch.enable_grad():
        with forward.run.reader.as_recorded(), TemporaryHooks() as hooks:
            for site in dict.fromkeys(place.site for place in places):
                hooks.attach(modules[site], after=_leaf_hook(forward, site, values))
            logits = _differentiable_pass(forward)
        result = metric(logits)
        if result.ndim != 1:
            raise LoopscopeError(
                "attribution needs a metric that gives one number for each example, but it gave "
                f'{tuple(result.shape)}. Use method="exact", or take one of the numbers.'
            )
        if not result.requires_grad:
            raise LoopscopeError(
                "attribution needs a metric with a slope, but no patched value changes it. Use "
                'method="exact".'
            )
        keys = list(values)
        total = result[torch.isfinite(result)].sum()
        with derivative_errors():
            gradients = torch.autograd.grad(total, [values[key] for key in keys], allow_unused=True)
    return {
        key: torch.zeros_like(values[key]) if gradient is None else gradient
        for key, gradient in zip(keys, gradients, strict=True)
    }


def _leaf_hook(
    forward: PatchedForward, site: str, values: dict[tuple[str, LoopIndex], Tensor]
) -> Callable[[Any, Any, Any], Any]:
    """A hook that keeps each value of a site, so that gradients with respect to it can be taken."""
    run, model = forward.run, forward.model

    def after(args: Any, kwargs: Any, output: Any) -> Any:
        index = model.clock.index
        recorded = run[site].get(index) if index and not model.clock.hidden else None
        path = None if recorded is None else find_tensor(output, recorded)
        if path is None:
            return output
        value = get_at(output, path)
        value = value.view_as(value) if value.requires_grad else value.detach().requires_grad_()
        values[site, index] = value
        return put_at(output, path, value)

    return after


def _differentiable_pass(forward: PatchedForward) -> Tensor:
    """The logits of the run's forward pass, with gradients."""
    run, model = forward.run, forward.model
    tokens, inputs = run.select_inputs(range(forward.batch))
    context = model.encode(tokens, **inputs)
    state = map_state(Tensor.clone, run.state(0))  # the model may write into it
    for k in range(forward.iterations + 1):
        model.clock.set(("iteration", k))
        try:
            state = model.at_state(state)
        finally:
            model.clock.set()
        if k < forward.iterations:
            state = step_at(model, state, context, k)
    return model.decode(state, context)


def estimates(
    run: Run,
    places: Sequence[Place],
    replacement: Replacement,
    gradients: Mapping[tuple[str, LoopIndex], Tensor],
) -> dict[tuple[Place, int], Tensor]:
    """First-order effect of replacing each value, (batch, [position], [head]), by (place,
    iteration)."""
    result: dict[tuple[Place, int], Tensor] = {}
    for place in places:
        for (site, index), gradient in gradients.items():
            if site != place.site or index[1:] != place.inner:
                continue
            value = value_at(run, place, index[0])
            assert value is not None
            change = (replacement(place, index[0], value) - value).float() * gradient.float()
            kept = [a for a, name in enumerate(place.axes) if name in ("batch", "position", "head")]
            summed = [a for a in range(change.ndim) if a not in kept]
            change = change.sum(summed) if summed else change
            order = [place.axes[a] for a in kept]
            result[place, index[0]] = change.permute(
                [order.index(n) for n in ("batch", "position", "head") if n in order]
            )
    return result
