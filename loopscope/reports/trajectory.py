"""The states' way through the plane that shows most of it."""

from typing import Any

import numpy as np
import torch

from ..common.text import number, percent
from ..plots import style
from ..plots.heatmaps import shown
from ..plots.panels import Frame, Panel
from ..plots.style import label
from ..recorder.labels import labels_of, task_of
from ..runs.run import Run
from .section import Section

VECTORS, ENDS, TAIL, MOST = 20_000, 400, 6, 48
"""Vectors that the components are fitted to; end points shown; iterations that a tail is long;
positions that are followed."""


def section(run: Run) -> Section | None:
    """Principal components of the states, played by iteration; None for states that are no vectors
    by position."""
    if run.states.axes[-3:] != ("batch", "position", "width") or len(run.states.iterations) < 3:
        return None
    from sklearn.decomposition import PCA

    ks = run.states.iterations
    states = torch.stack([run.states[k].detach().float().cpu() for k in ks]).numpy()
    if not np.isfinite(states).all() or states.shape[-1] < 2:
        return None
    labels, task = labels_of(run), task_of(run)
    asked = np.arange(states.shape[2]) if labels is None else np.flatnonzero(labels.mask.any(0).numpy())
    flat = states[:, :, asked].reshape(-1, states.shape[-1])
    chosen = np.random.default_rng(0).permutation(len(flat))[:VECTORS]
    pca = PCA(n_components=2, random_state=0).fit(flat[chosen])
    if not pca.explained_variance_.any():
        return None
    one = pca.transform(states[:, 0, asked[:MOST]].reshape(-1, states.shape[-1])).reshape(len(ks), -1, 2)
    ends = pca.transform(states[-1, :, asked].reshape(-1, states.shape[-1]))
    answers = None if labels is None else labels.targets[:, asked].T.numpy().reshape(-1)
    pick = np.random.default_rng(0).permutation(len(ends))[:ENDS]
    figure = style.empty(
        "States of one example in the plane of the first two principal components",
        f"component 1 ({percent(pca.explained_variance_ratio_[0])} of the variance)",
        f"component 2 ({percent(pca.explained_variance_ratio_[1])})",
        520,
    )
    symbols = (task.symbols or None) if task is not None else None
    groups = _ends(figure, ends[pick], None if answers is None else answers[pick], symbols)
    frames = [Frame(_after(k), _frame(one, i, groups)) for i, k in enumerate(ks)]
    _moving(figure, frames[-1].update, groups, asked[:MOST])
    span = np.concatenate([one.reshape(-1, 2), ends])
    for axis, (low, high) in zip(("xaxis", "yaxis"), zip(span.min(0), span.max(0), strict=True), strict=True):
        pad = 0.06 * (high - low) or 1
        figure.layout[axis].range = [float(low - pad), float(high + pad)]
    told = task is not None and labels is not None and not task.continuous
    name = f" ({task.render(run.tokens[:1].cpu())[0]})" if task is not None and told else ""
    panel = Panel(
        "Where the states go",
        figure,
        _seen(one, ks, pca),
        f"Each dot with its tail is one position of the first example{name}; its colour tells which. The "
        "faint dots are where the states of all examples end, coloured by the right answer. Press play, or "
        "move the slider: one notch is one iteration.",
        frames,
        control="play",
        first=len(frames) - 1,
    )
    return Section("trajectory", "Trajectory", 20, [panel])


def _after(k: int) -> str:
    return f"after {k} iteration{'s' * (k != 1)}"


def _ends(figure: Any, ends: np.ndarray, answers: np.ndarray | None, symbols: tuple[str, ...] | None) -> int:
    """The end points as traces, one for each right answer; returns how many traces."""
    kinds = [None] if answers is None or len(set(answers)) > len(style.COLOURS) else sorted(set(answers))
    for kind, colour in zip(kinds, style.COLOURS, strict=False):
        own = ends if kind is None or answers is None else ends[answers == kind]
        name = "ends" if kind is None or symbols is None else f"ends, answer {shown(symbols[kind])}"
        marker = {"color": colour, "size": 7, "opacity": 0.35}
        figure.add_scatter(
            x=_short(own[:, 0]),
            y=_short(own[:, 1]),
            mode="markers",
            name=name,
            marker=marker,
            hoverinfo="skip",
        )
    return len(kinds)


def _frame(one: np.ndarray, i: int, groups: int) -> dict[int, dict[str, Any]]:
    """What moves: the tails up to state i (at the end the whole way), and its dots. `one` is
    (state, position, 2)."""
    tail = one[max(0, i - TAIL) if i < len(one) - 1 else 0 : i + 1].transpose(1, 0, 2)
    gaps = np.full((len(tail), 1, 2), np.nan)
    lines = np.concatenate([tail, gaps], axis=1).reshape(-1, 2)
    return {
        groups: {"x": _short(lines[:, 0]), "y": _short(lines[:, 1])},
        groups + 1: {"x": _short(one[i, :, 0]), "y": _short(one[i, :, 1])},
    }


def _moving(figure: Any, at: Any, groups: int, positions: np.ndarray) -> None:
    figure.add_scatter(
        **at[groups],
        mode="lines",
        name="tail",
        line={"color": style.GREY, "width": 1.2},
        hoverinfo="skip",
        opacity=0.6,
        showlegend=False,
    )
    figure.add_scatter(
        **at[groups + 1],
        mode="markers",
        name="positions of the example",
        showlegend=False,
        marker={
            "size": 13,
            "color": positions.tolist(),
            "colorscale": style.SCALE,
            "colorbar": style.colourbar("position"),
            "line": {"color": "white", "width": 1},
        },
        text=[label(p) for p in positions],
        hovertemplate="position %{text}<extra></extra>",
    )


def _seen(one: np.ndarray, ks: list[int], pca: Any) -> str:
    size = np.linalg.norm(one.reshape(-1, 2).max(0) - one.reshape(-1, 2).min(0))
    still = np.linalg.norm(np.diff(one, axis=0), axis=-1) < 0.01 * size  # (iteration, position)
    last = [
        max((t + 1 for t in range(len(still)) if not still[t, p]), default=0) for p in range(still.shape[1])
    ]
    resting = [ks[t] for t in last if t < len(still)]
    held = percent(float(pca.explained_variance_ratio_.sum()))
    if not resting:
        return f"The two components hold {held} of the variance; all positions of the example are still moving at the end."
    return (
        f"The two components hold {held} of the variance; {len(resting)} of {len(last)} positions have come "
        f"to rest at the end, the first after {min(resting)} iterations and the last after {max(resting)} "
        f"(steps below {number(0.01)} of the picture's size)."
    )


def _short(values: np.ndarray) -> list[float | None]:
    return [None if v != v else float(f"{v:.4g}") for v in values.tolist()]
