"""The self-check of an adapter: whether its four functions give what the model's own forward
gives."""

import torch
from torch import Tensor

_ROUNDING = 8
"""Where the same sum may be rounded in another order, on other devices and in short dtypes: so many
eps of the largest logit."""


def difference_of(ours: Tensor, expected: Tensor) -> str | None:
    """How the logits of the four functions differ from those of the model's own forward, as a
    clause; None if they are equal bit for bit, or on other devices than the CPU and in dtypes of
    less than 32 bits up to rounding."""
    if not isinstance(expected, Tensor) or not isinstance(ours, Tensor):
        kinds = type(ours).__name__, type(expected).__name__
        return f"they give {kinds[0]} where its own forward gives {kinds[1]}"
    if ours.shape != expected.shape or ours.dtype != expected.dtype:
        one, other = (f"{tuple(x.shape)} of {str(x.dtype).removeprefix('torch.')}" for x in (ours, expected))
        return f"they give logits {one} where its own forward gives {other}"
    ours, expected = ours.detach(), expected.detach()
    same = (ours == expected) | (ours.isnan() & expected.isnan())
    if bool(same.all()):
        return None
    off = torch.where(same, 0, (ours.double() - expected.double()).abs())
    largest = float(off.max())
    if largest <= _tolerance(expected):
        return None
    index = [int(i) for i in torch.unravel_index(off.flatten().argmax(), off.shape)]
    names = ("example", "position", "entry")
    where = ", ".join(f"{name} {i}" for name, i in zip(names, index, strict=False))
    return f"their read-out differs from its output by up to {largest:.3g} ({where})"


def largest_difference(ours: Tensor, expected: Tensor) -> float:
    """The largest absolute difference between two tensors: 0 if they are equal bit for bit, where
    NaN equals NaN; infinity if their shapes or types differ, or one alone is NaN."""
    if ours.shape != expected.shape or ours.dtype != expected.dtype:
        return float("inf")
    ours, expected = ours.detach(), expected.detach().to(ours.device)
    differs = ~((ours == expected) | (ours.isnan() & expected.isnan()))
    if not bool(differs.any()):
        return 0.0
    wide = torch.complex128 if ours.is_complex() else torch.float64
    off = (ours.to(wide) - expected.to(wide)).abs()[differs]
    return float(torch.nan_to_num(off, float("inf"), float("inf")).max())


def refusal(mismatch: str) -> str:
    """Why nothing is computed from the four functions of an adapter, and what to do."""
    return (
        f"{mismatch}. So nothing is computed from the four functions: states, sites and edits are those of "
        "the model's own forward, and what iterates further or reads out earlier states is refused. Wrap "
        "the model by the part that repeats (ls.wrap(model, body=...)), or trust the four functions "
        "nevertheless: ls.wrap(model, check=False)."
    )


def _tolerance(expected: Tensor) -> float:
    exact = expected.device.type == "cpu" and torch.finfo(expected.dtype).bits >= 32
    largest = float(torch.nan_to_num(expected, 0, 0, 0).abs().max())
    return 0.0 if exact else _ROUNDING * torch.finfo(expected.dtype).eps * largest
