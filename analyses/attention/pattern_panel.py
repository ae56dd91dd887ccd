"""The patterns themselves: query position by key position, for some examples, heads and
iterations."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.text import percent, plural
from loopscope.plots import style
from loopscope.plots.heatmaps import TITLE_STANDOFF, short, token_label
from loopscope.plots.panels import Control, Frame, Panel
from loopscope.recorder.labels import labels_of, task_of
from loopscope.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go

NAN = float("nan")
EXAMPLES, HEADS, ITERATIONS, POSITIONS = 4, 8, 17, 64
"""At most so many of each are shown."""
CELLS = 60_000
"""At most so many numbers in all: a report carries them."""
LABELLED = 40
"""Positions up to which each is labelled with its token."""


@dataclass(frozen=True)
class PatternSample:
    """Some patterns, as a report shows them."""

    weights: Float[Tensor, "example head iteration query key"]
    """Rounded to three digits; NaN where the query or the key doesn't count."""
    names: tuple[str, ...]
    """Of the examples."""
    heads: tuple[str, ...]
    iterations: tuple[int, ...]
    """The t."""
    tokens: tuple[tuple[str, ...], ...]
    """By example: the token at each position; empty where it is unknown."""
    left_out: str
    """What isn't shown, as a sentence; empty if all is."""


def pattern_sample(
    run: Run, x: Float[Tensor, "iteration layer example head query key"], sites: Sequence[str] = ()
) -> PatternSample:
    """Patterns of the first examples, of heads and iterations spread evenly, as many as fit.

    Arguments:
        run: of which the examples are the first ones.
        x: its patterns.
        sites: of the layers, which name the block (and the network, if there are several) that a
            head is of; none: layers are numbered.
    """
    whole = x.shape[-1]
    begin, end = _span(run, whole)
    x = x[..., begin:end, begin:end]
    iterations, layers, examples, heads, size, _ = x.shape
    positions = min(size, POSITIONS)
    every = list(product(range(layers), range(heads)))
    counts = {"iteration": min(iterations, ITERATIONS), "head": min(len(every), HEADS)}
    counts["example"] = min(examples, EXAMPLES)
    while counts["iteration"] * counts["head"] * counts["example"] * positions**2 > CELLS:
        largest = max(counts, key=lambda name: counts[name] * (1 if name == "iteration" else 2))
        if counts[largest] == 1:
            break
        counts[largest] -= 1
    t, h = spread(iterations, counts["iteration"]), spread(len(every), counts["head"])
    shown = x[t][:, :, : counts["example"], :, :positions, :positions]  # (t, layer, example, head, q, k)
    chosen = [shown[:, layer, :, head] for layer, head in (every[i] for i in h)]
    weights = torch.stack(chosen).permute(2, 0, 1, 3, 4).cpu()  # (example, head, t, query, key)
    if run.mask.shape[1] == whole:
        counted = run.mask[: counts["example"], begin:end][:, :positions].cpu()
        weights = weights.masked_fill(~(counted[:, None, None, :, None] & counted[:, None, None, None]), NAN)
    blocks = [_block(site) for site in sites] or [f"layer {layer}" for layer in range(layers)]
    names = [f"{blocks[layer]}, head {head}" if layers > 1 else f"head {head}" for layer, head in every]
    texts = [row[begin:end] for row in _tokens(run, counts["example"], whole)]
    parts = [
        f"{shown} of {plural(total, noun)}"
        for noun, shown, total in (
            ("iteration", len(t), iterations),
            ("head", len(h), len(every)),
            ("position", positions, size),
        )
        if shown < total
    ]
    return PatternSample(
        weights=(1000 * weights.double()).round().cpu() / 1000,
        names=_names(run, counts["example"]),
        heads=tuple(names[i] for i in h),
        iterations=tuple(t),
        tokens=tuple(tuple(row[:positions]) for row in texts),
        left_out=f"It shows {', '.join(parts)}." if parts else "",
    )


def _span(run: Run, size: int) -> tuple[int, int]:
    """From the first to behind the last position that counts in any example: padding at both ends
    isn't shown."""
    if run.mask.shape[1] != size or not bool(run.mask.any()):
        return 0, size
    counted = run.mask.any(0).nonzero()[:, 0].tolist()
    return counted[0], counted[-1] + 1


def _block(site: str) -> str:
    """The block that a pattern is of, such as "low, layer 0" of "core.low.0.attn.hook_pattern"."""
    parts = site.replace("hook_pattern", "").replace("..", ".").strip(".").split(".")
    kept = [part for part in parts if part not in ("attn", "core")]
    return ", ".join(f"layer {part}" if part.isdigit() else part for part in kept) or site


