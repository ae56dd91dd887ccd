"""Verification: the four functions of an adapter run beside the model's own forward, and nothing
else is changed by it."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError, LoopscopeWarning
from ..common.rng import generator_state, restore_generator
from .forward_inputs import kind_of_inputs, kind_of_weights
from .self_check import difference_of, refusal


def kind_to_verify(adapter: Any, tokens: Any, inputs: Mapping[str, Any]) -> Any:
    """The kind of the inputs, as a key of `adapter.checked`; None if nothing is to be compared."""
    kind = kind_of_inputs(adapter.module, tokens, inputs)
    return kind if adapter.check and kind not in adapter.checked else None


def compare_other_weights(adapter: Any) -> None:
    """Forget what was found of weights that the model doesn't have any more: in half precision, on
    another device, after a training the four functions may be another matter."""
    weights = kind_of_weights(adapter.module)
    if adapter.checked_weights not in (None, weights):
        adapter.check_again()
    adapter.checked_weights = weights


def verify(adapter: Any, tokens: Any, inputs: Mapping[str, Any]) -> None:
    """Compare the four functions with the model's own forward, once for each kind of inputs, before
    they are used without a recording.

    Raises:
        LoopscopeError: they differ.
    """
    compare_other_weights(adapter)
    kind = None if adapter.mismatch else kind_to_verify(adapter, tokens, inputs)
    if kind is not None:
        expected = model_logits_aside(adapter, tokens, inputs)
        mismatch = mismatch_of(adapter, tokens, inputs, expected)
        if mismatch is None:
            adapter.checked.add(kind)
        else:
            adapter.refuse(mismatch)
            warnings.warn(refusal(mismatch), LoopscopeWarning, stacklevel=4)
    if adapter.mismatch is not None:
        raise LoopscopeError(refusal(adapter.mismatch))


def model_logits_aside(adapter: Any, tokens: Any, inputs: Mapping[str, Any]) -> Tensor:
    """The logits of the model's own forward; the random state and the buffers are afterwards what
    they were."""
    before = generator_state()
    try:
        with _kept_buffers(adapter.module):
            logits = adapter.model_logits(tokens, inputs)
    except LoopscopeError:
        raise
    except Exception:
        restore_generator(before)
        adapter.encode(tokens, **inputs)  # which may say in a sentence what is wrong with the inputs
        raise
    restore_generator(before)
    return logits.detach() if isinstance(logits, Tensor) else logits


def mismatch_of(adapter: Any, tokens: Any, inputs: Mapping[str, Any], expected: Tensor) -> str | None:
    """How the four functions differ from the model's own forward, as a sentence; None if they
    don't. The random state and the buffers are afterwards what they were."""
    before = generator_state()
    try:
        with torch.no_grad(), _kept_buffers(adapter.module), _hidden(adapter):
            pairs = adapter.compared_logits(tokens, inputs, expected)
    except LoopscopeError:
        raise
    except Exception as error:
        return mismatch_sentence(adapter, f"they fail on this model ({type(error).__name__}: {error})")
    finally:
        restore_generator(before)
    return mismatch_sentence(adapter, next((text for pair in pairs if (text := difference_of(*pair))), None))


def read_out_mismatch(adapter: Any, run: Any, expected: Tensor) -> str | None:
    """As `mismatch_of`, for a run that the four functions made at the model's own depth."""
    differs = difference_of(run.output, expected)
    if differs is None and run.origin.get("whole", True) and run.iterations in run.states.iterations:
        before = generator_state()
        with torch.no_grad(), _hidden(adapter):
            pair = adapter.read_outs(run.state(run.iterations), run.reader.context)
        restore_generator(before)
        differs = None if pair is None else difference_of(*pair)
    return mismatch_sentence(adapter, differs)


def mismatch_sentence(adapter: Any, differs: str | None) -> str | None:
    """That the four functions differ, as a sentence.

    Arguments:
        differs: how, as a clause; None if they don't.
    """
    kind = type(adapter.module).__name__
    return differs and f"the four functions must give what {kind}'s own forward gives, but {differs}"


@contextmanager
def _hidden(adapter: Any) -> Iterator[None]:
    """Nothing is recorded inside the with-block."""
    adapter.clock.hidden = True
    try:
        yield
    finally:
        adapter.clock.hidden = False


@contextmanager
def _kept_buffers(module: nn.Module) -> Iterator[None]:
    """The module's buffers, such as running means, are afterwards what they were before."""
    buffers = [(part, name, value) for part in module.modules() for name, value in part._buffers.items()]
    known = [(part, name, value) for part, name, value in buffers if isinstance(value, Tensor)]
    copies = [value.clone() for _, _, value in known]
    try:
        yield
    finally:
        for (part, name, value), copy in zip(known, copies, strict=True):
            part._buffers[name] = value
            if not torch.equal(value, copy):  # running means change without a new version of the tensor
                with torch.no_grad():
                    value.copy_(copy)
