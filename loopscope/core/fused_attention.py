"""The attention patterns of modules that compute theirs inside torch's
`scaled_dot_product_attention`, as sites `NAME.hook_pattern`.

That function returns no pattern. While such a site is recorded, its calls inside the module are
seen, and the pattern is computed again beside them from the same queries, keys and mask; the
module's own numbers stay what they are, bit for bit. It is as large as the square of the positions,
so that these sites are recorded by name or by a pattern of names, and "all" leaves them out.
"""

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..common.errors import LoopscopeError
from .attention_pattern import PATTERN, AttentionPattern, implementation

_NAME = "scaled_dot_product_attention"


class FusedPattern(AttentionPattern):
    """Stands for the pattern that a module's call of torch's attention doesn't return."""

    def __init__(self, name: str, attention: nn.Module) -> None:
        super().__init__(name, attention)
        self._calls: list[list[Tensor]] = []
        """By running call of the module, the patterns seen in it."""

    def begin(self, args: Any, kwargs: Any) -> Any:
        """Before a call of the module."""
        self._calls.append([])
        return args, kwargs

    @property
    def inside(self) -> bool:
        """Whether the module is running."""
        return bool(self._calls)

    def see(self, pattern: Tensor) -> None:
        """Take a pattern that was computed inside the module."""
        self._calls[-1].append(pattern)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See torch's attention in the with-block."""
        with _Watch(self):
            try:
                yield
            finally:
                self._calls.clear()

    def pattern_of(self, output: Any) -> Tensor | None:
        """Of the call that ends: the one that it computed, or else returned.

        Raises:
            LoopscopeError: there is none, or there are several.
        """
        seen = self._calls.pop() if self._calls else []
        if not seen and (returned := super().pattern_of(output)) is not None:
            return returned
        if len(seen) != 1:
            raise LoopscopeError(
                f"'{self.name}{PATTERN}' is the pattern of one call of torch's {_NAME}, but a call of "
                f"'{self.name}' made {len(seen) or 'none'}. Leave that site out, or name a module inside it."
            )
        return seen[0]


class _Watch(TorchFunctionMode):
    def __init__(self, site: FusedPattern) -> None:
        super().__init__()
        self.site = site

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention and self.site.inside:
            self.site.see(fused_pattern(*args, **kwargs))
        return output


def fused_pattern(
    query: Float[Tensor, "batch head position width"],
    key: Float[Tensor, "batch key_head key width"],
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "batch head position key"]:
    """The pattern by which torch's `scaled_dot_product_attention` weights the values of these
    arguments, before any dropout. A position that may attend to none has zeros."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    nothing = scores.isneginf().all(-1, keepdim=True)
    return torch.softmax(scores, -1).masked_fill(nothing, 0.0)


def fused_patterns(modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The sites of those modules that call torch's attention, and have no site for its pattern."""
    return {
        f"{name}{PATTERN}": FusedPattern(name, module)
        for name, module in modules.items()
        if f"{name}{PATTERN}" not in modules and _is_fused(module)
    }


def _is_fused(module: nn.Module) -> bool:
    forward = getattr(type(module), "forward", None)
    return implementation(module) == "sdpa" or (isinstance(forward, FunctionType) and _mentions(forward))


@functools.lru_cache(1024)  # asked of every module at each recording
def _mentions(function: FunctionType, deeper: bool = True) -> bool:
    """Whether the code of a function, or of one of its file that it calls, names torch's
    attention."""
    names = _names(function.__code__)
    if _NAME in names:
        return True
    called = [function.__globals__.get(name) for name in names] if deeper else []
    return any(
        isinstance(one, FunctionType)
        and one.__module__ == function.__module__
        and _mentions(one, deeper=False)
        for one in called
    )


def _names(code: CodeType) -> set[str]:
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return {*code.co_names, *(name for one in inner for name in _names(one))}
