"""The animation: which states it shows, in whose colours, and what it says of their ends."""

import numpy as np
import pytest
import torch

import loopscope as ls
from loopscope.plots import style
from loopscope.reports import state_plane, trajectory
from loopscope.reports.thinned import thinned

from ..toys.padded_loop import padded, padded_loop, ragged
from .test_accuracy_section import parity_run


def plane(states, drawn=None, answers=None) -> state_plane.StatePlane:
    """A plane of these states, (state, batch, position, 2)."""
    states = np.asarray(states, dtype=float)
    shape = states.shape[1:3]
    size = np.linalg.norm(states - states[-1], axis=-1).max(0)
    return state_plane.StatePlane(
        iterations=list(range(len(states))),
        states=states,
        shares=(0.75, 0.25),
        drawn=np.ones(shape, dtype=bool) if drawn is None else np.asarray(drawn),
        resting=np.linalg.norm(states[-1] - states[-2], axis=-1) <= state_plane.REST * size,
        names=[[f"example {b}, position {p}" for p in range(shape[1])] for b in range(shape[0])],
        answers=answers,
    )


def decaying(rate: float, examples: int = 8, positions: int = 1):
    """Examples that near the origin by a factor per iteration, each on a ray of its own."""
    rays = np.arange(1, 2 * examples * positions + 1, dtype=float).reshape(examples, positions, 2)
    return np.stack([rays * rate**k for k in range(9)])


def test_a_dot_is_its_example_in_its_colour():
    section = trajectory.section(parity_run(8))
    assert section is not None
    panel = section.panels[0]
    named = {trace.name: trace for trace in panel.figure.data if (trace.name or "").startswith("example")}
    assert list(named) == [f"example {b}" for b in range(6)]
    for b, trace in enumerate(named.values()):
        assert trace.marker.color == style.example_style(b).colour
        assert trace.customdata[0].startswith(f"example {b}, position 6, input ")
        assert "correct answer" in trace.customdata[0]


def test_dots_that_cover_each_other_are_named():
    apart = decaying(0.95, examples=3)
    assert "lie on one another" not in trajectory._observation(plane(apart))
    same = apart.copy()
    same[-1, 2] = same[-1, 0]
    assert "the dots of examples 0 and 2 lie on one another" in trajectory._observation(plane(same))
    groups = decaying(0.95, examples=6)
    groups[-1, [2, 4]], groups[-1, [3, 5]] = groups[-1, 0], groups[-1, 1]
    said = trajectory._observation(plane(groups))
    assert "the dots of examples 0, 2 and 4; and of 1, 3 and 5 lie on one another" in said


def test_the_axes_hold_what_is_drawn_and_no_more():
    """Another example, of which no path is drawn, has been far away."""
    states = decaying(0.5, examples=8)
    states[0, 7] = 1e4
    result = plane(states)
    views = {"some": state_plane.last_positions(result)}
    figure = trajectory._panel(result, views, "title", "observation").figure
    drawn = states[:, :6].reshape(-1, 2)
    for axis, column in zip(("xaxis", "yaxis"), drawn.T, strict=True):
        low, high = figure.layout[axis].range
        assert low <= column.min() and column.max() <= high < 1.2 * column.max()


@pytest.mark.parametrize("resting", [{"resting"}, {"moving"}, {"resting", "moving"}])
def test_the_legend_has_the_ends_of_every_view(resting):
    states = np.concatenate([decaying(0.5 if "resting" in resting else 0.95, 2, 2)], axis=1)
    if len(resting) == 2:
        states[-2, 1, 1] += 100.0  # of an example whose view isn't the first
    result = plane(states)
    figure = trajectory._panel(result, state_plane.single_examples(result), "title", "seen").figure
    shown = {
        trace.name for trace in figure.data if trace.showlegend is not False and trace.name.startswith("end,")
    }
    names = {
        "resting": "end, last step < 1 %",
        "moving": "end, last step ≥ 1 %",
    }
    assert shown == {names[one] for one in resting}


def test_examples_keep_their_numbers_where_some_do_not_count():
    drawn = np.ones((9, 2), dtype=bool)
    drawn[[0, 2]] = False
    assert [path.example for path in state_plane.last_positions(plane(decaying(0.5, 9, 2), drawn))] == [
        1, 3, 4, 5, 6, 7,
    ]  # fmt: skip


