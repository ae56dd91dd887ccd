"""State: the two states of models with two time scales, HRM and its kin."""

from typing import NamedTuple

from torch import Tensor


class State(NamedTuple):
    """The states of the slow network and of the fast one."""

    high: Tensor
    """(batch, position, width)"""
    low: Tensor
