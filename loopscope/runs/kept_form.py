"""In which form values are kept: on which device, and with how many digits; and the way back to
what the model computes with."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from ..common.arguments import Canonical, Meaning
from ..common.errors import LoopscopeError
from ..core.lazy_values import LazyValues
from ..core.states import States
from ..maths.precision import has_64_bits

SHORT = (torch.float32, torch.float16, torch.bfloat16)
"""What values can be rounded to."""


def _device(value: Any) -> torch.device | None:
    """The device of a name.

    Raises:
        ValueError: there is no such device here, or it holds no values.
    """
    if value is None:
        return None
    try:
        device = torch.device(value)
        torch.empty(1, device=device)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise ValueError("no device") from error
    if device.type == "meta":
        raise ValueError("it holds no values")
    return device


def _short_dtype(value: Any) -> torch.dtype | None:
    """The dtype of a name.

    Raises:
        ValueError: none of SHORT.
    """
    dtype = getattr(torch, value, None) if isinstance(value, str) else value
    if dtype is not None and dtype not in SHORT or value is not None and dtype is None:
        raise ValueError("none of these dtypes")
    return dtype


Device = Annotated[
    Any, Canonical(_device), Meaning('a device that is here and holds values, such as "cpu", or None')
]
"""torch.device | None when the function receives it."""
ShortDtype = Annotated[
    Any, Canonical(_short_dtype), Meaning("torch.float32, torch.float16, torch.bfloat16 or None")
]
"""torch.dtype | None when the function receives it."""


def shortened(value: Tensor, dtype: torch.dtype, site: str) -> Tensor:
    """A value in a dtype, if that has fewer digits than its own; else the value itself.

    Raises:
        LoopscopeError: a finite number would become infinite.
    """
    if not is_longer(value.dtype, dtype):
        return value
    short = value.to(dtype)
    lost = short.isinf() & ~value.isinf()
    if bool(lost.any()):
        name = str(dtype).removeprefix("torch.")
        raise LoopscopeError(
            f"kept values must be finite in the dtype they are kept in, but '{site}' has "
            f"{float(value[lost][0]):.3g}, and {name} ends at {torch.finfo(dtype).max:.3g}. "
            "Keep torch.bfloat16, or leave dtype out."
        )
    return short


def is_longer(one: torch.dtype, other: torch.dtype) -> bool:
    """Whether a dtype of floats has more digits than another."""
    return one.is_floating_point and torch.finfo(one).eps < torch.finfo(other).eps


class Form(NamedTuple):
    """How the model computes a tensor of its state."""

    dtype: torch.dtype
    device: torch.device


def form_of(value: Tensor) -> Form:
    """The form of a tensor."""
    return Form(value.dtype, value.device)


def on_device_with_64_bits(site: States | Tensor) -> States | Tensor:
    """A site's values on the CPU if their device has no double precision; else as they are."""
    if isinstance(site, Tensor):
        return site if has_64_bits(site.device) else site.cpu()
    values = site.by_index
    held = values.sources() if isinstance(values, LazyValues) else values.values()
    # what is read from files is on the CPU
    if all(has_64_bits(value.device) for value in held if isinstance(value, Tensor)):
        return site
    return site.with_values({index: value.cpu() for index, value in site.items()})


def restored(value: Tensor, form: Form | None, origin: Mapping[str, Any]) -> Tensor:
    """A kept tensor as the model takes it.

    Arguments:
        form: of such a tensor when the model computed it; None: not known.
        origin: of the run; whether values were kept in a shorter dtype, "short", or on another
            device, "moved". Else their own are what was computed, which may be others in each
            iteration, as under autocast or where a loop goes over several devices.
    """
    if form is None:
        return value
    if "short" in origin and value.is_floating_point() and is_longer(form.dtype, value.dtype):
        value = value.to(form.dtype)
    return value.to(form.device) if "moved" in origin or value.device.type == "cpu" else value
