"""The attention patterns of models of transformers, as sites: `NAME.hook_pattern` for the attention
module NAME, as TransformerLens names its own.

Such a module has no part of its own for its pattern; it returns it beside its output, if its
implementation computes it ("eager" does). So the pattern can be recorded, and not edited: what the
module made of it is computed by then. `fused_attention` has the patterns of modules that multiply
without one.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ..common.errors import LoopscopeError

PATTERN = ".hook_pattern"
"""The end of the sites' names."""
_SETTING = "_attn_implementation"
"""Where a configuration of transformers names the implementation."""


class AttentionPattern(nn.Module):
    """Stands for the pattern (batch, head, position, key) that an attention module returns."""

    def __init__(self, name: str, attention: nn.Module) -> None:
        """`name`: of the attention module."""
        super().__init__()
        self.name = name
        self._attention = [attention]  # in a list, so that it is no submodule

    @property
    def attention(self) -> nn.Module:
        """The module that returns the pattern."""
        return self._attention[0]

    def pattern_of(self, output: Any) -> Tensor | None:
        """The pattern of a call that returned `output`."""
        return pattern_in(output)

    def hook(self, after: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
        """A hook of the attention module, from one of the pattern.

        Raises:
            LoopscopeError: by the hook: the pattern would be edited.
        """

        def after_attention(args: Any, kwargs: Any, output: Any) -> Any:
            pattern = self.pattern_of(output)
            if pattern is None:
                return output
            new = after(args, kwargs, pattern)
            if not (isinstance(new, Tensor) and new.data_ptr() == pattern.data_ptr()):  # a view is the same
                raise LoopscopeError(
                    f"'{self.name}{PATTERN}' can be recorded but not edited: it is seen when the module has "
                    f"used it already. Edit what the attention gives: '{self.name}'."
                )
            return output

        return after_attention


def returned_patterns(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The patterns of those modules that return one as they are set now, and have no site for
    it."""
    return {
        f"{name}{PATTERN}": AttentionPattern(name, module)
        for name, module in modules.items()
        if implementation(module) == "eager" and f"{name}{PATTERN}" not in modules
    }


def pattern_in(output: Any) -> Tensor | None:
    """The pattern in what an attention module returns: after its output, (batch, head, position,
    key)."""
    rest = output[1:] if isinstance(output, tuple | list) else ()
    return next((one for one in rest if isinstance(one, Tensor) and one.ndim == 4), None)


def why_no_pattern(site: str) -> str:
    """What to do for the pattern of an attention module that has none as it is set; empty for
    another site."""
    if not site.endswith(PATTERN):
        return ""
    return (
        "An attention module has a pattern if it returns one or calls torch's scaled_dot_product_attention, "
        "as those of transformers do after model.set_attn_implementation('eager') or ('sdpa'). Call that "
        "before recording. Results then differ by rounding."
    )


def implementation(module: Any) -> str | None:
    """How an attention module of transformers computes; None for other modules, and for those that
    don't say."""
    setting = getattr(getattr(module, "config", None), _SETTING, None)
    return setting if isinstance(setting, str) and "Attention" in type(module).__name__ else None
