"""Path independence: whether other starts lead to the same end, and what only looks like it."""

import json
import warnings

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope.analyses.path_independence import panels as panels_of  # pyright: ignore[reportMissingImports]

from .test_fixed_points import DOUBLE, starts


def measured(map, start: Tensor, length: int = 60, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ls.LoopscopeWarning)
        run = ls.iterate(map, start, length)
    return ls.analyses.measure("path_independence", run, **options)


CASES = {
    "one limit": (torch.cos, starts(4, 3), "independent"),
    "one limit at the origin": (lambda x: 0.3 * x, starts(4, 3), "independent"),
    "one limit, one example": (torch.cos, starts(1, 3), "independent"),
    "two limits": (lambda x: torch.tanh(2 * x), starts(4, 3), "dependent"),
    "two limits in one direction": (
        lambda x: 2 + torch.tanh(4 * (x - 2)),
        1 + 2 * starts(6, 1).abs(),
        "dependent",
    ),
    "every point is one": (lambda x: x, starts(4, 3), "dependent"),
    "a cycle": (lambda x: 3 - x, starts(4, 3), "restless"),
    "a drift": (lambda x: x + 1, starts(4, 3), "restless"),
    "no end": (lambda x: 2 * x, starts(4, 3), "diverging"),
    "overflow": (lambda x: x * x, 3 + 0 * starts(4, 3), "diverging"),
}


@pytest.mark.parametrize("name", CASES)
def test_verdicts(name):
    map, start, verdict = CASES[name]
    result = measured(map, start)
    assert result.verdict.name == verdict
    assert json.loads(result.to_json())["verdict"]["name"] == verdict
    assert str(result).startswith(result.verdict.sentence)
    assert result.figure().data


def test_pairs_of_a_state_with_itself_are_left_out():
    """Three examples that keep what they begin with: with the pairs j = i alignment would be 1/3,
    and is 0 without."""
    result = measured(lambda x: x, torch.eye(3, dtype=DOUBLE))
    (exchanged,) = [kind for kind in result.kinds if kind.name == "exchanged"]
    assert exchanged.alignment.tolist() == [[0, 0]] * 3
    assert result.alignment == 0
    assert result.contrast == pytest.approx(0)


def test_alignment_of_two_attractors_is_that_of_their_shares():
    """Ends ±1: from a start with the sign of s the cosine is s times the end's sign."""
    start = torch.tensor([[0.5], [0.7], [-0.6], [0.2]], dtype=DOUBLE)
    result = measured(lambda x: torch.tanh(2 * x), start, exchanged=3)
    (exchanged,) = [kind for kind in result.kinds if kind.name == "exchanged"]
    assert sorted(exchanged.alignment[0].tolist()) == [-1, 1, 1]
    assert result.alignment == pytest.approx((3 * (1 + 1 - 1) - 3) / 12)


def test_contrast_warns_where_all_examples_end_alike():
    assert measured(torch.cos, starts(4, 3)).contrast == pytest.approx(1)


def test_starts_are_drawn_by_their_seed():
    one, same, other = (measured(lambda x: torch.tanh(2 * x), starts(2, 3), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.kinds[-1].alignment, same.kinds[-1].alignment)
    assert not torch.equal(one.kinds[-1].alignment, other.kinds[-1].alignment)


def test_a_search_finds_the_small_basin_that_chance_misses():
    """Almost every start goes to the point at (1, 0); those far enough along the second axis go to
    another."""

    def map(x: Tensor) -> Tensor:
        far = torch.sigmoid(40 * (x[:, 1:] / x.norm(dim=1, keepdim=True).clamp(min=1e-9) - 0.9))
        goal = (
            torch.tensor([[1.0, 0.0]], dtype=x.dtype) * (1 - far)
            + torch.tensor([[0.0, 1.0]], dtype=x.dtype) * far
        )
        return 0.3 * x + 0.7 * goal

    start = torch.tensor([[1.0, 0.1], [0.9, 0.0]], dtype=DOUBLE)
    ordinary = measured(map, start, 12, random=1, seed=3, iterations=16)
    assert ordinary.verdict.name == "independent"
    attacked = measured(map, start, 12, random=1, seed=3, adversarial=20, iterations=16)
    attack = attacked.kinds[-1]
    assert attack.name == "adversarial"
    assert attack.mean <= min(kind.mean for kind in attacked.kinds[:-1]) + 1e-6


def test_a_search_through_a_path_independent_loop_changes_nothing():
    result = measured(torch.cos, starts(3, 4), adversarial=4)
    assert result.verdict.name == "independent"
    assert result.kinds[-1].mean == pytest.approx(1)


@pytest.mark.parametrize("halting", ["none", "interpolated"])
def test_a_transformer_loop(halting):
    torch.manual_seed(0)
    model = ls.models.build(
        "universal",
        vocabulary=5,
        width=16,
        heads=2,
        injection="add",
        step_code="none",
        norm="stream",
        halting=halting,
    ).eval()
    run = ls.record(model, torch.randint(0, 5, (4, 6)), 16)
    result = ls.analyses.measure("path_independence", run)
    assert result.by_position.shape == (6,)
    assert [kind.name for kind in result.kinds] == ["exchanged", "zero", "random"]
    assert result.verdict.name == "independent"
    assert -1 <= result.contrast < 1


def test_cosines_are_drawn_of_ends_only():
    assert not panels_of(measured(lambda x: x * x, 3 + 0 * starts(4, 3)))  # it diverges
    (panel,) = panels_of(measured(torch.cos, starts(4, 3)))
    assert all(len(trace.x) for trace in panel.figure.data) and "Left out" not in panel.reading
    mixed = measured(lambda x: torch.where(x > 1, 2 * x, x / 2), torch.tensor([[0.5], [3.0]]))
    (panel,) = panels_of(mixed)
    assert "Left out are the 1 of 2 examples" in panel.reading
    assert sum(len(trace.x) for trace in panel.figure.data) == mixed.starts


def test_overflow_is_named_at_its_state():
    result = measured(lambda x: x * x, torch.tensor([[3.0], [2.0]]), 20, double=False)
    assert result.overflow == 7
    assert "NaN or infinity begin at state 7." in str(result)


def test_thresholds_are_named_and_checked():
    assert "same end from cosine 0.9 and distance 0.5" in str(
        measured(torch.cos, starts(2, 1), aligned=0.9, near=0.5)
    )
    with pytest.raises(ls.LoopscopeError, match="random must be a whole number, 0 or more, but is -1"):
        measured(torch.cos, starts(2, 1), examples=2, random=-1)
