"""Tokens: what a model is given, as a tokenizer, a list or an array has it, and whether they are of
its vocabulary."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from .turns import modules_within

IDS = "input_ids"
_INSTEAD = ("inputs_embeds", IDS)
"""Inputs that may come in place of tokens."""
_TOKENIZE = "tokenizer(text, return_tensors='pt')"


def model_inputs(
    model: Any, tokens: Any, inputs: Mapping[str, Any], *, strict: bool = True
) -> tuple[Any, dict[str, Any]]:
    """The tokens and further inputs of a model, whatever form they come in.

    What a tokenizer returned gives its `input_ids` as tokens and all else as inputs; nested lists
    and arrays become a tensor (batch, position). A module wrapped by its body takes anything
    else as it is.

    >>> run = ls.record(model, tokenizer(["one two", "three"], return_tensors="pt", padding=True))

    Arguments:
        model: a looped model, or what `wrap` returned.
        strict: whether further inputs are arguments of the model's forward.

    Raises:
        LoopscopeError: the tokens have no one reading, or aren't of the model's vocabulary; an
            input comes twice; the forward takes no such input; the weights aren't loaded.
    """
    module, inputs = getattr(model, "module", model), dict(inputs)
    _check_loaded(module)
    looped = callable(getattr(model, "encode", None))
    vocabulary = _vocabulary(model, module)
    if isinstance(tokens, Mapping) and IDS in tokens and (looped or _takes(module, tokens)):
        tokens, inputs = _of_tokenizer(tokens, inputs)
    if isinstance(tokens, str | bytes) or _holds(tokens, (str, bytes)):
        raise LoopscopeError(
            f"a model reads tokens, but got text: {str(tokens)[:40]!r}. Pass the model's tokenizer too, "
            f"tokenizer=..., or what it returns: {_TOKENIZE}."
        )
    if isinstance(tokens, np.ndarray | np.generic) or _holds(tokens, (int, float, np.number, np.ndarray)):
        tokens = _tensor(tokens)
    elif (looped or vocabulary is not None) and _holds(tokens, (Tensor,)):
        tokens = _stacked(tokens)
    if isinstance(tokens, Tensor) and not tokens.numel():
        raise LoopscopeError(
            "a model needs tokens with at least one sequence and with at least one position, but got "
            f"{tuple(tokens.shape)}. Pass some."
        )
    embedded = any(inputs.get(name) is not None for name in _INSTEAD)
    if (looped and not (tokens is None and embedded)) or (vocabulary is not None and not embedded):
        tokens = _checked(type(module).__name__, tokens, vocabulary)
    _check_mask(tokens, inputs)
    if strict and isinstance(module, nn.Module) and module is not model:
        _check_names(module, inputs)
    return tokens, inputs


def _check_mask(tokens: Any, inputs: dict[str, Any]) -> None:
    """Make a mask that is a list or an array a tensor, and raise LoopscopeError if it is of other
    tokens."""
    mask = inputs.get("attention_mask")
    if isinstance(mask, list | tuple | np.ndarray):
        mask = inputs["attention_mask"] = _tensor(mask)
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or inputs.get("past_key_values") is not None:
        return
    if isinstance(mask, Tensor) and mask.ndim <= 2 and mask.shape != tokens.shape:
        raise LoopscopeError(
            "attention_mask must have one value for each token, 1 where it counts and 0 where it is padding, "
            f"so the shape {tuple(tokens.shape)}, but has {tuple(mask.shape)}. Pass the tokenizer's."
        )


def _of_tokenizer(tokens: Mapping[str, Any], inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    twice = sorted(name for name in tokens if name in inputs)
    if twice:
        raise LoopscopeError(
            f"an input must come once, but {twice} are in the tokenizer's output and were passed as well. "
            "Leave one of them out."
        )

    def tensor(name: str) -> Any:
        value = tokens[name]
        if isinstance(value, Tensor) or value is None or not isinstance(value, Sequence | np.ndarray):
            return value
        if name == IDS and _holds(value, (str, bytes)):
            return value
        value = _tensor(value)
        return value[None] if value.ndim == 1 else value  # of one text

    rest = {name: tensor(name) for name in tokens if name != IDS}
    return tensor(IDS), inputs | {name: value for name, value in rest.items() if value is not None}


def _takes(module: Any, tokens: Mapping[str, Any]) -> bool:
    """Whether a module's forward takes a tokenizer's output name by name, rather than as one
    argument."""
    names, any_name = _arguments(module)
    return any_name or all(name in names for name in tokens if name != IDS)


def _arguments(module: Any) -> tuple[list[str], bool]:
    """The names of a forward's arguments, and whether it takes any other."""
    try:
        parameters = inspect.signature(module.forward).parameters
    except (AttributeError, TypeError, ValueError):
        return [], True
    return list(parameters), any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _check_names(module: nn.Module, inputs: Mapping[str, Any]) -> None:
    names, any_name = _arguments(module)
    wrong = [name for name in inputs if name not in names]
    if wrong and not any_name:
        raise LoopscopeError(
            f"the forward of {type(module).__name__} must take every input, but takes no {wrong}. Leave "
            f"them out; it takes {names}."
        )


