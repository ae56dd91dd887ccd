"""Which positions of a run count in its pooled numbers. The rule is here and nowhere else.

The first of these that says anything decides:

1. The mask that the user gave (`run.with_mask(mask)`, `mask=` of a measure).
2. A padding mask among the model's further inputs: `attention_mask` or `mask`, true or 1 where a
   position counts; `key_padding_mask` or `src_key_padding_mask`, true where it does not, as in
   PyTorch. Of two axes (batch, position), or more (batch, 1, query, key), where a position counts
   if it may attend to itself; numbers are read as added to the scores if any is negative.
3. The pad token that the model's configuration or the task names: its runs at the beginning and at
   the end of a row. Where the pad token also ends a sequence, the first of the run at the end is
   the end of the sequence and counts. Where it also begins one, the last of the run at the
   beginning counts.
4. Otherwise every position counts.

What follows the first end of sequence beyond a known prompt doesn't count either, whatever decided
(`until_end`). Only rule 3 looks at tokens, and it never drops a token between two others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..common.errors import LoopscopeError

PADDING_INPUTS = {
    "attention_mask": True,
    "mask": True,
    "key_padding_mask": False,
    "src_key_padding_mask": False,
}
"""Names of a model's inputs that say where padding is; whether True says that a position counts."""
HIDDEN = -1e4
"""A number that is added to attention scores hides a key if it is this or less."""


@dataclass(frozen=True)
class Counted:
    """Which positions count, and why."""

    mask: Bool[Tensor, "batch position"]
    source: str
    """What decided, in words."""

    @property
    def everything(self) -> bool:
        """Whether every position counts."""
        return bool(self.mask.all())

    def __str__(self) -> str:
        return f"{int(self.mask.sum())} of {self.mask.numel()} positions count: {self.source}"


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens that pad, begin and end a sequence."""

    pad: int | None = None
    begin: int | None = None
    ends: tuple[int, ...] = ()


def special_tokens(config: Any, task: Any = None) -> SpecialTokens:
    """The special tokens that a model's configuration names, or else its task."""
    ends = getattr(config, "eos_token_id", None)
    ends = ends if isinstance(ends, list | tuple) else [ends]
    pad = _token(getattr(config, "pad_token_id", None))
    return SpecialTokens(
        _token(getattr(task, "pad_token", None)) if pad is None else pad,
        _token(getattr(config, "bos_token_id", None)),
        tuple(token for one in ends if (token := _token(one)) is not None),
    )


def counted_positions(
    tokens: Any, inputs: Mapping[str, Any], special: SpecialTokens, shape: tuple[int, int]
) -> Counted:
    """Which positions count by the rules 2 to 4.

    Arguments:
        tokens: of the model; looked at where they are whole numbers (batch, position).
        inputs: further arguments of the model.
        shape: (batch, position) of the result.
    """
    for name, keeps in PADDING_INPUTS.items():
        mask = padding_mask(inputs.get(name), keeps, shape)
        if mask is not None:
            return Counted(mask, f"the input {name}")
    ids = tokens if isinstance(tokens, Tensor) else inputs.get("input_ids")
    if special.pad is not None and isinstance(ids, Tensor) and _are_tokens(ids) and tuple(ids.shape) == shape:
        mask = without_pads(ids.detach().cpu(), special)
        if not bool(mask.all()):
            return Counted(mask, f"pad tokens ({special.pad}) at the beginning or end of a row")
    return Counted(torch.ones(shape, dtype=torch.bool), "no padding is known")


def without_pads(
    tokens: Int[Tensor, "batch position"], special: SpecialTokens
) -> Bool[Tensor, "batch position"]:
    """False in the runs of pad tokens at the beginning and at the end of each row (rule 3)."""
    if special.pad is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    is_pad = tokens == special.pad
    leading = is_pad.int().cumprod(1).bool()
    trailing = is_pad.flip(1).int().cumprod(1).flip(1).bool()
    empty = is_pad.all(1, keepdim=True)
    if special.pad in special.ends:
        first = trailing & ~torch.nn.functional.pad(trailing, (1, 0))[:, :-1]
        trailing = trailing & ~first
    if special.pad == special.begin:
        last = leading & ~torch.nn.functional.pad(leading, (0, 1))[:, 1:]
        leading = leading & ~last
    return ~(leading | trailing | empty)


