"""The geometry of positions: how far apart two of them are, on a sequence or on a board."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.recorder.labels import task_of
from loopscope.runs.run import Run


@dataclass(frozen=True)
class Geometry:
    """Distances between positions."""

    distance: Float[Tensor, "position position"]
    """0 for a position and itself, 1 for neighbours; infinite where no way leads."""
    neighbours: str
    """Who is a neighbour, in words."""


def geometry_of(run: Run, positions: int) -> Geometry:
    """That of the run's task: by its own rules, else by the places on its board, else along the
    sequence.

    Arguments:
        positions: how many there are; where they are not the cells of the task's board, they are a
            sequence.
    """
    task = task_of(run)
    adjacent = None if task is None else task.neighbours()
    if adjacent is not None and len(adjacent) == positions:
        return Geometry(_steps(adjacent), "cells that bear on each other by the task's rules")
    place = torch.arange(positions)
    if task is not None and task.shape is not None and task.shape[0] * task.shape[1] == positions:
        rows, columns = place // task.shape[1], place % task.shape[1]
        apart = (rows[:, None] - rows).abs() + (columns[:, None] - columns).abs()
        return Geometry(apart.float(), "cells above, below, left and right")
    return Geometry((place[:, None] - place).abs().float(), "the positions before and after")


def _steps(adjacent: Tensor) -> Tensor:
    """The length of the shortest way between any two nodes of a graph."""
    size = len(adjacent)
    distance = torch.full((size, size), float("inf"))
    reached = torch.eye(size, dtype=torch.bool)
    distance[reached] = 0
    for step in range(1, size):
        new = ((reached.float() @ adjacent.float()) > 0) & ~reached
        if not bool(new.any()):
            break
        distance[new] = step
        reached |= new
    return distance
