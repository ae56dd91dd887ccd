"""Geometry of states: participation ratio, step angles, similarity of iterations."""

import dataclasses
import json
import math

import pytest
import torch

import loopscope as ls
import loopscope.analyses.geometry as geometry  # pyright: ignore[reportMissingImports]
from loopscope import maths
from loopscope.analyses.geometry import drawn_vectors  # pyright: ignore[reportMissingImports]
from loopscope.analyses.geometry.result import GeometryVerdict, ratio_text  # pyright: ignore[reportMissingImports]
from loopscope.core.states import States
from loopscope.maths import similarity
from loopscope.runs.run import Run

from ..toys.largest_tensor import Largest

DOUBLE = torch.float64


def cloud(*shape: int, seed: int = 0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def measured(map, start, iterations=12, **options):
    return ls.analyses.measure("geometry", ls.iterate(map, start, iterations), **options)


def test_contracting_one_direction_at_a_time_narrows():
    rates = torch.tensor([1.0, 0.5, 0.5, 0.5], dtype=DOUBLE)
    result = measured(lambda x: x * rates, cloud(400, 4), 20)
    field = result.fields[0]
    assert float(field.participation_ratio[0]) == pytest.approx(4, rel=0.05)
    assert float(field.participation_ratio[-1]) == pytest.approx(1, rel=1e-3)
    assert result.verdict.name == "narrowing"
    assert "from 3.9" in str(result) or "from 4 " in str(result)


def test_growing_into_more_directions_widens_and_scaling_changes_nothing():
    line = cloud(100, 1) * cloud(1, 3, seed=2)
    spread = cloud(100, 3, seed=3)
    assert measured(lambda x: x + 0.3 * spread, line).verdict.name == "widening"
    result = measured(lambda x: 0.9 * x + 1, cloud(100, 3))
    assert result.verdict.name == "steady"
    assert torch.allclose(result.fields[0].cka, torch.ones(13, 13, dtype=DOUBLE))


def test_a_loop_that_forgets_its_input_collapses():
    result = measured(lambda x: 0.01 * x + 1, cloud(50, 3), 12)
    assert result.verdict.name == "collapsed"
    assert math.isnan(float(result.fields[0].participation_ratio[-1]))


@pytest.mark.parametrize("angle", [0.3, 1.0, 2.5])
def test_the_steps_of_a_rotation_turn_by_its_angle(angle):
    turned = torch.tensor(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=DOUBLE
    )
    result = measured(lambda x: x @ turned, cloud(5, 2))
    assert result.fields[0].step_angle.tolist() == pytest.approx([angle] * 11)
    assert len(result.fields[0].explained) == 2


def test_straight_on_is_zero_back_and_forth_is_pi_and_rest_has_no_angle():
    assert measured(lambda x: x + 1, cloud(5, 2)).fields[0].step_angle.tolist() == pytest.approx(
        [0] * 11, abs=1e-6
    )
    assert measured(lambda x: -0.9 * x, cloud(5, 2)).fields[0].step_angle.tolist() == pytest.approx(
        [math.pi] * 11
    )
    assert measured(lambda x: x.clone(), cloud(5, 2)).fields[0].step_angle.isnan().all()


def test_components_keep_what_they_say_of_the_distances():
    run = ls.iterate(lambda x: torch.tanh(x @ cloud(3, 3)), cloud(6, 3), 8)
    field = ls.analyses.measure("geometry", run).fields[0]
    x = run.states.tensor.transpose(0, 1)
    assert field.components.shape == (6, 9, 3)
    assert float(field.explained.sum()) == pytest.approx(1)
    assert torch.allclose(
        torch.cdist(field.components.double(), field.components.double()), torch.cdist(x, x), atol=1e-5
    )


def test_the_numbers_are_those_of_the_maths():
    run = ls.record(
        ls.models.build("universal", vocabulary=5, width=8, heads=2, seed=0).eval(),
        torch.randint(0, 5, (6, 7)),
        5,
    )
    field = ls.analyses.measure("geometry", run).fields[0]
    x = run.states.tensor.flatten(1, 2)
    assert torch.allclose(field.participation_ratio, maths.participation_ratio(x))
    assert torch.allclose(field.effective_rank, maths.effective_rank(x))
    assert torch.allclose(field.cka, maths.cka_map(x))


def test_the_tensors_of_a_state_stand_side_by_side():
    net = ls.models.build(
        "universal", vocabulary=5, width=8, heads=2, halting="accumulated", halting_bias=-3.0, seed=0
    ).eval()
    run = ls.record(net, torch.randint(0, 5, (6, 7)), 5)
    result = ls.analyses.measure("geometry", run)
    assert [field.name for field in result.fields] == ["state", "state.output"]
    assert "At the end the participation ratio of state is" in str(result)
    assert len(geometry.draw(result).data) == 4
    twice = dataclasses.replace(result.fields[0], name="state.copy")
    same = geometry.draw(dataclasses.replace(result, fields=(*result.fields, twice))).data
    assert [trace.name for trace in same][::2] == [
        "state and state.copy: participation ratio",
        "state.output: participation ratio",
    ], "lines that lie on one another are one"
    assert [f.name for f in ls.analyses.measure("geometry", run, fields="state").fields] == ["state"]


def test_a_start_that_all_examples_share_is_left_out_of_the_sentences():
    inputs = cloud(50, 3)
    result = measured(lambda x: 0.5 * x + inputs, torch.zeros(50, 3, dtype=DOUBLE), 6)
    assert math.isnan(float(result.fields[0].participation_ratio[0]))
    panels = geometry.panels(result)
    for text in (str(result), panels[0].observation):
        assert " after 1 iteration to " in text and "so the comparison begins at k = 1" in text
        assert "unknown" not in text and "nan" not in text
    assert "The state after 1 iteration and the state after 6 iterations" in panels[2].observation


def test_a_wide_run_is_measured_on_a_sample_of_its_vectors():
    run = ls.iterate(lambda x: 0.9 * x, cloud(40, 30, 4), 4)
    few, all_ = (ls.analyses.measure("geometry", run, max_vectors=count) for count in (500, 5000))
    assert (few.vectors, all_.vectors) == (500, 1200)
    assert float(few.fields[0].participation_ratio[0]) == pytest.approx(
        float(all_.fields[0].participation_ratio[0]), rel=0.05
    )


def test_everything_is_in_the_json_and_the_figures_draw():
    result = measured(lambda x: 0.5 * x, cloud(5, 2))
    assert json.loads(result.to_json())["vectors"] == 5
    for panel in geometry.panels(result):
        panel.figure.to_json()
    assert "the factor 1.25" in str(result)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: measured(lambda x: x, cloud(5, 2), max_vectors=1),
            "max_vectors must be a whole number, 2 or more",
        ),
        (
            lambda: measured(lambda x: x, cloud(5, 2), change_factor=0.5),
            "change_factor must be a number above 1",
        ),
        (lambda: measured(lambda x: x, cloud(5, 2), 0), "geometry needs 2 states or more"),
    ],
)
def test_what_cannot_be_measured_is_said(call, sentence):
    with pytest.raises(ls.LoopscopeError, match=sentence):
        call()


