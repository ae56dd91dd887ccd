"""Why a model's own generate is known to fail with the installed transformers, and what works."""

import sys
from inspect import signature
from typing import Any

from .generation_options import option_in_effect


def failure_reason(owner: Any, options: dict[str, Any]) -> str:
    """The reason and the remedy as sentences; empty if no reason is known.

    Code that came with a checkpoint, such as Huginn's, reads its newest tokens at cache_position,
    which transformers 5 no longer passes: with a cache, an axis comes instead of a selection.

    Arguments:
        owner: whose generate failed.
        options: of the call.
    """
    transformers: Any = sys.modules.get("transformers")
    mixin = getattr(transformers, "GenerationMixin", None)
    if (
        mixin is None
        or not isinstance(owner, mixin)
        or option_in_effect(owner, options, "use_cache") is False
    ):
        return ""
    own, theirs = (
        set(signature(kind.prepare_inputs_for_generation).parameters) for kind in (type(owner), mixin)
    )
    if "cache_position" not in own - theirs:
        return ""
    return (
        f"{type(owner).__name__}'s own code waits for cache_position in prepare_inputs_for_generation, which "
        f"transformers {transformers.__version__} no longer passes: it can't generate with a cache, with or "
        "without loopscope. Generate without one, ls.generate(model, tokens, use_cache=False), or with the "
        "transformers 4 that this code was written for."
    )
