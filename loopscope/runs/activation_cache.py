"""cache: one iteration of a run as TransformerLens' ActivationCache, for TransformerLens' tools."""

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError, nearest
from ..core.sites import is_state
from ..core.states import States

if TYPE_CHECKING:
    from transformer_lens.ActivationCache import ActivationCache

    from .run import Run


def cache(run: "Run", iteration: int, *, blocks: str = "core", **inner: int) -> "ActivationCache":
    """The recorded sites of one iteration, by TransformerLens' names.

    >>> run = ls.record(model, tokens, sites="all")
    >>> cache = run.cache(3)
    >>> cache["pattern", 0]                        # iteration 3, layer 0: (batch, head, position, key)
    >>> stack, labels = cache.accumulated_resid(layer=None, return_labels=True)

    Arguments:
        iteration: t, 0-based; negative ones count from the end.
        blocks: the model's name of the stack of blocks in an iteration, which TransformerLens calls
            `blocks`; its sites are in the cache under both names. `hook_embed` is the input of the
            stack, so that decompose_resid begins with it.
        inner: a turn of an inner loop, such as low=2; by default the last one.

    Raises:
        LoopscopeError: nothing was recorded inside that iteration, or the run has no such iteration
            or inner loop.
    """
    from transformer_lens.ActivationCache import ActivationCache

    t = range(run.iterations)[iteration] if -run.iterations <= iteration < run.iterations else None
    if t is None:
        raise LoopscopeError(
            f"iteration must be one of 0..{run.iterations - 1}, or count from the end, but is {iteration}. "
            "Record more of them."
        )
    inner_axes = {axis for name in run.names for axis in _loops(run[name])}
    for axis in inner:
        if axis not in inner_axes:
            raise LoopscopeError(f"this run has no inner loop {axis!r}. {nearest(axis, sorted(inner_axes))}")
    values: dict[str, Tensor] = {}
    for name in run.names:
        site = run[name]
        value = _at(site, t, inner) if isinstance(site, States) else site
        if value is not None:
            values[name] = value
    if not any(isinstance(run[name], States) and not is_state(name) for name in values):
        raise LoopscopeError(
            f"a cache needs sites inside iteration {t}, but this run recorded {', '.join(run.names)} only. "
            'Record them: ls.record(model, tokens, sites="all").'
        )
    pattern = re.compile(rf"{re.escape(blocks)}\.(\d+)\.")
    layers = sorted({int(result[1]) for name in values if (result := pattern.match(name))})
    for name in list(values):
        if pattern.match(name):
            values[f"blocks{name.removeprefix(blocks)}"] = values[name]
    first = next((values[name] for name in ("core_in", "blocks.0.hook_resid_pre") if name in values), None)
    if first is not None and "hook_embed" not in values:
        values["hook_embed"] = first
    return ActivationCache(values, _model(run, blocks, values, len(layers)))


def _loops(site: States | Tensor) -> tuple[str, ...]:
    """Names of a site's inner loop axes."""
    return site.axes[1 : 1 + len(site.inner)] if isinstance(site, States) else ()


def _at(site: States, t: int, inner: dict[str, int]) -> Tensor | None:
    if t not in site.iterations:
        return None
    value = site[t]
    for axis in _loops(site):  # one after the other: each is then the first axis
        value = value[inner.get(axis, -1)]
    return value


def _model(run: "Run", blocks: str, values: dict[str, Tensor], layers: int) -> Any:
    """What an ActivationCache needs of its model: the configuration, and the blocks."""
    model = run.model if run.has_model else None
    if model is not None and hasattr(model, "cfg"):
        return model
    heads = next((v.shape[1] for name, v in values.items() if name.endswith("hook_pattern")), None)
    width = next(iter(values.values())).shape[-1] if "state" not in values else values["state"].shape[-1]
    config = SimpleNamespace(
        n_layers=layers,
        n_heads=heads,
        d_model=width,
        d_head=None if heads is None else width // heads,
        d_mlp=next((v.shape[-1] for name, v in values.items() if name.endswith("mlp.hook_pre")), None),
        attn_only=False,
        normalization_type="RMS",
        final_rms=True,
        device=next(iter(values.values())).device,
        dtype=torch.get_default_dtype(),
    )
    stack = getattr(model, blocks, None) if isinstance(model, nn.Module) else None
    return SimpleNamespace(cfg=config, blocks=stack)
