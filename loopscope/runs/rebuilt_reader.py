"""The reader of a run that was read from a file, or came from another process."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.containers import is_container, map_parts
from ..core.looped_model import first_state
from ..core.state_tree import field_names, tensors
from ..core.turns import check_no_pass, modules_within, parts_of, turn
from .conditions import conditions_from
from .kept_form import form_of
from .reader import Reader, raise_if_drawn
from .weight_digests import weights_digest
from .weights import buffer_marks

WITHOUT_MODEL = (
    "this run was loaded from a file and knows no model, so nothing can be computed from its states. Pass "
    "it: ls.load_run(path, model=model)."
)
WITH_EDITS = (
    "this run has edits, whose values are not in its file, so nothing can be computed from its states but "
    "what was recorded. Record it again with them."
)
WITH_CACHE = (
    "this run is a pass that read a cache, which is not in its file, so nothing can be computed from its "
    "states but what was recorded. Record the tokens so far in one pass: ls.record(model, tokens)."
)
GENERATED = (
    "this run is of the tokens of a generation, which several passes computed, so nothing can be computed "
    "from its states but what was recorded. Record them in one pass: ls.record(model, out.tokens[:, :-1])."
)
DIFFERENT = (
    "So this run was recorded from the model's own forward, and nothing is computed from its states. Trust "
    "the four functions nevertheless: ls.wrap(model, check=False)."
)
PICKLED = (
    "this run came from another process (it was pickled), where its model stayed, so nothing can be computed "
    "from its states. Save it there, run.save(path), and pass the model here: ls.load_run(path, model=model)."
)


class HeldModel:
    """Gives a model that stays in this process."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __getstate__(self) -> dict[str, Any]:
        return {"model": None}

    def __call__(self) -> Any:
        """The model.

        Raises:
            LoopscopeError: it stayed in another process.
        """
        if self.model is None:
            raise LoopscopeError(PICKLED)
        return self.model


def reloaded_reader(
    reload: Callable[[], Any], origin: Mapping[str, Any], tokens: Any, inputs: Mapping[str, Any]
) -> Reader:
    """The reader of a run that came from another process.

    Arguments:
        reload: gives the model again.

    Raises:
        LoopscopeError: the model has other weights by now, or as `rebuilt_reader`.
    """
    model = reload()
    tokens, inputs = on_device_of(model, tokens), on_device_of(model, inputs)
    if weights_digest(model) != origin.get("weights"):
        raise LoopscopeError(
            f"{origin.get('entry')} must have the weights of this run's recording, {origin.get('weights')}, "
            "for anything to be computed from the run, but has others here. Record it again."
        )
    return rebuilt_reader(model, origin, tokens, inputs)


def on_device_of(model: Any, value: Any) -> Any:
    """The tensors within a value on the device of the model's weights: a file's are on the CPU. Of
    weights that are loaded for each call the device isn't known, and what loads them moves the
    inputs."""
    weight = next((one for module in modules_within(model) for one in module.parameters()), None)
    if weight is None or weight.is_meta:
        return value
    if isinstance(value, Tensor):
        return value.to(weight.device)
    return map_parts(value, lambda one: on_device_of(model, one)) if is_container(value) else value


def rebuilt_reader(model: Any, origin: Mapping[str, Any], tokens: Any, inputs: Mapping[str, Any]) -> Reader:
    """A reader with a model like the one that made the run, under the conditions of its recording.

    Arguments:
        model: one with the four functions, and with the weights of the recording.
        origin, tokens, inputs: of the run.

    Raises:
        LoopscopeError: the run has edits or read a cache, its context was drawn at random, or it
            was recorded from the forward of a model that its adapter doesn't follow.
    """
    if origin.get("mismatch") and getattr(model, "check", False):
        raise LoopscopeError(f"{origin['mismatch']}. {DIFFERENT}")
    if origin.get("edits"):
        raise LoopscopeError(WITH_EDITS)
    if origin.get("generated"):
        raise LoopscopeError(GENERATED)
    if origin.get("cached"):
        raise LoopscopeError(WITH_CACHE)
    conditions, before = conditions_from(model, origin), buffer_marks(model)
    parts = parts_of(model)
    check_no_pass(parts, "loading a run")
    with turn(parts), conditions.restored(), torch.no_grad(), torch.random.fork_rng():
        with raise_if_drawn(conditions.trains):
            context = model.encode(tokens, **inputs)
        _, begin = first_state(model, context)
        sites = ["state", *(f"state.{name}" for name in field_names(begin)[1:])]
        forms = {site: form_of(part) for site, part in zip(sites, tensors(begin), strict=True)}
    return Reader(
        model,
        context,
        lambda state: model.decode(state, context),
        type(begin) if origin.get("fields") else None,
        grad=False,
        forms=forms,
        before=before,
        conditions=conditions,
    )
