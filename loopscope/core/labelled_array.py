"""labelled_array: a site's values as an array of xarray."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError


def labelled_array(tensor: Tensor, axes: Sequence[str], iterations: Sequence[int], name: str) -> Any:
    """An xarray.DataArray with named dimensions, and the iterations as coordinates of the first.

    Raises:
        LoopscopeError: xarray isn't installed (extra: xarray).
    """
    try:
        import xarray
    except ImportError:
        raise LoopscopeError(
            "to_xarray needs xarray, which isn't installed. Run: pip install xarray."
        ) from None
    tensor = tensor.detach().cpu()
    tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return xarray.DataArray(tensor.numpy(), dims=axes, coords={axes[0]: iterations}, name=name)
