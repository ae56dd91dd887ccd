"""Distances between positions, on a sequence, on a board or by the rules of a task."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.recorder.labels import task_of
from loopscope.runs.run import Run


@dataclass(frozen=True)
class PositionDistances:
    """Distances between positions."""

    distance: Float[Tensor, "position position"]
    """0 for a position and itself, 1 for neighbours; infinite where there is no path."""
    neighbours: str
    """Which positions are neighbours, in words."""
    later_neighbours: str
    """The same where only later positions can be reached."""


def position_distances(run: Run, positions: int) -> PositionDistances:
    """Distances by the rules of the run's task, else on its board, else along the sequence.

    Arguments:
        positions: their number. If it is not the number of cells of the task's board, the positions
            are a sequence.
    """
    task = task_of(run)
    adjacent = None if task is None else task.neighbours()
    if adjacent is not None and len(adjacent) == positions:
        words = "cells that constrain each other by the task's rules"
        return PositionDistances(shortest_paths(adjacent), words, f"later {words}")
    index = torch.arange(positions)
    if task is not None and task.shape is not None and task.shape[0] * task.shape[1] == positions:
        rows, columns = index // task.shape[1], index % task.shape[1]
        manhattan = (rows[:, None] - rows).abs() + (columns[:, None] - columns).abs()
        return PositionDistances(
            manhattan.float(), "cells above, below, left and right", "cells below and right"
        )
    distance = (index[:, None] - index).abs().float()
    return PositionDistances(distance, "the previous and the next position", "the next position")


def shortest_paths(adjacent: Bool[Tensor, "node node"]) -> Float[Tensor, "node node"]:
    """Length of the shortest path between any two nodes of a graph, infinite where there is
    none."""
    size = len(adjacent)
    distance = torch.full((size, size), float("inf"))
    reached = torch.eye(size, dtype=torch.bool)
    distance[reached] = 0
    for length in range(1, size):
        frontier = ((reached.float() @ adjacent.float()) > 0) & ~reached
        if not bool(frontier.any()):
            break
        distance[frontier] = length
        reached |= frontier
    return distance
