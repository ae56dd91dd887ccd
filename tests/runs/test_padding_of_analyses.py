"""A law for every analysis: padding changes no number, wherever it is and whatever its states
hold."""

from functools import cache

import pytest

import loopscope as ls

from ..toys.padded_loop import padded, padded_loop, ragged
from ..toys.same_result import differences

WITHOUT_POSITIONS = {"grokking": "it measures a history, which has no positions"}
OPTIONS = {
    "probes": {"examples": 24},
    "halting_prediction": {"examples": 24},
    "fixed_points": {"perturbed": 1, "random": 1, "spectra": 1, "double": False},
    "stability": {"count": 2, "exponents_count": 1, "iterations": 10, "gain": 4},
    "depth_use": {"max_inputs": 3, "points": 3},
    "path_independence": {"random": 1, "exchanged": 1},
    "cycles": {"extra": 24},
    "attention": {"examples": 4, "extra": 8},
}
SMALL = ("fixed_points", "stability", "path_independence")
"""They solve equations for each example, so they get few and short ones."""
SLOW = ("fixed_points", "stability", "halting_prediction", "depth_use")
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in ls.analyses.names()
    if name not in WITHOUT_POSITIONS
]


@cache
def run_of(small: bool, kind: str, left: int = 0, right: int = 0, at_pads: float = 0.5):
    """A run of whole rows, or of ragged ones, with more padding before and after them."""
    model = padded_loop(at_pads)
    tokens = model.task.batch(24, seed=0).tokens
    tokens = ragged(tokens[:2, :3] if small else tokens) if kind == "ragged" else tokens
    tokens = tokens[:2, :3] if small else tokens
    return ls.record(model, padded(tokens, left, right), 8)


@cache
def measured(name: str, *kind):
    return ls.analyses.measure(name, run_of(name in SMALL, *kind), **OPTIONS.get(name, {}))


def test_every_analysis_without_this_law_is_one_without_positions():
    for name in WITHOUT_POSITIONS:
        with pytest.raises(ls.LoopscopeError, match="history"):
            ls.analyses.measure(name, run_of(False, "whole"))


@pytest.mark.parametrize("name", NAMES)
def test_rows_with_padding_give_what_they_give_without(name):
    plain, more = measured(name, "whole"), measured(name, "whole", 3, 2, 1e6)
    assert differences(plain, more, 3) == []


@pytest.mark.parametrize("name", NAMES)
def test_neither_more_padding_nor_what_it_holds_changes_a_ragged_batch(name):
    plain, more = measured(name, "ragged"), measured(name, "ragged", 2, 1, float("nan"))
    assert differences(plain, more, 2) == []