def until_end(
    tokens: Int[Tensor, "batch position"], ends: Sequence[int], prompt: int
) -> Bool[Tensor, "batch position"]:
    """True up to the first token of `ends` beyond the prompt, that token included.

    Arguments:
        tokens: prompt and new tokens.
        ends: the tokens that end a sequence; none: every position is True.
        prompt: how many of the positions are the prompt, in which nothing ends.
    """
    is_end = torch.isin(tokens, torch.tensor(list(ends), dtype=tokens.dtype, device=tokens.device))
    is_end[:, :prompt] = False
    return is_end.int().cumsum(1) - is_end.int() == 0


def padding_mask(value: Any, keeps: bool, shape: tuple[int, int]) -> Bool[Tensor, "batch position"] | None:
    """A padding mask from one of a model's inputs; None where none can be read from it.

    Arguments:
        keeps: whether True says that a position counts.
        shape: (batch, position) of the result. A longer mask, as with a cache, is of the last
            positions.
    """
    if isinstance(value, Mapping):  # one mask for each kind of layer
        value = value.get("full_attention", next(iter(value.values()), None))
    if not isinstance(value, Tensor) or value.is_complex() or value.ndim < 2:
        return None
    visible = _visible(value.detach().cpu(), keeps)
    batch, positions = shape
    if visible.ndim > 2:
        if visible.shape[-1] < visible.shape[-2] or visible.shape[-2] not in (1, positions):
            return None
        visible = _of_keys(visible.flatten(1, -3).any(1) if visible.ndim > 3 else visible)
    if visible.shape[0] not in (1, batch) or visible.shape[1] < positions:
        return None
    return visible[:, visible.shape[1] - positions :].expand(batch, positions).clone()


def checked_mask(mask: Any, shape: tuple[int, int]) -> Bool[Tensor, "batch position"]:
    """The user's mask, as a tensor of its own.

    Arguments:
        shape: (batch, position) of the run.

    Raises:
        LoopscopeError: another shape or type, or True nowhere.
    """
    try:
        values = torch.as_tensor(mask).detach().cpu()
        values = values if values.layout == torch.strided else values.to_dense()
    except (TypeError, ValueError, RuntimeError):
        values = torch.empty(0)
    if tuple(values.shape) != shape:
        got = tuple(values.shape) if values.numel() or isinstance(mask, Tensor) else type(mask).__name__
        raise LoopscopeError(
            f"mask must be a tensor of bools (batch, position) = {shape}, True where a position counts, but "
            f"got {got}. Give each position of each example its own."
        )
    if values.dtype != torch.bool:
        if values.is_complex() or not bool(((values == 0) | (values == 1)).all()):
            raise LoopscopeError(
                f"mask must hold True and False (or 1 and 0), but is {values.dtype} with other numbers. Say "
                "which positions count, such as mask=tokens != pad."
            )
        values = values.bool()
    if not bool(values.any()):
        raise LoopscopeError("mask must be True somewhere, but it leaves no position that counts.")
    return values.clone()


def _visible(value: Tensor, keeps: bool) -> Tensor:
    """Where a mask lets a key be seen."""
    if value.dtype == torch.bool:
        return value if keeps else ~value
    if bool((value < 0).any()):
        return value > HIDDEN
    if value.ndim > 2 and value.is_floating_point() and not bool((value > 0).any()):
        return torch.ones_like(value, dtype=torch.bool)  # nothing is added to any score
    return value != 0 if keeps else value == 0


def _of_keys(visible: Bool[Tensor, "batch query key"]) -> Bool[Tensor, "batch key"]:
    """Which keys are no padding: those that see themselves.

    A query without any key to see is often given all of them instead; such a row of a mask that
    hides the same key from a later query says nothing.
    """
    queries, keys = visible.shape[-2:]
    if queries == 1:
        return visible[:, 0]
    before = keys - queries
    itself = visible.diagonal(offset=before, dim1=1, dim2=2)
    everything = visible.all(2)
    own = visible[:, :, before:]
    later = torch.ones(queries, queries, dtype=torch.bool).tril(-1)  # (query, key): query after key
    hidden_later = (~own & later).any(1)
    cached = visible[:, -1, :before]
    return torch.cat([cached, itself & ~(everything & hidden_later)], 1)


def _token(value: Any) -> int | None:
    """A token id; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _are_tokens(value: Tensor) -> bool:
    return (
        value.ndim == 2
        and not value.is_floating_point()
        and not value.is_complex()
        and value.dtype != torch.bool
    )
