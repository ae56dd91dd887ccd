"""The figures of a finding: its numbers by seed, and its curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..common.text import number
from ..plots.panels import Frame, Panel
from ..plots.style import COLOURS, DASHES, GREY, empty, label
from .replication import Replication


def panels(one: Replication) -> list[Panel]:
    """The numbers of each seed with their intervals and, where curves were measured, those."""
    if not one.numbers or one.attempt is None:
        return []
    curves = _curves(one)
    return [*([] if curves is None else [curves]), _numbers(one)]


def _numbers(one: Replication) -> Panel:
    names, seeds = list(one.mean), list(one.numbers)
    rows = [f"seed {seed}" for seed in seeds]
    figure = empty("", names[0], "", 150 + 30 * max(2, len(seeds)))
    frames = [Frame(label(name), _trace_updates(one, name)) for name in names]
    figure.add_scatter(mode="markers", name="one seed", y=rows, marker={"size": 9, "color": COLOURS[0]})
    line = {"symbol": "line-ns", "size": 26, "line": {"width": 3, "color": GREY}, "color": GREY}
    figure.add_scatter(mode="markers", name="mean", y=["mean"], marker=line)
    for index, update in frames[0].update.items():
        figure.data[index].update(update)
    figure.update_xaxes(title="value")
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=["mean", *rows[::-1]])
    passed, of_mean = sum(one.passed.values()), "holds" if one.criterion_of_mean else "doesn't hold"
    observation = f"The criterion holds in {passed} of {len(seeds)} seeds, and {of_mean} for the mean."
    return Panel(
        "The numbers of each seed",
        figure,
        f"{observation} {'; '.join(one.figures[:4])}.",
        "A dot is a seed, a bar its 95 % interval where one was measured. The menu selects the number.",
        frames=frames if len(frames) > 1 else (),
        menu_label="Number",
    )


def _trace_updates(one: Replication, name: str) -> dict[int, dict[str, Any]]:
    """By trace: its values of one number, first those of the seeds, then the mean."""
    assert one.attempt is not None
    by_seed = {m.seed: m.numbers.get(name) for m in one.attempt.measured}
    values = [numbers.get(name) for numbers in one.numbers.values()]
    raw = [by_seed[seed] for seed in one.numbers]
    ends = [(v, v, v) if not isinstance(v, list) else tuple(v) for v in raw]
    bars = {
        "type": "data",
        "symmetric": False,
        "array": [0 if high is None or value is None else high - value for value, _, high in ends],
        "arrayminus": [0 if low is None or value is None else value - low for value, low, _ in ends],
    }
    return {0: {"x": values, "error_x": bars}, 1: {"x": [one.mean[name]]}}


def _curves(one: Replication) -> Panel | None:
    """A line for each curve and seed; the colour is the curve's, the dash the seed's."""
    assert one.attempt is not None
    measured = [m for m in one.attempt.measured if m.seed in one.numbers]
    names = list(dict.fromkeys(name for m in measured for name in m.curves))
    if not names:
        return None
    figure = empty("", measured[0].axis, "", 420)
    for place, name in enumerate(names):
        for dash, m in enumerate(measured):
            values: Sequence[float] = m.curves.get(name, ())
            style = {"color": COLOURS[place % len(COLOURS)], "dash": DASHES[dash % len(DASHES)]}
            title = label(f"{name}, seed {m.seed}")
            figure.add_scatter(
                x=list(range(len(values))), y=list(values), mode="lines", name=title, line=style
            )
    return Panel(
        "What was measured along the way",
        figure,
        _ends(names, measured),
        "A colour is a curve, a dash a seed.",
    )


def _ends(names: Sequence[str], measured: Sequence[Any]) -> str:
    def end(name: str) -> str:
        curves: list[Mapping[str, Any]] = [m.curves for m in measured if m.curves.get(name)]
        last = [curve[name][-1] for curve in curves if curve[name][-1] is not None]
        return f"{name} ends at {number(sum(last) / len(last))}" if last else f"{name} has no end"

    return f"On average over the seeds, {', '.join(end(name) for name in names[:4])}."
