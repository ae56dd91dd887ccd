"""What reads out the states of a pass that a model made by itself, such as one of a generation."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ..adapters.base import Adapter
from ..adapters.self_check import refusal
from ..common.errors import LoopscopeError
from ..runs.conditions import conditions_from
from ..runs.kept_form import Form
from ..runs.reader import Reader
from ..runs.rebuilt_reader import WITH_EDITS, WITHOUT_MODEL, on_device_of, rebuilt_reader
from ..runs.run import Run
from ..runs.weights import Marks, buffer_marks


def pass_reader(
    adapter: Adapter,
    first: Any,
    *,
    grad: bool,
    forms: Mapping[str, Form],
    before: Marks,
    edited: Sequence[str] = (),
) -> Reader:
    """The reader of a pass, if its states alone tell the logits.

    Arguments:
        first: states[0]; None if it isn't known.
        forms: how the model computed the tensors of its state, by site.
        before: the module's buffers before the pass.
        edited: the sites after the loop that were edited, which a read-out has without the edits.
    """
    reason = None if adapter.mismatch is None else refusal(adapter.mismatch)
    if reason is None and edited:
        reason = (
            "the states of a pass that the model made by itself are read out without edits, but "
            f"'{edited[0]}' comes after its loop and was edited. run.output is the model's answer with the "
            "edit."
        )
    if reason is not None:
        return Reader(adapter.module, None, None, None, grad=grad, before=before, refusal=reason)
    readable = first is not None and adapter.logits_from_state(first) is not None
    decode: Any = adapter.logits_from_state if readable else None
    state_type = None if first is None or isinstance(first, Tensor) else type(first)
    return Reader(adapter, None, decode, state_type, grad=False, forms=forms, before=before)


def loaded_passes(model: Any, contents: Sequence[dict[str, Any]]) -> list[Run]:
    """The passes of a generation from a file, with what reads out their states.

    Arguments:
        model: that made them; None if it isn't known.
        contents: of each pass, the arguments of `Run`.
    """
    if not isinstance(model, Adapter) or not contents:
        return [Run(**content) for content in contents]
    try:
        if any(content["origin"].get("edits") for content in contents):
            raise LoopscopeError(WITH_EDITS)
        first = _read_out(model, contents[0])
    except LoopscopeError as error:
        return [Run(**content, no_reader=str(error)) for content in contents]
    before = buffer_marks(model)
    for content in contents:
        for name in ("tokens", "inputs", "output"):
            content[name] = on_device_of(model, content[name])
    return [
        Run(
            **content,
            reader=Reader(
                model,
                None,
                first.decode,
                first.state_type,
                grad=False,
                forms=first.forms,
                before=before,
                conditions=conditions_from(model, content["origin"]),
            ),
        )
        for content in contents
    ]


class _ReadOut(NamedTuple):
    """What reads out the states of every pass."""

    decode: Any
    """State to logits; None if the states alone don't tell them."""
    state_type: type | None
    """The class of a state of several tensors."""
    forms: Mapping[str, Form]


def _read_out(model: Adapter, content: Mapping[str, Any]) -> _ReadOut:
    """What the first pass, which read no cache, tells of all.

    Raises:
        LoopscopeError: nothing can be computed from the states.
    """
    if not isinstance(content["tokens"], Tensor):
        raise LoopscopeError(WITHOUT_MODEL)
    reader = rebuilt_reader(model, content["origin"], content["tokens"], content["inputs"])
    first = model.initial(reader.context)
    readable = model.logits_from_state(first) is not None
    return _ReadOut(model.logits_from_state if readable else None, reader.state_type, reader.forms)