VERDICTS = {
    "widening": ((2.0, 2.5), {}),
    "narrowing": ((2.5, 2.0), {}),
    "steady": ((2.0, 2.49), {}),
    "collapsed": ((2.0, math.nan), {}),
    "point": ((math.nan, math.nan), {}),
    "unresolved": ((2.0, 2.0), {"resolved": False}),
    "unclear": ((math.nan, 2.0), {}),
}


@pytest.mark.parametrize("verdict", geometry.GeometryVerdict)
def test_every_verdict_is_reached_by_its_numbers(verdict):
    (first, last), options = VERDICTS[verdict.name]
    assert geometry.verdict_of(first, last, **options) is verdict


def test_one_example_is_no_evidence_of_others():
    result = measured(lambda x: 0.9 * x, cloud(1, 6, 3))
    assert result.verdict.name == "unclear"
    assert "1 example" in result.sentence


def test_a_common_start_is_compared_from_the_first_state_that_has_a_ratio():
    """Not from a NaN, whose comparison is never true: here the ratio falls."""
    inputs, rates = cloud(60, 4), torch.tensor([1.0, 0.4, 0.4, 0.4], dtype=DOUBLE)

    def map(x):
        return torch.where((x == 0).all(), inputs, x * rates)

    result = measured(map, torch.zeros(60, 4, dtype=DOUBLE), 8)
    assert result.verdict.name == "narrowing"
    (change,) = result.evidence.estimates
    assert change.high < 1 / 1.25
    assert geometry.headline(result)[1] == "participation ratio, k = 1 to 8"