def _check_loaded(module: Any) -> None:
    """Weights on the device meta have no values, unless accelerate loads them for each call."""
    parts = modules_within(module) if isinstance(module, nn.Module) else []
    if any("_hf_hook" in vars(part) for part in parts):
        return
    weights = (weight for part in parts for weight in part._parameters.values() if weight is not None)
    if any(weight.is_meta for weight in weights):
        raise LoopscopeError(
            f"the weights of {type(module).__name__} must be loaded, but are on the device meta, which holds "
            "no values. Load them: model.to_empty(device='cpu') and load_state_dict, or from_pretrained."
        )


def _holds(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a value is a list, of lists ..., with such items alone."""
    if not isinstance(value, list | tuple) or not value:
        return False
    items = list(_items(value))
    return bool(items) and all(isinstance(item, kinds) for item in items)


def _items(value: Any) -> Iterator[Any]:
    for item in value:
        if isinstance(item, list | tuple):
            yield from _items(item)
        else:
            yield item


def _tensor(value: Any) -> Tensor:
    try:
        array = np.asarray(value)
    except ValueError:
        array = None
    if array is None or array.dtype == object:
        raise LoopscopeError(
            "rows of tokens must be of one length to be a batch (batch, position), but these differ. Pad "
            "them and pass the mask: tokenizer(texts, return_tensors='pt', padding=True)."
        )
    if array.dtype.kind not in "biufc":
        raise LoopscopeError(
            f"tokens must be numbers, but the array holds {array.dtype}. Tokenize text first: {_TOKENIZE}."
        )
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(array.copy())


def _stacked(rows: Any) -> Tensor:
    shapes = {tuple(row.shape) for row in _items(rows)}
    if len(shapes) > 1:
        raise LoopscopeError(
            f"rows of tokens must be of one length to be a batch (batch, position), but have the shapes "
            f"{sorted(shapes)}. Pad them and pass the mask: attention_mask=..."
        )
    stacked = torch.stack(list(_items(rows)))
    return stacked[:, 0] if stacked.ndim == 3 and stacked.shape[1] == 1 else stacked


def _vocabulary(model: Any, module: Any) -> int | None:
    """The size of the vocabulary of a model written by others; None if it isn't known."""
    if model is module:
        return None
    size = getattr(model, "vocabulary", None)
    if size is None and _arguments(module)[0][:1] == [IDS]:
        size = getattr(getattr(module, "config", None), "vocab_size", None)
    return size if isinstance(size, int) else None


def _checked(name: str, tokens: Any, vocabulary: int | None) -> Tensor:
    """Tokens that a model can read."""
    if not isinstance(tokens, Tensor) or tokens.is_meta:
        kind = "a tensor on the device meta" if isinstance(tokens, Tensor) else f"a {type(tokens).__name__}"
        given = f" of {sorted(map(str, tokens))}" if isinstance(tokens, Mapping) else ""
        raise LoopscopeError(
            f"{name} needs its tokens as a Tensor of integers (batch, position), but got {kind}{given}. Use "
            f"task.batch(...).tokens, or what the model's tokenizer returns: {_TOKENIZE}."
        )
    if vocabulary is None:
        return tokens
    if tokens.ndim == 3 and tokens.is_floating_point():
        raise LoopscopeError(
            f"{name} needs its tokens as integers (batch, position), but got {tokens.dtype} of the shape "
            f"{tuple(tokens.shape)}. Pass embeddings by name: ls.record(model, None, inputs_embeds=...)."
        )
    return checked_tokens(tokens, vocabulary, name, of="the model's own tokenizer")


def checked_tokens(
    tokens: Any, vocabulary: int, reader: str, of: str = "the task's own batches"
) -> Int[Tensor, "batch position"]:
    """`tokens` as int64, whatever type of integer they have.

    Arguments:
        reader: whose tokens they must be, as the error says it.
        of: where such tokens come from.

    Raises:
        LoopscopeError: no tensor of integers (batch, position), or out of the vocabulary.
    """
    if not isinstance(tokens, Tensor):
        raise LoopscopeError(
            f"{reader} needs its tokens as a Tensor of integers (batch, position), but got a "
            f"{type(tokens).__name__}. Use torch.tensor(...) or task.batch(...).tokens."
        )
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise LoopscopeError(
            f"{reader} needs tokens of the shape (batch, position) with at least one position, but got "
            f"{tuple(tokens.shape)}. {'Drop an' if tokens.ndim > 2 else 'Add the missing'} axis, e.g. "
            f"{'tokens[0]' if tokens.ndim > 2 else 'tokens[None] for one sequence'}."
        )
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise LoopscopeError(
            f"{reader} needs integer tokens (int64), but got {tokens.dtype}. Use tokens.long()."
        )
    if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary):
        raise LoopscopeError(
            f"{reader} needs tokens in 0..{vocabulary - 1}, but they reach from {int(tokens.min())} to "
            f"{int(tokens.max())}. Use the tokens of {of}."
        )
    return tokens.long()
