"""What a model is given, in whatever form a user has it: text with a tokenizer, a tokenizer's
output, or tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from ..common.errors import LoopscopeError
from .counted import Counted
from .token_names import token_names, token_strings
from .tokens import IDS, model_inputs

_STANDS_FOR_TEXT = ("unk_token_id", "mask_token_id")
"""Special tokens in the place of words."""
_DEFAULTS: Mapping[str, int] = {"attention_mask": 1, "token_type_ids": 0}
"""The value by which a tokenizer's output says no more than its absence: no padding, one text."""


@dataclass(frozen=True)
class ModelInput:
    """What a model reads, and what its tokens are called."""

    tokens: Any
    """(batch, position), as a rule."""
    inputs: dict[str, Any]
    """Further arguments of the model, by name."""
    names: Mapping[str, str]
    """By token id, as text; empty where nothing names the tokens."""
    special: tuple[int, ...] | None = None
    """Tokens that stand for no text; None: they count like others."""

    @property
    def origin(self) -> dict[str, Any]:
        """What a run keeps of it besides tokens and inputs."""
        return {"token_strings": self.names} if self.names else {}

    def without_special(self, counted: Counted) -> Counted:
        """What counts of a run, less the special tokens if they don't count."""
        if self.special is None:
            return counted
        text = text_positions(self.tokens, self.special)
        if text.shape != counted.mask.shape:
            raise LoopscopeError(
                f"special tokens must have positions to be left out, {tuple(counted.mask.shape)}, but the "
                f" tokens have {tuple(text.shape)}. Say which count: run.with_mask(mask)."
            )
        return replace(counted, mask=counted.mask & text, source=f"{counted.source}, less special tokens")


def model_input(
    model: Any,
    tokens: Any,
    inputs: Mapping[str, Any],
    tokenizer: Any = None,
    *,
    count_special: bool = True,
    side: Literal["left", "right"] | None = None,
    strict: bool = True,
) -> ModelInput:
    """The tokens, further inputs and names of tokens of a model, whatever form they come in.

    Arguments:
        tokens: a text or a list of texts, which need `tokenizer`; else as for `model_inputs`.
        tokenizer: of transformers, the model's own.
        count_special: False: special tokens don't count.
        side: where texts of different lengths are padded; None: where the tokenizer pads.
        strict: whether further inputs are arguments of the model's forward.

    Raises:
        LoopscopeError: as `model_inputs`; or a text is empty or can't be padded, the tokenizer is
            none, or is missing.
    """
    if tokenizer is None:
        if not count_special:
            raise LoopscopeError(
                "special tokens must be known to be left out, but there is no tokenizer that names them. "
                "Pass tokenizer=, or say which positions count: run.with_mask(mask)."
            )
        names: Mapping[str, str] = token_strings(tokens)
    else:
        names = names_by(tokenizer)
        if is_text(tokens):
            tokens = tokenized(tokenizer, tokens, side=side)
    tokens, inputs = model_inputs(model, tokens, inputs, strict=strict)
    return ModelInput(tokens, inputs, names, None if count_special else special_ids(tokenizer))


def names_by(tokenizer: Any) -> Mapping[str, str]:
    """What a tokenizer calls its tokens, by id as text.

    Raises:
        LoopscopeError: it is no tokenizer of transformers.
    """
    needed = ("get_vocab", "decode", "all_special_ids")
    if callable(tokenizer) and all(hasattr(tokenizer, name) for name in needed):
        return token_names(tokenizer)
    advice = (
        "Wrap it: transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)."
        if hasattr(tokenizer, "encode_batch")
        else "Load the model's own: transformers.AutoTokenizer.from_pretrained(name)."
    )
    raise LoopscopeError(
        f"tokenizer must be a tokenizer of transformers, but is {type(tokenizer).__name__}. {advice}"
    )


def tokenized(
    tokenizer: Any, texts: str | Sequence[str], *, side: Literal["left", "right"] | None = None
) -> dict[str, Tensor]:
    """What a tokenizer makes of texts, (batch, position) each; what says nothing, such as a mask
    without padding, is left out.

    Raises:
        LoopscopeError: a text is empty or no string, or there is no token to pad with.
    """
    texts = [texts] if isinstance(texts, str | bytes) else list(texts)
    _check_texts(texts)
    rows = tokenizer(texts)
    lengths = [len(row) for row in rows[IDS]]
    if 0 in lengths:
        _refuse_empty(texts[lengths.index(0)], lengths.index(0))
    several = len(set(lengths)) > 1
    if several and tokenizer.pad_token is None:
        raise LoopscopeError(
            f"texts of {min(lengths)} to {max(lengths)} tokens must be padded to one length, but the "
            "tokenizer has no pad token. Set one that the model knows, such as tokenizer.pad_token = "
            "tokenizer.eos_token; padding is masked."
        )
    sides = {} if side is None else {"padding_side": side}
    encoded = tokenizer(texts, return_tensors="pt", padding=several, **sides)
    return {name: value for name, value in encoded.items() if not _is_default(name, value)}


def special_ids(tokenizer: Any) -> tuple[int, ...]:
    """The tokens of a tokenizer that stand for no text: those that begin, end, separate and pad,
    and added ones. An unknown and a masked word are text."""
    text = {getattr(tokenizer, name, None) for name in _STANDS_FOR_TEXT}
    ends = {getattr(tokenizer, name, None) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    return tuple(sorted(set(tokenizer.all_special_ids) - (text - ends)))


def text_positions(tokens: Any, special: Sequence[int]) -> Bool[Tensor, "batch position"]:
    """Where a token stands for text."""
    if not isinstance(tokens, Tensor):
        return torch.empty(0, dtype=torch.bool)
    ids = tokens.detach().cpu()
    return ~torch.isin(ids, torch.tensor(special, dtype=ids.dtype))


def is_text(tokens: Any) -> bool:
    """Whether a value is a text, or a list with one in it."""
    return isinstance(tokens, str | bytes) or (
        isinstance(tokens, list | tuple) and any(isinstance(one, str | bytes) for one in tokens)
    )


def _check_texts(texts: Sequence[Any]) -> None:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise LoopscopeError(
                "texts must be a string or a list of strings, but text "
                f"{number} is {type(text).__name__} ({str(text)[:40]!r}). Pass strings alone; bytes.decode() "
                "makes one of bytes."
            )
        if not text:
            _refuse_empty(text, number)


def _refuse_empty(text: str, number: int) -> None:
    raise LoopscopeError(
        f"a text must hold at least one token, but text {number} ({text[:40]!r}) holds none. Leave it out."
    )


def _is_default(name: str, value: Tensor) -> bool:
    return name in _DEFAULTS and bool((value == _DEFAULTS[name]).all())