def test_the_last_position_is_the_last_that_counts_in_its_example():
    model = padded_loop(0.5)
    run = ls.record(model, padded(ragged(model.task.batch(6, seed=0).tokens), 0, 3), 4)
    result = state_plane.state_plane(run)
    assert result is not None
    last = [int(row.nonzero()[-1, 0]) for row in run.mask]
    assert [path.position for path in state_plane.last_positions(result)] == last


def test_starts_ends_and_dots_lie_where_the_states_are():
    result = plane(decaying(0.5))
    paths = state_plane.last_positions(result)
    for i in range(9):
        frame = trajectory._frame(result, paths, i, 2)
        assert list(frame) == list(range(2, 2 + 2 * state_plane.EXAMPLES + 3))
        starts, resting, moving = (frame[2 + state_plane.EXAMPLES + j] for j in range(3))
        assert starts["x"] == [float(f"{x:.4g}") for x in result.states[0, :6, 0, 0]]
        assert resting["x"] + moving["x"] == [float(f"{x:.4g}") for x in result.states[-1, :6, 0, 0]]
        for b in range(6):
            dot, tail = frame[2 + state_plane.EXAMPLES + 3 + b], frame[2 + b]
            assert dot["x"] == [float(f"{result.states[i, b, 0, 0]:.4g}")]
            begin = 0 if i == 8 else max(0, i - trajectory.TAIL)
            assert len(tail["x"]) == i - begin + 2  # with the gap behind it
            assert tail["x"][-2] == dot["x"][0]


@pytest.mark.parametrize(("rate", "resting"), [(0.5, 8), (0.95, 0)])
def test_a_star_is_an_end_whose_last_step_is_nearly_none(rate: float, resting: int):
    # the last step is (1 / rate - 1) rate^8 of a distance of 1 - rate^8 that has been covered
    share = (1 / rate - 1) * rate**8 / (1 - rate**8)
    assert (share < state_plane.REST) == bool(resting)
    result = plane(decaying(rate))
    observation = trajectory._observation(result)
    assert f"for {resting} of 8 states of 8 examples" in observation
    frame = trajectory._frame(result, state_plane.last_positions(result), 8, 0)
    assert len(frame[state_plane.EXAMPLES + 1]["x"]) == min(resting, 6)


def test_positions_of_one_example_have_a_view_of_their_own_if_there_are_several():
    assert state_plane.single_examples(plane(decaying(0.5))) == {}
    views = state_plane.single_examples(plane(decaying(0.5, 4, 40)))
    assert list(views) == [f"example {b}, 14 of 40 positions" for b in range(3)]
    assert [path.position for path in next(iter(views.values()))] == list(range(0, 40, 3))
    assert "all 2 positions" in next(iter(state_plane.single_examples(plane(decaying(0.5, 2, 2)))))


def test_a_panel_has_a_frame_for_each_iteration_and_example():
    section = trajectory.section(parity_run(8))
    assert section is not None
    first, second = section.panels
    assert (first.control, first.controls, len(first.frames)) == ("play", (), 7)
    assert [len(control.labels) for control in second.controls] == [3, 7]
    assert len(second.frames) == 21
    for panel in section.panels:
        assert panel.figure.layout.xaxis.title.text.startswith("PC 1 (")
        assert sum(trace.showlegend is not False for trace in panel.figure.data) <= style.LEGEND_ENTRIES
        assert all(set(frame.update) == set(panel.frames[0].update) for frame in panel.frames)


def test_what_never_changes_is_not_drawn_again():
    section = trajectory.section(parity_run(8))
    assert section is not None
    first = section.panels[0]
    traces = first.figure.data
    still = {i for i, trace in enumerate(traces) if trace.name in ("start", "end")}
    assert still
    assert all(not still & set(frame.update) for frame in first.frames)
    shown = first.frames[first.first].update
    assert all(list(traces[i][key]) == part[key] for i, part in shown.items() for key in part)


def test_the_markers_of_final_states_are_explained_by_their_answers():
    answers = [["0"], ["1"]] * 4
    assert "(circle: answer 0, square: answer 1)" in trajectory._reading(
        plane(decaying(0.5), None, answers), False
    )
    many = [[str(b)] for b in range(8)]
    assert "answer" not in trajectory._reading(plane(decaying(0.5), None, many), False)


def test_states_that_never_differ_have_no_plane():
    assert trajectory.section(ls.iterate(lambda x: x, torch.zeros(2, 7, 4), 4)) is None


@pytest.mark.parametrize("count", [1, 2, 40, 41, 97, 1000])
def test_a_slider_keeps_the_first_and_the_last_of_few_steps(count: int):
    kept = thinned(count)
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert len(kept) <= 41
    assert kept == list(range(count)) or count > 40
