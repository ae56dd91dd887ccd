"""The first recording through an adapter, compared with the model's own forward."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from ..adapters.base import Adapter
from ..adapters.self_check import refusal
from ..adapters.verification import (
    compare_other_weights,
    kind_to_verify,
    mismatch_of,
    model_logits_aside,
    read_out_mismatch,
)
from ..common.errors import LoopscopeError, LoopscopeWarning
from ..common.rng import generator_state, restore_generator
from ..runs.run import Run


def checked_pass(
    adapter: Adapter,
    tokens: Any,
    inputs: Mapping[str, Any],
    record: Callable[[], Run],
    record_model: Callable[[], Run],
    *,
    plain: Callable[[], bool],
) -> Run:
    """The run that `record` makes with the four functions, if these are known to give the model's
    own answer on such inputs; else the run that `record_model` makes of the model's own forward.

    The first pass of each kind of inputs compares them: one forward more, after which the random
    state and the model's buffers are as before.

    Arguments:
        plain: whether `record` runs the model's own depth without edits, so that its output can be
            compared.
    """
    compare_other_weights(adapter)
    if adapter.mismatch is not None:
        return record_model()
    kind = kind_to_verify(adapter, tokens, inputs)
    if kind is None:
        return record()
    before = generator_state()
    expected = model_logits_aside(adapter, tokens, inputs)
    run: Run | None = None
    if plain():
        try:
            run = record()
        except LoopscopeError:
            raise
        except Exception:  # of the four functions, or of what the user passed
            restore_generator(before)
            mismatch = mismatch_of(adapter, tokens, inputs, expected)
            if mismatch is None:
                raise
        else:
            mismatch = read_out_mismatch(adapter, run, expected)
    else:
        mismatch = mismatch_of(adapter, tokens, inputs, expected)
    if mismatch is None:
        adapter.checked.add(kind)
        return record() if run is None else run
    restore_generator(before)
    adapter.refuse(mismatch)
    warnings.warn(refusal(mismatch), LoopscopeWarning, stacklevel=3)
    return record_model()
