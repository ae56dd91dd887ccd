"""Effects as a table, and what a notebook shows of them."""

import math

import pytest
import torch

import loopscope as ls
from loopscope.patching.figures import effect_map

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


@pytest.mark.parametrize("known", [True, False])
def test_a_figure_without_any_number_says_so(known):
    cells = torch.full((3, 4), math.nan)
    if known:
        cells[1, 2] = 0.5
    figure = effect_map(cells, [0, 1, 2], range(4), "", x="position", y="k", quantity="change of margin")
    notes = [note.text for note in figure.layout.annotations]
    without = "no change of margin is defined, such as where donor and example answer alike"
    assert notes == ([] if known else [without])
