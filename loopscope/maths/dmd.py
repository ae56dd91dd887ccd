"""Dynamic mode decomposition: the eigenvalues of the linear map that reproduces a trajectory
best."""

import importlib
import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.errors import LoopscopeError


def dynamic_modes(states: Float[Tensor, "iteration width"]) -> list[complex]:
    """Eigenvalues per iteration, largest amplitude first, of the second half of a trajectory about
    its mean, with delay embedding.

    On the unit circle: a persistent rotation by the eigenvalue's argument; inside: a decaying mode.
    Schmid 2010; by PyDMD (Demo, Tezzele & Rozza 2018), which the extra `dmd` installs.

    Raises:
        LoopscopeError: PyDMD isn't installed, or fewer than 12 finite states.
    """
    try:
        pydmd = importlib.import_module("pydmd")
        preprocessing = importlib.import_module("pydmd.preprocessing")
    except ImportError:
        raise LoopscopeError(
            "dynamic modes need PyDMD, which isn't installed. Run: pip install 'loopscope[dmd]'."
        ) from None
    late = states.detach().double()[len(states) // 2 :]
    late = (late - late.mean(0)).cpu()
    if len(late) < 6 or not bool(torch.isfinite(late).all()):
        raise LoopscopeError(
            f"dynamic modes need 12 finite states or more, but there are {len(states)}. Record more "
            "iterations."
        )
    if not bool(late.any()):
        return [complex(1)]
    model: Any
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about ill-conditioned snapshots near a fixed point
        model = preprocessing.hankel_preprocessing(pydmd.DMD(svd_rank=0), d=max(2, len(late) // 3)).fit(
            late.numpy().T
        )
    modes = sorted(zip(model.amplitudes, model.eigs, strict=True), key=lambda pair: -abs(pair[0]))
    return [complex(value) for _, value in modes]