def pattern_panel(sample: PatternSample) -> Panel:
    """The panel, with menus for the example and the head, and a slider over the iterations."""
    controls = (
        Control("Example", sample.names),
        Control("Head", sample.heads),
        Control("Iteration (t)", [str(t) for t in sample.iterations], "slide"),
    )
    frames = [
        Frame(
            f"{sample.names[b]}, {sample.heads[h]}, t = {sample.iterations[i]}",
            {0: _cells(sample, b, h, i)},
        )
        for b, h, i in product(*(range(len(control.labels)) for control in controls))
    ]
    last = len(sample.iterations) - 1
    each = sample.weights[:, :, last].double()
    return Panel(
        "Attention patterns",
        _figure(sample, frames[last]),
        f"{_shares_sentence(each, sample.iterations[last])} {sample.left_out}".strip(),
        "Each row is a query position, each column a key position that it attends to; a row sums to 1 over "
        "the keys. The colours of all frames end at the largest weight in any. Attention to positions that "
        "don't count (padding) is left out. Choose an example and a head, and move through the iterations.",
        frames,
        first=last,
        controls=controls,
    )


def _shares_sentence(weights: Float[Tensor, "example head query key"], t: int) -> str:
    """How much of their attention queries give to their own position, the one before and the first:
    those from the third on, for which these are three positions."""
    later = weights[..., 2:, :]
    if not later.shape[-2]:
        return ""
    itself = float(later.diagonal(2, -2, -1).nanmean())
    before = float(later.diagonal(1, -2, -1).nanmean())
    first = float(later[..., 0].nanmean())
    return (
        f"In the last iteration shown (t = {t}) a query from the third on gives {percent(itself)} of its "
        f"attention to its own position, {percent(before)} to the one before, and {percent(first)} to the "
        "first, on average over these examples and heads."
    )


def position_labels(tokens: Sequence[str], positions: int) -> list[str]:
    """A label for each position: its number, and its token where there are few."""
    if len(tokens) != positions or positions > LABELLED:
        return [str(i) for i in range(positions)]
    return [f"{i}: {token_label(short(token))}" for i, token in enumerate(tokens)]


def spread(total: int, count: int) -> list[int]:
    """So many numbers of 0..total-1, evenly spread, the last among them."""
    if count >= total:
        return list(range(total))
    if count == 1:
        return [total - 1]
    return [round(i * (total - 1) / (count - 1)) for i in range(count)]


def _figure(sample: PatternSample, frame: Frame) -> "go.Figure":
    size = sample.weights.shape[-1]
    figure = style.empty("Attention patterns", "key position", "query position", 520)
    figure.add_heatmap(
        **frame.update[0],
        colorscale=style.SCALE,
        zmin=0,
        zmax=_largest(sample),
        colorbar=style.colourbar("attention"),
        hovertemplate="query %{y}, key %{x}: %{z:.0%}<extra></extra>",
    )
    few: dict[str, Any] = {"dtick": 1} if size <= LABELLED else {}
    figure.update_yaxes(
        type="category", autorange="reversed", scaleanchor="x", constrain="domain", showgrid=False, **few
    )
    figure.update_yaxes(title_standoff=TITLE_STANDOFF)
    figure.update_xaxes(
        type="category", constrain="domain", constraintoward="right", showgrid=False, tickangle=-90, **few
    )
    return figure


def _largest(sample: PatternSample) -> float:
    """Where the colours end, the same in all frames: at the largest of the weights, as those of
    many positions are small."""
    largest = float(sample.weights.nan_to_num(0.0).max()) if sample.weights.numel() else 0.0
    return largest or 1.0


def _cells(sample: PatternSample, b: int, head: int, i: int) -> dict[str, Any]:
    weights = sample.weights[b, head, i]
    labels = position_labels(sample.tokens[b], len(weights))
    values = [
        [None if v != v else int(v) if v in (0, 1) else round(v, 2) for v in row] for row in weights.tolist()
    ]
    return {"z": values, "x": labels, "y": labels}


def _names(run: Run, count: int) -> tuple[str, ...]:
    tokens, task = run.tokens, task_of(run) if labels_of(run) is not None else None
    if task is None or not isinstance(tokens, Tensor):
        return tuple(f"example {b}" for b in range(count))
    return tuple(task.render(tokens[:count].cpu()))


def _tokens(run: Run, count: int, positions: int) -> list[tuple[str, ...]]:
    """The token at each position of the first examples; empty where they don't fit the patterns."""
    tokens = run.tokens[:count].cpu() if isinstance(run.tokens, Tensor) else None
    if tokens is None or tokens.is_floating_point() or tuple(tokens.shape) != (count, positions):
        return [()] * count
    task = task_of(run) if labels_of(run) is not None else None
    symbols = task.symbols if task is not None else ()
    return [tuple(symbols[t] if symbols else str(t) for t in row) for row in tokens.tolist()]
