"""States as a table of pandas: what is present, all of it, and nothing else."""

import numpy as np
import pytest
import torch

import loopscope as ls
from loopscope.core import states_display
from loopscope.core.states import States

from ..toys.public_calls import run

pandas = pytest.importorskip("pandas")


def test_with_a_width_each_vector_is_a_row():
    table = run().states.to_pandas()
    assert list(table.columns) == ["iteration", "batch", "position", *(f"w{i}" for i in range(8))]
    values = table.set_index(["iteration", "batch", "position"]).sort_index().to_numpy()
    assert torch.equal(torch.tensor(values).reshape(run().states.shape), run().states.tensor)


def test_without_a_width_each_number_is_a_row():
    states = run().states.at(width=3)
    table = states.to_pandas()
    assert list(table.columns) == ["iteration", "batch", "position", "value"]
    assert torch.equal(torch.tensor(table["value"].to_numpy()).reshape(states.shape), states.tensor)


def test_only_what_is_present_has_a_row():
    values = {(0, 0): torch.ones(2, 3), (0, 1): torch.full((2, 3), torch.nan), (4, 0): torch.zeros(2, 3)}
    rows = {(4, 0): torch.tensor([True, False])}
    table = States("x", values, ("iteration", "low", "batch", "width"), 6, rows=rows).to_pandas()
    assert table[["iteration", "low", "batch"]].to_numpy().tolist() == [
        [0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [4, 0, 0],
    ]  # fmt: skip
    assert np.isnan(table["w0"]).tolist() == [False, False, True, True, False]  # NaN that was computed stays


def test_bfloat16_becomes_float32():
    states = States(
        "x", {(0,): torch.tensor([[1.5, 2.0]], dtype=torch.bfloat16)}, ("iteration", "batch", "width"), 1
    )
    assert states.to_pandas()[["w0", "w1"]].to_numpy().tolist() == [[1.5, 2.0]]


def test_too_many_numbers_are_refused(monkeypatch: pytest.MonkeyPatch):
    count = run().states.tensor.numel()
    monkeypatch.setattr(states_display, "MOST_NUMBERS", count)
    assert len(run().states.to_pandas()) == count / 8
    monkeypatch.setattr(states_display, "MOST_NUMBERS", count - 1)
    with pytest.raises(
        ls.LoopscopeError, match=f"at most {count - 1:,} numbers here, but 'state' has {count:,}"
    ):
        run().states.to_pandas()


def test_nothing_kept_is_an_empty_table():
    table = States("x", {}, ("iteration", "batch", "width"), 3).to_pandas()
    assert len(table) == 0
    assert "nothing kept" in States("x", {}, ("iteration",), 3)._repr_html_()


def test_a_notebook_shows_axes_and_coordinates():
    html = run().states[::2]._repr_html_()
    assert "<td>iteration</td><td>3</td><td>0, 2, 4</td>" in html
    assert "<td>batch</td><td>24</td><td>0 to 23</td>" in html
    shown = run()._repr_html_()
    assert all(f"<td>{site}</td>" in shown for site in run().names)