def test_the_ratio_of_the_verdict_is_that_of_the_maths():
    run = ls.iterate(lambda x: torch.tanh(x @ cloud(3, 3)), cloud(40, 3), 5)
    result = ls.analyses.measure("geometry", run)
    ratio = result.fields[0].participation_ratio
    assert result.evidence.estimates[0].value == pytest.approx(float(ratio[-1] / ratio[0]))


def test_a_state_whose_tensors_differ_in_shape_is_measured_where_they_fit():
    model = ls.models.load("memory-sudoku")
    result = ls.analyses.measure("geometry", ls.record(model, model.task.batch(4, seed=0).tokens))
    assert "state.memory" not in [field.name for field in result.fields]


def test_a_ratio_that_rises_and_returns_has_its_peak_named():
    field = measured(lambda x: 0.9 * x, cloud(40, 6), iterations=3).fields[0]
    ratio = torch.tensor([1.2, 2.0, 2.4, 1.4])
    text = ratio_text(dataclasses.replace(field, participation_ratio=ratio), [0, 1, 2, 3])
    assert text.endswith("to 1.4 after 3 iterations, with a peak of 2.4 after 2 iterations")
    flat = dataclasses.replace(field, participation_ratio=torch.tensor([1.2, 1.3, 1.4, 1.4]))
    assert "peak" not in ratio_text(flat, [0, 1, 2, 3])
    low = dataclasses.replace(field, participation_ratio=torch.tensor([2.0, 1.0, 2.0, 2.0]))
    assert "with a minimum of 1 after 1 iteration" in ratio_text(low, [0, 1, 2, 3])


@pytest.mark.parametrize(("verdict", "word"), [("narrowing", "smaller"), ("widening", "larger")])
def test_a_verdict_on_the_ends_says_what_lies_beyond_both_between(verdict: str, word: str):
    result = measured(lambda x: 0.9 * x, cloud(40, 6), iterations=3)
    ends = (2.0, 1.4) if verdict == "narrowing" else (1.4, 2.0)
    ratio = torch.tensor([ends[0], 2.1, 3.2, ends[1]])
    field = dataclasses.replace(result.fields[0], participation_ratio=ratio)
    result = dataclasses.replace(result, fields=(field,), verdict=GeometryVerdict[verdict])
    assert f"is {word} at the end than at the start, by a factor of 1.25" in result.sentence
    assert "with a peak of 3.2 after 2 iterations" in result.sentence


def run_of_many_states():
    values = torch.randn(60, 3, 4, 32, generator=torch.Generator().manual_seed(0)) + 1
    axes = ("iteration", "batch", "position", "width")
    sites = {"state": States("state", {(k,): x for k, x in enumerate(values)}, axes, len(values))}
    return Run(tokens=torch.zeros(3, 4), iterations=59, sites=sites, output=None, origin={})


def test_of_many_states_no_tensor_holds_the_vectors_of_all(monkeypatch):
    """In double precision they would be twice as large as the run."""
    monkeypatch.setattr(similarity, "BLOCK", 4000)
    run = run_of_many_states()
    with Largest() as largest:
        geometry.measure(run)
    assert 0 < largest.bytes < run.nbytes / 2


def test_values_in_files_give_the_numbers_of_those_in_memory(tmp_path, monkeypatch):
    """Whether the vectors that are drawn stay in memory or go to files."""
    run = run_of_many_states()
    whole = ls.analyses.measure("geometry", run, max_vectors=7)
    stored = ls.load_run(run.save(tmp_path / "run.safetensors"))
    for large in (10**9, 100):
        monkeypatch.setattr(drawn_vectors, "LARGE", large)
        result = ls.analyses.measure("geometry", stored, max_vectors=7)
        assert str(result) == str(whole)
        assert torch.equal(result.fields[0].cka, whole.fields[0].cka)
        assert torch.equal(result.fields[0].components, whole.fields[0].components)
