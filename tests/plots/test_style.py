"""The style of figures: each example's look, ticks, and rows of tokens."""

import math

import pytest
import torch

from loopscope.plots import style
from loopscope.plots.heatmaps import LABEL, NAMED, position_heatmap, square_heatmap, token_heatmap, token_rows


def test_no_two_of_many_examples_look_alike():
    looks = [style.example_style(b) for b in range(36)]
    assert len(set(looks)) == 36
    assert len({look.colour for look in looks[:6]}) == 6  # the first ones by colour alone
    assert {look.dash for look in looks[:6]} == {"solid"}
    assert looks[7].colour == looks[1].colour
    assert looks[7].symbol != looks[1].symbol


def test_the_names_of_few_positions_stand_under_the_axis():
    def axis(count: int):
        cells = [[0.0] * count]
        names = ["<b>", " "] + ["7"] * (count - 2)
        figure = position_heatmap(cells, "", "k", "share", hover="", names=names, iterations=[3])
        assert list(figure.data[0].y) == [3]
        return figure.layout.xaxis.ticktext

    assert axis(3) == ("&lt;b&gt;", "' '", "7")
    assert axis(NAMED + 1) is None


def test_long_tokens_are_short_on_an_axis_and_escaped_whole():
    figure = position_heatmap([[0.0] * 2], "", "k", "share", hover="", names=["<" * 40, "a" * LABEL])
    assert figure.layout.xaxis.ticktext == (f"{'&lt;' * (LABEL - 1)}…", "a" * LABEL)


LOG_VALUES = [(0.3, 1.7), (2.0, 3.0), (1e-9, 1.0), (5.0, 5.0), (7e4, 9e4), (13.0, 13.1), (4.0, 350.0)]


@pytest.mark.parametrize("values", LOG_VALUES)
def test_a_logarithmic_axis_has_two_ticks_or_more(values: tuple[float, float]):
    figure = style.empty("", "", "")
    figure.add_scatter(y=values)
    style.decades(figure)
    axis = figure.layout.yaxis
    low, high = (math.log10(pick(values)) for pick in (min, max))
    if axis.tickvals is None:  # at powers of ten
        assert math.floor(high / axis.dtick) - math.ceil(low / axis.dtick) >= 1
    else:
        assert axis.range[0] < low and high < axis.range[1]
        drawn = [v for v in axis.tickvals if axis.range[0] <= math.log10(v) <= axis.range[1]]
        assert len(drawn) == len(set(axis.ticktext)) >= style.FEWEST_TICKS


@pytest.mark.parametrize(
    ("count", "ticks"),
    [(3, [0, 1, 2]), (10, list(range(10))), (11, [0, 2, 4, 6, 8, 10]), (73, [0, 10, 20, 30, 40, 50, 60, 70])],
)
def test_iterations_have_few_ticks_between_the_rows_of_tokens(count: int, ticks: list[int]):
    cells = {"z": [[0, 1]] * count, "text": [["a", "b"]] * count, "customdata": [[0, 0]] * count}
    rows = token_rows(["x", ""], ["", "y"])
    figure = token_heatmap("", cells, range(count), 2, hover="", rows=rows)
    axis = figure.layout.yaxis
    assert list(axis.tickvals) == [-1, count, *ticks]
    assert list(axis.ticktext) == ["input", "correct", *map(str, ticks)]
    assert rows["text"] == ["x", "", "", "y"]
    assert list(axis.range) == [count + 0.5, -1.5]


def test_a_legend_stands_below_the_figure():
    legend = style.empty("", "", "").layout.legend
    assert (legend.yref, legend.y, legend.yanchor) == ("container", 0, "bottom")


@pytest.mark.parametrize(("layers", "iterations"), [(1, 3), (8, 16), (2, 40)])
def test_the_axes_of_grouped_items_number_some_groups_instead_of_naming_all(layers: int, iterations: int):
    names = [f"iteration {t}, layer {layer}" for t in range(iterations) for layer in range(layers)]
    axis = square_heatmap("", torch.eye(len(names)), "", "", labels=names, group=layers).layout.xaxis
    assert 2 <= len(axis.tickvals) <= 10
    for name, text in zip(axis.tickvals, axis.ticktext, strict=True):
        assert name == f"iteration {text}, layer 0"
