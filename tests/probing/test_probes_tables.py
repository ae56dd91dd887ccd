"""Probes as a table, and what a notebook shows of them."""

import pytest
import torch

from ..toys.public_calls import probes


def test_the_table_has_every_score_under_its_names():
    pytest.importorskip("pandas")
    table = probes().to_pandas()
    assert list(table.columns)[:4] == ["site", "iteration", "position", "score"]
    assert table["iteration"].tolist() == list(probes().iterations)
    for name in ("score", "low", "high", "control", "baseline"):
        values = torch.tensor(table[name].to_numpy()).reshape(probes().score.shape)
        assert torch.equal(values.nan_to_num(-1), getattr(probes(), name).nan_to_num(-1))


def test_a_notebook_shows_the_best_probe_and_the_figure():
    html = probes()._repr_html_()
    best = probes().iterations[int(probes().score[0, :, 0].argmax())]
    assert f"<td>state</td><td>shared</td><td>{best}</td>" in html
    assert "Plotly.newPlot" in html
