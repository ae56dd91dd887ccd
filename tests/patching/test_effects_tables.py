"""Effects as a table, and what a notebook shows of them."""

import pytest
import torch

import loopscope as ls

from ..toys.public_calls import other, run


def test_the_table_has_every_cell_under_its_names():
    pytest.importorskip("pandas")
    effects = ls.effects(run(), other(), positions=[0, 3], iterations=[1, 3])
    table = effects.to_pandas()
    assert list(table.columns) == ["site", "iteration", "position", "head", "effect"]
    assert torch.equal(torch.tensor(table["effect"].to_numpy()).reshape(effects.mean.shape), effects.mean)
    row = table[(table["iteration"] == 3) & (table["position"] == 3)]
    assert row["effect"].item() == effects.mean[0, 1, 1, 0].item()
    assert set(table["head"]) == {"all"}


def test_a_notebook_shows_the_strongest_effects_first():
    effects = ls.effects(run(), other(), positions=[0, 3], iterations=[1, 3])
    html = effects._repr_html_()
    strongest = effects.mean.flatten()[effects.mean.abs().argmax()]
    assert html.index(f"<td>{float(strongest):.3g}</td>") == min(
        html.index(f"<td>{float(value):.3g}</td>") for value in effects.mean.flatten()
    )
    assert "Plotly.newPlot" in html
