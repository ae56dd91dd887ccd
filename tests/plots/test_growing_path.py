"""The part of a growing path that a figure shows."""

import pytest
import torch

from loopscope.plots.growing_path import GROWTH, drawn_path


@pytest.mark.parametrize("last", [1e19, 3e38, float("inf"), float("nan")])
def test_a_growing_path_is_drawn_while_its_first_steps_can_be_seen(last: float):
    path = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 400.0], [0.0, 5 * GROWTH], [last, 0.0], [1.0, 0.0]])
    drawn = drawn_path(path, grows=True)
    assert torch.equal(drawn, path[:4])
    assert float((drawn - drawn[0]).norm(dim=-1).max()) <= GROWTH * 5


def test_other_paths_are_drawn_whole():
    path = torch.tensor([[0.0], [1e-3], [1e6], [2e6]])
    assert drawn_path(path, grows=False) is path
    assert torch.equal(drawn_path(path[:1], grows=True), path[:1])
