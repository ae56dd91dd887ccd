"""The inputs of a model's own forward: which of them an adapter follows, and a refusal by name of
every other.

An input that an adapter doesn't know of would be swallowed: the model's own forward would read it,
and the four functions wouldn't. So each family lists the inputs that it follows, and `check_inputs`
refuses the rest, here and nowhere else.
"""

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError

_LOSS = "adds a loss to the output, of which a run keeps the logits. Leave it out, and compute the loss "
_LOSS += "from run.output"
_FORM = "changes the form of the output, of which a run keeps the logits. Leave it out; run.states has the "
_FORM += "states, and sites= records any module"
_CACHE = (
    "carries keys and values from another pass, which an iterated pass can't have. Record what really ran "
)
_CACHE += "with `with ls.recording(model) as run:`, or ls.generate"

REFUSALS: Mapping[str, str] = {
    "labels": _LOSS,
    "sentence_order_label": _LOSS,
    "start_positions": _LOSS,
    "end_positions": _LOSS,
    "num_items_in_batch": _LOSS,
    "cache": _CACHE,
    "mems": _CACHE,
    "input_ids": "is the first argument. Pass it as the tokens: ls.record(model, tokens)",
}
"""By name of an input that many models have and no recording follows: why, and what to do."""


def check_inputs(
    module: nn.Module, followed: Collection[str], tokens: Any, inputs: Mapping[str, Any]
) -> None:
    """Raise LoopscopeError for the first input that isn't followed.

    Arguments:
        module: the model, for the text.
        followed: names of the inputs that the four functions follow as the model's own forward
            does.
        inputs: further arguments of the model's forward, by name.
    """
    kind = type(module).__name__
    for name, value in inputs.items():
        if name == "past_key_values":
            check_no_cache(inputs)
        elif name in followed:
            continue
        elif reason := _refusal(name):
            if value is not None and value is not (name == "return_dict"):
                raise LoopscopeError(
                    f"the input '{name}' of {kind} isn't followed by a recording: it {reason}."
                )
        else:
            known = ", ".join(sorted(followed)) or "none"
            raise LoopscopeError(
                f"a recording must know what each input of {kind} changes, but doesn't know '{name}'. It "
                f"follows: {known}. Leave it out, or record the model's own forward by the part that "
                "repeats: ls.wrap(model, body=...)."
            )
    if tokens is not None and inputs.get("inputs_embeds") is not None:
        raise LoopscopeError(
            f"{kind} must get tokens or inputs_embeds, but got both. Pass one of them: "
            "ls.record(model, None, inputs_embeds=...)."
        )
    if inputs.get("logits_to_keep") is not None:
        _check_kept(inputs["logits_to_keep"])


def check_no_cache(inputs: Mapping[str, Any]) -> None:
    """Raise LoopscopeError if a cache was passed. With one, an iteration that runs twice would
    attend to itself."""
    if inputs.get("past_key_values") is not None:
        raise LoopscopeError(
            "a pass that is iterated must not have a cache, but past_key_values was passed. Record what "
            "really ran with `with ls.recording(model) as run:`, or ls.generate."
        )


def without_cache(module: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a forward pass of `module` that stores no keys and values.

    Raises:
        LoopscopeError: a cache was passed.
    """
    check_no_cache(inputs)
    return dict(inputs) | ({"use_cache": False} if takes(module, "use_cache") else {})


def dropped_cache(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs of a part without the cache that the model made for the pass. The pass that they
    are taken from may make one, since its mask can depend on it; iterations must not share it."""
    kept = {name: None if is_cache(value) else value for name, value in kwargs.items()}
    off = {"use_cache": False} if "use_cache" in kwargs else {}
    return tuple(None if is_cache(value) else value for value in args), kept | off


def takes(module: nn.Module, name: str) -> bool:
    """Whether the module's forward takes an argument of this name, or any name."""
    parameters = inspect.signature(module.forward).parameters
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def kept_positions(h: Tensor, inputs: Mapping[str, Any]) -> Tensor:
    """The positions of `h` (batch, position, width) whose logits the model computes: the last ones
    with logits_to_keep=3, those of an index tensor, all of them without."""
    keep = inputs.get("logits_to_keep")
    if keep is None or (isinstance(keep, int) and keep == 0):
        return h
    return h[:, slice(-keep, None) if isinstance(keep, int) else keep]


def kind_of_inputs(module: nn.Module, tokens: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    """What can make a model's forward take another way through its code, as a key: the names and
    kinds of the inputs, the mode, the settings in the config, and whether there is one row or one
    position."""
    config = getattr(module, "config", None)
    settings = getattr(config, "__dict__", {})
    plain = {name: value for name, value in settings.items() if isinstance(value, bool | int | float | str)}
    return (
        _kind(tokens),
        tuple(sorted((name, _kind(value)) for name, value in inputs.items() if value is not None)),
        module.training,
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"),
        tuple(sorted(plain.items())),
    )


def kind_of_weights(module: nn.Module) -> tuple[Any, ...]:
    """The precisions, devices, places in memory and versions of a module's weights, as a key that
    is another one once they were converted, moved, loaded, replaced or trained. What is written
    through `.data` doesn't show."""
    return tuple(
        (w.dtype, str(w.device), 0 if w.is_meta else w.data_ptr(), 0 if w.is_inference() else w._version)
        for w in module.parameters()
    )


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        single = [size == 1 for size in value.shape[:2]]
        return f"{value.dtype} {value.ndim} {single}"
    if isinstance(value, bool | str):
        return repr(value)
    if isinstance(value, int | float):
        return f"{type(value).__name__} {value > 0} {value < 0} {abs(value) < 1}"
    if isinstance(value, list | tuple):
        return f"{len(value)} of {sorted({_kind(one) for one in value})}"
    return type(value).__name__


def is_cache(value: Any) -> bool:
    """Whether a value is a cache of keys and values, as transformers has them."""
    return hasattr(value, "update") and hasattr(value, "get_seq_length")


def _refusal(name: str) -> str | None:
    form = name.startswith(("output_", "return_"))
    return REFUSALS.get(name, _FORM if form else None)


def _check_kept(keep: Any) -> None:
    whole = isinstance(keep, int) and not isinstance(keep, bool) and keep >= 0
    if not whole and not (isinstance(keep, Tensor) and not keep.is_floating_point()):
        raise LoopscopeError(
            "logits_to_keep must be a number of last positions, 0 or more, or a tensor of positions, but is "
            f"{keep!r}."
        )
