"""Tables of results: what becomes a table of pandas and of LaTeX, and what notebooks show."""

import builtins
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import loopscope as ls
from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.evidence import Estimate, Evidence
from loopscope.common.latex_table import latex
from loopscope.common.result_tables import field_arrays
from loopscope.common.tidy_table import as_array
from loopscope.common.verdict import Verdict
from loopscope.plots import style

from ..toys.public_calls import run

pandas = pytest.importorskip("pandas")
HOSTILE = "<script>alert(1)</script>&\"'{{7*7}}"
NAN = math.nan


class Answer(Verdict):
    """A verdict in signs that HTML and LaTeX interpret."""

    hostile = HOSTILE


@dataclass(frozen=True)
class Part:
    """A part of a result."""

    name: str
    score: Float[Tensor, " iteration"]


@dataclass(frozen=True)
class Planted(AnalysisResult):
    """A result with every kind of field."""

    iterations: tuple[int, ...]
    effect: Float[Tensor, "iteration position"]
    twice: Float[Tensor, "state state"]
    rest: Float[Tensor, "*axes width"] | None
    parts: tuple[Part, ...]
    shares: Mapping[str, float]
    by_set: Mapping[str, Float[Tensor, " iteration"]]
    bands: Mapping[str, tuple[Float[Tensor, " iteration"], Float[Tensor, " iteration"]]]
    threshold: float
    overflow: int | None

    def summary(self) -> str:
        return HOSTILE


def draw(result: Planted) -> Any:
    figure = style.empty(HOSTILE, "k", "effect")
    figure.add_scatter(y=result.effect[:, 0].tolist(), name=style.label(HOSTILE))
    return figure


@pytest.fixture
def result() -> Planted:
    effect = torch.tensor([[1.0, NAN], [0.1, 3.0], [5.0, 6.0]], dtype=torch.float64)
    estimates = (Estimate(f"50 % of a_b & {HOSTILE}", -0.5, -0.75, 0.25), Estimate("alone", 2.0, NAN, NAN))
    evidence = Evidence(7, {"hostile": 1.0}, f"7 of 7 examples {HOSTILE}", estimates=estimates)
    parts = (Part("low", torch.arange(3.0)), Part("high", torch.arange(3.0) + 10))
    by_set = {"train": torch.zeros(3), "test": torch.ones(3)}
    bands = {"test": (torch.zeros(3), torch.ones(3))}
    return Planted(
        Answer.hostile, (0, 2, 8), effect, torch.eye(2), torch.ones(2, 2, 2), parts, {"a": 0.25, "b": NAN},
        by_set, bands, 0.5, None, evidence=evidence,
    )  # fmt: skip


def test_a_field_in_long_format_is_the_tensor(result: Planted):
    table = result.to_pandas("effect")
    assert list(table.columns) == ["iteration", "position", "effect"]
    again = table.pivot(index="iteration", columns="position", values="effect").to_numpy()
    assert torch.equal(torch.tensor(again).nan_to_num(-9), result.effect.nan_to_num(-9))
    assert table["iteration"].unique().tolist() == [0, 2, 8]  # of the field `iterations`
    assert table["effect"].isna().tolist() == [False, True, False, False, False, False]


def test_every_kind_of_field_has_named_axes(result: Planted):
    columns = {name: list(result.to_pandas(name).columns) for name in field_arrays(result)}
    assert columns == {
        "iterations": ["index", "iterations"],
        "effect": ["iteration", "position", "effect"],
        "twice": ["state", "state_2", "twice"],
        "rest": ["axis_0", "axis_1", "width", "rest"],
        "parts.score": ["parts", "iteration", "score"],
        "shares": ["key", "shares"],
        "by_set": ["by_set", "iteration", "value"],
        "bands": ["bands", "bands_2", "iteration", "value"],
    }
    assert result.to_pandas("bands").groupby("bands_2")["value"].sum().to_dict() == {0: 0.0, 1: 3.0}
    assert result.to_pandas("parts.score").groupby("parts")["score"].sum().to_dict() == {
        "low": 3.0,
        "high": 33.0,
    }
    assert result.to_pandas("by_set").groupby("by_set")["value"].sum().to_dict() == {
        "train": 0.0,
        "test": 3.0,
    }
    assert result.to_pandas("shares").set_index("key")["shares"]["a"] == 0.25


def test_without_a_field_it_is_the_estimates_and_the_numbers(result: Planted):
    table = result.to_pandas().set_index("name")
    estimate = result.evidence.estimates[0]
    assert table.loc[estimate.name].tolist() == [estimate.value, estimate.low, estimate.high]
    assert table.loc["threshold", "value"] == 0.5
    assert table.loc[["overflow"]].isna().all().all()
    assert table.loc["alone", ["low", "high"]].isna().all()
    assert table.attrs == {"verdict": "hostile", "sentence": HOSTILE}


@pytest.mark.parametrize("name", ["convergence", "cycles", "lens", "geometry", "overthinking"])
def test_every_array_of_a_real_result_has_its_table(name: str):
    measured = ls.analyses.measure(name, run())
    arrays = field_arrays(measured)
    assert arrays
    for field, parts in arrays.items():
        table = measured.to_pandas(field)
        assert len(table) == sum(as_array(part.values).size for part in parts)
        numbers = [part.values for part in parts if isinstance(part.values, Tensor)]
        if len(numbers) == len(parts):
            assert table.iloc[:, -1].isna().sum() == sum(int(one.isnan().sum()) for one in numbers)


def test_an_unknown_field_is_a_sentence(result: Planted):
    with pytest.raises(ls.LoopscopeError, match="'efect' isn't one of Planted. Did you mean 'effect'?"):
        result.to_pandas("efect")


def test_without_pandas_there_is_a_sentence(result: Planted, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    for convert in (result.to_pandas, run().states.to_pandas):
        with pytest.raises(ls.LoopscopeError, match=r'pip install "loopscope\[pandas\]"'):
            convert()


def test_the_table_for_latex_escapes_what_latex_interprets(result: Planted):
    table = result.to_latex()
    assert table.startswith("\\begin{tabular}{lrr}\n\\toprule")
    assert table.endswith("\\bottomrule\n\\end{tabular}")
    assert r"50 \% of a\_b \& \textless{}script\textgreater{}" in table
    assert r"& $-$0.5 & $-$0.75 to 0.25 \\" in table
    assert r"alone & 2 &  \\" in table
    assert table.count("{") == table.count("}")
    assert latex("\\a^~|\n≥") == r"\textbackslash{}a\textasciicircum{}\textasciitilde{}\textbar{} $\geq$"


def test_hostile_strings_stay_text_in_a_notebook(result: Planted):
    for html in (result._repr_html_(), _hostile_run()._repr_html_(), _hostile_run().states._repr_html_()):
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def _hostile_run() -> ls.Run:
    from ..toys import hostile_strings

    hostile = hostile_strings.run(name=HOSTILE)
    hostile.states.name = HOSTILE
    return hostile


def test_a_result_shows_verdict_evidence_estimates_and_figure(result: Planted):
    html = result._repr_html_()
    assert "7 of 7 examples" in html
    assert "-0.5 (-0.75 to 0.25)" in html
    assert "Plotly.newPlot" in html


def test_on_a_terminal_ipython_shows_the_summary(result: Planted, capsys: pytest.CaptureFixture[str]):
    result._ipython_display_()
    assert capsys.readouterr().out == f"{HOSTILE}\n"
