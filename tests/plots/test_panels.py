"""A panel with several controls has a frame for each combination of their values."""

import plotly.graph_objects as go
import pytest

import loopscope as ls
from loopscope.plots.panels import Control, Frame, Panel

CONTROLS = (Control("head", ("0", "1")), Control("iteration", ("0", "1", "2"), "slide"))


def panel(frames: int) -> Panel:
    return Panel(
        "Attention",
        go.Figure(),
        "Seen.",
        "To read.",
        [Frame(str(i), {}) for i in range(frames)],
        controls=CONTROLS,
    )


@pytest.mark.parametrize("frames", [0, 5, 7])
def test_another_number_of_frames_than_of_combinations_is_refused(frames: int):
    with pytest.raises(ls.LoopscopeError, match=f"combination of their values: 6, but .* has {frames}"):
        panel(frames)


def test_a_frame_for_each_combination_is_a_panel():
    assert len(panel(6).frames) == 6


def test_a_panel_without_controls_takes_any_number_of_frames():
    for frames in (0, 3):
        plain = Panel("Attention", go.Figure(), "Seen.", "To read.", [Frame("", {})] * frames)
        assert plain.controls == ()
