"""The section on the trajectory: the states in the plane of their first two principal
components."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..common.text import number, percent, plural
from ..plots import style
from ..plots.heatmaps import token_label
from ..plots.panels import Frame, Panel
from ..plots.style import label
from ..recorder.labels import labels_of, task_of
from ..runs.run import Run
from ..runs.run_mask import mask_at
from .section import Section

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from sklearn.decomposition import PCA

VECTORS, ENDS, TAIL, MOST = 20_000, 400, 6, 48
"""State vectors that the components are fitted to; final states shown; iterations in a tail;
positions shown."""


def section(run: Run) -> Section | None:
    """Principal components of the states, as an animation over iterations; None unless each
    position has a state vector."""
    if run.states.axes[-3:] != ("batch", "position", "width") or len(run.states.iterations) < 3:
        return None
    from sklearn.decomposition import PCA

    ks = run.states.iterations
    states = torch.stack([run.states[k].detach().float().cpu() for k in ks]).numpy()
    mask = mask_at(run, run.states).numpy()
    if not np.isfinite(states[:, mask]).all() or states.shape[-1] < 2:
        return None
    labels, task = labels_of(run), task_of(run)
    positions = np.arange(states.shape[2]) if labels is None else np.flatnonzero(labels.mask.any(0).numpy())
    row = int(mask.any(1).argmax())  # the example that moves: the first that counts
    positions = positions[mask[:, positions].any(0)]
    flat = states[:, :, positions][:, mask[:, positions]].reshape(-1, states.shape[-1])
    sample = np.random.default_rng(0).permutation(len(flat))[:VECTORS]
    pca = PCA(n_components=2, random_state=0).fit(flat[sample])
    if not pca.explained_variance_.any():
        return None
    shown = positions[mask[row, positions]][:MOST]
    example = pca.transform(states[:, row, shown].reshape(-1, states.shape[-1])).reshape(len(ks), -1, 2)
    counted = mask[:, positions].T.reshape(-1)
    ends = pca.transform(states[-1, :, positions].reshape(-1, states.shape[-1])[counted])
    answers = None if labels is None else labels.targets[:, positions].T.numpy().reshape(-1)[counted]
    pick = np.random.default_rng(0).permutation(len(ends))[:ENDS]
    figure = style.empty(
        "States of one example in the plane of the first two principal components",
        f"component 1 ({percent(pca.explained_variance_ratio_[0])} of the variance)",
        f"component 2 ({percent(pca.explained_variance_ratio_[1])})",
        520,
    )
    symbols = (task.symbols or None) if task is not None else None
    groups = _draw_final(figure, ends[pick], None if answers is None else answers[pick], symbols)
    frames = [Frame(f"after {plural(k, 'iteration')}", _frame(example, i, groups)) for i, k in enumerate(ks)]
    _draw_moving(figure, frames[-1].update, groups, shown)
    span = np.concatenate([example.reshape(-1, 2), ends])
    for axis, (low, high) in zip(("xaxis", "yaxis"), zip(span.min(0), span.max(0), strict=True), strict=True):
        pad = 0.06 * (high - low) or 1
        figure.layout[axis].range = [float(low - pad), float(high + pad)]
    name = ""
    if task is not None and labels is not None and not task.continuous:
        name = f" ({task.render(run.tokens[row : row + 1].cpu())[0]})"
    panel = Panel(
        "Trajectory of the states",
        figure,
        _observation(example, ks, pca),
        f"Each dot with its tail is one position of the first example{name}; its colour is the position. "
        "The faint dots are the final states of all examples, coloured by the correct answer. Press Play "
        "or move the slider to step through the iterations.",
        frames,
        control="play",
        first=len(frames) - 1,
    )
    data = {"explained_variance_ratio": pca.explained_variance_ratio_, "iterations": ks, "example": example}
    return Section("trajectory", "Trajectory", 20, [panel], data=data)


def _draw_final(
    figure: "go.Figure", ends: np.ndarray, answers: np.ndarray | None, symbols: tuple[str, ...] | None
) -> int:
    """The final states as traces, one for each correct answer; returns the number of traces."""
    kinds = [None] if answers is None or len(set(answers)) > len(style.COLOURS) else sorted(set(answers))
    for kind, colour in zip(kinds, style.COLOURS, strict=False):
        group = ends if kind is None or answers is None else ends[answers == kind]
        name = (
            "final state"
            if kind is None or symbols is None
            else f"final, answer {token_label(symbols[kind])}"
        )
        marker = {"color": colour, "size": 7, "opacity": 0.35}
        figure.add_scatter(
            x=_short(group[:, 0]),
            y=_short(group[:, 1]),
            mode="markers",
            name=name,
            marker=marker,
            hoverinfo="skip",
        )
    return len(kinds)


def _frame(example: np.ndarray, i: int, groups: int) -> dict[int, dict[str, Any]]:
    """The moving parts after i iterations: the tails (in the last frame the whole trajectory) and
    the dots. `example` is (state, position, 2)."""
    tail = example[max(0, i - TAIL) if i < len(example) - 1 else 0 : i + 1].transpose(1, 0, 2)
    gaps = np.full((len(tail), 1, 2), np.nan)
    lines = np.concatenate([tail, gaps], axis=1).reshape(-1, 2)
    return {
        groups: {"x": _short(lines[:, 0]), "y": _short(lines[:, 1])},
        groups + 1: {"x": _short(example[i, :, 0]), "y": _short(example[i, :, 1])},
    }


def _draw_moving(figure: "go.Figure", update: Any, groups: int, positions: np.ndarray) -> None:
    figure.add_scatter(
        **update[groups],
        mode="lines",
        name="tail",
        line={"color": style.GREY, "width": 1.2},
        hoverinfo="skip",
        opacity=0.6,
        showlegend=False,
    )
    figure.add_scatter(
        **update[groups + 1],
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


def _observation(example: np.ndarray, ks: list[int], pca: "PCA") -> str:
    size = np.linalg.norm(example.reshape(-1, 2).max(0) - example.reshape(-1, 2).min(0))
    still = np.linalg.norm(np.diff(example, axis=0), axis=-1) < 0.01 * size  # (iteration, position)
    last = [
        max((t + 1 for t in range(len(still)) if not still[t, p]), default=0) for p in range(still.shape[1])
    ]
    resting = [ks[t] for t in last if t < len(still)]
    variance = percent(float(pca.explained_variance_ratio_.sum()))
    if not resting:
        return (
            f"The two components explain {variance} of the variance; all positions of the example are still "
            "moving at the end."
        )
    return (
        f"The two components explain {variance} of the variance; {len(resting)} of {len(last)} positions "
        f"have stopped moving at the end, the first after {plural(min(resting), 'iteration')} and the last "
        f"after {max(resting)} (steps below {number(0.01)} of the size of the example's trajectory)."
    )


def _short(values: np.ndarray) -> list[float | None]:
    return [None if v != v else float(f"{v:.4g}") for v in values.tolist()]
